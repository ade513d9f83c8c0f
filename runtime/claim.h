// SPDX-License-Identifier: Apache-2.0
// Taking a P from an M: one protocol for every case.
//
// Each M has two words. in_runtime is written by that M alone: 1 while it may touch the state of its P, 0 while it is
// off in an announced blocking call. revoked is written by both sides: 0 no, 1 asked, 2 taken.
//   M leaves:   in_runtime = 0 (release: what it did to the P is visible to the taker); sequence + 1 before that.
//   M returns:  in_runtime = 1; light barrier; read revoked.
//                 0: go on; the whole fast path is a store, a load and a branch.
//                 1: CAS 1 -> 0; the winner has kept its P.
//                 2: the P is gone.
//   Taker:      read sequence and in_runtime == 0 (the verdict: it is blocked); CAS revoked 0 -> 1; heavy barrier; read
//               in_runtime again. 1, or another sequence: CAS 1 -> 0 and leave the M alone. Else CAS 1 -> 2 commits.
//               A CAS that fails means that the M was faster: nothing happened.
// The barriers make sure that either the returning M sees revoked != 0, or the taker sees in_runtime == 1. If both see
// the other, the CAS on revoked decides. The M never pays for a fence or a locked instruction unless it is asked.
//
// A taker on the M's own CPU (the sentinel, another M of that CPU) never runs at the same time as the M, and a context
// switch orders everything, so it passes same_cpu and the heavy barrier is left out: this is why Ms and sentinels are
// pinned. revoked has a token in its upper bits so that the CAS of a slow taker cannot commit on the request that
// another taker made later.
#pragma once

#include <cstdint>

#include "runtime/barrier.h"

namespace weft::rt {

template <class Policy = hardware>
class p_claim {
 public:
  enum class result { not_blocked, lost, taken };

  /// The M, with its P: it goes off; from here on the P can be taken.
  void leave() {
    sequence_.store(sequence_.load(std::memory_order_relaxed) + 1, std::memory_order_release);  // with what the M wrote
    in_runtime_.store(0, std::memory_order_release);
  }

  /// The M: it is back. True: it still has its P. False: the P was taken, and the claim is reset for the next P.
  bool enter() {
    in_runtime_.store(1, std::memory_order_relaxed);
    Policy::light_barrier();
    std::uint64_t asked = revoked_.load(std::memory_order_acquire);
    if (asked == 0) [[likely]]
      return true;
    return enter_asked(asked);
  }

  /// Any other thread: takes the P if the M is off in the call that `sequence` numbers.
  result take(std::uint32_t sequence, std::uint32_t token, bool same_cpu) {
    if (in_runtime_.load(std::memory_order_acquire) != 0) return result::not_blocked;
    const std::uint64_t asked = (std::uint64_t{token} << 2) | kAsked;
    std::uint64_t none = 0;
    if (!revoked_.compare_exchange_strong(none, asked, std::memory_order_acq_rel, std::memory_order_relaxed))
      return result::lost;
    if (!same_cpu) Policy::heavy_barrier();
    std::uint64_t expected = asked;
    if (in_runtime_.load(std::memory_order_acquire) != 0 || sequence_.load(std::memory_order_relaxed) != sequence) {
      revoked_.compare_exchange_strong(expected, 0, std::memory_order_acq_rel, std::memory_order_relaxed);
      return result::not_blocked;
    }
    return revoked_.compare_exchange_strong(expected, kTaken, std::memory_order_acq_rel, std::memory_order_relaxed)
               ? result::taken
               : result::lost;
  }

  /// Any thread: whether the M is off in an announced call, and which one.
  bool away() const { return in_runtime_.load(std::memory_order_acquire) == 0; }
  std::uint32_t sequence() const { return sequence_.load(std::memory_order_acquire); }
  /// Any thread: whether the P of that call has been taken.
  bool taken() const { return revoked_.load(std::memory_order_acquire) == kTaken; }

 private:
  static constexpr std::uint64_t kAsked = 1, kTaken = 2;

  bool enter_asked(std::uint64_t asked) {
    while (asked != kTaken) {
      if (asked == 0) return true;  // the taker withdrew
      if (revoked_.compare_exchange_weak(asked, 0, std::memory_order_acq_rel, std::memory_order_acquire)) return true;
    }
    revoked_.store(0, std::memory_order_relaxed);  // nobody else writes it once it is taken
    return false;
  }

  template <class T>
  using atomic = typename Policy::template atomic<T>;
  atomic<std::uint32_t> in_runtime_{1};
  atomic<std::uint32_t> sequence_{0};
  atomic<std::uint64_t> revoked_{0};
};

}  // namespace weft::rt
