// SPDX-License-Identifier: Apache-2.0
// The sentinel: the kernel's upcall when an M blocks, at the price of one context switch. Compare scheduler activations
// (Anderson et al., 1991) and the kernel's own CMWQ.
//
// A SCHED_IDLE thread, pinned to a CPU and left runnable, runs exactly when nothing better wants that CPU. So when an M
// blocks, for whatever reason, the sentinel is what runs next. It finds the M away in an announced call, or asleep in
// the kernel in the middle of user code (a page fault, a foreign lock, a plain read), and wakes an M that sleeps on
// this CPU, which takes the P, and runs what waits or puts the P into the idle set.
//
// It does not take the P itself: whoever else wakes up on this CPU, a thread of another program for one, stops it at
// once, and if that goes on computing, for seconds. A P in its hands would be lost for as long (and was: goroutines
// stood still for 300 to 900 ms beside a compiler on each CPU). An M that is not woken for so long is no loss.
//
// It shares its CPU with the Ms, so they never run at the same time: program order is all the order that its side of
// claim.h needs. It takes no locks (an M that is woken meanwhile would wait for a thread that cannot run) and makes no
// threads (they would inherit its class); entersyscall() sees to it that an M sleeps here. Where none does, it asks the
// template thread for one.
//
// Armed while some P of its CPU is held by an M; otherwise it sleeps and costs nothing:
//   acquirep:  the P has an owner; armed == 0?  ->  armed = 1, futex wake
//   sentinel:  no P of this CPU is held  ->  armed = 0; look once more; futex wait while armed == 0
// Both sides run on one CPU, so no wake-up is lost between them.
//
// On the tier bpf the M's slot of the state page says for sure whether it has blocked, and in which call, and the cost
// model (costs.h) whether to wait for it: the sentinel then looks again and again until the time is up. Each event of a
// slot is believed once. The M must have been switched to before we run again; so if its event is still the same, the
// probes have missed something or are gone, and /proc/self/task/TID/stat is asked, as it is where there is no slot.
//
// A CPU-bound M leaves it a few visits a second (SCHED_IDLE has a weight of 3 to 1024); at one of those, without a
// slot, an M that was preempted in the middle of announcing looks blocked. It then finds its P taken and gets another:
// wrong a few times a second at most, and harmless.
#include <sched.h>
#include <sys/prctl.h>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>

#include "runtime/clock.h"
#include "runtime/proc.h"
#include "runtime/thread_state.h"

