// SPDX-License-Identifier: Apache-2.0
// What happened on each P of another process, event by event: what `weft trace` is made of.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace weft {

/// Something that happened on a P.
struct trace_event {
  /// What it was.
  enum class kind : std::uint8_t {
    run,      ///< `goroutine` runs from here on, or none (0); why: for what the one before has stopped
    ready,    ///< `goroutine` was made runnable by the one that runs here; why: "started" or "woken"
    call,     ///< the goroutine that runs goes into a call that it has announced
    back,     ///< it is back from it
    take,     ///< the P was taken from its thread; why: "blocked" or "preempted"; number: the system call, or -1
    idle,     ///< the P has nothing to do
    thread,   ///< number: the thread that has the P from here on
    steal,    ///< `goroutine` was taken from P number `number`; why: how far that is
    off_cpu,  ///< the kernel gave the thread's CPU to others `count` times, the last time for `number` nanoseconds
              ///< (0: not known) from `time` on
    pause,    ///< nothing is known from here on
    resume    ///< it is again; at this moment no goroutine runs
  };
  std::int64_t time = 0;        ///< CLOCK_MONOTONIC of that process, in nanoseconds
  kind what{};                  ///< what it was
  std::uint64_t goroutine = 0;  ///< its number
  std::int64_t number = 0;      ///< as `what` says
  std::uint32_t count = 0;      ///< the same
  const char* why = "";         ///< the same
};

/// What was recorded of a process.
struct trace {
  /// A P, and what happened there, in order of time.
  struct lane {
    int p = 0;                          ///< its number
    int node = 0;                       ///< its NUMA node
    int cpu = 0;                        ///< the CPU that it is bound to
    std::vector<trace_event> events{};  ///< begins with a `resume`
  };
  int pid = 0;                ///< the process
  std::string program{};      ///< its name
  std::int64_t begin = 0;     ///< CLOCK_MONOTONIC of that process, in nanoseconds
  std::int64_t end = 0;       ///< the same
  std::uint64_t lost = 0;     ///< events that were overwritten before they could be read
  std::vector<lane> lanes{};  ///< by P
};

/// Traces a process, for which holds what `attachment` says (attach.h). From the constructor to the destructor each of
/// its Ps writes down what happens there; it waits for nobody. A P on which more than 250,000 things happen in a second
/// writes bursts, with gaps between them.
class tracer {
 public:
  explicit tracer(int pid);  ///< begins
  ~tracer();                 ///< ends: within seconds the process notices
  tracer(const tracer&) = delete;
  tracer& operator=(const tracer&) = delete;

  /// Fetches what was written since. Is to be called every 0.1 s: the process overwrites what nobody fetches. False:
  /// the process, or its run(), has ended, and this was the last.
  bool fetch();
  std::uint64_t events() const noexcept;  ///< fetched so far
  trace take();                           ///< what was fetched so far

 private:
  class reader;
  std::unique_ptr<reader> reads_;
};

/// What a flight recorder (WEFT_TRACE) has left in a file. Throws an `error` of one line where that is none.
trace read_recording(const std::string& path);

}  // namespace weft
