// SPDX-License-Identifier: Apache-2.0
// What happens when a thread blocks: entersyscall, exitsyscall, and taking the P from an M that is away. Go: the
// functions of these names, and retake. The protocol between the two sides is in claim.h.
//
// entersyscall() announces: from then on the P can be taken, and is as soon as somebody sees that the M really sleeps:
//   the sentinel of the CPU, which runs the moment that the M does not, and wakes an idle M to take it (sentinel.cpp);
//   another M of the CPU that comes back from its own call (take_p_on_cpu): it runs, so the one that is away does not;
//   sysmon, which polls (tier off), or makes up for a sentinel that others starve.
// A call that does not block costs a few plain stores and loads.
//
// exitsyscall() finds its P taken or not. If taken: the same P again if it idles, one of this CPU whose M is away, or
// none: then the goroutine goes into the global queue and the M sleeps. It does not push in: whoever has the P keeps it
// (CMWQ's rule).
#include <cerrno>

#include "runtime/clock.h"
#include "runtime/park.h"

namespace weft::rt {
namespace {

std::atomic<std::uint32_t> next_token{0};

// A P for an M that has come back without its own; null: none.
p* find_p(m* mp, p* old) {
  if (old && !surplus(old) && old->c == mp->c && old->home->gate.take_idle(old->id)) {
    if (sched.sysmon_asleep.load(std::memory_order_relaxed)) call_sysmon();
    return old;
  }
  return mp->pinned.load(std::memory_order_relaxed) ? take_p_on_cpu(*mp->c) : nullptr;
}

// An M of an ended run(), whose Ps may be gone, finds none.
p* acquire_again(m* mp, p* old) {
  const visit inside;
  p* const pp = inside.welcome ? find_p(mp, old) : nullptr;
  if (!pp) return nullptr;
  sched.busy.settle();  // this M no longer counts as blocked; its P counts as busy
  acquirep(mp, pp);
  return pp;
}

// A goroutine that makes one short call after the other must let others run too.
[[gnu::noinline]] m* yield_after_syscall(m* mp) {
  const int saved_errno = errno;
  mp->held->preemptions.add(1);
  mp = yield_m(mp, mp->curg);
  set_errno(saved_errno);
  return mp;
}

[[gnu::noinline]] void make_ready_to_block(m* mp) {
  if (sched.tier.load(std::memory_order_relaxed) == assist::off) return wake_sysmon();
  request_m(*mp->c, nullptr, false);  // one sleeping M here, to take over
}

// Where the victim ran last says as much as where it may run: if it were running elsewhere by now, the probes would
// have written that before the barrier of the context switch to it.
bool belongs_to(const m* mp, const cpu& c) {
  if (const bpf::slot* const s = slot_of(mp)) return __atomic_load_n(&s->cpu, __ATOMIC_RELAXED) == unsigned(c.number);
  return is_bound_to(mp->tid, c);
}

}  // namespace

m* regain_p(m* mp) {
  if (is_forked_child()) end_forked_child();
  const int saved_errno = errno;
  g* const gp = mp->curg;
  const std::uint64_t since = mp->blocked_ticks.load(std::memory_order_relaxed);
  const std::uint64_t blocked = since != 0 ? ticks_to_ns(cputicks() - since) : 0;
  p* const old = mp->held;
  mp->held = nullptr;
  node_costs& costs = *mp->c->costs;
  if (since != 0 && slot_of(mp)) costs.note_blocked(mp->blocked_call.load(std::memory_order_relaxed), blocked);
  if (since != 0 && blocked < costs.switch_ns())
    costs.regret_ns.fetch_add(costs.switch_ns() - blocked, std::memory_order_relaxed);
  if (p* const pp = acquire_again(mp, old)) {
    full_fence();  // pairs with the heavy barrier in stop_ms(): it sees the owner, or we see the run's end
    if (!left_behind(mp->run)) {
      if (since != 0) pp->blocked.record(blocked);
      if (pp->handoff_ticks.exchange(0, std::memory_order_relaxed) != 0) pp->handoffs.add(1);  // from another M
      trace_switch(mp, &mp->g0, gp);
      set_errno(saved_errno);
      return mp;
    }
  }
  gp->status.store(g_status::runnable, std::memory_order_relaxed);
  gp->cause = ready_cause::requeued;
  mp->after = left_behind(mp->run) ? after_switch::nothing : after_switch::requeue_blocked;
  mp = switch_without_p(mp, gp, &mp->g0);
  if (since != 0) mp->held->blocked.record(blocked);
  set_errno(saved_errno);
  return mp;
}

bool take_p(p* pp, m* victim, whereabouts seen, loss why, bool same_cpu) {
  sched.busy.begin();  // the M counts as blocked, before it can come back
  const std::uint64_t now = cputicks();
  victim->blocked_ticks.store(why == loss::blocked ? now : 0, std::memory_order_relaxed);
  if (const bpf::slot* const s = slot_of(victim))
    victim->blocked_call.store(bpf::read_event(*s).syscall(), std::memory_order_relaxed);
  const std::uint32_t token = next_token.fetch_add(1, std::memory_order_relaxed);
  const auto shares_cpu = [&] { return same_cpu && is_on(*pp->c) && belongs_to(victim, *pp->c); };
  // What is asked of pp may be about an M that has another one by now.
  const auto still = [&] { return victim->left_with.load(std::memory_order_relaxed) == pp; };
  if (victim->claim.take(seen, token, shares_cpu, still) != p_claim<>::result::taken) {
    if (sched.busy.settle()) check_dead();  // the M may have come in, and gone to sleep, meanwhile
    return false;
  }
  pp->owner.store(nullptr, std::memory_order_release);
  pp->handoff_ticks.store(now, std::memory_order_relaxed);
  pp->takes.add(1);
  trace_take(pp, victim, why);
  return true;
}

bool carry_out(const take_order& o) {
  const bool taken = o.seen.at == place::call ? take_p(o.wanted, o.victim, o.seen, loss::blocked, true)
                                              : take_p_in_user_code(o.wanted, o.victim, o.seen, loss::blocked, true);
  if (taken) o.wanted->handoff_ticks.store(o.ticks, std::memory_order_relaxed);
  return taken;
}

bool take_as_told(m* mp) {
  const visit inside;
  p* const pp = mp->order.wanted;
  if (!inside.welcome || !carry_out(mp->order)) return false;
  const bool own_work = surplus(pp) || !pp->runq.empty() || pp->home->global_size.load(std::memory_order_acquire) != 0;
  if (!own_work && !any_work(*pp->home) && !retire_p(pp, false)) return false;
  acquirep(mp, pp);
  return true;
}

bool take_p_in_call(p* pp, bool same_cpu) {
  m* const victim = pp->owner.load(std::memory_order_acquire);
  if (!victim) return false;
  const whereabouts seen = victim->claim.look();
  return seen.at == place::call && take_p(pp, victim, seen, loss::blocked, same_cpu);
}

p* take_p_on_cpu(cpu& c) {
  const int n = c.nps.load(std::memory_order_acquire);
  for (int i = 0; i < n; ++i) {
    p* const pp = c.ps[static_cast<std::size_t>(i)].load(std::memory_order_acquire);
    if (!surplus(pp) && take_p_in_call(pp, true)) return pp;
  }
  return nullptr;
}

void note_handoff(p* pp, std::uint64_t taken) {
  pp->handoff_ticks.store(0, std::memory_order_relaxed);
  const std::uint64_t ns = ticks_to_ns(cputicks() - taken);
  pp->handoff.record(ns);
  pp->handoffs.add(1);
  pp->c->costs->handoff.add(ns);
}

}  // namespace weft::rt

namespace weft::detail {

using namespace weft::rt;

bool entersyscall() noexcept {
  m* mp = this_m();
  if (!mp || mp->claim.self() != place::user) return false;
  mp = come_in(mp);
  mp->curg->status.store(g_status::syscall, std::memory_order_relaxed);
  if (sched.tier.load(std::memory_order_relaxed) == assist::off ? sched.sysmon_asleep.load(std::memory_order_relaxed)
                                                                : mp->c->idle_ms.empty()) [[unlikely]]
    make_ready_to_block(mp);
  trace_note(mp->held, trace_kind::call);
  mp->claim.leave();
  return true;
}

void exitsyscall() noexcept {
  m* mp = this_m();
  mp = come_in(mp);
  mp->curg->status.store(g_status::running, std::memory_order_relaxed);
  trace_note(mp->held, trace_kind::back);
  if (mp->held->preempt.load(std::memory_order_relaxed)) [[unlikely]]
    mp = yield_after_syscall(mp);
  mp->claim.to_user();
}

}  // namespace weft::detail
