// SPDX-License-Identifier: Apache-2.0
// wake_gate: two threads without a P submit one G each, two Ms with a P each run them, spin, retire and sleep, as the
// head of wake.h has it.
//
//   drain      Gs end at once. When busy() gets to zero everything has been submitted and run, which happens once; no
//              M sleeps for ever before that.
//   meet       each G waits until the other one runs, so both Ps must get to work: no wake-up is lost while one P is
//              busy with something else for ever.
//
// An M stays with its P here, so waking an M is setting its note; how an M is found is park_model's part. The work is
// a flag for each G, published with a release store, as a run queue does.
//
// Whoever gives nspinning back has to look again whether somebody must be woken (wake() below loops): while it was
// not zero another submitter may have counted on it.
//
// Mutations that they catch (mutations.sh): the light or the heavy barrier left out; retire() changes nidle or
// nspinning after its barrier; no second look at the queues; the last spinning M wakes nobody; a wake() that found no
// P does not look again; take_idle() lets two have a P; the M settles before it looks again.
#include "tests/model/model.h"

#include "tests/model/gate.h"

namespace {

using namespace weft::model;

template <class Policy, int kPs, int kGs, bool Meet>
struct scheduler : suite<scheduler<Policy, kPs, kGs, Meet>, kPs + kGs> {
  template <class T>
  using atomic = typename Policy::template atomic<T>;

  one_node<Policy, kPs> node;
  weft::rt::wake_gate<kPs, Policy>& gate = node.gate;
  std::array<atomic<int>, kGs> queued;  // 0 not yet, 1 runnable, 2 taken
  std::array<atomic<int>, kPs> notes;   // 1: the M has been woken
  atomic<int> running, done, stop;

  void before() {
    for (int i = 0; i < kPs + kGs; ++i) node.busy.begin();
  }
  void thread(unsigned index) {
    const int number = static_cast<int>(index);
    if (number < kPs)
      run_m(number);
    else
      submit(number - kPs);
  }

  void submit(int g) {
    at(queued, g).store(1, std::memory_order_release);
    wake();
    settle();
  }

  void wake() {
    while (gate.should_wake() && gate.begin_wake()) {
      const int p = node.take_any_idle();
      if (p >= 0) return signal(p);
      if (!gate.end_spinning()) return;
      Policy::relax();
    }
  }
  void signal(int p) {
    at(notes, p).store(1, std::memory_order_release);
    futex_wake(at(notes, p));
  }

  void settle() {
    if (!node.busy.settle()) return;
    require(done.load(std::memory_order_acquire) == kGs, "nothing is busy when every G has run");
    require(gate.nspinning() == 0 && gate.nidle() == kPs, "nothing is busy when all Ps are idle and no M spins");
    require(stop.exchange(1, std::memory_order_acq_rel) == 0, "the last one settles once");
    for (int p = 0; p < kPs; ++p) signal(p);
  }

  bool work() const {
    for (auto& g : queued)
      if (g.load(std::memory_order_relaxed) == 1) return true;
    return false;
  }
  bool take_work() {
    for (auto& g : queued) {
      int runnable = 1;
      if (g.load(std::memory_order_relaxed) == 1 &&
          g.compare_exchange_strong(runnable, 2, std::memory_order_acq_rel, std::memory_order_relaxed))
        return true;
    }
    return false;
  }
  void run_g() {
    running.fetch_add(1, std::memory_order_acq_rel);
    while (Meet && running.load(std::memory_order_acquire) != kGs) Policy::relax();
    done.fetch_add(1, std::memory_order_acq_rel);
  }

  void run_m(int p) {
    bool spinning = false;
    for (;;) {
      if (take_work()) {
        if (spinning && gate.end_spinning()) wake();
        spinning = false;
        run_g();
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
      settle();
      if (spinning) continue;
      if (!sleep(p)) return;
      spinning = true;
    }
  }
  /// False: the end.
  bool sleep(int p) {
    auto& note = at(notes, p);
    while (note.load(std::memory_order_acquire) == 0) futex_wait(note, 0);
    note.store(0, std::memory_order_relaxed);
    return stop.load(std::memory_order_acquire) == 0;
  }

  template <class Array>
  static auto& at(Array& array, int i) {
    return array[static_cast<std::size_t>(i)];
  }
};

template <class Policy>
void explore(checker& check) {
  check.random<scheduler<Policy, 1, 1, false>>("one of each", 60000);
  check.random<scheduler<Policy, 2, 2, false>>("drain", 60000);
  check.random<scheduler<Policy, 2, 2, true>>("meet", 80000);
  check.bounded<scheduler<Policy, 1, 1, false>>("one of each, bounded", 3);
}

}  // namespace

int main(int argc, char** argv) {
  checker check("wake", argc, argv);
  explore<fences>(check);
  explore<membarrier>(check);
  return check.finish();
}
