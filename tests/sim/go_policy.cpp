// SPDX-License-Identifier: Apache-2.0
// Go's policy (proc.go of Go 1.27): findRunnable, stealWork, wakep, pidleget. No P is near to another: one global queue
// behind one lock, victims in random order, and the P is woken that has been idle for the shortest time.
#include <algorithm>
#include <deque>

#include "runtime/globq.h"
#include "runtime/p.h"
#include "runtime/steal.h"
#include "tests/sim/simulation.h"

namespace weft::sim {
namespace {

constexpr ns kRunnextPause = 3000;  // before runnext is stolen: whoever readied it may be about to run it

using queue = rt::run_queue<task, 256, 1, sequential>;  // Go has no batch: one taken at a time

struct processor {
  explicit processor(std::uint64_t seed) : random(seed) {}

  rt::rng random;
  queue runq;
  std::uint32_t ticks = 0;
  bool spinning = false;
};

class go_policy : public policy {
 public:
  explicit go_policy(simulation& world) : world_(world) {
    for (int p = 0; p < world.ps(); ++p) {
      ps_.push_back(std::make_unique<processor>(world.random().next()));
      if (p != 0) idle_.push_back(p);
    }
  }

  void ready(int p, task& t) override {
    if (task* const kicked = of(p).runq.put_next(&t)) put(p, kicked);
    wakep();
  }

  // netpoll by whoever is there: injectglist().
  void ready_from_outside(task& t) override {
    put_global({&t}, lock_.last_node);
    wakep();
  }

  task* find(int p) override {
    processor& mine = of(p);
    task* t = local_work(p);
    if (!t && may_spin(p)) t = steal_work(p);
    if (!t) return nullptr;
    stop_spinning(p);
    ++mine.ticks;
    return t;
  }

  bool look_again(int p) override {
    processor& mine = of(p);
    idle_.push_back(p);
    if (!mine.spinning) return false;
    --spinning_;
    mine.spinning = false;
    if (!any_work()) return false;
    idle_.pop_back();
    mine.spinning = true;
    ++spinning_;
    return true;
  }

 private:
  processor& of(int p) { return *ps_[static_cast<std::size_t>(p)]; }

  void put(int p, task* t) {
    queue::overflow spill;
    if (of(p).runq.put(t, spill)) return;
    put_global({spill.gs.data(), spill.gs.data() + spill.count}, world_.node_of(p));
  }

  void put_global(const std::vector<task*>& ts, int by_node) {
    world_.lock(lock_, by_node);
    global_.insert(global_.end(), ts.begin(), ts.end());
  }

  task* get_global(int p, int most) {
    if (global_.empty()) return nullptr;
    world_.lock(lock_, world_.node_of(p));
    const int share = rt::share_of(static_cast<int>(global_.size()), world_.ps(), most);
    task* const first = global_.front();
    global_.pop_front();
    for (int i = 1; i < std::min(share, static_cast<int>(queue::kCapacity / 2)); ++i) {
      put(p, global_.front());
      global_.pop_front();
    }
    return first;
  }

  task* local_work(int p) {
    if (of(p).ticks % rt::kFairTicks == 0)
      if (task* const t = get_global(p, 1)) return t;
    if (task* const t = of(p).runq.get().g) return t;
    return get_global(p, INT32_MAX);
  }

  bool may_spin(int p) {
    if (of(p).spinning) return true;
    if (!rt::room_to_spin(world_.ps() - static_cast<int>(idle_.size()), spinning_)) return false;
    of(p).spinning = true;
    ++spinning_;
    return true;
  }

  task* steal_work(int p) {
    for (int pass = 0; pass < rt::kStealPasses; ++pass)
      for (rt::steal_order order(world_.ps(), of(p).random); !order.done(); order.next())
        if (task* const t = steal(p, order.position(), pass == rt::kStealPasses - 1)) return t;
    return get_global(p, INT32_MAX);
  }

  task* steal(int p, int victim, bool last_pass) {
    if (p == victim) return nullptr;
    const int from = world_.node_of(victim), to = world_.node_of(p);
    task* t = nullptr;
    world_.spend(costs::kLook, from, to);
    if (of(victim).runq.steal(of(p).runq, t) != queue::steal_result::stolen) {
      if (!last_pass || of(victim).runq.empty()) return nullptr;
      const ns changes = world_.next_change(victim) - world_.now();
      world_.spend(std::clamp<ns>(changes, 0, kRunnextPause));
      if (changes <= kRunnextPause || of(victim).runq.rob(t) != queue::steal_result::stolen) return nullptr;
    }
    world_.spend(costs::kSteal, from, to);
    world_.count_steal(p, victim);
    return t;
  }

  void stop_spinning(int p) {
    if (!of(p).spinning) return;
    of(p).spinning = false;
    --spinning_;
    wakep();
  }

  void wakep() {
    if (spinning_ != 0 || idle_.empty()) return;
    const int p = idle_.back();
    idle_.pop_back();
    ++spinning_;
    of(p).spinning = true;
    world_.wake(p);
  }

  bool any_work() {
    if (!global_.empty()) return true;
    for (const auto& each : ps_)
      if (!each->runq.empty()) return true;
    return false;
  }

  simulation& world_;
  std::vector<std::unique_ptr<processor>> ps_;
  std::vector<int> idle_;  // the last one is the first to be woken
  int spinning_ = 0;
  std::deque<task*> global_;
  serial lock_;
};

}  // namespace

std::unique_ptr<policy> make_go_policy(simulation& world) { return std::make_unique<go_policy>(world); }

}  // namespace weft::sim
