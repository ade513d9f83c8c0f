// SPDX-License-Identifier: Apache-2.0
// What `weft profile` found out, and the forms in which it is told.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace weft::tools {

struct profile {
  enum class kind : std::uint8_t {
    on_cpu,   ///< what the threads do when they run; amounts are samples
    off_cpu,  ///< what they do when they leave their CPUs; amounts are microseconds
    parked,   ///< where goroutines wait for each other, for locks and timers; amounts are microseconds, of all together
  };
  struct process {
    int pid = 0;
    std::string program{};
  };
  struct stack {
    int pid = 0;
    std::vector<std::string> frames{};  ///< functions, outermost first
    std::string reason{};               ///< why it is off its CPU, or waits; empty: it runs
    std::uint64_t amount = 0;
  };

  kind what = kind::on_cpu;
  double seconds = 0;
  int hz = 0;  ///< looks a second; 0: not by looking from time to time
  std::vector<process> processes{};
  std::uint64_t lost = 0;       ///< samples that came faster than they could be read
  std::vector<stack> stacks{};  ///< the largest first, no two alike

  std::uint64_t total() const;
};

/// "on-CPU", "off-CPU", "parked".
const char* name_of(profile::kind what);

/// What stands in a flame graph from the root to the leaf: the program (of several: "program (PID)"), the functions,
/// "[the reason]".
std::vector<std::string> path_of(const profile& of, const profile::stack& stack);

/// A line for each stack: its path, with semicolons between, and its amount. What flamegraph.pl and speedscope read.
std::string folded(const profile& shown);

/// {"kind", "seconds", "hz", "processes": [...], "lost", "stacks": [...]}
std::string json_of(const profile& shown);

struct table_style {
  bool utf8 = false;
  bool colour = false;
};

/// The functions in which most was spent, and the largest stacks, for people.
std::string table(const profile& shown, const table_style& style);

/// "1 234 samples" as "1234 samples"; times as "12.3 ms".
std::string amount_text(profile::kind what, std::uint64_t amount, bool utf8 = false);

}  // namespace weft::tools
