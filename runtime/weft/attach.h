// SPDX-License-Identifier: Apache-2.0
// Another process that runs goroutines, looked at from outside: what `weft top`, `weft hist` and `weft dump` are made
// of.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <weft/metrics.h>

namespace weft {

/// Goroutines in the same state with the same stack, started at the same place.
struct goroutine_group {
  /// One of them.
  struct member {
    std::uint64_t id = 0;     ///< its number
    std::uint64_t since = 0;  ///< for how long it has waited, in nanoseconds; 0: it does not
    std::string name{};       ///< go_options::name, or empty
  };
  std::string state{};            ///< as in a dump: "running", "runnable", "chan receive", …
  std::string stack{};            ///< the frames, innermost first, two lines each as in a dump; empty: it has not begun
  std::string creator{};          ///< "created by …", as in a dump; empty: run()
  std::vector<member> members{};  ///< by number
};

/// How many Ps a process has, and where.
struct process_ps {
  /// A NUMA node with CPUs that the process may use.
  struct on_node {
    int node = 0;  ///< the machine's number
    int ps = 0;    ///< that it has there
    int cpus = 0;  ///< that it may use there
  };
  std::string wish{};            ///< what is wished for, as GOMAXPROCS would say it; empty: the default
  bool on_trial = false;         ///< only for a while, see attachment::place_ps()
  std::vector<on_node> nodes{};  ///< by the machine's order
};

/// A connection to a process of the same user (any, for root) in which a run() of this version of weft is active. That
/// process is not stopped, and pays nothing while nobody asks: one of its helper threads looks for questions each time
/// that it is awake, once a second at least. What it tells is right at some moment of the answer, each part by itself.
///
/// What cannot be is thrown as an `error` of one line: there is no such process, it is another user's, it does not use
/// weft or another version of it, no run() is active in it, it has ended, is stopped, or does not answer for ten
/// seconds. One object serves one thread at a time; several may look at the same process.
class attachment {
 public:
  explicit attachment(int pid);  ///< looks at that process from now on
  ~attachment();
  attachment(attachment&&) noexcept;             ///< what was moved from looks at nobody
  attachment& operator=(attachment&&) noexcept;  ///< the same

  int pid() const noexcept;                  ///< whom it looks at
  metrics::snapshot read();                  ///< its metrics::read()
  std::vector<metrics::node_costs> costs();  ///< its metrics::costs()
  /// All its goroutines, the most frequent stack first. Symbols are looked up there, once for each stack.
  std::vector<goroutine_group> goroutines();
  process_ps ps();  ///< its Ps
  /// Changes its GOMAXPROCS, while it works, to what that variable would say; empty: to the default. With a trial not
  /// for good: unless something else is asked for within that time (or the process itself asks), it gets back what it
  /// had before the first trial. Throws `error` if it says none, or of a node that the process may not use.
  process_ps place_ps(const std::string& wish, std::chrono::milliseconds trial = {});

 private:
  friend class tracer;
  class connection;
  int begin_trace();       // a descriptor of the process's
  bool has_ended() const;  // the process, or its run()
  std::unique_ptr<connection> to_;
};

}  // namespace weft
