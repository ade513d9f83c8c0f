// SPDX-License-Identifier: Apache-2.0
// Taking Ps back, the whole way round: goroutines block in announced calls and without a word, compute for ever, lock
// themselves to their threads; takers take their Ps, hand them on, and stop who runs without one; and the Ms come back.
// p_claim, wake_gate, idle_stack and note are the real ones. Around them the model states the steps of these files
// itself, under their names, since what they do besides (clocks, costs, context switches) knows no model:
//
//   handoff.cpp   take_p, regain_p, acquire_again, find_p, take_p_on_cpu, entersyscall, exitsyscall
//   preempt.cpp   on_signal, park_in_handler, take_over, preempt_p, stop_strays, free_bound
//   lockedm.cpp   lock_os_thread, stop_lockedm, start_lockedm
//   wakeup.cpp    acquirep, releasep, give_p, startm, handoffp, retire_p, stopm, wakep
//   globq.cpp     the global queue, with goroutines bound to an M and others; there are no local queues here
//
// Each goroutine gets to a meeting and waits there in its own way until all the others have come too: that takes all
// the Ps that those before it had. A signal comes at any point of user code, and between any two steps of the runtime,
// where its handler must do nothing. Takers:
//
//   sysmon     takes from who is in a call, in user code, asleep or not; sends signals; now and then lets those that
//              are parked in mid-code go on without a P, posts the wake-up that a watcher of old gets, or sends a
//              signal to anybody
//   sentinel   takes from who is in a call or asleep; on shared_cpu it runs in turns with the Ms, without a barrier
//   an M that comes back from a call (shared_cpu only) takes from another of its CPU
//
//   - A P has one holder at a time, and is held, idle or in the hands of one taker: it is never lost, never twice.
//     When nothing is busy any more all are idle.
//   - An M in the runtime has a P, whose plain data nobody else touches then.
//   - A verdict about a call takes nothing in another call; one about another P takes nothing.
//   - A goroutine runs on one M at a time; one that is locked to its thread, or stopped in mid-code, on its own only.
//   - Every goroutine gets to its end: no wake-up is lost, nobody waits for ever.
//
// Mutations that it catches: see mutations.sh.
#include "tests/model/model.h"

#include "runtime/claim.h"
#include "runtime/futex.h"
#include "runtime/idle_stack.h"
#include "tests/model/gate.h"

namespace weft::rt {
inline std::ostream& operator<<(std::ostream& out, place at) { return out << static_cast<unsigned>(at); }  // for Relacy
}  // namespace weft::rt

namespace {

using namespace weft::model;
using weft::rt::place;
using weft::rt::whereabouts;

constexpr int kNobody = -1;
constexpr int kIdle = -1, kInTransit = -2;                                   // holders of a P
constexpr int kWakeWithP = 1, kWakeToLook = 2, kWakeToGoOn = 3, kLeave = 4;  // what a note says
constexpr int kNotQueued = 0, kInRing = 1, kInBound = 2;

enum class way { computes, sleeps, calls };

/// Who is there. Rounds: how often a taker looks, and sysmon does nothing else then; 0: as long as goroutines run.
template <int Ps, int Gs, bool Sysmon, bool Sentinel, int Rounds = 0>
struct cast {
  static constexpr int kPs = Ps, kGs = Gs, kMs = Ps + Gs + (Rounds ? 0 : 1);
  static constexpr bool kSysmon = Sysmon, kSentinel = Sentinel;
  static constexpr int kRounds = Rounds;
  static constexpr int kThreads = kMs + (Sysmon ? 1 : 0) + (Sentinel ? 1 : 0);
};

template <class Array>
auto& at(Array& array, int i) {
  return array[static_cast<std::size_t>(i)];
}

template <class Policy, class Cast>
struct world : suite<world<Policy, Cast>, Cast::kThreads> {
  static constexpr int kPs = Cast::kPs, kGs = Cast::kGs, kMs = Cast::kMs;
  static constexpr bool kOneCpu = std::is_same_v<Policy, shared_cpu>;
  template <class T>
  using atomic = typename Policy::template atomic<T>;

