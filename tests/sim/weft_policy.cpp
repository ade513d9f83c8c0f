// SPDX-License-Identifier: Apache-2.0
// weft's policy: find.cpp, wakeup.cpp and globq.cpp without threads. What they decide is decided here by the same code:
// run_queue, wake_gate and node_costs themselves, and the functions of steal.h, wake_order.h, globq.h and nearness.h.
#include <algorithm>
#include <deque>
#include <optional>

#include "runtime/costs.h"
#include "runtime/globq.h"
#include "runtime/p.h"
#include "runtime/steal.h"
#include "runtime/wake_order.h"
#include "tests/sim/simulation.h"

namespace weft::sim {
namespace {

using queue = rt::run_queue<task, 256, 8, sequential>;
using gate = rt::wake_gate<rt::kMaxPs, sequential>;

struct node {
  node(rt::busy_count<sequential>& busy, std::atomic<int>& idle_nodes) : gate(busy, idle_nodes) {}

  sim::gate gate;
  numa::range ps{0, 0};
  std::deque<task*> global;
  serial lock;
  int wake_backoff = 0;
  rt::node_costs costs;
};

struct neighbour {
  node* there;
  int index;
  int distance;
};

struct searching {
  std::uint64_t patience = 0;
  ns since = 0;
  int rounds = 0;
  rt::far_work far{};
};

struct processor {
  explicit processor(std::uint64_t seed) : random(seed) {}

  rt::rng random;
  queue runq;
  std::uint32_t ticks = 0;
  bool spinning = false, woken_to_spin = false, searches = false;
  searching search;
  int wakes_skipped = 0;
  std::uint32_t watch_ns = rt::kMinWatchNs;
  int robbed = -1;
  ns robbed_at = 0, robbed_change = 0;
};

class weft_policy : public policy {
 public:
  explicit weft_policy(simulation& world) : world_(world) {
    for (const numa::other_node& each : world.near().nodes()) {
      nodes_.push_back(std::make_unique<node>(busy_, idle_nodes_));
      nodes_.back()->ps = each.cpus;
      nodes_.back()->costs.wake.add(costs::kWake);
    }
    for (const numa::other_node& from : world.near().nodes()) {
      others_.emplace_back();
      for (const numa::other_node& to : world.near().others(from.node))
        others_.back().push_back({&at(to.node), to.node, to.distance});
    }
    for (int p = 0; p < world.ps(); ++p) {
      ps_.push_back(std::make_unique<processor>(world.random().next()));
      busy_.begin();
      if (p != 0) retire(p, false);
    }
  }

  void ready(int p, task& t) override {
    if (t.home != world_.node_of(p)) {
      put_global(t.home, {&t}, world_.node_of(p));
      return wake(at(t.home), p);
    }
    if (task* const kicked = of(p).runq.put_next(&t)) put(p, kicked);
    if (home(p).gate.should_wake()) wake_slow(p);
  }

  void ready_from_outside(task& t) override {
    put_global(t.home, {&t}, t.home);
    wake(at(t.home), -1);
  }

  task* find(int p) override {
    processor& mine = of(p);
    task* t = local_work(p);
    if (!t && may_spin(p)) t = look_everywhere(p);
    if (!t) return nullptr;
    if (mine.searches) end_search(p, true);
    stop_spinning(p);
    ++mine.ticks;
    return t;
  }

  bool look_again(int p) override {
    processor& mine = of(p);
    if (mine.searches && !is_over(mine.search)) {
      ++mine.search.rounds;
      return true;
    }
    if (mine.searches) end_search(p, false);
    return go_idle(p);
  }

  void watch() override {
    for (const auto& each : nodes_)
      if (rt::node_to_wake(*each, others_of(*each)) && has_work(*each)) return wake(*each, -1);
  }

 private:
  node& at(int number) { return *nodes_[static_cast<std::size_t>(number)]; }
  processor& of(int p) { return *ps_[static_cast<std::size_t>(p)]; }
  node& home(int p) { return at(world_.node_of(p)); }
  int number_of(const node& n) { return world_.node_of(n.ps.begin); }
  const std::vector<neighbour>& others_of(const node& n) { return others_[static_cast<std::size_t>(number_of(n))]; }

  // -- Queues
  // -----------------------------------------------------------------------------------------------------------

  void put(int p, task* t) {
    queue::overflow spill;
    if (of(p).runq.put(t, spill)) return;
    put_global(world_.node_of(p), {spill.gs.data(), spill.gs.data() + spill.count}, world_.node_of(p));
  }

