// SPDX-License-Identifier: Apache-2.0
// What runs next. Go: findRunnable, stealWork.
//
// The order of one round: leave if the run() is over or the P surplus; own timers; every 61st slice one from the global
// queue (so it does not starve behind local work); runnext, then the local queue; the global queue, this P's share; the
// poller (when there is one); steal, as a spinning M; put the P into the idle set, look again, sleep.
//
// A thief makes four passes over all Ps, each from a random start in a random stride. It takes half of a ring; only on
// the last pass does it run the due timers of others, and rob runnext and batch (runq.h) of a P that has not switched
// goroutines while the thief watched it for kWatchNs: a P that does switch will run them itself sooner than any thief.
#include <unistd.h>

#include "runtime/barrier.h"
#include "runtime/clock.h"
#include "runtime/proc.h"
#include "runtime/steal.h"

namespace weft::rt {
namespace {

constexpr int kStealPasses = 4;
constexpr std::uint64_t kWatchNs = 400;     // several times what a goroutine needs that only answers a message
constexpr std::uint64_t kSpinNs = 10'000;   // below the price of sleeping and being woken again
constexpr int kPausesBetweenRounds = 16;

// Whether pp switches goroutines while we look.
bool makes_progress(const p* pp) {
  const int before = pp->switches_left.load(std::memory_order_relaxed);
  const std::uint64_t start = cputicks();
  do {
    for (int i = 0; i < 8; ++i) cpu_relax();
    if (pp->switches_left.load(std::memory_order_relaxed) != before) return true;
  } while (ticks_to_ns(cputicks() - start) < kWatchNs);
  return false;
}

g* steal_from(p* pp, p* victim, bool last_pass) {
  g* gp = nullptr;
  if (victim->runq.steal(pp->runq, gp) == g_queue::steal_result::stolen) {
    pp->steals.add(1);
    return gp;
  }
  if (!last_pass) return nullptr;
  if (victim->timers.first_when() != kNever) {
    run_timers(victim, nanotime());
    if (const auto own = pp->runq.get(); own.g) return own.g;
  }
  if (victim->runq.empty() || makes_progress(victim)) return nullptr;
  if (victim->runq.rob(gp) != g_queue::steal_result::stolen) return nullptr;
  pp->robberies.add(1);
  return gp;
}

g* steal_pass(p* pp, bool last_pass) {
  const int n = sched.nps.load(std::memory_order_acquire);
  for (steal_order order(n, pp->random); !order.done(); order.next()) {
    p* const victim = sched.allp[static_cast<std::size_t>(order.position())].load(std::memory_order_acquire);
    if (victim == pp) continue;
    if (g* gp = steal_from(pp, victim, last_pass)) return gp;
  }
  return nullptr;
}

bool may_spin(m* mp) {
  if (mp->spinning) return true;
  // At most half of the busy Ps have Ms that spin.
  const int busy = sched.gomaxprocs.load(std::memory_order_relaxed) - sched.gate.nidle();
  if (2 * sched.gate.nspinning() >= busy) return false;
  mp->spinning = true;
  sched.gate.begin_spinning();
  return true;
}

g* spin(m* mp) {
  p* const pp = mp->held;
  const bool alone = sched.nps.load(std::memory_order_relaxed) == 1;
  const std::uint64_t start = cputicks();
  for (;;) {
    for (int pass = 0; pass < kStealPasses && !alone; ++pass)
      if (g* gp = steal_pass(pp, pass == kStealPasses - 1)) return gp;
    if (g* gp = globrunqget(pp, INT32_MAX)) return gp;
    if (pp->timers.first_when() != kNever) {
      run_timers(pp, nanotime());
      if (const auto own = pp->runq.get(); own.g) return own.g;
    }
    if (surplus(pp) || left_behind(mp->run) || ticks_to_ns(cputicks() - start) >= kSpinNs) return nullptr;
    for (int i = 0; i < kPausesBetweenRounds; ++i) cpu_relax();
  }
}

// Found work: if this M was the last that span, another takes over (and finds the next piece, or nothing).
void stop_spinning(m* mp) {
  if (!mp->spinning) return;
  mp->spinning = false;
  if (sched.wake_backoff.load(std::memory_order_relaxed) != 0) sched.wake_backoff.store(0, std::memory_order_relaxed);
  sched.gate.end_spinning();
  wakep(mp->held);
}

g* local_work(m* mp, bool fair, bool& inherits) {
  p* const pp = mp->held;
  if (fair)
    if (g* gp = globrunqget(pp, 1)) return gp;
  const auto [gp, from_runnext] = pp->runq.get();
  inherits = from_runnext;
  if (gp) return gp;
  return globrunqget(pp, INT32_MAX);
}

// Puts the P into the idle set and sleeps, or goes on with it, spinning, if there is work after all.
void go_idle(m* mp) {
  const bool spinning = mp->spinning;
  mp->spinning = false;
  p* const pp = releasep(mp);
  if (retire_p(pp, spinning)) {
    acquirep(mp, pp);
    mp->spinning = true;
    sched.gate.begin_spinning();
  } else if (spinning) {
    note_fruitless_wake();
  }
}

// The switch path's allowance until the next visit here; in chaos mode short and random.
int next_allowance(p* pp) { return sched.debug.chaos ? 1 + static_cast<int>(pp->random.below(4)) : kFairTicks; }

// A random goroutine instead of the next one: what a test of schedules wants.
void shuffle(p* pp) {
  for (std::uint32_t n = pp->random.below(3); n > 0; --n)
    if (const auto first = pp->runq.get(); first.g) runqput(pp, first.g);
}

}  // namespace

bool find_runnable(m* mp, g*& gp, bool& inherits) {
  for (;;) {
    if (sched.frozen.load(std::memory_order_relaxed)) [[unlikely]]
      for (;;) pause();
    if (left_behind(mp->run) || (mp->is_m0 && sched.main_done.load(std::memory_order_acquire))) return false;
    if (mp->through_scheduler && !mp->next_g) {
      stop_lockedm(mp);
      continue;
    }
    if (!mp->held) {
      stopm(mp);
      if (!mp->held) return false;
    }
    if (surplus(mp->held) && !mp->lockedg) {
      retire_surplus(mp);
      continue;
    }
    p* const pp = mp->held;
    const bool allowance_used = pp->switches_left.load(std::memory_order_relaxed) <= 0;
    if (allowance_used) pp->switches_left.store(next_allowance(pp), std::memory_order_relaxed);
    pp->preempt.store(false, std::memory_order_relaxed);
    if (left_behind(mp->run)) continue;
    if (allowance_used && sched.sysmon_asleep.load(std::memory_order_relaxed)) wake_sysmon();
    inherits = false;
    if (mp->next_g) {
      gp = mp->next_g;
      inherits = mp->next_inherits;
      mp->next_g = nullptr;
      mp->next_inherits = false;
      stop_spinning(mp);
      return true;
    }
    if (pp->timers.first_when() != kNever) run_timers(pp, nanotime());
    if (sched.debug.chaos) shuffle(pp);
    const bool fair = allowance_used || pp->schedtick.load(std::memory_order_relaxed) % kFairTicks == 0;
    gp = local_work(mp, fair, inherits);
    if (!gp && may_spin(mp)) gp = spin(mp);
    if (gp) {
      stop_spinning(mp);
      return true;
    }
    go_idle(mp);
  }
}

}  // namespace weft::rt
