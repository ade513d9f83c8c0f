// SPDX-License-Identifier: Apache-2.0
// Starting and stopping Ms: wakep, startm, handoffp, stopm. Go: the functions of these names. The protocol is in
// wake.h.
//
// One measure is not Go's. Two goroutines that wake each other in turn make something runnable every 50 ns and never
// leave anything to steal, yet each ready() sees an idle P and would wake a thread for it, for ever. So a wake whose M
// found nothing to do doubles the number of submissions that the next wake of its node is put off by (up to kMaxSkip);
// one that found something resets it. sysmon looks for work that an idle P could do, so a wrong guess costs its period
// at most.
//
// Who is woken: of the node where the work is the P nearest to the submitter, by core and cache; if none idles there,
// one of the nearest node that has an idle P. That one comes to help, and decides for itself whether it may (find.cpp).
//
// An M that sleeps while timers are pending and no P looks after them sleeps until the first is due: the timekeeper.
#include <sched.h>
#include <algorithm>

#include "runtime/barrier.h"
#include "runtime/clock.h"
#include "runtime/proc.h"
#include "runtime/wake_order.h"

namespace weft::rt {
namespace {

constexpr int kWakeTries = 8;
constexpr std::int64_t kTimerRetryNs = 100'000;

p* take_idle_on(wake_gate<kMaxPs>& gate, const cpu& c) {
  for (int i = 0, n = c.nps.load(std::memory_order_acquire); i < n; ++i)
    if (p* const pp = c.ps[static_cast<std::size_t>(i)].load(std::memory_order_acquire); gate.take_idle(pp->id))
      return pp;
  return nullptr;
}

// An idle P of that node, the nearest to `from` if that is one of its CPUs; null: there is none.
p* take_idle_p(node& home, const cpu* from) {
  const machine_map& map = machine();
  const auto take_at = [&](int place) { return take_idle_on(home.gate, *map.row[static_cast<std::size_t>(place)]); };
  if (from && from->home == &home) return first_near(map.view_from(*from), take_at);
  for (const numa::other_node& each : map.near.nodes())
    if (each.node == home.id) return first_in(each.cpus, {0, 0}, take_at);
  return nullptr;
}

node* node_to_wake(node& home) { return node_to_wake(home, machine().others(home)); }

// Starts one spinning M, if none spins and a P is idle. Giving nspinning back because the idle P went to somebody else
// must be followed by another look: a submitter may have come meanwhile and relied on an M that seemed to spin. Not for
// ever: an idle P may be counted that cannot be had (it is being benched); sysmon looks too.
void wake_a_spinner(node& home, const cpu* from) {
  for (int tries = kWakeTries; tries > 0; --tries) {
    node* const there = node_to_wake(home);
    if (!there || !there->gate.begin_wake()) return;
    if (p* const pp = take_idle_p(*there, from)) return startm(pp, true);
    there->gate.end_spinning();
    full_fence();
    if (!any_work(home) || !home.gate.should_wake()) return;
    sched_yield();  // whoever has taken that P is about to say so
  }
}

void wake_spinner(node& home, const cpu* from) {
  if (const visit inside; inside.welcome) wake_a_spinner(home, from);
}

// Makes mp the timekeeper if there is something to keep and nobody does; returns until when to sleep.
std::int64_t keep_time(m* mp) {
  std::int64_t when = next_timer();
  if (when == kNever) return kNever;
  m* nobody = nullptr;
  if (!sched.timekeeper.compare_exchange_strong(nobody, mp, std::memory_order_acq_rel)) {
    if (when < sched.timekeeper_until.load(std::memory_order_acquire)) nobody->wake.post_if_empty(kWakeToLook);
    return kNever;
  }
  sched.timekeeper_until.store(when, std::memory_order_seq_cst);
  hardware::heavy_barrier();  // pairs with the light barrier in poke_timekeeper(): a timer added now is seen here or
                              // there
  when = next_timer();
  sched.timekeeper_until.store(when, std::memory_order_release);
  return when;
}

bool stop_keeping_time(m* mp) {
  if (sched.timekeeper.load(std::memory_order_relaxed) != mp) return false;
  sched.timekeeper_until.store(kNever, std::memory_order_release);
  sched.timekeeper.store(nullptr, std::memory_order_release);
  return true;
}

// Some node whose P has timers that are due; else that of the M.
node& node_of_due_timers(const m* mp) {
  const std::int64_t now = nanotime();
  for (int i = 0, n = sched.nps.load(std::memory_order_acquire); i < n; ++i)
    if (p_at(i)->timers.first_when() <= now) return nearest_with_ps(*p_at(i)->home);
  return nearest_with_ps(*mp->c->home);
}

bool queues_filled(const cpu& c) {
  for (int i = 0, n = c.nps.load(std::memory_order_acquire); i < n; ++i)
    if (!c.ps[static_cast<std::size_t>(i)].load(std::memory_order_acquire)->runq.empty()) return true;
  return false;
}

bool timers_due(const timer_heap& heap, std::int64_t now) { return heap.first_when() <= now; }

bool timers_due(const node& of, std::int64_t now) {
  for (int i = 0, n = sched.nps.load(std::memory_order_acquire); i < n; ++i)
    if (const p* const pp = p_at(i); pp->home == &of && timers_due(pp->timers, now)) return true;
  return false;
}

}  // namespace

void wakep_slow(p* pp) {
  const node* const there = node_to_wake(*pp->home);
  if (!there) return;
  if (put_off_wake(there->wake_backoff.load(std::memory_order_relaxed), pp->wakes_skipped)) return;
  wake_spinner(*pp->home, pp->c);
}

void wakep_foreign(node& home) {
  if (home.gate.should_wake()) wake_spinner(home, nullptr);
}

void wakep_everywhere() {
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i) wakep_foreign(node_at(i));
}

