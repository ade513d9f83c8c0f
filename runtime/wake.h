// SPDX-License-Identifier: Apache-2.0
// Which Ps are idle, how many Ms spin, and the rule that no wake-up is lost. Go: the head of proc.go.
//
// The problem: a G becomes runnable on one CPU while the M of another decides to sleep. Waking an M for every G costs a
// system call each and thrashes; not waking loses parallelism, or the G altogether. A lock around both decisions would
// make every ready() pay for the rare sleep.
//
// The rule: an M with a P but without work spins (looks for work elsewhere) before it sleeps, and at most half of the
// busy Ps have spinning Ms. While one M spins nobody needs to wake another: it will find the work, and when the last
// spinning M finds work it wakes the next one (so a burst wakes as many Ms as it needs, one after the other).
//   Submitter:  1. publishes the G (run queue, global queue, timer heap)
//               2. light barrier
//               3. if no M spins and some P is idle: one CAS nspinning 0 -> 1, takes an idle P, starts an M on it,
//                  spinning
//   Retiring M: 1. puts its P into the idle set; if it was spinning, nspinning - 1
//               2. heavy barrier
//               3. looks at all queues again; if there is work and an idle P can be had, goes on with that, spinning
// Whoever gives nspinning back without having found work, the retiring M or a waker that got no P, looks again.
// Either the submitter sees nspinning == 0 and the idle P (and wakes), or its publication came before the retiring M's
// heavy barrier (and the second look finds it). The barriers are those of barrier.h, so a ready() pays two loads.
// Rejected: an idle P handed one G directly (loses locality, and the next G must wake again); a fence in ready() (7 ns
// of 12).
//
// Each NUMA node has a gate of its own: who wakes, spins or retires looks at and writes its own node's. For work that
// waits in a node in which no P is idle and no M spins, an idle P of another node is woken, which decides for itself
// whether to take it (find.cpp). So the submitter also looks at idle_nodes, the number of nodes that have idle Ps, and
// the retiring M, in its step 3, at the queues of all nodes. The argument is the same: idle_nodes goes up before the
// retiring M's heavy barrier, and is too low only by what such Ms have yet to add. The retiring M may leave out another
// node that has an idle P itself: if that one was idle when the work was published, the submitter, which looks at its
// own node's count too, has seen it; if not, its M has looked by itself afterwards.
//
// busy counts what can still make a goroutine runnable without help from outside, on all nodes: Ps that are not idle,
// and Ms whose P was taken while they are blocked. It goes up before anything that depends on it and down after; so
// when it is zero everything sleeps, and the M that made it zero looks for a deadlock (see deadlock.cpp).
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "runtime/barrier.h"

namespace weft::rt {

template <class Policy = hardware>
class busy_count {
 public:
  /// Something that can make goroutines runnable comes to be (an M blocked without its P).
  void begin() {
    times_.fetch_add(1, std::memory_order_acq_rel);
    now_.fetch_add(1, std::memory_order_acq_rel);
  }
  /// It is over (or a retired P has settled). True: that was the last one; the caller looks for a deadlock.
  bool settle() { return now_.fetch_sub(1, std::memory_order_acq_rel) == 1; }
  /// Begun in error: nothing depended on it.
  void cancel() { now_.fetch_sub(1, std::memory_order_acq_rel); }

  int now() const { return now_.load(std::memory_order_acquire); }
  /// How often it has gone up: if it was 0 and this is still the same, it has been 0 all the time.
  std::uint32_t times() const { return times_.load(std::memory_order_acquire); }
  /// Nobody else may be here.
  void reset() { now_.store(0, std::memory_order_relaxed); }

 private:
  template <class T>
  using atomic = typename Policy::template atomic<T>;
  alignas(64) atomic<int> now_{0};
  atomic<std::uint32_t> times_{0};
};

template <int MaxPs, class Policy = hardware>
class wake_gate {
 public:
  template <class T>
  using atomic = typename Policy::template atomic<T>;

  /// What all gates share.
  wake_gate(busy_count<Policy>& busy, atomic<int>& idle_nodes) : busy_(busy), idle_nodes_(idle_nodes) {}

  /// The submitter's step 2 and half of 3: whether an M should be woken, here or on another node.
  bool should_wake() const {
    Policy::light_barrier();
    const bool any_idle =
        nidle_.load(std::memory_order_relaxed) != 0 || idle_nodes_.load(std::memory_order_relaxed) != 0;
    return any_idle && nspinning_.load(std::memory_order_relaxed) == 0;
  }
  /// The submitter's CAS: true means that the caller owes one spinning M (or a cancel).
  bool begin_wake() {
    int none = 0;
    return nspinning_.compare_exchange_strong(none, 1, std::memory_order_acq_rel, std::memory_order_relaxed);
  }
  /// An M starts to spin; end_spinning() or retire_spinning() must follow.
  void begin_spinning() { nspinning_.fetch_add(1, std::memory_order_acq_rel); }
  /// The M found work (or begin_wake() found no P). True: it was the last one that span.
  bool end_spinning() { return nspinning_.fetch_sub(1, std::memory_order_acq_rel) == 1; }

  /// The retiring M's steps 1 and 2: afterwards it must look at all queues again. Its P still counts as busy, until
  /// it calls settle().
  void retire(int p, bool spinning) {
    word_of(p).fetch_or(bit_of(p), std::memory_order_acq_rel);
    // May come after a taker's decrement: -1 for a moment, and then neither changes the number of nodes.
    if (nidle_.fetch_add(1, std::memory_order_acq_rel) == 0) idle_nodes_.fetch_add(1, std::memory_order_acq_rel);
    if (spinning) nspinning_.fetch_sub(1, std::memory_order_acq_rel);
    Policy::heavy_barrier();
  }

  /// Takes the idle P number p, which counts as busy from here on; false: it is not idle, or somebody was faster.
  bool take_idle(int p) {
    if ((word_of(p).load(std::memory_order_acquire) & bit_of(p)) == 0) return false;
    busy_.begin();
    if (word_of(p).fetch_and(~bit_of(p), std::memory_order_acq_rel) & bit_of(p)) {
      if (nidle_.fetch_sub(1, std::memory_order_acq_rel) == 1) idle_nodes_.fetch_sub(1, std::memory_order_acq_rel);
      return true;
    }
    busy_.cancel();
    return false;
  }
  bool is_idle(int p) const {
    return (words_[static_cast<std::size_t>(p / 64)].load(std::memory_order_acquire) & bit_of(p)) != 0;
  }

  /// Forgets everything. Nobody else may be here.
  void reset() {
    nidle_.store(0, std::memory_order_relaxed);
    nspinning_.store(0, std::memory_order_relaxed);
    for (auto& word : words_) word.store(0, std::memory_order_relaxed);
  }

  int nidle() const { return nidle_.load(std::memory_order_acquire); }
  int nspinning() const { return nspinning_.load(std::memory_order_acquire); }

 private:
  static constexpr int kWords = (MaxPs + 63) / 64;
  static constexpr std::uint64_t bit_of(int p) { return std::uint64_t{1} << (p % 64); }
  atomic<std::uint64_t>& word_of(int p) { return words_[static_cast<std::size_t>(p / 64)]; }

  busy_count<Policy>& busy_;
  atomic<int>& idle_nodes_;
  alignas(64) atomic<int> nidle_{0};
  atomic<int> nspinning_{0};
  alignas(64) std::array<atomic<std::uint64_t>, kWords> words_{};
};

}  // namespace weft::rt
