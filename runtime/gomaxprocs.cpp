// SPDX-License-Identifier: Apache-2.0
// The number of Ps on each node, and changing it while everything runs. Go: procresize, without stopping the world.
//
// What is wished for (a number, one for each node, or nothing: the default) and what the machine offers make a plan: a
// list of CPUs, one entry for each P. A P is bound to its CPU for ever; a CPU has as many wanted Ps as entries, the
// others it has had are surplus. So nothing but a P's `wanted` changes, whether GOMAXPROCS does, or the machine.
//
// More: new Ps (or surplus ones, again) go into the idle set of their node. Fewer: a surplus P is asked to pass through
// the scheduler, where its M moves what the P has to the global queue and to a P that is wanted, and lets go of it; one
// whose M is away in a blocking call is taken. Surplus Ps sit on the bench, not in the idle set, where they would look
// like Ps that could be woken. Thieves and timers look at all Ps that there ever were, so nothing is lost on the way.
#include "runtime/gomaxprocs.h"

#include <algorithm>
#include <cstdio>

#include "runtime/barrier.h"
#include "runtime/clock.h"
#include "runtime/park.h"
#include "weft/time.h"

namespace weft::rt {

p::p(int number, cpu& bound_to, std::uint64_t seed)
    : id(number),
      c(&bound_to),
      home(bound_to.home),
      home_index(static_cast<std::uint16_t>(home->index)),
      random(seed),
      timers(heap_of_p(number)) {}

namespace {

std::atomic<std::uint64_t> seeds{0x5eed};

core_lock& changing = *new core_lock;
standing_wish standing;  // guarded by `changing`

void wish_for(const numa::ps_wish& wish) { standing = {wish, standing.changes + 1}; }

p* new_p(cpu& c) {
  const int id = sched.nps.load(std::memory_order_relaxed);
  if (id == kMaxPs) return nullptr;
  const std::uint64_t seed = sched.debug.chaos ? sched.debug.chaos_seed + static_cast<std::uint64_t>(id)
                                               : seeds.fetch_add(1, std::memory_order_relaxed) ^ cputicks();
  if (id == 1) p_at(0)->runq.set_shared();
  auto* const pp = new p(id, c, seed);
  if (sched.debug.chaos) pp->switches_left.store(1, std::memory_order_relaxed);
  pp->benched.store(true, std::memory_order_relaxed);
  sched.allp[static_cast<std::size_t>(id)].store(pp, std::memory_order_release);
  const int n = c.nps.load(std::memory_order_relaxed);
  c.ps[static_cast<std::size_t>(n)].store(pp, std::memory_order_release);
  c.nps.store(n + 1, std::memory_order_release);
  sched.nps.store(id + 1, std::memory_order_release);
  return pp;
}

// The Ps of the plan: each CPU's first ones, made where there are not enough. There may be too many CPUs, over time:
// then some get none.
std::vector<p*> ps_of(const std::vector<cpu*>& plan) {
  std::vector<int> taken(static_cast<std::size_t>(sched.ncpus.load(std::memory_order_relaxed)));
  std::vector<p*> ps;
  for (cpu* const c : plan) {
    const int nth = taken[static_cast<std::size_t>(c->index)]++;
    const bool there = nth < c->nps.load(std::memory_order_relaxed);
    p* const pp = there ? c->ps[static_cast<std::size_t>(nth)].load(std::memory_order_relaxed) : new_p(*c);
    if (pp) ps.push_back(pp);
  }
  return ps;
}

void want(const std::vector<p*>& ps) {
  std::vector<bool> wanted(static_cast<std::size_t>(sched.nps.load(std::memory_order_relaxed)));
  std::vector<int> on_node(static_cast<std::size_t>(sched.nnodes.load(std::memory_order_relaxed)));
  for (const p* pp : ps) {
    wanted[static_cast<std::size_t>(pp->id)] = true;
    ++on_node[pp->home_index];
  }
  for (std::size_t i = 0; i < on_node.size(); ++i)
    node_at(static_cast<int>(i)).ps.store(on_node[i], std::memory_order_relaxed);
  sched.gomaxprocs.store(static_cast<int>(ps.size()), std::memory_order_relaxed);
  for (std::size_t i = 0; i < wanted.size(); ++i)
    p_at(static_cast<int>(i))->wanted.store(wanted[i], std::memory_order_seq_cst);
  full_fence();  // pairs with the one in put_away()
}

bool surplus_still_runs() {
  for (int i = 0, n = sched.nps.load(std::memory_order_acquire); i < n; ++i) {
    const p* const pp = p_at(i);
    if (!surplus(pp)) continue;
    const m* const owner = pp->owner.load(std::memory_order_acquire);
    if (owner && !owner->lockedg) return true;
  }
  return false;
}

// Asks the surplus Ps to stop and waits for that, but no longer than a time slice: a goroutine that calls nothing
// cannot be stopped.
void stop_surplus(caller& who) {
  const std::int64_t until = nanotime() + kForcePreemptNs;
  for (;;) {
    if (const visit inside; !inside.welcome || !ask_surplus_to_stop() || nanotime() >= until) return;
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

void start_ps(const std::vector<cpu*>& plan) {
  const std::vector<p*> ps = ps_of(plan);
  if (sched.nps.load(std::memory_order_relaxed) == 1) p_at(0)->runq.set_exclusive();
  want(ps);
  for (p* const pp : ps) {
    if (!pp->benched.exchange(false, std::memory_order_seq_cst)) continue;
    sched.busy.begin();
    pp->home->gate.retire(pp->id, false);
    sched.busy.settle();  // not the last: this goroutine runs, or the run() has yet to begin
  }
  for (int i = 0, n = sched.nps.load(std::memory_order_relaxed); i < n; ++i) {
    p* const pp = p_at(i);
    if (!surplus(pp) || !pp->home->gate.take_idle(i)) continue;
    drain(pp);
    pp->benched.store(true, std::memory_order_seq_cst);
    poke_watcher(next_timer());
    sched.busy.settle();
  }
}

namespace {

// Under `changing`.
void plan_ps() {
  const numa::topology& here = machine().machine;
  std::vector<cpu*> plan;
  for (int number : numa::cpus_for(here, numa::placement_of(standing.wish, here))) plan.push_back(cpu_numbered(number));
  start_ps(plan);
}

}  // namespace

standing_wish wish_for_ps() {
  lock_guard hold(changing);
  return standing;
}

void place_ps(const numa::ps_wish& wish) {
  lock_guard hold(changing);
  wish_for(wish);
  plan_ps();
}

namespace {

// Under `changing`. The other nodes keep what they have.
bool plan_ps_on(int node, int n, bool automatic) {
  numa::placement all = numa::spread(machine().machine, 0);
  bool there = false;
  for (numa::node_ps& each : all) {
    there |= each.node == node;
    each.ps = each.node == node ? n : gomaxprocs_on_node(each.node);
  }
  if (const int sum = numa::count_ps(all); !there || sum == 0 || sum > kMaxPs) return false;
  wish_for({0, all, automatic});
  plan_ps();
  return true;
}

}  // namespace

bool place_ps_on(int node, int n) {
  lock_guard hold(changing);
  return plan_ps_on(node, n, false);
}

bool place_ps_automatically(int node, int n) {
  lock_guard hold(changing);
  return standing.wish.automatic && plan_ps_on(node, n, true);
}

bool ps_are_automatic() {
  lock_guard hold(changing);
  return standing.wish.automatic;
}

void follow_machine(const numa::topology& seen) {
  lock_guard hold(changing);
  for (const numa::node_ps& wanted : standing.wish.on_nodes)
    if (wanted.ps > 0 && gomaxprocs_on_node(wanted.node) > 0 && !numa::has_cpus(seen, wanted.node))
      std::fprintf(stderr, "weft: node %d has no CPUs for us any more: its %d Ps are gone\n", wanted.node, wanted.ps);
  use_machine(seen, sched.pinned);
  plan_ps();
  ask_surplus_to_stop();
}

bool ask_surplus_to_stop() {
  for (int i = 0, n = sched.nps.load(std::memory_order_acquire); i < n; ++i) {
    p* const pp = p_at(i);
    if (!surplus(pp)) continue;
    pp->preempt.store(true, std::memory_order_relaxed);
    if (take_p_in_call(pp, false) && retire_p_for_good(pp)) startm(pp, false);
  }
  return surplus_still_runs();
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
  for (int i = 0, cpus = sched.ncpus.load(std::memory_order_relaxed); i < cpus; ++i)
    cpu_at(i).nps.store(0, std::memory_order_relaxed);
  end_timers(foreign_heap);
  poke_foreign_sleepers();
}

// A wanted P, of the same node if there is one.
p* heir_of(const p* pp) {
  p* heir = nullptr;
  for (int i = 0, n = sched.nps.load(std::memory_order_acquire); i < n; ++i) {
    p* const other = p_at(i);
    if (surplus(other) || other == pp) continue;
    if (other->home == pp->home) return other;
    if (!heir) heir = other;
  }
  return heir;
}

namespace {

// Ps by number: what is wanted may have changed, and the heir be drained into this one at the same time.
void move_timers(p* from, p* to) WEFT_NO_THREAD_SAFETY_ANALYSIS {
  lock_guard first((from->id < to->id ? from : to)->timers.lock);
  lock_guard second((from->id < to->id ? to : from)->timers.lock);
  from->timers.move_to(to->timers);
}

}  // namespace

void drain(p* pp) {
  while (g* gp = pp->runq.get().g) globrunqput(gp);
  if (p* const heir = heir_of(pp)) move_timers(pp, heir);  // else it is wanted again by now
}

void retire_surplus(m* mp) {
  p* const pp = releasep(mp);
  if (mp->spinning) {
    mp->spinning = false;
    pp->home->gate.end_spinning();
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
  const int before = sched.gomaxprocs.load(std::memory_order_relaxed);
  if (n < 1 || !sched.active.load(std::memory_order_acquire)) return before;
  {
    const visit inside;
    if (!inside.welcome) return before;
    place_ps({std::min(n, kMaxPs), {}});
  }
  if (who.mp) stop_surplus(who);
  wakep_everywhere();
  return before;
}

int gomaxprocs_on_node(int node) {
  const rt::node* const known = rt::node_numbered(node);
  return known ? known->ps.load(std::memory_order_relaxed) : 0;
}

int gomaxprocs_on_node(int node, int n) {
  using namespace rt;
  entry who;
  const int before = gomaxprocs_on_node(node);
  if (n < 0 || !sched.active.load(std::memory_order_acquire)) return before;
  {
    const visit inside;
    if (!inside.welcome || !place_ps_on(node, n)) return before;
  }
  if (who.mp) stop_surplus(who);
  wakep_everywhere();
  return before;
}

int num_cpu() { return rt::num_allowed_cpus(); }
int num_node() { return rt::num_allowed_nodes(); }

}  // namespace weft
