// SPDX-License-Identifier: Apache-2.0
// Taking a P from an M: one protocol for every case.
//
// Each M has two words. where is written by that M alone: in the runtime, where it may touch the state of its P; in
// user code; or in an announced blocking call. revoked is written by both sides: 0 no, 1 asked, 2 taken.
//   M leaves:   where = user or call (release: what it did to the P is visible to the taker); for a call sequence + 1
//               before that.
//   M enters:   where = runtime; light barrier; read revoked.
//                 0: go on; the whole fast path is a store, a load and a branch.
//                 1: CAS 1 -> 0; the winner has kept its P.
//                 2: the P is gone.
//   Taker:      read where != runtime, and judge: it is blocked, or has computed for too long. CAS revoked 0 -> 1;
//               heavy barrier; read where again. Runtime, or another call than the one judged: CAS 1 -> 0 and leave the
//               M alone. Else CAS 1 -> 2 commits. A CAS that fails means that the M was faster: nothing happened.
// The barriers make sure that either the entering M sees revoked != 0, or the taker sees where == runtime. If both see
// the other, the CAS on revoked decides. The M never pays for a fence or a locked instruction unless it is asked.
// Between the question and the commit the M has not entered at all, so what the taker read of it then still holds: that
// the P is this M's, above all.
//
// A taker on the M's own CPU (the sentinel, another M of that CPU) never runs at the same time as the M, and a context
// switch orders everything, so the heavy barrier is left out: this is why Ms and sentinels are pinned. Somebody else
// may undo that at any time, so it asks (shares_cpu) after its own question: whoever moves one of the two away later
// has the kernel order what both saw before. revoked has a token in its upper bits so that the CAS of a slow taker
// cannot commit on the request that another taker made later.
#pragma once

#include <cstdint>

#include "runtime/barrier.h"

namespace weft::rt {

enum class place : std::uint32_t { user, runtime, call };

/// What a taker has seen of an M, and judged.
struct whereabouts {
  place at;
  std::uint32_t call;  // the number of the announced call, if it is in one
};

template <class Policy = hardware>
class p_claim {
 public:
  enum class result { not_there, lost, taken };

  /// The M, with its P: it begins an announced call; from here on the P can be taken.
  void leave() {
    sequence_.store(sequence_.load(std::memory_order_relaxed) + 1, std::memory_order_release);  // with what the M wrote
    where_.store(place::call, std::memory_order_release);
  }
  /// The M: it goes on with user code; the P can be taken, too.
  void to_user() { where_.store(place::user, std::memory_order_release); }

  /// The M: it is back. True: it still has its P. False: the P was taken, and the claim is reset for the next P.
  bool enter() {
    where_.store(place::runtime, std::memory_order_relaxed);
    Policy::light_barrier();
    const std::uint64_t asked = revoked_.load(std::memory_order_acquire);
    if (asked == 0) [[likely]]
      return true;
    return enter_asked(asked);
  }
  /// The M, outside of the runtime, in a signal handler: its P has been taken, and it has got another.
  void resume() { revoked_.store(0, std::memory_order_release); }

  /// The M, where no other thread is: its P counts as taken.
  void lose() { revoked_.store(kTaken, std::memory_order_relaxed); }

  /// Any other thread: takes the P if the M is still where it was seen, and `still(…)` says so after the question.
  template <class SharesCpu, class Still>
  result take(whereabouts seen, std::uint32_t token, SharesCpu shares_cpu, Still still) {
    if (seen.at == place::runtime) return result::not_there;
    const std::uint64_t asked = (std::uint64_t{token} << 2) | kAsked;
    std::uint64_t none = 0;
    if (!revoked_.compare_exchange_strong(none, asked, std::memory_order_acq_rel, std::memory_order_relaxed))
      return result::lost;
    if (!shares_cpu()) Policy::heavy_barrier();
    std::uint64_t expected = asked;
    const whereabouts now = look();
    if (now.at != seen.at || now.call != seen.call || !still()) {
      revoked_.compare_exchange_strong(expected, 0, std::memory_order_acq_rel, std::memory_order_relaxed);
      return result::not_there;
    }
    return revoked_.compare_exchange_strong(expected, kTaken, std::memory_order_acq_rel, std::memory_order_relaxed)
               ? result::taken
               : result::lost;
  }

  /// Any thread: where the M is.
  whereabouts look() const {
    const place at = where_.load(std::memory_order_acquire);
    return {at, sequence_.load(std::memory_order_acquire)};
  }
  bool away() const { return where_.load(std::memory_order_acquire) == place::call; }
  std::uint32_t sequence() const { return sequence_.load(std::memory_order_acquire); }
  /// Any thread: whether the P that it left with has been taken.
  bool taken() const { return revoked_.load(std::memory_order_acquire) == kTaken; }

  /// The M itself.
  place self() const { return where_.load(std::memory_order_relaxed); }

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
  atomic<place> where_{place::runtime};
  atomic<std::uint32_t> sequence_{0};
  atomic<std::uint64_t> revoked_{0};
};

}  // namespace weft::rt
