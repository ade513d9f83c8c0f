// SPDX-License-Identifier: Apache-2.0
// The number of Ps, and changing it while everything runs. Go: procresize, without stopping the world.
//
// Ps are numbered; those below GOMAXPROCS may run. More: new Ps (or surplus ones, again) go into the idle set. Fewer: a
// surplus P is asked to pass through the scheduler, where its M moves what the P has to the global queue and the P of
// number 0, and lets go of it; one whose M is away in a blocking call is taken. Surplus Ps sit on the bench, not in the
// idle set, where they would look like Ps that could be woken. Thieves and timers look at all Ps that there ever were,
// so nothing is lost on the way.
#include "runtime/barrier.h"
#include "runtime/clock.h"
#include "runtime/park.h"
#include "weft/time.h"

namespace weft::rt {
namespace {

std::atomic<std::uint64_t> seeds{0x5eed};

p* new_p(int id) {
  cpu& c = *sched.cpus[static_cast<std::size_t>(id) % sched.cpus.size()];
  const std::uint64_t seed = sched.debug.chaos ? sched.debug.chaos_seed + static_cast<std::uint64_t>(id)
                                               : seeds.fetch_add(1, std::memory_order_relaxed) ^ cputicks();
  auto* const pp = new p(id, &c, c.node, seed);
  if (sched.debug.chaos) pp->switches_left.store(1, std::memory_order_relaxed);
  sched.allp[static_cast<std::size_t>(id)].store(pp, std::memory_order_release);
  const int n = c.nps.load(std::memory_order_relaxed);
  c.ps[static_cast<std::size_t>(n)].store(pp, std::memory_order_release);
  c.nps.store(n + 1, std::memory_order_release);
  return pp;
}

bool surplus_still_runs(int n) {
  const int nps = sched.nps.load(std::memory_order_acquire);
  for (int i = n; i < nps; ++i) {
    p* const pp = sched.allp[static_cast<std::size_t>(i)].load(std::memory_order_acquire);
    const m* const owner = pp->owner.load(std::memory_order_acquire);
    if (owner && !owner->lockedg) return true;
  }
  return false;
}

// Whether one still has to.
bool ask_surplus_to_stop(int n) {
  const int nps = sched.nps.load(std::memory_order_acquire);
  for (int i = n; i < nps; ++i) {
    p* const pp = sched.allp[static_cast<std::size_t>(i)].load(std::memory_order_acquire);
    pp->preempt.store(true, std::memory_order_relaxed);
    if (take_p_in_call(pp, false) && retire_p_for_good(pp)) startm(pp, false);
  }
  return surplus_still_runs(n);
}

// Asks the surplus Ps to stop and waits for that, but no longer than a time slice: a goroutine that calls nothing
// cannot be stopped.
void stop_surplus(caller& who, int n) {
  const std::int64_t until = nanotime() + kForcePreemptNs;
  for (;;) {
    if (const visit inside; !inside.welcome || !ask_surplus_to_stop(n) || nanotime() >= until) return;
    who.mp = yield_m(who.mp, who.gp);
  }
}

// Whether an M that was left behind still holds pp: then pp is its business from here on.
bool still_held(p* pp) {
  lock_guard hold(sched.lock);
  return pp->dropped = pp->owner.load(std::memory_order_acquire) != nullptr;
}

void end_timers(timer_heap& heap) {
  std::vector<expiry> due;
  {
    lock_guard hold(heap.lock);
    due = heap.take_ended();
  }
  for (const expiry& each : due) act_on(each);
}

// What goroutines waited for is forgotten with them, calls are called off; the rest outlives the run().
void hand_down_timers(p* pp) {
  end_timers(pp->timers);
  lock_guard from(pp->timers.lock);
  lock_guard to(foreign_heap.lock);
  pp->timers.hand_down(foreign_heap);
}

}  // namespace

void start_ps(int n) {
  int have = sched.nps.load(std::memory_order_relaxed);
  if (have == 1 && n > 1) sched.allp[0].load(std::memory_order_relaxed)->runq.set_shared();
  for (; have < n; ++have) {
    p* const pp = new_p(have);
    if (n == 1) pp->runq.set_exclusive();
    pp->benched.store(true, std::memory_order_relaxed);
    sched.nps.store(have + 1, std::memory_order_release);
  }
  sched.gomaxprocs.store(n, std::memory_order_seq_cst);
  full_fence();  // pairs with the one in put_away()
  for (int i = 0; i < n; ++i) {
    p* const pp = sched.allp[static_cast<std::size_t>(i)].load(std::memory_order_relaxed);
    if (!pp->benched.exchange(false, std::memory_order_seq_cst)) continue;
    sched.gate.begin_busy();
    sched.gate.retire(i, false);
    sched.gate.settle();  // not the last: this goroutine runs, or the run() has yet to begin
  }
  for (int i = n; i < have; ++i) {
    if (!sched.gate.take_idle(i)) continue;
    p* const pp = sched.allp[static_cast<std::size_t>(i)].load(std::memory_order_relaxed);
    drain(pp);
    pp->benched.store(true, std::memory_order_seq_cst);
    sched.gate.settle();
  }
}

void delete_p(p* pp) {
  while (g* gp = pp->runq.get().g) discard(gp);
  release_free_lists(pp);
  delete pp;
}

void delete_ps() {
  const int n = sched.nps.exchange(0, std::memory_order_acq_rel);
  for (int i = 0; i < n; ++i) {
    p* const pp = sched.allp[static_cast<std::size_t>(i)].exchange(nullptr, std::memory_order_acq_rel);
    hand_down_timers(pp);
    if (still_held(pp)) continue;  // its M deletes it
    delete_p(pp);
  }
  for (const auto& c : sched.cpus) c->nps.store(0, std::memory_order_relaxed);
  end_timers(foreign_heap);
  poke_foreign_sleepers();
}

void drain(p* pp) {
  while (g* gp = pp->runq.get().g) globrunqput(gp);
  p* const heir = sched.allp[0].load(std::memory_order_relaxed);
  {
    lock_guard from(pp->timers.lock);
    lock_guard to(heir->timers.lock);
    pp->timers.move_to(heir->timers);
  }
}

void retire_surplus(m* mp) {
  p* const pp = releasep(mp);
  if (mp->spinning) {
    mp->spinning = false;
    sched.gate.end_spinning();
  }
  if (g* gp = mp->next_g) {
    mp->next_g = nullptr;
    globrunqput(gp);
  }
  // GOMAXPROCS may have grown again meanwhile, and with what was just queued the P is wanted: then it stays here.
  if (retire_p_for_good(pp)) acquirep(mp, pp);
}

}  // namespace weft::rt

namespace weft {

int gomaxprocs() { return rt::sched.gomaxprocs.load(std::memory_order_relaxed); }

int gomaxprocs(int n) {
  using namespace rt;
  entry who;
  static core_lock changing;
  const int before = sched.gomaxprocs.load(std::memory_order_relaxed);
  if (n < 1 || !sched.active.load(std::memory_order_acquire)) return before;
  n = std::min(n, kMaxPs);
  {
    const visit inside;
    if (!inside.welcome) return before;
    lock_guard hold(changing);
    start_ps(n);
  }
  if (n < before && who.mp) stop_surplus(who, n);
  wakep_foreign();
  return before;
}

int num_cpu() { return rt::num_allowed_cpus(); }
int num_node() { return rt::num_allowed_nodes(); }

}  // namespace weft
