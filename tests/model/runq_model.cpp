// SPDX-License-Identifier: Apache-2.0
// run_queue with a ring of 4 and a batch of 2.
//
//   take_once    an owner puts, kicks out of runnext, overflows and gets; a thief steals into a queue of its own; a
//                third thread robs the private parts of both and steals from the thief. Every G is run exactly once
//                or spilled, what its creator wrote to it is visible to who runs it, the owner gets its Gs in the
//                order in which it put them, a thief gets what it stole in that order, and so does the spill.
//   chain        what a thief has stolen is stolen again.
//   never_empty  Gs lie in a queue and not all of them can be taken: empty() says false at any moment, also while the
//                owner moves Gs from ring to batch and between runnext and ring.
//   kicked       a G goes from runnext to the ring and its successor is taken: empty() says false. On fences only:
//                where stores may pass each other and the owner's barrier is none, runq.h lets such a G be missing.
//   one_g        the smallest case of owner against robber: all interleavings with two preemptions; on membarrier, all.
//
// Mutations that they catch (mutations.sh): the barrier of enter() or of rob() left out; rob() without its look at
// busy, enter() without its look at thief; leave(), rob(), put() or steal() release nothing; steal() acquires no tail;
// steal() or spill_half() without CAS; a spill out of order; refill() moves the head before it has written the batch;
// empty() reads the ring last, or not again; get() leaves runnext in place.
#include "tests/model/model.h"

#include "runtime/runq.h"

namespace {

using namespace weft::model;

struct goroutine {
  var<int> created;  // written by the creator, before put
  var<int> order;    // when it was put into a ring, of all puts of its owner
  var<int> runs;
};

template <class Policy>
using queue = weft::rt::run_queue<goroutine, 4, 2, Policy>;
template <class Policy>
using spilled = typename queue<Policy>::overflow;

void run(goroutine* g) {
  require(g->created.get() == 1, "a G is seen as its creator left it");
  require(g->runs.get() == 0, "a G runs once");
  g->runs.set(1);
}

/// The owner of a queue: numbers what it puts and checks the order of what it gets.
template <class Policy>
class owner {
 public:
  explicit owner(queue<Policy>& q) : q_(q) {}

  void ready_next(goroutine& g) {
    g.created.set(1);
    if (goroutine* kicked = q_.put_next(&g)) put(*kicked);
  }
  void ready(goroutine& g) {
    g.created.set(1);
    put(g);
  }
  /// False: nothing to run.
  bool run_next() {
    const auto taken = q_.get();
    if (!taken.g) return false;
    run(taken.g);
    if (!taken.inherits) {
      require(taken.g->order.get() > last_, "first in, first out");
      last_ = taken.g->order.get();
    }
    return true;
  }

 private:
  void put(goroutine& g) {
    g.order.set(++puts_);
    spilled<Policy> spill;
    if (q_.put(&g, spill)) return;
    require(spill.count == q_.kOverflow + 1 && spill.gs[spill.count - 1] == &g, "half of the ring and the new G leave");
    int before = 0;
    for (std::uint32_t i = 0; i < spill.count; ++i) {
      require(spill.gs[i]->order.get() > before, "the spill is in order");
      before = spill.gs[i]->order.get();
      run(spill.gs[i]);  // stands for the global queue, which is the owner's here
    }
  }

  queue<Policy>& q_;
  int puts_ = 0, last_ = 0;
};

/// Steals from `from` into the empty `mine`.
template <class Policy>
void steal_all(queue<Policy>& from, queue<Policy>& mine) {
  goroutine* last = nullptr;
  if (from.steal(mine, last) != queue<Policy>::steal_result::stolen) return;
  run(last);
  int before = 0;
  for (;;) {
    const auto taken = mine.get();
    if (!taken.g) return;
    run(taken.g);
    require(!taken.inherits, "what is stolen inherits nothing");
    require(taken.g->order.get() > before && taken.g->order.get() < last->order.get(), "stolen in order");
    before = taken.g->order.get();
  }
}

template <class Policy>
void rob_one(queue<Policy>& from) {
  goroutine* g = nullptr;
  const auto result = from.rob(g);
  require((result == queue<Policy>::steal_result::stolen) == (g != nullptr), "rob() says what it did");
  if (g) run(g);
}

template <class Policy>
struct take_once : suite<take_once<Policy>, 3> {
  static constexpr int kGs = 9;
  std::array<goroutine, kGs> gs;
  std::unique_ptr<queue<Policy>> first = std::make_unique<queue<Policy>>();
  std::unique_ptr<queue<Policy>> second = std::make_unique<queue<Policy>>();
  std::unique_ptr<queue<Policy>> third = std::make_unique<queue<Policy>>();

