// SPDX-License-Identifier: Apache-2.0
// Timers and tickers that speak through a channel. Go: time.NewTimer, NewTicker, sendTime. The rules are in
// time_source.h.
#include "runtime/time_source.h"

#include "runtime/chan_ops.h"
#include "runtime/clock.h"

namespace weft::rt {
namespace {

void start(caller who, time_source& source) {
  if (source.due == kNever) return;
  source.armed = true;
  arm(who, source, source.due);
}

void stop(time_source& source) {
  if (source.armed) disarm(source);
  source.armed = false;
}

void start_if_awaited(caller who, hchan* c) {
  if (!c->receivers.empty()) start(who, *c->source);
}

void drop(hchan* c) { detail::chan_ref last(c); }

// The time has come: the first that waits gets the value. If it was moved meanwhile, it starts again.
void fire(void* argument) {
  auto* const c = static_cast<hchan*>(argument);
  const caller who = any_caller();
  wake_list wake;
  {
    lock_guard hold(c->lock);
    stop(*c->source);
    while (c->source->due <= nanotime()) {
      waiter* const receiver = take_first_present(c->receivers);
      if (!receiver) break;
      receiver->success = take_time(c, receiver->element);
      wake.add(receiver);
    }
    start_if_awaited(who, c);
  }
  wake.ready_all(who);
  drop(c);
}

}  // namespace

// Under the heap's lock. That it is in a heap means that somebody waits, so the channel is there.
expiry time_source::expire(heap_timer& t) {
  auto& source = static_cast<time_source&>(t);
  source.c->references.fetch_add(1, std::memory_order_relaxed);
  return {nullptr, fire, source.c};
}

bool take_time(hchan* c, void* to) {
  time_source& source = *c->source;
  const std::int64_t now = nanotime();
  if (source.due > now) return false;
  ::new (to) time_point(std::chrono::nanoseconds(source.due));
  source.due = source.period == 0 ? kNever : source.due + ((now - source.due) / source.period + 1) * source.period;
  return true;
}

void await_time(caller who, hchan* c) {
  time_source& source = *c->source;
  // Those of a run() look after their own: a foreign thread may stop waiting before.
  if (source.armed && who.mp && source.heap.load(std::memory_order_relaxed) == &foreign_heap) stop(source);
  if (!source.armed) start(who, source);
}

void leave_time(hchan* c) {
  if (c->receivers.empty()) stop(*c->source);
}

}  // namespace weft::rt

namespace weft::detail {

using namespace weft::rt;

hchan* time_chan_make(std::int64_t due, std::int64_t period) {
  hchan* const c = chan_make(&kElementType<time_point>, 0);
  chan_ref guard(c);
  c->source = new time_source(c);
  c->source->due = before_never(due);
  c->source->period = period;
  c->references.fetch_add(1, std::memory_order_relaxed);
  return c;
}

bool time_chan_stop(hchan* c) {
  const entered_lock hold(c->lock);
  stop(*c->source);
  return std::exchange(c->source->due, kNever) != kNever;
}

bool time_chan_reset(hchan* c, std::int64_t due, std::int64_t period) {
  const entered_lock hold(c->lock);
  const bool pending = std::exchange(c->source->due, before_never(due)) != kNever;
  c->source->period = period;
  if (c->source->armed && move_timer(*c->source, c->source->due)) return pending;
  stop(*c->source);
  start_if_awaited(any_caller(), c);
  return pending;
}

}  // namespace weft::detail
