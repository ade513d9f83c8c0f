// SPDX-License-Identifier: Apache-2.0
// Goroutines wired to their thread. Go: LockOSThread, stoplockedm, startlockedm.
//
// A locked M runs no other goroutine: when its own parks, it gives its P away and sleeps. Whichever M then finds the
// goroutine runnable gives its P to the locked M, and sleeps itself. A locked M follows the P it is given to the P's
// CPU.
//
// m0, the thread that called run(), is treated alike: it starts main, and when main first parks it gives its P away and
// sleeps until main has returned (or, if main locked itself to it, is runnable). So run() returns as soon as main does,
// whatever other goroutines are doing.
#include "runtime/park.h"

namespace weft::rt {

void stop_lockedm(m* mp) {
  if (mp->held) handoffp(releasep(mp));
  const std::uint32_t woken = mp->sleep();
  if (woken != kWakeWithP) return;
  acquirep(mp, mp->next_p);
  mp->next_g = mp->lockedg;
}

// An M that is parked in mid-code goes on when its run() ends, and frees itself: not while we look at it, and what its
// goroutine says by then is not to be relied on.
void start_lockedm(m* mp, m* locked) {
  p* const pp = releasep(mp);
  lock_guard hold(sched.ending_lock);
  if (left_behind(mp->run)) return;
  if (locked->c != pp->c) {
    locked->pinned.store(pin_thread(locked->tid, pp->c->number), std::memory_order_relaxed);
    locked->c = pp->c;
  }
  give_p(locked, pp, false);
}

}  // namespace weft::rt

namespace weft {

void lock_os_thread() {
  const rt::entry who(rt::kNoPark);
  rt::m* const mp = who.mp;
  if (!mp) return;
  ++mp->lock_count;
  mp->lockedg = mp->curg;
  mp->curg->lockedm.store(mp, std::memory_order_relaxed);
  mp->through_scheduler = true;
}

void unlock_os_thread() {
  const rt::entry who(rt::kNoPark);
  rt::m* const mp = who.mp;
  if (!mp || mp->lock_count == 0 || --mp->lock_count > 0) return;
  mp->lockedg = nullptr;
  mp->curg->lockedm.store(nullptr, std::memory_order_relaxed);
  mp->through_scheduler = mp->is_m0;
}

}  // namespace weft