  void put_global(int number, const std::vector<task*>& ts, int by_node) {
    world_.lock(at(number).lock, by_node);
    at(number).global.insert(at(number).global.end(), ts.begin(), ts.end());
  }

  void adopt(int p, task* t) {
    if (t->memory < 0) t->home = world_.node_of(p);
  }

  task* get_global(int p, node& from, int most) {
    if (from.global.empty()) return nullptr;
    world_.lock(from.lock, world_.node_of(p));
    const int share = rt::share_of(static_cast<int>(from.global.size()), from.ps.size(), most);
    task* first = nullptr;
    for (int i = 0; i < std::min(share, static_cast<int>(queue::kCapacity / 2)); ++i) {
      task* const t = from.global.front();
      from.global.pop_front();
      adopt(p, t);
      if (first)
        put(p, t);
      else
        first = t;
    }
    return first;
  }

  bool has_work(const node& of_node) {
    if (!of_node.global.empty()) return true;
    for (int p = of_node.ps.begin; p < of_node.ps.end; ++p)
      if (!of(p).runq.empty()) return true;
    return false;
  }

  // -- find.cpp
  // ---------------------------------------------------------------------------------------------------------

  task* local_work(int p) {
    if (of(p).ticks % rt::kFairTicks == 0)
      if (task* const t = get_global(p, home(p), 1)) return t;
    if (task* const t = of(p).runq.get().g) return t;
    return get_global(p, home(p), INT32_MAX);
  }

  bool may_spin(int p) {
    processor& mine = of(p);
    node& here = home(p);
    if (!mine.spinning) {
      if (!rt::room_to_spin(here.ps.size() - here.gate.nidle(), here.gate.nspinning())) return false;
      mine.spinning = true;
      here.gate.begin_spinning();
    }
    if (!mine.searches) mine.search = {.patience = here.costs.idle.next_wait(), .since = world_.now()};
    mine.searches = true;
    return true;
  }

  task* look_everywhere(int p) {
    processor& mine = of(p);
    judge_robbery(p);
    for (int pass = 0; pass < rt::kStealPasses; ++pass) {
      const auto steal_at = [&](int victim) { return steal(p, victim, pass == rt::kStealPasses - 1); };
      if (task* const t = rt::steal_near(world_.near().view_from(p), mine.random, steal_at)) return t;
    }
    if (task* const t = get_global(p, home(p), INT32_MAX)) return t;
    return others_of(home(p)).empty() ? nullptr : fetch_far_work(p);
  }

  task* fetch_far_work(int p) {
    rt::far_work& seen = of(p).search.far;
    seen.look_again();
    const ns now = world_.now();
    for (const neighbour& other : others_of(home(p))) {
      world_.spend(costs::kLook * other.there->ps.size(), world_.node_of(p), other.index);
      const bool waits = rt::needs_help(*other.there) && has_work(*other.there);
      const std::uint64_t cost = numa::distance_cost_ns(other.distance, home(p).costs.handoff.ns());
      if (!seen.may_fetch(other.index, waits, cost, now)) continue;
      if (task* const t = fetch_from(p, *other.there)) return t;
    }
    return nullptr;
  }

  task* fetch_from(int p, node& other) {
    if (task* const t = get_global(p, other, INT32_MAX)) return t;
    for (int pass = 0; pass < rt::kStealPasses; ++pass) {
      const auto steal_at = [&](int victim) { return steal(p, victim, pass == rt::kStealPasses - 1); };
      if (task* const t = rt::steal_in(other.ps, {0, 0}, of(p).random, steal_at)) return t;
    }
    return nullptr;
  }

  task* steal(int p, int victim, bool last_pass) {
    if (p == victim) return nullptr;
    const int from = world_.node_of(victim), to = world_.node_of(p);
    task* t = nullptr;
    world_.spend(costs::kLook, from, to);
    if (!of(victim).runq.ring_empty()) {
      t = steal_half(p, victim);
      world_.spend(costs::kSteal, from, to);
    } else if (!last_pass || of(victim).runq.empty() || !rob(p, victim, t)) {
      return nullptr;
    }
    world_.count_steal(p, victim);
    adopt(p, t);
    return t;
  }

  task* steal_half(int p, int victim) {
    queue loot;
    task* first = nullptr;
    of(victim).runq.steal(loot, first);
    while (task* const more = loot.get().g) {
      adopt(p, more);
      put(p, more);
    }
    return first;
  }

