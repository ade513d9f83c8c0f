// SPDX-License-Identifier: Apache-2.0
// What runs next. Go: findRunnable, stealWork.
//
// On the switch path (switch.h) nobody looks here for kFairTicks switches, or for as many as there seems to be time for
// until the P's first timer is due.
//
// The order of one round: leave if the run() is over or the P surplus; own timers; every 61st slice one from the global
// queue (so it does not starve behind local work); runnext, then the local queue; the global queue, this P's share; the
// poller; steal, as a spinning M; put the P into the idle set, look again, sleep.
//
// A thief makes four passes over the Ps of its node: first those of its core, then those that share its cache, then the
// others; within each of these from a random start in a random stride. It takes half of a ring; only on the last pass
// does it run the due timers of others, and rob runnext and batch (runq.h) of a P that has not switched goroutines
// while the thief watched it: a P that does switch will run them itself sooner than any thief. How long it watches
// follows what came of it: robbing costs some 3 us (the heavy barrier), and was of use if the victim then went on for
// kRobberyPaysNs with the goroutine that it was running. Each time that it was not, the thief watches twice as long the
// next time, else half as long. A producer that fills a channel's buffer, then parks, is so left alone; one that
// computes on is relieved at once.
//
// Work leaves its node only if no P idles there (an idle one will be woken for it), and if it has waited, under the
// thief's eyes, for as long as running it far from its memory costs (distance_cost_ns(); ski rental again). So the
// thief looks at the other nodes, the nearest first, each time that its own has nothing, and notes since when each has
// had work; while some is in sight it goes on looking for longer than a spin usually lasts. What the distance is
// thought to cost counts up to kLongestFarWaitNs: no work starves beside a node that idles.
#include <unistd.h>
#include <algorithm>

#include "runtime/barrier.h"
#include "runtime/clock.h"
#include "runtime/netpoll.h"
#include "runtime/proc.h"
#include "runtime/steal.h"
#include "runtime/trace.h"
#include "runtime/wake_order.h"