  struct links {
    std::array<atomic<std::uint32_t>, kMs>* all;
    auto& operator()(std::uint32_t number) const { return (*all)[number]; }
  };

  struct goroutine {
    int number = 0;
    var<int> step;
    var<int> on{kNobody};  // the M that runs it, or is stopped in the middle of it
    atomic<int> lockedm{kNobody};
    var<int> queued{kNotQueued};  // under the queue's lock
    way waits = way::calls;
    bool locks = false;
  };
  struct m {
    int number = 0;
    // Its own.
    int held = kNobody, curg = kNobody, next_g = kNobody, lockedg = kNobody;
    bool spinning = false;
    // Between Ms.
    weft::rt::p_claim<Policy> claim;
    atomic<int> left_with{kNobody};
    weft::rt::basic_note<atomic<int>> wake;
    var<int> next_p;
    var<bool> next_spinning;
    atomic<bool> parked;
    // The kernel's.
    atomic<bool> signal, asleep;
  };
  struct p {
    atomic<int> owner{kNobody};
    var<int> holder{kInTransit};
    var<int> data;
    var<std::uint32_t> call;  // of the M that has left with it; 0: user code
  };

  one_node<Policy, kPs> node;
  weft::rt::wake_gate<kPs, Policy>& gate = node.gate;
  std::array<atomic<std::uint32_t>, kMs> idle_links;
  weft::rt::idle_stack<links, Policy> idle_ms{links{&idle_links}};
  std::array<m, kMs> ms;
  std::array<p, kPs> ps;
  std::array<goroutine, kGs> gs;
  atomic<std::uint32_t> next_token;
  // The global queue.
  atomic<int> locked, size;
  var<int> turn;
  // The meeting, and the end.
  atomic<int> arrived, done;
  atomic<bool> stop;

  void before() {
    taking_turns::begin(Cast::kThreads, kMs + (Cast::kSentinel ? 1 : 0));
    for (int i = 0; i < kMs; ++i) at(ms, i).number = i;
    for (int i = 0; i < kPs; ++i) {
      node.busy.begin();
      at(ms, i).held = i;
    }
    for (int i = 0; i < kGs; ++i) {
      goroutine& g = at(gs, i);
      g.number = i;
      g.waits = static_cast<way>(rl::rand(3));
      if (!Cast::kSysmon && g.waits == way::computes) g.waits = way::sleeps;
      g.locks = rl::rand(2) != 0;
      g.queued.set(kInRing);
    }
    size.store(kGs, std::memory_order_release);
  }
  void after() {
    require(done.load(std::memory_order_relaxed) == kGs, "every goroutine has got to its end");
    for (p& pp : ps) require(pp.holder.get() == kIdle, "every P is idle at the end");
    for (m& mp : ms) require(!mp.claim.taken() && !mp.parked.load(std::memory_order_relaxed), "every M is back");
    require(node.busy.now() == 0 && gate.nspinning() == 0, "nothing is busy at the end");
  }
  void thread(unsigned index) {
    const int number = static_cast<int>(index);
    if (number < kMs) return run_m(at(ms, number));
    if (Cast::kSentinel && number == kMs) return run_sentinel();
    run_sysmon();
  }

  // -- wakeup.cpp
  // ------------------------------------------------------------------------------------------------------

