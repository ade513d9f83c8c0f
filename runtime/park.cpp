// SPDX-License-Identifier: Apache-2.0
// Waiting and waking: one primitive each. Go: gopark, goready.
//
// To wait, a goroutine takes the lock of what it waits on, looks that it really must wait, queues a waiter there, and
// parks; its context is saved, then the lock is released (switch.h). To wake it, somebody takes it out of that queue
// under the lock, releases the lock, and calls ready(). A goroutine is thus woken by exactly one, the one that took it
// out of the queue, and never before it has stopped.
#include "runtime/park.h"

#include <sched.h>
#include <exception>

#include "runtime/clock.h"
#include "runtime/goexit.h"

namespace weft::rt {
namespace {

constexpr int kMaxPeriod = 64;

// Below this distance between two samples the rate is high enough to sample more rarely.
constexpr std::uint64_t kSampleTicks = 20'000;

// The goroutine's run() is over: it stops here for ever, and its M goes.
[[noreturn]] void abandon(m* mp) {
  mp->after = after_switch::nothing;
  switch_to(mp, mp->curg, &mp->g0);
  __builtin_unreachable();
}

}  // namespace

void sample_ready(p* pp, g* gp) {
  event_sampler& s = pp->sampler;
  const std::uint64_t now = cputicks();
  gp->ready_ticks = now;
  gp->ready_weight = static_cast<std::uint16_t>(s.period);
  const bool fast = now - s.last < kSampleTicks;
  s.last = now;
  s.period = fast ? (s.period < kMaxPeriod ? s.period * 2 : kMaxPeriod) : (s.period > 1 ? s.period / 2 : 1);
  s.left = 1 + static_cast<int>(pp->random.below(static_cast<std::uint32_t>(2 * s.period - 1)));
}

// The rare half of enter(): this goroutine has had its time slice, or must go on unwinding.
m* enter_slow(m* mp) {
  g* const gp = mp->curg;
  if (gp == &mp->g0) return mp;  // a timer's function is started: the scheduler itself never yields
  if (left_behind(mp->run)) abandon(mp);
  if (gp->goexiting && std::uncaught_exceptions() == 0) throw goexit_signal{};
  if (mp->held->preempt.load(std::memory_order_relaxed)) {
    mp->held->preemptions.add(1);
    mp = yield_m(mp, gp);
  }
  return mp;
}

void entry::slow() {
  try {
    mp = enter_slow(mp);
  } catch (...) {
    if (outermost_) mp->claim.to_user();
    throw;
  }
}

// The set lies on the stack of the goroutine that waits. That one takes each of these locks before it returns, but for
// the one under which it was woken, so the set is there until the last is released.
void unlock_all(const lock_set& set) {
  core_lock* const* lock = set.locks;
  for (std::size_t n = set.n; n > 0; --n) (*lock++)->unlock();
}

void park_all(caller& who, const lock_set& set, wait_reason reason) {
  if (!who.mp) {
    prepare_to_park(who.gp, reason);
    unlock_all(set);
    return foreign_park(who.gp);
  }
  who.mp->unlock_set = &set;
  park_m(who, nullptr, after_switch::unlock_all, reason);
}

void foreign_park_on(g* gp, core_lock& lock, wait_reason reason) {
  prepare_to_park(gp, reason);
  lock.unlock();
  foreign_park(gp);
}

void park_forever(caller& who, wait_reason reason) {
  for (;;) {
    if (who.mp) {
      park_m(who, nullptr, after_switch::nothing, reason);
    } else {
      prepare_to_park(who.gp, reason);
      foreign_park(who.gp);
    }
  }
}

void ready_slow(g* gp) {
  if (gp->foreign) return foreign_ready(gp);
  if (left_behind(gp->run)) return;  // its run() is over: it stays where it is for ever
  gp->status.store(g_status::runnable, std::memory_order_relaxed);
  gp->cause = ready_cause::readied;
  wakep_foreign(globrunqput(gp));
}

// The P is that of the waker.
void ready_far(p* pp, g* gp) {
  node& queued_at = globrunqput(gp);
  if (&queued_at == pp->home)
    wakep(pp);
  else
    wakep_foreign(queued_at);
}

void ready(g* gp) { ready(any_caller(), gp); }

void runqput(p* pp, g* gp) {
  g_queue::overflow spill;
  if (pp->runq.put(gp, spill)) [[likely]]
    return;
  globrunqput_batch(*pp->home, {spill.gs.data(), spill.count});
}

void record_wait(p* pp, g* gp) {
  const std::uint64_t waited = ticks_to_ns(cputicks() - gp->ready_ticks);
  gp->ready_ticks = 0;
  pp->runq_wait.record(waited, gp->ready_weight);
  if (gp->cause == ready_cause::readied) pp->wakeup_to_run.record(waited, gp->ready_weight);
}

m* finish_switch(boost::context::detail::transfer_t arrived) {
  m* const mp = static_cast<m*>(arrived.data);
  after_switch_stack(mp->curg->stk->fake_stack, nullptr, nullptr);
  g* const left = mp->previous;
  const after_switch after = mp->after;
  mp->after = after_switch::nothing;
  if (after != after_switch::drop_stack) [[likely]]
    left->context = arrived.fctx;
  switch (after) {
    case after_switch::nothing: break;
    case after_switch::unlock: mp->unlock->unlock(); break;
    case after_switch::unlock_all: unlock_all(*mp->unlock_set); break;
    case after_switch::requeue:
      runqput(mp->held, left);
      wakep(mp->held);
      break;
    case after_switch::requeue_global: wakep_foreign(globrunqput(left)); break;
    case after_switch::requeue_blocked:
      wakep_foreign(globrunqput(left));
      if (sched.busy.settle()) check_dead();
      break;
    case after_switch::drop_stack:
      mp->dead_stack->context = arrived.fctx;
      stack_put(mp->held, mp->dead_stack);
      break;
  }
  return mp;
}

m* yield_m(m* mp, g* gp) {
  p* const pp = mp->held;
  const bool preempted = pp->preempt.load(std::memory_order_relaxed);
  note_ready(pp, gp, ready_cause::requeued);
  mp->after = preempted ? after_switch::requeue_global : after_switch::requeue;
  g* const next = next_local(mp);
  if (next) return switch_to(mp, gp, next);
  // With nothing local left, the goroutines in the global queue come first.
  const bool others_wait = pp->home->global_size.load(std::memory_order_relaxed) != 0;
  const bool alone = pp->switches_left.load(std::memory_order_relaxed) > 0 && !preempted && !mp->next_g &&
                     (!mp->through_scheduler || pp->runq.empty()) && !others_wait;
  if (!alone) {
    if (others_wait && pp->runq.empty()) mp->after = after_switch::requeue_global;
    return switch_to(mp, gp, &mp->g0);
  }
  mp->after = after_switch::nothing;
  begin_run(pp, gp, true);
  return mp;
}

}  // namespace weft::rt

namespace weft {

void yield() {
  rt::entry who;
  if (who.mp)
    who.mp = rt::yield_m(who.mp, who.gp);
  else
    sched_yield();
}

}  // namespace weft