namespace weft::rt {
namespace {

constexpr int kPausesBetweenRounds = 16;

// Whether pp switches goroutines while we look.
bool makes_progress(const p* pp, std::uint64_t watch_ns) {
  const int before = pp->switches_left.load(std::memory_order_relaxed);
  const std::uint64_t start = cputicks();
  do {
    for (int i = 0; i < 8; ++i) cpu_relax();
    if (pp->switches_left.load(std::memory_order_relaxed) != before) return true;
  } while (ticks_to_ns(cputicks() - start) < watch_ns);
  return false;
}

// Between nodes through a queue that nobody else sees: what is in pp's own may be stolen before it is adopted.
g_queue::steal_result steal_half(p* pp, p* victim, g*& gp) {
  if (victim->home == pp->home) return victim->runq.steal(pp->runq, gp);
  g_queue loot;
  const auto result = victim->runq.steal(loot, gp);
  while (g* const more = loot.get().g) {
    adopt(pp, more);
    runqput(pp, more);
  }
  return result;
}

void count_steal(p* pp, steal_distance from) { pp->steals[static_cast<std::size_t>(from)].add(1); }

// What comes from afar is counted by fetch_far_work().
g* steal_from(p* pp, p* victim, bool last_pass, steal_distance from) {
  g* gp = nullptr;
  if (steal_half(pp, victim, gp) == g_queue::steal_result::stolen) {
    if (from != steal_distance::far) count_steal(pp, from);
    trace_steal(pp, victim, gp, static_cast<std::uint8_t>(from));
    return gp;
  }
  if (!last_pass) return nullptr;
  if (victim->timers.first_when() != kNever) {
    run_timers(victim->timers, nanotime());
    if (const auto own = pp->runq.get(); own.g) return own.g;
  }
  if (victim->runq.empty() || makes_progress(victim, pp->watch_ns)) return nullptr;
  if (victim->runq.rob(gp) != g_queue::steal_result::stolen) return nullptr;
  pp->robberies.add(1);
  trace_steal(pp, victim, gp, static_cast<std::uint8_t>(from) | kRobbed);
  pp->robbed = victim;
  pp->robbed_switches = victim->switches_left.load(std::memory_order_relaxed);
  pp->robbed_ticks = cputicks();
  return gp;
}

g* steal_on(p* pp, const cpu& c, bool last_pass, steal_distance from) {
  const int n = c.nps.load(std::memory_order_acquire);
  const int first = n > 1 ? static_cast<int>(pp->random.below(static_cast<std::uint32_t>(n))) : 0;
  for (int i = 0; i < n; ++i) {
    p* const victim = c.ps[static_cast<std::size_t>((first + i) % n)].load(std::memory_order_acquire);
    if (victim == pp) continue;
    if (g* gp = steal_from(pp, victim, last_pass, from)) return gp;
  }
  return nullptr;
}

steal_distance distance_in(const numa::view& seen, int place) {
  const auto in = [place](numa::range part) { return place >= part.begin && place < part.end; };
  if (in(seen.core)) return steal_distance::core;
  return in(seen.cache) ? steal_distance::cache : steal_distance::node;
}

g* steal_pass(p* pp, const machine_map& map, bool last_pass) {
  const numa::view seen = map.view_from(*pp->c);
  const auto steal_at = [&](int place) {
    return steal_on(pp, *map.row[static_cast<std::size_t>(place)], last_pass, distance_in(seen, place));
  };
  if (g* gp = steal_near(seen, pp->random, steal_at)) return gp;
  for (const cpu* const c : map.former)
    if (g* gp = steal_on(pp, *c, last_pass, steal_distance::node)) return gp;
  return nullptr;
}

bool may_fetch(const node& home, const machine_map::neighbour& other, std::int64_t now_ns, far_work& seen) {
  const bool waits = needs_help(*other.there) && has_work(*other.there, now_ns);
  const std::uint64_t cost = numa::distance_cost_ns(other.distance, home.costs->handoff.ns());
  return seen.may_fetch(other.there->index, waits, cost, now_ns);
}

g* fetch_from(p* pp, const machine_map& map, const machine_map::neighbour& other) {
  if (g* gp = globrunqget(pp, *other.there, INT32_MAX)) return gp;
  for (int pass = 0; pass < kStealPasses; ++pass) {
    const auto steal_at = [&](int place) {
      return steal_on(pp, *map.row[static_cast<std::size_t>(place)], pass == kStealPasses - 1, steal_distance::far);
    };
    if (g* gp = steal_in(other.cpus, {0, 0}, pp->random, steal_at)) return gp;
  }
  return nullptr;
}

[[gnu::noinline]] g* fetch_far_work(p* pp, const machine_map& map, far_work& seen) {
  seen.look_again();
  const std::int64_t now_ns = nanotime();
  for (const machine_map::neighbour& other : map.others(*pp->home)) {
    if (!may_fetch(*pp->home, other, now_ns, seen)) continue;
    g* const gp = fetch_from(pp, map, other);
    if (!gp) continue;
    count_steal(pp, steal_distance::far);
    adopt(pp, gp);
    return gp;
  }
  return nullptr;
}

// Was the last robbery of use? Known once the victim has switched goroutines, or has not for long enough.
void judge_robbery(p* pp) {
  if (!pp->robbed) return;
  const bool long_ago = ticks_to_ns(cputicks() - pp->robbed_ticks) >= kRobberyPaysNs;
  const bool switched = pp->robbed->switches_left.load(std::memory_order_relaxed) != pp->robbed_switches;
  if (!long_ago && !switched) return;
  pp->watch_ns = next_watch_ns(pp->watch_ns, long_ago);
  pp->robbed = nullptr;
}

bool may_spin(m* mp) {
  if (mp->spinning) return true;
  // There is nobody to steal from, and what comes to a file wakes it in the poller as soon as it would be seen here.
  if (sched.nps.load(std::memory_order_relaxed) == 1 && netpoll.active()) return false;
  node& home = *mp->held->home;
  const int busy = home.ps.load(std::memory_order_relaxed) - home.gate.nidle();
  if (!room_to_spin(busy, home.gate.nspinning())) return false;
  mp->spinning = true;
  home.gate.begin_spinning();
  return true;
}

struct search {
  std::uint64_t patience_ns;
  std::uint64_t start = cputicks();
  int rounds = 0;
  far_work far{};