namespace weft::rt {
namespace {

enum verdict : std::uint32_t { kIdleClass = 1, kNoIdleClass = 2 };

enum class judgement : std::uint8_t { not_blocked, expected_back, blocked };

// The M has blocked just now, in this call.
judgement judge_block(m* mp, bpf::event e, node_costs& costs) {
  const std::uint32_t wait_ns = costs.kind_of(e.syscall()).next_wait();
  if (wait_ns == 0) {
    costs.at_once.fetch_add(1, std::memory_order_relaxed);
    return judgement::blocked;
  }
  mp->waits_until.store(nanotime() + wait_ns, std::memory_order_relaxed);
  return judgement::expected_back;
}

// It was waited for, and something has happened since: did it come back in time?
void learn_from_wait(m* mp, const bpf::slot& s, bpf::event waited_for, bpf::event now, node_costs& costs) {
  mp->waits_until.store(0, std::memory_order_relaxed);
  const std::uint32_t switches = now.sequence() - waited_for.sequence();
  if (switches != 1 && switches != 2) return;  // more has happened than that it came back, and perhaps left again
  costs.waits_won.fetch_add(1, std::memory_order_relaxed);
  costs.kind_of(waited_for.syscall()).learn(__atomic_load_n(&s.off_ns, __ATOMIC_RELAXED), costs.switch_ns());
}

judgement look_again(m* mp, bpf::event e, node_costs& costs) {
  const std::int64_t until = mp->waits_until.load(std::memory_order_relaxed);
  if (until == 0)
    return state_of_thread(mp->tid) == thread_state::blocked ? judgement::blocked : judgement::not_blocked;
  if (nanotime() < until) return judgement::expected_back;
  mp->waits_until.store(0, std::memory_order_relaxed);
  costs.waits_lost.fetch_add(1, std::memory_order_relaxed);
  // Perhaps a little longer would have been enough: then the next longest wait will tell.
  costs.kind_of(e.syscall()).learn(block_kind::kLongestWait + 1, costs.switch_ns());
  return judgement::blocked;
}

judgement judge_by_slot(m* mp, const bpf::slot& s, node_costs& costs) {
  const bpf::event e = bpf::read_event(s), judged{mp->judged.load(std::memory_order_relaxed)};
  if (e == judged) return look_again(mp, e, costs);
  if (mp->waits_until.load(std::memory_order_relaxed) != 0) learn_from_wait(mp, s, judged, e, costs);
  mp->judged.store(e.word, std::memory_order_relaxed);
  switch (e.state()) {
    case bpf::state::blocked: return judge_block(mp, e, costs);
    case bpf::state::preempted: return judgement::not_blocked;
    case bpf::state::running:  // not while we do
    case bpf::state::no_thread: break;
  }
  return look_again(mp, e, costs);
}

// Of the M of a P of this CPU: has it lost the CPU by blocking?
judgement judge(m* mp, place at, node_costs& costs) {
  if (at == place::runtime) return judgement::not_blocked;
  if (const bpf::slot* const s = slot_of(mp)) return judge_by_slot(mp, *s, costs);
  const bool blocked = at == place::call || state_of_thread(mp->tid) == thread_state::blocked;
  return blocked ? judgement::blocked : judgement::not_blocked;
}

void have_taken(p* pp, m* victim, whereabouts seen) {
  const take_order order{pp, victim, seen, cputicks()};
  const std::uint32_t id = pp->c->idle_ms.pop();
  if (id != idle_stack<m_link>::kNone) {
    m* const taker = sched.allm[id].load(std::memory_order_acquire);
    taker->order = order;
    taker->wake.post(kWakeToTake);
    return;
  }
  request_m(*pp->c, nullptr, false);  // and see again, unless sysmon is faster
}

// Whether some P of this CPU is held by an M.
bool visit(cpu& c) {
  bool held = false;
  const int n = c.nps.load(std::memory_order_acquire);
  for (int i = 0; i < n; ++i) {
    p* const pp = c.ps[static_cast<std::size_t>(i)].load(std::memory_order_acquire);
    m* const owner = pp->owner.load(std::memory_order_acquire);
    if (!owner) continue;
    held = true;
    const whereabouts seen = owner->claim.look();
    if (judge(owner, seen.at, *pp->c->costs) == judgement::blocked) have_taken(pp, owner, seen);
  }
  return held;
}

// One look, and a pause until the next. False: stop_sentinels() has been called.
bool look_around(cpu& c, std::uint32_t number) {
  c.visiting.fetch_add(1, std::memory_order_seq_cst);  // either stop_sentinels() sees it, or we see the new number
  const bool over = c.sentinel_number.load(std::memory_order_seq_cst) != number;
  bool held = false;
  if (!over) {
    c.armed.store(1, std::memory_order_relaxed);
    held = visit(c);
    if (!held) {
      c.armed.store(0, std::memory_order_seq_cst);
      held = visit(c);
      if (held) c.armed.store(1, std::memory_order_relaxed);
    }
    if (!is_on(c)) come_home(c.number);
  }
  c.visiting.fetch_sub(1, std::memory_order_release);
  if (over) return false;
  if (held)
    sched_yield();
  else
    futex_wait(c.armed, 0);
  return true;
}

void* sentinel_main(void* argument) {
  cpu& c = *static_cast<cpu*>(argument);
  const std::uint32_t number = c.sentinel_number.load(std::memory_order_relaxed);
  prctl(PR_SET_NAME, "weft-sentinel");
  const sched_param none{};
  const bool idle_class = sched_setscheduler(0, SCHED_IDLE, &none) == 0;
  c.sentinel_verdict.post(idle_class ? kIdleClass : kNoIdleClass);
  if (!idle_class) return nullptr;
  while (look_around(c, number)) {
  }
  return nullptr;
}

template <class F>
void with_set_of(const cpu& c, F f) {
  const auto number = static_cast<std::size_t>(c.number);
  cpu_set_t* const set = CPU_ALLOC(number + 1);
  const std::size_t size = CPU_ALLOC_SIZE(number + 1);
  CPU_ZERO_S(size, set);
  CPU_SET_S(number, size, set);
  f(size, set);
  CPU_FREE(set);
}

bool start_sentinel(cpu& c) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 128 << 10);
  with_set_of(c, [&](std::size_t size, const cpu_set_t* set) { pthread_attr_setaffinity_np(&attributes, size, set); });
  c.sentinel_verdict.take();
  int failed = pthread_create(&c.sentinel, &attributes, sentinel_main, &c);
  pthread_attr_destroy(&attributes);
  if (!failed && c.sentinel_verdict.wait() == kNoIdleClass) {
    pthread_join(c.sentinel, nullptr);
    failed = EPERM;
  }
  if (failed == EINVAL) return false;  // the CPU is not ours any more, or not yet again
  if (failed) {
    c.sentinel_failed = true;
    std::fprintf(stderr, "weft: no sentinel for CPU %d (%s): blocked threads there are found by polling\n", c.number,
                 std::strerror(failed));
    return false;
  }
  return true;
}

}  // namespace

