// SPDX-License-Identifier: Apache-2.0
// Starting Ms, and giving up Ps: wakep, startm, handoffp. Go: the functions of these names. The protocol is in
// wake.h.
//
// One measure is not Go's. Two goroutines that wake each other in turn make something runnable every 50 ns and never
// leave anything to steal, yet each ready() sees an idle P and would wake a thread for it, for ever. So a wake whose M
// found nothing to do doubles the number of submissions that the next wake is put off by (up to kMaxSkip); one that
// found something resets it. sysmon looks for work that an idle P could do, so a wrong guess costs its period at most.
#include <sched.h>
#include <algorithm>

#include "runtime/barrier.h"
#include "runtime/clock.h"
#include "runtime/netpoll.h"
#include "runtime/proc.h"

namespace weft::rt {
namespace {

constexpr int kMaxBackoff = 8;
constexpr int kFirstSkip = 4;
constexpr int kWakeTries = 8;

// Starts one spinning M, if none spins and a P is idle. Giving nspinning back because the idle P went to somebody else
// must be followed by another look: a submitter may have come meanwhile and relied on an M that seemed to spin. Not for
// ever: an idle P may be counted that cannot be had (it is being benched); sysmon looks too.
void wake_a_spinner(int near) {
  for (int tries = kWakeTries; tries > 0 && sched.gate.begin_wake(); --tries) {
    const int id = sched.gate.take_any_idle(near, sched.gomaxprocs.load(std::memory_order_relaxed));
    if (id >= 0) return startm(sched.allp[static_cast<std::size_t>(id)].load(std::memory_order_acquire), true);
    sched.gate.end_spinning();
    full_fence();
    if (!any_work() || !sched.gate.should_wake()) return;
    sched_yield();  // whoever has taken that P is about to say so
  }
}

}  // namespace

void wake_spinner(int near) {
  if (const visit inside; inside.welcome) wake_a_spinner(near);
}

void wakep_slow(p* pp) {
  const int backoff = sched.wake_backoff.load(std::memory_order_relaxed);
  if (backoff > 0) {
    if (++pp->wakes_skipped < kFirstSkip << backoff) return;
    pp->wakes_skipped = 0;
  }
  wake_spinner(pp->id);
}

void wakep_foreign() {
  if (sched.gate.should_wake()) wake_spinner(0);
}

void note_fruitless_wake() {
  const int backoff = sched.wake_backoff.load(std::memory_order_relaxed);
  if (backoff < kMaxBackoff) sched.wake_backoff.store(backoff + 1, std::memory_order_relaxed);
}

void acquirep(m* mp, p* pp) {
  mp->held = pp;
  mp->left_with.store(pp, std::memory_order_relaxed);  // seen by whoever sees it leave the runtime
  pp->owner.store(mp, std::memory_order_release);      // pairs with the sentinel's and sysmon's acquire
  if (sched.tier.load(std::memory_order_relaxed) != assist::off && pp->c->armed.load(std::memory_order_relaxed) == 0)
    arm_sentinel(*pp->c);
}

p* releasep(m* mp) {
  p* const pp = mp->held;
  pp->owner.store(nullptr, std::memory_order_release);
  mp->held = nullptr;
  return pp;
}

void give_p(m* to, p* pp, bool spinning) {
  to->next_p = pp;
  to->next_spinning = spinning;
  to->woken_ticks = cputicks();
  to->rouse(kWakeWithP);
}

bool give_to_idle_m(p* pp, bool spinning) {
  const std::uint32_t id = pp->c->idle_ms.pop();
  if (id == idle_stack<m_link>::kNone) return false;
  give_p(sched.allm[id].load(std::memory_order_acquire), pp, spinning);
  return true;
}

void startm(p* pp, bool spinning) {
  if (!give_to_idle_m(pp, spinning) && !give_to_watcher(pp, spinning)) request_m(*pp->c, pp, spinning);
}

bool any_work() {
  if (sched.global_size.load(std::memory_order_acquire) != 0 || netpoll.any_ready()) return true;
  const int n = sched.nps.load(std::memory_order_acquire);
  for (int i = 0; i < n; ++i)
    if (!sched.allp[static_cast<std::size_t>(i)].load(std::memory_order_acquire)->runq.empty()) return true;
  const std::int64_t timer = next_timer();
  return timer != kNever && timer <= nanotime();
}

// A surplus P goes to the bench. Whoever raises GOMAXPROCS meanwhile sees it there, or we see that it was raised; the
// exchange makes one of us put it into the idle set. Whoever lowers it finds the P there, or we see that it was
// lowered.
void put_away(p* pp, bool spinning) {
  pp->handoff_ticks.store(0, std::memory_order_relaxed);  // if it was taken from somebody, then for nobody
  for (;;) {
    if (surplus(pp)) {
      drain(pp);
      pp->benched.store(true, std::memory_order_seq_cst);
      full_fence();
      if (surplus(pp) || !pp->benched.exchange(false, std::memory_order_seq_cst)) {
        if (spinning) sched.gate.end_spinning();
        hardware::heavy_barrier();
        return wakep_foreign();  // for what was drained
      }
    }
    sched.gate.retire(pp->id, spinning);
    spinning = false;
    if (!surplus(pp) || !sched.gate.take_idle(pp->id)) return;
    sched.gate.settle();  // as it was before: the P counts as busy, and is ours
  }
}

bool retire_p(p* pp, bool spinning) {
  put_away(pp, spinning);
  if (any_work()) {
    if (!surplus(pp) && sched.gate.take_idle(pp->id)) {
      sched.gate.settle();
      return true;
    }
    wakep_foreign();  // whoever has it now may be busy with something else, and another P idle
  }
  if (sched.gate.settle()) check_dead();
  return false;
}

bool retire_p_for_good(p* pp) {
  if (retire_p(pp, false)) return true;
  call_watch();
  return false;
}

visit::visit() {
  sched.visitors.fetch_add(1, std::memory_order_seq_cst);
  const m* const self = this_m();
  welcome = sched.active.load(std::memory_order_seq_cst) && !(self && left_behind(self->run));
}

// As in Go: an M is started in every situation in which find_runnable() would find work.
void handoffp(p* pp) {
  const bool own_work = !pp->runq.empty() || sched.global_size.load(std::memory_order_acquire) != 0;
  if (!surplus(pp)) {
    if (own_work) return startm(pp, false);
    if (sched.gate.nspinning() == 0 && any_work() && sched.gate.begin_wake()) return startm(pp, true);
  }
  if (retire_p_for_good(pp)) startm(pp, false);
}

}  // namespace weft::rt