void note_fruitless_wake(node& home) {
  const int backoff = home.wake_backoff.load(std::memory_order_relaxed);
  if (backoff < kMaxBackoff) home.wake_backoff.store(backoff + 1, std::memory_order_relaxed);
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
  to->wake.post(kWakeWithP);
}

bool give_to_idle_m(p* pp, bool spinning) {
  const std::uint32_t id = pp->c->idle_ms.pop();
  if (id == idle_stack<m_link>::kNone) return false;
  give_p(sched.allm[id].load(std::memory_order_acquire), pp, spinning);
  return true;
}

void startm(p* pp, bool spinning) {
  if (!give_to_idle_m(pp, spinning)) request_m(*pp->c, pp, spinning);
}

bool has_work(const node& of) {
  if (of.global_size.load(std::memory_order_acquire) != 0) return true;
  for (int i = 0, n = sched.ncpus.load(std::memory_order_acquire); i < n; ++i)
    if (const cpu& c = cpu_at(i); c.home == &of && queues_filled(c)) return true;
  return false;
}

bool has_work(const node& of, std::int64_t now) { return has_work(of) || timers_due(of, now); }

bool any_work(const node& home) {
  if (has_work(home)) return true;
  const std::int64_t now = next_timer() == kNever ? 0 : nanotime();
  if (timers_due(home, now) || timers_due(foreign_heap, now)) return true;
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i)
    if (const node& other = node_at(i); &other != &home && needs_help(other) && has_work(other, now)) return true;
  return false;
}

bool any_work() {
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i)
    if (has_work(node_at(i))) return true;
  const std::int64_t timer = next_timer();
  return timer != kNever && timer <= nanotime();
}

node* neglected_node() {
  const std::int64_t now = next_timer() == kNever ? 0 : nanotime();
  const bool foreign_due = timers_due(foreign_heap, now);
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i)
    if (node& home = node_at(i); node_to_wake(home) && (foreign_due || has_work(home, now))) return &home;
  return nullptr;
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
        if (spinning) pp->home->gate.end_spinning();
        hardware::heavy_barrier();
        return wakep_everywhere();  // for what was drained
      }
    }
    pp->home->gate.retire(pp->id, spinning);
    spinning = false;
    if (!surplus(pp) || !pp->home->gate.take_idle(pp->id)) return;
    sched.busy.settle();  // as it was before: the P counts as busy, and is ours
  }
}

bool retire_p(p* pp, bool spinning) {
  put_away(pp, spinning);
  if (any_work(*pp->home)) {
    if (!surplus(pp) && pp->home->gate.take_idle(pp->id)) {
      sched.busy.settle();
      return true;
    }
    // Whoever has it now may be busy with something else, and another P idle.
    if (node* const neglected = neglected_node()) wakep_foreign(*neglected);
  }
  if (sched.busy.settle()) check_dead();
  return false;
}

bool retire_p_for_good(p* pp) {
  if (retire_p(pp, false)) return true;
  poke_timekeeper(next_timer());
  return false;
}

visit::visit(const m* self) : visitors_(self ? self->c->home->visitors : sched.foreign_visitors) {
  visitors_.fetch_add(1, std::memory_order_seq_cst);
  welcome = sched.active.load(std::memory_order_seq_cst) && !(self && left_behind(self->run));
}

bool any_visitor() {
  bool any = sched.foreign_visitors.load(std::memory_order_seq_cst) != 0;
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i)
    any |= node_at(i).visitors.load(std::memory_order_seq_cst) != 0;
  return any;
}

// As in Go: an M is started in every situation in which find_runnable() would find work.
void handoffp(p* pp) {
  node& home = *pp->home;
  const bool own_work = !pp->runq.empty() || home.global_size.load(std::memory_order_acquire) != 0;
  if (!surplus(pp)) {
    if (own_work) return startm(pp, false);
    if (home.gate.nspinning() == 0 && any_work(home) && home.gate.begin_wake()) return startm(pp, true);
  }
  if (retire_p_for_good(pp)) startm(pp, false);
}

void stopm(m* mp) {
  cpu& c = *mp->c;
  c.nidle_ms.fetch_add(1, std::memory_order_relaxed);
  c.idle_ms.push(mp->id);
  bool kept = false;
  std::int64_t not_before = 0;
  while (!left_behind(mp->run) && !mp->told_to_exit.load(std::memory_order_acquire)) {
    const std::uint32_t woken = mp->sleep(std::max(keep_time(mp), not_before));
    kept |= stop_keeping_time(mp);
    if (woken == kWakeWithP) {
      if (mp->next_spinning) mp->c->costs->wake.add(ticks_to_ns(cputicks() - mp->woken_ticks));
      acquirep(mp, mp->next_p);
      mp->spinning = mp->woken_to_spin = mp->next_spinning;
      if (sched.sysmon_asleep.load(std::memory_order_relaxed)) call_sysmon();
      break;
    }
    if (woken == kWakeToTake) {
      if (take_as_told(mp)) break;
      mp->c->idle_ms.push(mp->id);
    }
    not_before = 0;
    if (woken == note::kNothing) {
      // Timers are due: some idle P is to run them, perhaps on this very M. If none idles, those that run will.
      wake_spinner(node_of_due_timers(mp), mp->c);
      not_before = nanotime() + kTimerRetryNs;
    }
  }
  c.nidle_ms.fetch_sub(1, std::memory_order_relaxed);
  // Whoever kept the time goes off to run goroutines, or for good: another idle M must keep it.
  if (kept && !mp->spinning && next_timer() != kNever) wakep_foreign(nearest_with_ps(*mp->c->home));
}

}  // namespace weft::rt
