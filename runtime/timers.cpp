// SPDX-License-Identifier: Apache-2.0
// Sleeping goroutines. Go: time.Sleep, runtime.checkTimers, wakeNetPoller.
//
// A sleeper's timer is in the heap of the P on which it went to sleep. That P runs it when it is due, at a scheduling
// point; so do other Ps that look for work; and if its P is idle, the timekeeper wakes one (wakeup.cpp).
#include "weft/time.h"

#include "runtime/barrier.h"
#include "runtime/clock.h"
#include "runtime/park.h"

namespace weft::rt {
namespace {

// A foreign thread has no P: it sleeps by itself.
void foreign_sleep(std::int64_t when) {
  std::atomic<std::uint32_t> word{0};
  while (futex_wait(word, 0, when)) {
  }
}

void sleep_on(caller who, std::int64_t when) {
  timer_heap& heap = who.mp->held->timers;
  heap.lock.lock();
  const bool first = when < heap.first_when();
  try {
    heap.push({when, who.gp});
  } catch (...) {
    heap.lock.unlock();
    throw;
  }
  if (first) poke_timekeeper(when);
  park(who, heap.lock, wait_reason::sleep);
}

}  // namespace

std::int64_t run_timers(p* pp, std::int64_t now) {
  timer_heap& heap = pp->timers;
  while (heap.first_when() <= now) {
    timer due;
    heap.lock.lock();
    const bool any = heap.pop_due(now, due);
    heap.lock.unlock();
    if (any) ready(due.sleeper);
  }
  return heap.first_when();
}

std::int64_t next_timer() {
  std::int64_t first = kNever;
  const int n = sched.nps.load(std::memory_order_acquire);
  for (int i = 0; i < n; ++i)
    first =
        std::min(first, sched.allp[static_cast<std::size_t>(i)].load(std::memory_order_acquire)->timers.first_when());
  return first;
}

void poke_timekeeper(std::int64_t when) {
  hardware::light_barrier();  // pairs with the heavy barrier in keep_time()
  if (when >= sched.timekeeper_until.load(std::memory_order_acquire)) return;
  const visit inside;  // the keeper may be of a run() that has just ended
  if (!inside.welcome) return;
  if (m* keeper = sched.timekeeper.load(std::memory_order_acquire))
    keeper->wake.post_if_empty(kWakeToLook);
  else
    wakep_foreign();  // somebody idle is to become it
}

}  // namespace weft::rt

namespace weft::detail {

std::int64_t now_ns() noexcept { return rt::nanotime(); }

void sleep_until_ns(std::int64_t when) {
  const rt::caller who = rt::enter();
  if (when <= rt::nanotime()) return;
  if (who.mp)
    rt::sleep_on(who, when);
  else
    rt::foreign_sleep(when);
}

}  // namespace weft::detail