void arm_sentinel(cpu& c) {
  c.armed.store(1, std::memory_order_seq_cst);
  if (c.has_sentinel.load(std::memory_order_acquire)) {
    futex_wake(c.armed, INT_MAX);  // one of the last run() may still be there, about to end
  } else if (!c.wants_sentinel.exchange(true, std::memory_order_acq_rel)) {
    wake_template_thread();
  }
}

// Not before m0 has a second M beside it: where threads are few, goroutines come first.
void start_wanted_sentinels() {
  if (sched.nms.load(std::memory_order_relaxed) <= 1) return;
  for (int i = 0, n = sched.ncpus.load(std::memory_order_acquire); i < n; ++i) {
    cpu& c = cpu_at(i);
    if (!c.wants_sentinel.load(std::memory_order_acquire) || c.has_sentinel.load(std::memory_order_relaxed) ||
        c.sentinel_failed)
      continue;
    if (start_sentinel(c)) c.has_sentinel.store(true, std::memory_order_release);
  }
}

void stop_sentinels() {
  for (int i = 0, n = sched.ncpus.load(std::memory_order_acquire); i < n; ++i) {
    cpu& c = cpu_at(i);
    c.wants_sentinel.store(false, std::memory_order_relaxed);
    if (!c.has_sentinel.load(std::memory_order_relaxed)) continue;
    // Beside left-behind goroutines that compute it may not get the CPU for seconds: it ends by itself.
    pthread_detach(c.sentinel);
    c.sentinel_number.fetch_add(1, std::memory_order_seq_cst);
    while (c.visiting.load(std::memory_order_seq_cst) != 0) sched_yield();
    c.armed.store(1, std::memory_order_seq_cst);  // not before: a look that has just ended may have cleared it
    futex_wake(c.armed, INT_MAX);
    c.has_sentinel.store(false, std::memory_order_relaxed);
  }
}

void pin_sentinels_again() {
  for (int i = 0, n = sched.ncpus.load(std::memory_order_acquire); i < n; ++i)
    if (cpu& c = cpu_at(i); c.has_sentinel.load(std::memory_order_relaxed))
      with_set_of(c, [&](std::size_t size, const cpu_set_t* set) { pthread_setaffinity_np(c.sentinel, size, set); });
}

}  // namespace weft::rt
