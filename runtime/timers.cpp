// SPDX-License-Identifier: Apache-2.0
// Sleeping, and running the timers that are due. Go: time.Sleep, runtime.checkTimers, wakeNetPoller.
//
// A timer is in the heap of the P on which it was started. That P runs it when it is due, at a scheduling point; so do
// other Ps that look for work; and if its P is idle, the M that has the watch (watch.cpp).
#include "runtime/timers.h"

#include <array>
#include <iterator>
#include <new>

#include "runtime/barrier.h"
#include "runtime/clock.h"
#include "runtime/park.h"
#include "runtime/waitq.h"
#include "weft/time.h"

namespace weft::rt {
namespace {

// Statics that outlive every thread.
auto& p_heaps = *new std::array<std::atomic<timer_heap*>, kMaxPs>{};

timer_heap& heap_for(caller who) { return who.mp ? who.mp->held->timers : foreign_heap; }

// Under the heap's lock. True: it is due before everything else there.
bool add_to(timer_heap& heap, heap_timer& t, std::int64_t when) {
  const bool first = when < heap.first_when();
  t.when = when;
  try {
    heap.add(t);
  } catch (const std::bad_alloc&) {
    fatal_throw("", "out of memory: no room for a timer");
  }
  return first;
}

// For one that was put first into the heap of the caller's P.
void hurry(const caller& who, std::int64_t when) {
  look_by(who.mp->held, when);
  poke_watcher(when);
}

// Whoever may sleep too long is told. Ps look after the foreign heap as well: perhaps no foreign thread is parked.
void announce(const caller& who, const timer_heap& heap, std::int64_t when) {
  if (who.mp && &heap == &who.mp->held->timers) return hurry(who, when);
  if (&heap == &foreign_heap) poke_foreign_sleepers();
  poke_watcher(when);
}

void sleep_on(caller& who, std::int64_t when) {
  timer_heap& heap = who.mp->held->timers;
  heap.lock.lock();
  const bool first = when < heap.first_when();
  try {
    heap.push_sleeper(who.gp, when);
  } catch (...) {
    heap.lock.unlock();
    throw;
  }
  if (first) hurry(who, when);
  park(who, heap.lock, wait_reason::sleep);
}

// As any foreign thread that waits it runs the timers of the foreign heap meanwhile, its own among them.
void foreign_sleep(g* gp, std::int64_t when) {
  foreign_heap.lock.lock();
  try {
    foreign_heap.push_sleeper(gp, when);
  } catch (...) {
    foreign_heap.lock.unlock();
    throw;
  }
  foreign_park_on(gp, foreign_heap.lock, wait_reason::sleep);
}

// Locks the heap that t is in or was in last; null: it was in none yet. Not analysed, nor are its callers: which
// heap it is turns out only here.
timer_heap* lock_heap_of(heap_timer& t) WEFT_NO_THREAD_SAFETY_ANALYSIS {
  for (;;) {
    timer_heap* const heap = t.heap.load(std::memory_order_acquire);
    if (!heap) return nullptr;
    heap->lock.lock();
    if (t.heap.load(std::memory_order_relaxed) == heap) return heap;
    heap->lock.unlock();
  }
}

}  // namespace

timer_heap& foreign_heap = *new timer_heap;

timer_heap& heap_of_p(int id) {
  auto& heap = p_heaps[static_cast<std::size_t>(id)];
  if (!heap.load(std::memory_order_acquire)) heap.store(new timer_heap, std::memory_order_release);
  return *heap.load(std::memory_order_relaxed);
}

void run_timers(timer_heap& heap, std::int64_t now) {
  while (heap.first_when() <= now) {
    expiry due;
    heap.lock.lock();
    const bool any = heap.pop_due(now, due);
    heap.lock.unlock();
    if (any) act_on(due);
  }
}

void act_on(const expiry& due) {
  if (due.wake) ready(due.wake);
  if (due.call) due.call(due.argument);
}

// Timers that change heaps meanwhile go to the foreign heap, which is looked at last, or to another P's (drain()), and
// then whoever has moved them pokes the watcher afterwards.
std::int64_t next_timer() {
  std::int64_t first = kNever;
  for (int i = sched.nps.load(std::memory_order_acquire) - 1; i >= 0; --i)
    first =
        std::min(first, sched.allp[static_cast<std::size_t>(i)].load(std::memory_order_acquire)->timers.first_when());
  return std::min(first, foreign_heap.first_when());
}

void arm(caller who, heap_timer& t, std::int64_t when) {
  timer_heap& heap = heap_for(who);
  bool first;
  {
    lock_guard hold(heap.lock);
    first = add_to(heap, t, when);
  }
  if (first) announce(who, heap, when);
}

core_lock& arm_to_park(caller who, heap_timer& t, std::int64_t when) WEFT_NO_THREAD_SAFETY_ANALYSIS {
  timer_heap& heap = heap_for(who);
  heap.lock.lock();
  // A foreign thread looks for itself how long it may sleep.
  if (add_to(heap, t, when) && who.mp) hurry(who, when);
  return heap.lock;
}

bool disarm(heap_timer& t) WEFT_NO_THREAD_SAFETY_ANALYSIS {
  timer_heap* const heap = lock_heap_of(t);
  if (!heap) return false;
  const bool was_in = t.place != heap_timer::kNotInHeap;
  if (was_in) heap->remove(t);
  heap->lock.unlock();
  return was_in;
}

bool move_timer(heap_timer& t, std::int64_t when) WEFT_NO_THREAD_SAFETY_ANALYSIS {
  timer_heap* const heap = lock_heap_of(t);
  if (!heap) return false;
  const bool was_in = t.place != heap_timer::kNotInHeap;
  const bool first = was_in && when < heap->first_when();
  if (was_in) {
    t.when = when;
    heap->moved(t);
  }
  heap->lock.unlock();
  if (first) announce(any_caller(), *heap, when);
  return was_in;
}

// -- Waiting with a time limit ----------------------------------------------------------------------------------------

expiry time_limit::expire(heap_timer& t) {
  auto& limit = static_cast<time_limit&>(t);
  return {win_race(limit.race, &detail::timed_out) ? limit.gp : nullptr, nullptr, nullptr};
}

bool park_limited(caller& who, core_lock& lock, const waiter& w, time_limit& limit, std::int64_t when,
                  wait_reason reason) {
  core_lock* locks[] = {&lock, &arm_to_park(who, limit, when)};
  const lock_set locked{locks, std::size(locks)};
  park_all(who, locked, reason);
  disarm(limit);
  return limit.race.load(std::memory_order_acquire) == &w;
}

bool park_until(caller& who, core_lock& lock, wait_queue& queue, waiter& w, std::int64_t when, wait_reason reason) {
  w.g = who.gp;
  if (when == kNever) {
    enqueue(queue, &w);
    park(who, lock, reason);
    return true;
  }
  time_limit limit(who.gp);
  w.race = &limit.race;
  enqueue(queue, &w);
  if (park_limited(who, lock, w, limit, when, reason)) return true;
  lock_guard hold(lock);
  if (w.queued) dequeue(queue, &w);
  return false;
}

}  // namespace weft::rt

namespace weft::detail {

std::int64_t now_ns() noexcept { return rt::nanotime(); }

void sleep_until_ns(std::int64_t when) {
  rt::entry who;
  if (when <= rt::nanotime()) return;
  if (who.mp)
    rt::sleep_on(who, when);
  else
    rt::foreign_sleep(who.gp, when);
}

}  // namespace weft::detail
