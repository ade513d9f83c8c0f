// SPDX-License-Identifier: Apache-2.0
// park and ready, with an M's sleep and wake around them, on the real run queues, wake_gate, idle_stack and note: a
// goroutine parks on M 0 while another one on M 1 readies it. Ms 2 and 3 are threads that startm() may create.
//
//   park    under the waiting queue's lock the goroutine queues itself; the M leaves its stack; who runs next on the M
//           (finish_switch) notes the context, then releases the lock
//   ready   dequeues under the lock, releases it, puts the goroutine into runnext and wakes an M
//   stopm   the M has retired its P and looked at the queues again; it pushes itself on the idle stack and sleeps on
//           its note. Nobody finds it between the two, so startm() takes another M then.
//   startm  pops an idle M, or creates one; gives it the P; posts its note
//
// The goroutine is resumed exactly once, with its context saved, what it finds is free of races; and it is resumed even
// when the one that readied it never leaves its CPU, so no wake-up is lost and a robber gets at a runnext. Everything
// is done when nothing is busy any more.
//
// Mutations that it catches (mutations.sh): the lock released before the context is saved; ready() without the lock,
// without a wake-up, or with the wake-up first; a note that is posted without a futex wake, and one that does not
// release; the P given after the post; no second look at the queues; rob() that looks at the batch only.
#include "tests/model/model.h"

#include "runtime/futex.h"
#include "runtime/idle_stack.h"
#include "runtime/runq.h"
#include "tests/model/gate.h"

namespace {

using namespace weft::model;

constexpr int kPs = 2, kMs = 4;
constexpr int kWakeWithP = 1, kLeave = 2;  // what a note says

struct goroutine {
  var<bool> saved;
  var<int> resumed;
};

template <class Array>
auto& at(Array& array, int i) {
  return array[static_cast<std::size_t>(i)];
}

template <class Policy>
struct links {
  using words = std::array<typename Policy::template atomic<std::uint32_t>, kMs>;
  words* all;
  auto& operator()(std::uint32_t number) const { return (*all)[number]; }
};

template <class Policy>
struct scheduler : suite<scheduler<Policy>, kMs> {
  template <class T>
  using atomic = typename Policy::template atomic<T>;
  using queue = weft::rt::run_queue<goroutine, 4, 2, Policy>;

  struct m {
    weft::rt::basic_note<typename Policy::template atomic<int>> wake;
    var<int> next_p;
  };

  one_node<Policy, kPs> node;
  weft::rt::wake_gate<kPs, Policy>& gate = node.gate;
  std::array<std::unique_ptr<queue>, kPs> runq;
  typename links<Policy>::words idle_links;
  weft::rt::idle_stack<links<Policy>, Policy> idle_ms{links<Policy>{&idle_links}};
  std::array<m, kMs> ms;
  atomic<int> created;  // Ms beyond the first kPs

  // What the goroutine waits on.
  atomic<int> locked;
  var<goroutine*> waiter;
  var<bool> signalled;

  goroutine waiting;
  atomic<int> done;

  scheduler() {
    for (auto& q : runq) q = std::make_unique<queue>();
  }
  void before() {
    for (int i = 0; i < kPs; ++i) node.busy.begin();
  }
  void after() { require(done.load(std::memory_order_relaxed) == 1, "the goroutine has run to its end"); }

  void thread(unsigned index) {
    const int number = static_cast<int>(index);
    if (number == 0) run_waiter();
    if (number == 1) run_readier();
    if (number < kPs) return schedule(number, number, false);
    int p = 0;
    if (at(ms, number).wake.wait() == kWakeWithP)
      p = at(ms, number).next_p.get();
    else
      return;
    schedule(number, p, true);
  }

  void lock() {
    while (locked.exchange(1, std::memory_order_acquire) != 0) Policy::relax();
  }
  void unlock() { locked.store(0, std::memory_order_release); }

  void run_waiter() {
    lock();
    if (signalled.get()) {
      unlock();
      return finish();
    }
    waiter.set(&waiting);
    finish_switch(waiting);
  }
  void finish_switch(goroutine& left) {
    left.saved.set(true);
    unlock();
  }
  void resume(goroutine& g) {
    require(g.saved.get(), "a goroutine that goes on has stopped");
    g.saved.set(false);
    g.resumed.set(g.resumed.get() + 1);
    require(g.resumed.get() == 1, "a goroutine goes on once");
    finish();
  }
  void finish() {
    done.store(1, std::memory_order_release);
    for (auto& each : ms) each.wake.post(kLeave);
  }

  void run_readier() {
    if (rl::rand(2))
      while (gate.nidle() == 0) Policy::relax();  // comes late, when M 0 goes to sleep
    lock();
    goroutine* const g = waiter.get();
    if (g)
      waiter.set(nullptr);
    else
      signalled.set(true);
    unlock();
    if (g) ready(1, *g);
    if (rl::rand(4) == 0) return;
    while (done.load(std::memory_order_acquire) == 0) Policy::relax();
  }
  void ready(int p, goroutine& g) {
    require(at(runq, p)->put_next(&g) == nullptr, "runnext was free");
    wake();
  }

  void wake() {
    while (gate.should_wake() && gate.begin_wake()) {
      const int p = node.take_any_idle();
      if (p >= 0) return startm(p);
      if (!gate.end_spinning()) return;
      Policy::relax();
    }
  }
  void startm(int p) {
    int number = static_cast<int>(idle_ms.pop());
    if (number < 0) number = kPs + created.fetch_add(1, std::memory_order_relaxed);
    require(number < kMs, "there are enough threads");
    at(ms, number).next_p.set(p);
    at(ms, number).wake.post(kWakeWithP);
  }

  goroutine* find(int p) {
    if (goroutine* g = at(runq, p)->get().g) return g;
    queue& other = *at(runq, 1 - p);
    using result = typename queue::steal_result;
    goroutine* g = nullptr;
    result got;
    while ((got = other.steal(*at(runq, p), g)) == result::lost || (!g && (got = other.rob(g)) == result::lost))
      Policy::relax();
    return g;
  }
  bool work() const {
    for (auto& q : runq)
      if (!q->empty()) return true;
    return false;
  }
  void schedule(int number, int p, bool spinning) {
    for (;;) {
      if (goroutine* g = find(p)) {
        if (spinning && gate.end_spinning()) wake();
        spinning = false;
        resume(*g);
        continue;
      }
      if (!spinning && 2 * gate.nspinning() < kPs - gate.nidle()) {
        gate.begin_spinning();
        spinning = true;
        continue;
      }
      gate.retire(p, spinning);
      spinning = work() && gate.take_idle(p);
      if (spinning) gate.begin_spinning();
      if (node.busy.settle()) require(done.load(std::memory_order_acquire) == 1, "nothing is busy when all is done");
      if (spinning) continue;
      if (!stopm(number, p)) return;
      spinning = true;
    }
  }
  /// False: the thread must leave.
  bool stopm(int number, int& p) {
    idle_ms.push(static_cast<std::uint32_t>(number));
    if (at(ms, number).wake.wait() == kLeave) return false;
    p = at(ms, number).next_p.get();
    return true;
  }
};

}  // namespace

int main(int argc, char** argv) {
  checker check("park", argc, argv);
  check.random<scheduler<fences>>("fences", 60000);
  check.random<scheduler<membarrier>>("membarrier", 60000);
  return check.finish();
}
