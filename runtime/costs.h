// SPDX-License-Identifier: Apache-2.0
// The cost model: what losing and getting a CPU costs on this machine, how long threads stay blocked in which call, and
// what follows from both. Ski rental (Karlin et al., 1988): wait as long as the switch would cost, unless what was
// seen of such blocks says better.
//
// One model for each node. All of it is touched where a thread has blocked or slept, never on a fast path; several
// threads write, without order: an estimate may lose a sample, and nothing depends on it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "runtime/cache_line.h"
#include "weft/metrics.h"

namespace weft::rt {

/// A moving average of what was measured of late; the default until then.
class estimate {
 public:
  explicit estimate(std::uint32_t default_ns) : ns_(default_ns) {}
  void add(std::uint64_t ns);
  std::uint32_t ns() const { return ns_.load(std::memory_order_relaxed); }
  std::uint32_t samples() const { return samples_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint32_t> ns_, samples_{0};
};

/// How long one kind of wait lasts (threads blocked in one kind of call, Ms without work), and how long it pays to wait
/// for its end before a switch: before the P is handed on, or the M sleeps.
class block_kind {
 public:
  /// Bucket i counts durations up to kLimits[i] ns, the last all that are longer.
  static constexpr std::array<std::uint32_t, 5> kLimits{1'000, 2'000, 4'000, 8'000, 16'000};
  static constexpr std::uint32_t kLongestWait = kLimits.back();

  /// For how long the next block is waited for, in ns; 0: not at all. Now and then the longest time, to learn.
  std::uint32_t next_wait();
  /// A block that was waited for lasted this long, or longer than the longest wait. switch_ns: handing the P on, and
  /// getting one back.
  void learn(std::uint64_t ns, std::uint32_t switch_ns);
  /// The same where the ones that wait make things faster for others too, so that the next ends sooner for it: an M
  /// that spins spares who readies a goroutine the wake-up. The next one is then waited for as long as a switch costs,
  /// but for a kind that hardly ever ends in time. (By learn(), a stream over a buffered channel took 85 ns a message,
  /// not 55.)
  void learn_if_hopeless(std::uint64_t ns, std::uint32_t switch_ns);
  void add_to(metrics::block_costs& shown) const;

 private:
  void count(std::uint64_t ns);
  std::uint64_t expected(std::uint32_t wait_ns, std::uint32_t switch_ns) const;

  std::array<std::atomic<std::uint32_t>, kLimits.size() + 1> counts_{};
  std::atomic<std::uint32_t> wait_ns_{0}, decisions_{0}, samples_{0};
};

/// Time that threads were without a P, by the call in which they lost it.
struct blocked_call {
  std::atomic<std::uint64_t> times{0}, ns{0};
};

struct alignas(kLinePair) node_costs {
  static constexpr int kSyscalls = 512;

  /// syscall -1: a page fault. Numbers beyond the table share an entry.
  block_kind& kind_of(int syscall) { return kinds[index_of(syscall)]; }
  void note_blocked(int syscall, std::uint64_t ns) {
    blocked_call& in = blocked[index_of(syscall)];
    in.times.fetch_add(1, std::memory_order_relaxed);
    in.ns.fetch_add(ns, std::memory_order_relaxed);
  }
  static std::size_t index_of(int syscall) {
    return static_cast<std::size_t>(syscall < 0 ? kSyscalls : syscall % kSyscalls);
  }
  /// Handing a P on, and getting one again later.
  std::uint32_t switch_ns() const { return 2 * handoff.ns(); }

  void learn_from_spin(bool found, std::uint64_t ns);

  estimate handoff{2'500};  // from taking a P to its next goroutine, when an M was there to be woken on that CPU
  estimate wake{10'000};    // from waking an idle M for an idle P to its first instruction
  std::array<block_kind, kSyscalls + 1> kinds;
  std::array<blocked_call, kSyscalls + 1> blocked;
  block_kind idle;  // an M without work: how soon some came
  std::atomic<std::uint64_t> at_once{0}, waits_won{0}, waits_lost{0}, regret_ns{0};
  std::atomic<std::uint64_t> spins_won{0}, spins_lost{0}, spin_regret_ns{0};
};

/// The model of a node, for ever. Nodes above kMaxNodes share one.
node_costs& costs_of_node(int node);
constexpr int kMaxNodes = 64;
/// Null: nothing was run there yet.
const node_costs* known_costs_of_node(int node);

}  // namespace weft::rt