  std::uint64_t waited_ns() const { return ticks_to_ns(cputicks() - start); }
  bool over() const { return waited_ns() >= (far.awaited() ? kLongSpinNs : patience_ns); }
};

g* due_timers_work(p* pp) {
  if (pp->timers.first_when() == kNever && foreign_heap.first_when() == kNever) return nullptr;
  const std::int64_t now = nanotime();
  run_timers(pp->timers, now);
  run_timers(foreign_heap, now);
  return pp->runq.get().g;
}

g* look_everywhere(m* mp, search& s) {
  p* const pp = mp->held;
  const bool alone = sched.nps.load(std::memory_order_relaxed) == 1;
  const machine_map& map = machine();
  const bool one_node = map.near.nodes().size() == 1;
  for (;; ++s.rounds) {
    judge_robbery(pp);
    for (int pass = 0; pass < kStealPasses && !alone; ++pass)
      if (g* gp = steal_pass(pp, map, pass == kStealPasses - 1)) return gp;
    if (g* gp = globrunqget(pp, *pp->home, INT32_MAX)) return gp;
    if (g* gp = netpoll.active() ? netpoll.work(pp, poll_reach::machine) : nullptr) return gp;
    if (g* gp = due_timers_work(pp)) return gp;
    if (!one_node)
      if (g* gp = fetch_far_work(pp, map, s.far)) return gp;
    if (surplus(pp) || left_behind(mp->run) || s.over()) return nullptr;
    for (int i = 0; i < kPausesBetweenRounds; ++i) cpu_relax();
  }
}

// One round at least, and then for as long as it pays: sleeping and being woken again is what it may save.
g* spin(m* mp) {
  node_costs& costs = *mp->c->costs;
  search s{.patience_ns = costs.idle.next_wait()};
  g* const gp = look_everywhere(mp, s);
  const bool waited = s.rounds != 0 || (!gp && s.patience_ns != 0);
  if (waited) costs.learn_from_spin(gp != nullptr, s.waited_ns());
  return gp;
}

// Found work: if this M was the last that span, another takes over (and finds the next piece, or nothing).
void stop_spinning(m* mp) {
  if (!mp->spinning) return;
  mp->spinning = mp->woken_to_spin = false;
  node& home = *mp->held->home;
  if (home.wake_backoff.load(std::memory_order_relaxed) != 0) home.wake_backoff.store(0, std::memory_order_relaxed);
  home.gate.end_spinning();
  wakep(mp->held);
}

// From the global queue before it is its turn. If others wait here that begins no time slice (sysmon.cpp): runnext
// could go on for ever before them, if only something came from there once a slice.
g* out_of_turn(p* pp) {
  g* const gp = globrunqget(pp, *pp->home, 1);
  if (gp && pp->runq.has_queue())
    pp->out_of_turn.store(pp->out_of_turn.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return gp;
}

g* local_work(m* mp, bool fair, bool& inherits) {
  p* const pp = mp->held;
  if (fair)
    if (g* gp = out_of_turn(pp)) return gp;
  const auto next = pp->runq.get();
  inherits = next.inherits;
  if (next.g) return next.g;
  return globrunqget(pp, *pp->home, INT32_MAX);
}

// Puts the P into the idle set and sleeps, or goes on with it, spinning, if there is work after all.
void go_idle(m* mp) {
  const bool spinning = mp->spinning;
  mp->spinning = false;
  p* const pp = releasep(mp);
  if (retire_p(pp, spinning)) {
    acquirep(mp, pp);
    mp->spinning = true;
    pp->home->gate.begin_spinning();
  } else if (spinning && mp->woken_to_spin) {
    note_fruitless_wake(*pp->home);
  }
}

// The switch path's allowance until the next visit here; in chaos mode short and random.
void renew_allowance(p* pp) {
  const std::int64_t now = nanotime();
  // Short allowances are bad samples. Too high an estimate costs a few more visits; too low, and timers are late.
  const std::int64_t measured = (now - pp->allowed_at) / pp->allowed;
  pp->switch_ns = std::clamp<std::int64_t>(measured, std::max<std::int64_t>(pp->switch_ns * 7 / 8, 1), kForcePreemptNs);
  pp->allowed_at = now;
  pp->allowed = sched.debug.chaos ? 1 + static_cast<int>(pp->random.below(4)) : kFairTicks;
  pp->switches_left.store(pp->allowed, std::memory_order_relaxed);
}

// Whether files come before the goroutines that wait to run, so that none waits for long behind them: when a slice was
// ended, perhaps for a file's sake, and every kPollEveryNs.
bool poll_first(p* pp, bool allowance_used, bool used_up) {
  if (!allowance_used) return used_up;
  look_by(pp, pp->allowed_at + kPollEveryNs);
  if (!used_up && pp->allowed_at - pp->polled_at < kPollEveryNs / 2) return false;
  pp->polled_at = pp->allowed_at;
  return true;
}

// A random goroutine instead of the next one: what a test of schedules wants.
void shuffle(p* pp) {
  for (std::uint32_t n = pp->random.below(3); n > 0; --n)
    if (const auto first = pp->runq.get(); first.g) runqput(pp, first.g);
}

}  // namespace

// Estimated at the rate of the last switches: reading the clock at each would cost more than the switch.
void look_by(p* pp, std::int64_t when) {
  const int left = pp->switches_left.load(std::memory_order_relaxed);
  const std::int64_t rest = when - pp->allowed_at - (pp->allowed - left) * pp->switch_ns;
  if (left <= 1 || rest >= left * pp->switch_ns) return;
  const int wanted = std::max(static_cast<int>(rest / pp->switch_ns), 1);
  pp->allowed -= left - wanted;
  pp->switches_left.store(wanted, std::memory_order_relaxed);
}

bool find_runnable(m* mp, g*& gp, bool& inherits) {
  for (;;) {
    if (sched.frozen.load(std::memory_order_relaxed)) [[unlikely]]
      for (;;) pause();
    if (left_behind(mp->run) || (mp->is_m0 && sched.main_done.load(std::memory_order_acquire))) return false;
    if (mp->told_to_exit.load(std::memory_order_relaxed)) return false;
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
    if (allowance_used) {
      renew_allowance(pp);
      if (!is_on(*mp->c)) mp->pinned.store(come_home(mp->c->number), std::memory_order_relaxed);
    }
    const bool used_up = pp->preempt.load(std::memory_order_relaxed);
    if (used_up) {
      pp->preempt.store(false, std::memory_order_relaxed);
      if (g* const heir = pp->runq.put_next(nullptr)) runqput(pp, heir);  // of the slice that is over
    }
    if (left_behind(mp->run)) continue;
    look_at_trace(mp);
    if (sched.strays.load(std::memory_order_relaxed)) [[unlikely]] {
      stop_strays_at(pp, nanotime());
      look_by(pp, pp->strays_next);
    }
    if (allowance_used && sched.sysmon_asleep.load(std::memory_order_relaxed)) call_sysmon();
    inherits = false;
    if (mp->next_g) {
      gp = mp->next_g;
      inherits = mp->next_inherits;
      mp->next_g = nullptr;
      mp->next_inherits = false;
      stop_spinning(mp);
      return true;
    }
    if (pp->timers.first_when() != kNever) {
      run_timers(pp->timers, nanotime());
      look_by(pp, pp->timers.first_when());
    }
    if (sched.debug.chaos) shuffle(pp);
    if (netpoll.active() && poll_first(pp, allowance_used, used_up) && (gp = netpoll.work(pp, poll_reach::node))) {
      stop_spinning(mp);
      return true;
    }
    // After a slice it is the queue's turn.
    const bool fair = !used_up && (allowance_used || pp->schedtick.load(std::memory_order_relaxed) % kFairTicks == 0);
    gp = local_work(mp, fair, inherits);
    if (!gp && netpoll.active()) gp = netpoll.work(pp, poll_reach::node);
    if (!gp && may_spin(mp)) gp = spin(mp);
    if (gp) {
      stop_spinning(mp);
      return true;
    }
    go_idle(mp);
  }
}

}  // namespace weft::rt
