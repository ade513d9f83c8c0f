// SPDX-License-Identifier: Apache-2.0
// weft::barrier (memory barriers are in barrier.h). The last to arrive takes all others out of the queue, so the next
// generation finds it empty, whether the others have run again or not. Those whose run() has ended meanwhile have not
// arrived.
#include "runtime/park.h"
#include "weft/sync.h"

namespace weft {
namespace {

// Drops those who will never wake up; returns how many.
int drop_left_behind(detail::wait_queue& q) {
  int dropped = 0;
  for (rt::waiter *w = rt::first_of(q), *next; w; w = next) {
    next = w->next;
    if (w->g->foreign || !rt::left_behind(w->g->run)) continue;
    rt::dequeue(q, w);
    ++dropped;
  }
  return dropped;
}

}  // namespace

barrier::barrier(std::ptrdiff_t n) : parties_(n) {
  if (n < 1) throw error("barrier: number of participants out of range");
}

void barrier::arrive_and_wait() {
  rt::entry who;
  list_.lock.lock();
  if (++arrived_ == parties_) arrived_ -= drop_left_behind(list_.waiters);
  if (arrived_ < parties_) {
    rt::waiter self;
    self.g = who.gp;
    rt::enqueue(list_.waiters, &self);
    return rt::park(who, list_.lock, rt::wait_reason::barrier_wait);
  }
  arrived_ = 0;
  rt::wake_list woken;
  woken.add_all(list_.waiters);
  list_.lock.unlock();
  woken.ready_all(who);
}

}  // namespace weft
