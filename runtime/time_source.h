// SPDX-License-Identifier: Apache-2.0
// The channels of timers and tickers. Go: time.Timer's channel since 1.23.
//
// Such a channel has no buffer and nobody sends on it. It knows when its next value is due; a receive at or after that
// time takes the value, which is the time at which it was due, and works out the next: never for a timer, the next time
// of its phase for a ticker. So stop() and reset() leave no stale value behind, ticks that nobody took are dropped,
// len() is 0, and a timer that nobody waits on costs nothing and needs no stopping.
//
// Only while somebody waits to receive does the channel have a timer in a heap; when that expires, fire() gives the
// value to the first waiter. All is guarded by the channel's lock; the heap's lock is taken under it.
#pragma once

#include <cstdint>

#include "runtime/timers.h"
#include "weft/chan.h"
#include "weft/time.h"

namespace weft::rt {

struct caller;

struct time_source : heap_timer {
  explicit time_source(detail::hchan* channel) : heap_timer(expire), c(channel) { end = at_end::goes_on; }
  static expiry expire(heap_timer& t);

  detail::hchan* const c;
  std::int64_t due = kNever;
  std::int64_t period = 0;  // 0: fires once
  bool armed = false;       // in a heap, or on the way from there to fire()
};

// All three under the channel's lock.

/// Receives: writes the time_point to `to`, or returns false.
bool take_time(detail::hchan* c, void* to);
/// Somebody has begun to wait.
void await_time(caller who, detail::hchan* c);
/// Somebody has stopped waiting without having been woken by this channel.
void leave_time(detail::hchan* c);

}  // namespace weft::rt