  void acquirep(m& mp, int pp) {
    require(at(ps, pp).holder.get() == kInTransit, "a P that an M gets is on its way");
    at(ps, pp).holder.set(mp.number);
    mp.held = pp;
    mp.left_with.store(pp, std::memory_order_relaxed);
    at(ps, pp).owner.store(mp.number, std::memory_order_release);
  }
  int releasep(m& mp) {
    const int pp = mp.held;
    require(at(ps, pp).holder.get() == mp.number, "the M that lets go of a P has it");
    at(ps, pp).holder.set(kInTransit);
    at(ps, pp).owner.store(kNobody, std::memory_order_release);
    mp.held = kNobody;
    return pp;
  }
  void give_p(m& to, int pp, bool spinning) {
    to.next_p.set(pp);
    to.next_spinning.set(spinning);
    to.wake.post(kWakeWithP);
  }
  bool take_idle(int pp) {
    if (!gate.take_idle(pp)) return false;
    require(at(ps, pp).holder.get() == kIdle, "a P of the idle set is nobody's");
    at(ps, pp).holder.set(kInTransit);
    return true;
  }
  /// There is one M more than can be away or hold a P, so one of them is on its way to the stack.
  void startm(int pp, bool spinning) {
    for (;; Policy::relax()) {
      const std::uint32_t number = idle_ms.pop();
      if (number != idle_ms.kNone) return give_p(ms[number], pp, spinning);
    }
  }
  void wakep() {
    while (gate.should_wake() && gate.begin_wake()) {
      for (int pp = 0; pp < kPs; ++pp)
        if (take_idle(pp)) return startm(pp, true);
      if (!gate.end_spinning()) return;
      Policy::relax();
    }
  }
  bool any_work() const { return size.load(std::memory_order_acquire) != 0; }
  void handoffp(int pp) {
    if (any_work() || retire_p(pp, false)) startm(pp, false);
  }
  bool retire_p(int pp, bool spinning) {
    at(ps, pp).holder.set(kIdle);
    gate.retire(pp, spinning);
    if (any_work()) {
      if (take_idle(pp)) {
        node.busy.settle();
        return true;
      }
      wakep();
    }
    settle();
    return false;
  }
  /// Something that was busy is so no more: if it was the last, the world ends here.
  void settle() {
    if (!node.busy.settle()) return;
    require(done.load(std::memory_order_acquire) == kGs, "nothing is busy when every goroutine has got to its end");
    if (stop.exchange(true, std::memory_order_acq_rel)) return;
    for (m& mp : ms) mp.wake.post(kLeave);
  }
  void settle_as_others_are_busy() { require(!node.busy.settle(), "something else is busy"); }

  // -- globq.cpp
  // -------------------------------------------------------------------------------------------------------

