// SPDX-License-Identifier: Apache-2.0
// The automatic number of Ps (GOMAXPROCS=auto): what to do about a node after each second. Pure: auto_mode.cpp measures
// and carries out.
//
// A P more is wanted where goroutines wait though all Ps run, a P less where its threads wait for CPUs that somebody
// else has: then goroutines are stuck on threads that do not run. Both come and go, and a change costs, so it takes
// kSure periods in a row that say the same, and one P at a time. Then the node is left alone for kSettle periods, and
// judged in the next kSure: if it does less than before, though no more of its Ps idle, the change is undone, and the
// same one is barred for kBarred periods, twice as long each time. So where nothing helps, nearly nothing happens.
#pragma once

#include <array>
#include <cstdint>

namespace weft::rt {

/// What a node's Ps did in a period; means over it.
struct node_load {
  int ps = 0, most = 0;   // Ps wanted there, CPUs
  double idle = 0;        // Ps without work
  double waiting_gs = 0;  // goroutines that could run, and had no P
  double waiting_ms = 0;  // threads that could run, and had no CPU
  double done = 0;        // slices a second
};

class auto_ps {
 public:
  static constexpr int kSure = 3, kSettle = 2;
  static constexpr int kBarred = 30, kLongestBarred = 3840;
  static constexpr double kWaitingGs = 1, kIdle = 0.1;         // more: from here on, up to this much of a P
  static constexpr double kWaitingMs = 0.5, kHardlyAny = 0.1;  // fewer: from here on; more: up to this
  static constexpr double kWorse = 0.95;

  /// After each period: how many Ps there are to be from now on. 0 stays 0.
  int decide(const node_load& now);

 private:
  enum class phase : std::uint8_t { watching, settling, judging };
  enum class change : std::uint8_t { more, fewer, none };

  static change wish(const node_load& now);
  int watch(const node_load& now);
  int judge(const node_load& now);
  void begin(phase next);
  int& barred(change what) { return barred_[static_cast<std::size_t>(what)]; }
  int& bar_next(change what) { return bar_next_[static_cast<std::size_t>(what)]; }

  phase phase_ = phase::watching;
  change wished_ = change::none;
  int periods_ = 0;             // in this phase, or that said the same
  int expected_ = -1;           // Ps; others may change them, too
  double done_ = 0, idle_ = 0;  // sums over periods_
  double done_before_ = 0, idle_before_ = 0;
  std::array<int, 2> barred_{}, bar_next_{kBarred, kBarred};  // periods
};

}  // namespace weft::rt
