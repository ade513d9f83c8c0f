// SPDX-License-Identifier: Apache-2.0
// Go's semaphore, inside mutex and wait_group. Those count their waiters before they come here, so a release may come
// first: it leaves a token.
#include "runtime/sema.h"

namespace weft::rt {
namespace {

// Whether gp, once readied, is the next that the caller's P runs.
bool runs_next(caller who, const g* gp) { return who.mp && gp->run == who.mp->run; }

// Whoever was woken last can never run: the wake-up is the caller's.
bool take_lost_wake(sema& s) WEFT_REQUIRES(s.lock) {
  const std::uint32_t run = s.woken_run.load(std::memory_order_relaxed);
  if (run == 0 || run > sched.gone.load(std::memory_order_acquire)) return false;
  s.woken_run.store(0, std::memory_order_relaxed);
  return true;
}

}  // namespace

void sem_acquire(caller& who, sema& s, waiter& self, bool first, wait_reason reason) {
  s.lock.lock();
  const bool token = s.tokens > 0;
  if (token) --s.tokens;
  if (token || take_lost_wake(s)) {
    s.lock.unlock();
    return;
  }
  self.g = who.gp;
  if (first)
    enqueue_first(s.waiters, &self);
  else
    enqueue(s.waiters, &self);
  park(who, s.lock, reason);
}

void sem_release(sema& s, bool hand_over) {
  entry who(kNoPark);
  s.lock.lock();
  waiter* const w = take_first_present(s.waiters);
  if (w)
    s.woken_run.store(w->g->run, std::memory_order_relaxed);
  else
    ++s.tokens;
  s.lock.unlock();
  if (!w) return;
  hand_over = hand_over && runs_next(who, w->g);
  ready(who, w->g);
  if (hand_over) who.mp = yield_m(who.mp, who.gp);
}

void sem_release_all(sema& s, std::uint32_t n) {
  const entry who(kNoPark);
  wake_list woken;
  {
    lock_guard hold(s.lock);
    for (; n > 0; --n) {
      waiter* const w = take_first(s.waiters);
      if (!w) break;
      woken.add(w);
    }
    s.tokens += n;
  }
  woken.ready_all(who);
}

}  // namespace weft::rt