  bool rob(int p, int victim, task*& t) {
    processor& mine = of(p);
    const ns changes = world_.next_change(victim) - world_.now();
    world_.spend(std::clamp<ns>(changes, 0, mine.watch_ns));
    if (changes <= mine.watch_ns) return false;
    world_.spend(costs::kRob);
    if (of(victim).runq.rob(t) != queue::steal_result::stolen) return false;
    mine.robbed = victim;
    mine.robbed_at = world_.now();
    mine.robbed_change = world_.next_change(victim);
    return true;
  }

  void judge_robbery(int p) {
    processor& mine = of(p);
    if (mine.robbed < 0) return;
    const bool long_ago = world_.now() - mine.robbed_at >= static_cast<ns>(rt::kRobberyPaysNs);
    if (!long_ago && world_.next_change(mine.robbed) == mine.robbed_change) return;
    mine.watch_ns = rt::next_watch_ns(mine.watch_ns, long_ago);
    mine.robbed = -1;
  }

  bool is_over(const searching& search) const {
    return static_cast<std::uint64_t>(world_.now() - search.since) >=
           (search.far.awaited() ? rt::kLongSpinNs : search.patience);
  }

  void end_search(int p, bool found) {
    processor& mine = of(p);
    mine.searches = false;
    if (mine.search.rounds != 0 || (!found && mine.search.patience != 0))
      home(p).costs.learn_from_spin(found, static_cast<std::uint64_t>(world_.now() - mine.search.since));
  }

  void stop_spinning(int p) {
    processor& mine = of(p);
    if (!mine.spinning) return;
    mine.spinning = mine.woken_to_spin = false;
    home(p).wake_backoff = 0;
    home(p).gate.end_spinning();
    if (home(p).gate.should_wake()) wake_slow(p);
  }

  // -- wakeup.cpp
  // -------------------------------------------------------------------------------------------------------

  void wake_slow(int p) {
    const node* const there = rt::node_to_wake(home(p), others_of(home(p)));
    if (there && !rt::put_off_wake(there->wake_backoff, of(p).wakes_skipped)) wake(home(p), p);
  }

  // from -1: nobody's P.
  void wake(node& for_work_of, int from) {
    if (!for_work_of.gate.should_wake()) return;
    node* const there = rt::node_to_wake(for_work_of, others_of(for_work_of));
    if (!there || !there->gate.begin_wake()) return;
    const int p = take_idle(*there, from);
    if (p < 0) {
      there->gate.end_spinning();
      return;
    }
    of(p).spinning = of(p).woken_to_spin = true;
    world_.wake(p);
  }

  int take_idle(node& there, int from) {
    const auto take_at = [&](int p) { return there.gate.take_idle(p) ? std::optional(p) : std::nullopt; };
    if (from >= 0 && &home(from) == &there) return rt::first_near(world_.near().view_from(from), take_at).value_or(-1);
    return rt::first_in(there.ps, {0, 0}, take_at).value_or(-1);
  }

  void retire(int p, bool spinning) {
    home(p).gate.retire(p, spinning);
    busy_.settle();
  }

  // What retire_p() looks at once more.
  bool any_work(const node& here) {
    if (has_work(here)) return true;
    for (const neighbour& other : others_of(here))
      if (rt::needs_help(*other.there) && has_work(*other.there)) return true;
    return false;
  }

  bool go_idle(int p) {
    processor& mine = of(p);
    node& here = home(p);
    const bool spinning = mine.spinning, woken = mine.woken_to_spin;
    mine.spinning = mine.woken_to_spin = false;
    retire(p, spinning);
    if (any_work(here)) {
      here.gate.take_idle(p);
      mine.spinning = true;
      here.gate.begin_spinning();
      return true;
    }
    if (spinning && woken) here.wake_backoff = std::min(here.wake_backoff + 1, rt::kMaxBackoff);
    return false;
  }

  simulation& world_;
  rt::busy_count<sequential> busy_;
  std::atomic<int> idle_nodes_{0};
  std::vector<std::unique_ptr<node>> nodes_;
  std::vector<std::vector<neighbour>> others_;
  std::vector<std::unique_ptr<processor>> ps_;
};

}  // namespace

std::unique_ptr<policy> make_weft_policy(simulation& world) { return std::make_unique<weft_policy>(world); }

}  // namespace weft::sim