  void thread(unsigned index) {
    if (index == 0) return own();
    if (index == 1) {
      for (int round = 0; round < 2; ++round) steal_all(*first, *second);
      return;
    }
    for (int round = 0; round < 2; ++round) {
      if (rl::rand(2))
        rob_one(*first);
      else if (rl::rand(2))
        rob_one(*second);
      else
        steal_all(*second, *third);
    }
  }
  void own() {
    owner<Policy> p(*first);
    int next = 0;
    p.ready_next(gs[next++]);
    p.ready_next(gs[next++]);
    p.ready(gs[next++]);
    if (rl::rand(2)) p.run_next();
    while (next < kGs) {
      p.ready(gs[next++]);
      if (rl::rand(3) == 0) p.run_next();
    }
    while (p.run_next()) {
    }
  }
  void after() {
    for (auto* q : {first.get(), second.get(), third.get()}) {
      while (goroutine* g = q->get().g) run(g);
      require(q->empty() && q->size() == 0, "a queue without Gs is empty");
    }
    for (auto& g : gs) require(g.runs.get() == 1, "no G is lost");
  }
};

template <class Policy>
struct chain : suite<chain<Policy>, 3> {
  std::array<goroutine, 4> gs;
  std::array<std::unique_ptr<queue<Policy>>, 3> queues;

  chain() {
    for (auto& q : queues) q = std::make_unique<queue<Policy>>();
  }
  void thread(unsigned index) {
    if (index == 0) {
      owner<Policy> p(*queues[0]);
      for (auto& g : gs) p.ready(g);
      return;
    }
    goroutine* last = nullptr;
    while (queues[index - 1]->steal(*queues[index], last) != queue<Policy>::steal_result::stolen && rl::rand(4))
      Policy::relax();
    if (last) run(last);
  }
  void after() {
    for (auto& q : queues)
      while (goroutine* g = q->get().g) run(g);
    for (auto& g : gs) require(g.runs.get() == 1, "no G is lost");
  }
};

template <class Policy>
struct never_empty : suite<never_empty<Policy>, 3> {
  std::array<goroutine, 5> gs;
  std::unique_ptr<queue<Policy>> q = std::make_unique<queue<Policy>>();
  typename Policy::template atomic<int> filled;
  bool robbed = false;

  void before() { robbed = rl::rand(2); }
  void thread(unsigned index) {
    if (index == 0)
      own();
    else if (index == 1)
      observe();
    else if (robbed)
      rob_one(*q);
  }
  // There is one G more than the owner and the robber take.
  void own() {
    owner<Policy> p(*q);
    p.ready_next(gs[0]);
    p.ready_next(gs[1]);
    p.ready(gs[2]);
    if (robbed) p.ready(gs[3]);
    filled.store(1, std::memory_order_release);
    p.run_next();
    if (rl::rand(2)) p.ready_next(gs[4]);
    p.run_next();
  }
  void observe() {
    while (filled.load(std::memory_order_acquire) == 0) Policy::relax();
    for (int i = 0; i < 2; ++i) require(!q->empty(), "a queue with Gs is not empty");
  }
};

template <class Policy>
struct kicked : suite<kicked<Policy>, 2> {
  std::array<goroutine, 3> gs;
  std::unique_ptr<queue<Policy>> q = std::make_unique<queue<Policy>>();

  void before() { owner<Policy>(*q).ready_next(gs[0]); }
  void thread(unsigned index) {
    if (index == 1) return require(!q->empty(), "a queue with Gs is not empty");
    owner<Policy> p(*q);
    for (int i = 1; i < 3; ++i) {
      p.ready_next(gs[i]);
      p.run_next();
    }
  }
};

template <class Policy>
struct one_g : suite<one_g<Policy>, 2> {
  goroutine g;
  std::unique_ptr<queue<Policy>> q = std::make_unique<queue<Policy>>();

  void before() { owner<Policy>(*q).ready_next(g); }
  void thread(unsigned index) {
    if (index == 0)
      owner<Policy>(*q).run_next();
    else
      rob_one(*q);
  }
  void after() {
    if (goroutine* left = q->get().g) run(left);
    require(g.runs.get() == 1, "no G is lost");
  }
};

template <class Policy>
void explore(checker& check) {
  check.random<take_once<Policy>>(Policy::kName, 40000);
  check.random<chain<Policy>>(Policy::kName, 20000);
  check.random<never_empty<Policy>>(Policy::kName, 40000);
}

}  // namespace

int main(int argc, char** argv) {
  checker check("runq", argc, argv);
  explore<fences>(check);
  explore<membarrier>(check);
  check.random<kicked<fences>>("kicked", 40000);
  check.bounded<one_g<fences>>("one G, bounded", 2);
  check.full<one_g<membarrier>>("one G, all");
  return check.finish();
}
