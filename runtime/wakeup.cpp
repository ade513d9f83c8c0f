// SPDX-License-Identifier: Apache-2.0
// Starting Ms, and giving up Ps: wakep, startm, handoffp. Go: the functions of these names. The protocol is in
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
#include <sched.h>
#include <algorithm>

#include "runtime/barrier.h"
#include "runtime/clock.h"
#include "runtime/netpoll.h"
#include "runtime/proc.h"
#include "runtime/trace.h"
#include "runtime/wake_order.h"

namespace weft::rt {
namespace {

constexpr int kWakeTries = 8;

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

void wake_spinner(node& home, const cpu* from) {
  if (const visit inside; inside.welcome) wake_a_spinner(home, from);
}

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
  trace_note(pp, trace_kind::thread, static_cast<std::uint32_t>(mp->tid.load(std::memory_order_relaxed)));
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

bool has_work(const node& of) {
  if (of.global_size.load(std::memory_order_acquire) != 0) return true;
  for (int i = 0, n = sched.ncpus.load(std::memory_order_acquire); i < n; ++i)
    if (const cpu& c = cpu_at(i); c.home == &of && queues_filled(c)) return true;
  return false;
}

bool has_work(const node& of, std::int64_t now) { return has_work(of) || timers_due(of, now); }

bool any_work(const node& home) {
  if (has_work(home) || netpoll.any_ready()) return true;
  const std::int64_t now = next_timer() == kNever ? 0 : nanotime();
  if (timers_due(home, now) || timers_due(foreign_heap, now)) return true;
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i)
    if (const node& other = node_at(i); &other != &home && needs_help(other) && has_work(other, now)) return true;
  return false;
}

bool any_work() {
  if (netpoll.any_ready()) return true;
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i)
    if (has_work(node_at(i))) return true;
  const std::int64_t timer = next_timer();
  return timer != kNever && timer <= nanotime();
}

node* neglected_node() {
  const std::int64_t now = next_timer() == kNever ? 0 : nanotime();
  const bool for_anyone = timers_due(foreign_heap, now) || netpoll.any_ready();
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i)
    if (node& home = node_at(i); node_to_wake(home) && (for_anyone || has_work(home, now))) return &home;
  return nullptr;
}

// A surplus P goes to the bench. Whoever raises GOMAXPROCS meanwhile sees it there, or we see that it was raised; the
// exchange makes one of us put it into the idle set. Whoever lowers it finds the P there, or we see that it was
// lowered.
void put_away(p* pp, bool spinning) {
  pp->handoff_ticks.store(0, std::memory_order_relaxed);  // if it was taken from somebody, then for nobody
  trace_note(pp, trace_kind::idle);
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
  call_watch();
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

}  // namespace weft::rt