  void lock() {
    while (locked.exchange(1, std::memory_order_acquire) != 0) Policy::relax();
  }
  void unlock() { locked.store(0, std::memory_order_release); }
  void globrunqput(goroutine& g, int where) {
    lock();
    require(g.queued.get() == kNotQueued, "a goroutine is queued once");
    g.queued.set(where);
    size.store(size.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    unlock();
  }
  goroutine* globrunqget(bool bound_only = false) {
    if (!any_work()) return nullptr;
    lock();
    goroutine* found = nullptr;
    const int first = turn.get();
    turn.set(first + 1);
    for (int i = 0; i < kGs && !found; ++i) {
      goroutine& g = at(gs, (first + i) % kGs);
      const int queued = g.queued.get();
      if (queued == kInBound || (queued == kInRing && !bound_only)) found = &g;
    }
    if (found) {
      found->queued.set(kNotQueued);
      size.store(size.load(std::memory_order_relaxed) - 1, std::memory_order_release);
    }
    unlock();
    return found;
  }

  // -- handoff.cpp
  // -----------------------------------------------------------------------------------------------------

  bool take_p(int pp, m& victim, whereabouts seen, bool same_cpu) {
    node.busy.begin();
    const std::uint32_t token = next_token.fetch_add(1, std::memory_order_relaxed);
    const auto shares_cpu = [&] { return same_cpu; };
    const auto still = [&] { return victim.left_with.load(std::memory_order_relaxed) == pp; };
    if (victim.claim.take(seen, token, shares_cpu, still) != weft::rt::p_claim<Policy>::result::taken) {
      settle();
      return false;
    }
    p& taken = at(ps, pp);
    require(taken.holder.get() == victim.number, "the P is taken from the M that has it");
    require(taken.call.get() == (seen.at == place::call ? seen.call : 0), "a stale verdict takes nothing");
    taken.holder.set(kInTransit);
    taken.owner.store(kNobody, std::memory_order_release);
    return true;
  }
  m* owner_of(int pp) {
    const int number = at(ps, pp).owner.load(std::memory_order_acquire);
    return number == kNobody ? nullptr : &at(ms, number);
  }
  int take_p_on_cpu() {
    for (int pp = 0; pp < kPs; ++pp) {
      m* const victim = owner_of(pp);
      if (!victim) continue;
      const whereabouts seen = victim->claim.look();
      if (seen.at == place::call && take_p(pp, *victim, seen, true)) return pp;
    }
    return kNobody;
  }
  int find_p(int old) {
    if (take_idle(old)) return old;
    return kOneCpu ? take_p_on_cpu() : kNobody;
  }
  /// False: the goroutine is in the queue, and the M has left it.
  bool regain_p(m& mp) {
    const int old = mp.held;
    mp.held = kNobody;
    if (const int pp = find_p(old); pp != kNobody) {
      settle_as_others_are_busy();
      acquirep(mp, pp);
      return true;
    }
    goroutine& g = at(gs, mp.curg);
    leave_goroutine(mp);
    globrunqput(g, kInRing);
    wakep();
    settle_as_others_are_busy();
    return false;
  }
  bool come_in(m& mp) {
    signal_comes(mp);
    const bool kept = mp.claim.enter();
    signal_comes(mp);
    if (!kept && !regain_p(mp)) return false;
    signal_comes(mp);
    p& pp = at(ps, mp.held);
    require(pp.holder.get() == mp.number, "an M in the runtime has its P");
    pp.data.set(pp.data.get() + 1);
    return true;
  }
  void to_user(m& mp) {
    at(ps, mp.held).call.set(0);
    mp.claim.to_user();
    signal_comes(mp);
  }
  void entersyscall(m& mp) {
    at(ps, mp.held).call.set(mp.claim.sequence() + 1);
    mp.claim.leave();
    signal_comes(mp);
  }

  // -- preempt.cpp
  // -----------------------------------------------------------------------------------------------------

  void signal_comes(m& mp) {
    if (mp.signal.load(std::memory_order_acquire) && mp.signal.exchange(false, std::memory_order_acq_rel))
      on_signal(mp);
  }
  void on_signal(m& mp) {
    if (mp.claim.look().at == place::user && mp.claim.taken()) park_in_handler(mp);
  }
  void park_in_handler(m& mp) {
    goroutine& g = at(gs, mp.curg);
    require(g.on.get() == mp.number, "who is stopped runs its goroutine");
    mp.held = kNobody;
    mp.parked.store(true, std::memory_order_relaxed);
    g.lockedm.store(mp.number, std::memory_order_relaxed);
    globrunqput(g, kInBound);
    wakep();
    settle_as_others_are_busy();
    int woken;
    do {
      woken = mp.wake.wait();
    } while (woken == kWakeToLook);
    require(woken == kWakeWithP || woken == kWakeToGoOn, "the world does not end while a goroutine is stopped");
    if (mp.lockedg == kNobody) g.lockedm.store(kNobody, std::memory_order_relaxed);
    mp.parked.store(false, std::memory_order_relaxed);
    if (woken == kWakeToGoOn) return;
    acquirep(mp, mp.next_p.get());
    at(ps, mp.held).call.set(0);
    mp.claim.resume();
  }
  void free_bound() {
    for (;;) {
      node.busy.begin();
      goroutine* const g = globrunqget(true);
      if (!g) return settle();
      at(ms, g->lockedm.load(std::memory_order_relaxed)).wake.post(kWakeToGoOn);
    }
  }
  void stop_strays() {
    for (m& mp : ms) {
      if (!mp.claim.taken() || mp.claim.look().at != place::user) continue;
      if (mp.parked.load(std::memory_order_relaxed) || mp.asleep.load(std::memory_order_relaxed)) continue;
      mp.signal.store(true, std::memory_order_release);
    }
  }

  // -- lockedm.cpp
  // -----------------------------------------------------------------------------------------------------

  void lock_os_thread(m& mp) {
    mp.lockedg = mp.curg;
    at(gs, mp.curg).lockedm.store(mp.number, std::memory_order_relaxed);
  }
  void unlock_os_thread(m& mp) {
    mp.lockedg = kNobody;
    at(gs, mp.curg).lockedm.store(kNobody, std::memory_order_relaxed);
  }
  /// False: the M is to leave.
  bool stop_lockedm(m& mp) {
    if (mp.held != kNobody) handoffp(releasep(mp));
    const int woken = mp.wake.wait();
    if (woken != kWakeWithP) return woken != kLeave;
    acquirep(mp, mp.next_p.get());
    mp.next_g = mp.lockedg;
    return true;
  }
  void start_lockedm(m& mp, goroutine& g) {
    const int pp = releasep(mp);
    give_p(at(ms, g.lockedm.load(std::memory_order_relaxed)), pp, false);
  }

  // -- The Ms' scheduling loop
  // -----------------------------------------------------------------------------------------

  void run_m(m& mp) {
    if (mp.held != kNobody) acquirep(mp, mp.held);
    for (;;) {
      if (mp.lockedg != kNobody && mp.next_g == kNobody) {
        if (!stop_lockedm(mp)) return;
        continue;
      }
      if (mp.held == kNobody && !stopm(mp)) return;
      goroutine* const g = mp.next_g != kNobody ? &at(gs, mp.next_g) : globrunqget();
      mp.next_g = kNobody;
      if (!g) {
        go_idle(mp);
        continue;
      }
      if (mp.spinning) {
        mp.spinning = false;
        gate.end_spinning();
        wakep();
      }
      const int bound_to = g->lockedm.load(std::memory_order_relaxed);
      if (bound_to != kNobody && bound_to != mp.number)
        start_lockedm(mp, *g);
      else
        run_goroutine(mp, *g);
    }
  }
  /// False: the M is to leave.
  bool stopm(m& mp) {
    idle_ms.push(static_cast<std::uint32_t>(mp.number));
    int woken;
    do {
      woken = mp.wake.wait();
    } while (woken == kWakeToLook);
    if (woken == kLeave) return false;
    require(woken == kWakeWithP, "an M that sleeps is woken with a P");
    acquirep(mp, mp.next_p.get());
    mp.spinning = mp.next_spinning.get();
    return true;
  }
  void go_idle(m& mp) {
    const bool spinning = mp.spinning;
    mp.spinning = false;
    const int pp = releasep(mp);
    if (!retire_p(pp, spinning)) return;
    acquirep(mp, pp);
    mp.spinning = true;
    gate.begin_spinning();
  }

  // -- A goroutine
  // -----------------------------------------------------------------------------------------------------

  void leave_goroutine(m& mp) {
    at(gs, mp.curg).on.set(kNobody);
    mp.curg = kNobody;
  }
  /// Until it has ended, or the M has left it.
  void run_goroutine(m& mp, goroutine& g) {
    require(g.on.get() == kNobody, "a goroutine runs on one M");
    require(mp.lockedg == kNobody || mp.lockedg == g.number, "an M that is locked runs no other");
    g.on.set(mp.number);
    mp.curg = g.number;
    for (;;) {
      to_user(mp);
      const int step = g.step.get();
      if (step == 1 && g.waits != way::calls) meet(mp, g);
      if (!come_in(mp)) return;
      switch (step) {
        case 0:
          if (g.locks) lock_os_thread(mp);
          g.step.set(1);
          if (g.waits != way::calls) break;
          entersyscall(mp);  // a short one
          if (!come_in(mp)) return;
          break;
        case 1:
          if (g.waits != way::calls) break;
          entersyscall(mp);
          meet(mp, g);
          if (!come_in(mp)) return;
          break;
        case 2:  // yields
          g.step.set(3);
          leave_goroutine(mp);
          globrunqput(g, kInRing);
          wakep();
          return;
        default:
          if (g.locks) unlock_os_thread(mp);
          leave_goroutine(mp);
          done.fetch_add(1, std::memory_order_acq_rel);
          return;
      }
    }
  }
  void meet(m& mp, goroutine& g) {
    g.step.set(2);
    arrived.fetch_add(1, std::memory_order_acq_rel);
    if (g.waits == way::sleeps) mp.asleep.store(true, std::memory_order_release);
    while (arrived.load(std::memory_order_acquire) < kGs) {
      if (g.waits != way::sleeps) signal_comes(mp);
      Policy::relax();
    }
    if (g.waits == way::sleeps) mp.asleep.store(false, std::memory_order_release);
    signal_comes(mp);
  }

  // -- Takers
  // ----------------------------------------------------------------------------------------------------------

  bool goes_on(int round) const {
    return Cast::kRounds == 0 ? !stop.load(std::memory_order_acquire) : round <= Cast::kRounds;
  }
  /// A verdict may be as old as it likes.
  void hold_back() {
    if (Cast::kRounds == 0 && rl::rand(4) == 0)
      for (unsigned left = rl::rand(32); left > 0; --left) Policy::relax();
  }
  void run_sysmon() {
    for (int round = 1; goes_on(round); ++round) {
      for (int pp = 0; pp < kPs; ++pp) {
        m* const victim = owner_of(pp);
        if (!victim) continue;
        const whereabouts seen = victim->claim.look();
        if (seen.at == place::runtime) continue;
        hold_back();
        if (take_p(pp, *victim, seen, false)) handoffp(pp);
      }
      stop_strays();
      if (Cast::kRounds == 0 && rl::rand(8) == 0) free_bound();
      if (Cast::kRounds == 0 && rl::rand(4) == 0)
        at(ms, static_cast<int>(rl::rand(kMs))).wake.post_if_empty(kWakeToLook);
      if (Cast::kRounds == 0 && rl::rand(2) == 0)
        at(ms, static_cast<int>(rl::rand(kMs))).signal.store(true, std::memory_order_release);
      Policy::relax();
    }
  }
  void run_sentinel() {
    for (int round = 1; goes_on(round); ++round) {
      for (int pp = 0; pp < kPs; ++pp) {
        m* const victim = owner_of(pp);
        if (!victim) continue;
        const whereabouts seen = victim->claim.look();
        if (seen.at == place::runtime) continue;
        if (seen.at == place::user && !victim->asleep.load(std::memory_order_acquire)) continue;
        hold_back();
        if (take_p(pp, *victim, seen, kOneCpu)) handoffp(pp);
      }
      Policy::relax();
    }
  }
};

}  // namespace

int main(int argc, char** argv) {
  checker check("take_back", argc, argv);
  check.random<world<fences, cast<1, 2, true, false>>>("fences, sysmon", 10000);
  check.random<world<membarrier, cast<1, 2, true, false>>>("membarrier, sysmon", 10000);
  check.random<world<shared_cpu, cast<1, 2, true, true>>>("one CPU, sysmon elsewhere", 10000);
  check.random<world<shared_cpu, cast<2, 2, true, true>>>("one CPU with two Ps, sysmon elsewhere", 5000);
  check.bounded<world<fences, cast<1, 1, true, false, 1>>>("fences, sysmon, bounded", 0);
  check.bounded<world<shared_cpu, cast<1, 1, false, true, 1>>>("one CPU, bounded", 0);
  return check.finish();
}
