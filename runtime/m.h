// SPDX-License-Identifier: Apache-2.0
// M: a kernel thread that runs goroutines. Go: runtime.m.
//
// An M is pinned to one CPU and holds a P of that CPU while it runs goroutines or spins. Its own stack is that of g0,
// where the scheduler runs when the switch from goroutine to goroutine is not enough.
#pragma once

#include <pthread.h>
#include <atomic>
#include <csignal>
#include <cstdint>

#include "runtime/cache_line.h"
#include "runtime/claim.h"
#include "runtime/futex.h"
#include "runtime/g.h"
#include "runtime/lock.h"
#include "runtime/state_page.h"

namespace weft::rt {

struct cpu;
struct lock_set;
struct m;
struct p;

/// What is done for the goroutine that an M has just left, once its context is saved: done by whoever runs next there.
enum class after_switch : std::uint8_t {
  nothing,
  unlock,
  unlock_all,
  requeue,
  requeue_global,
  requeue_blocked,
  drop_stack
};

/// What an M is told through its note.
enum m_wake : std::uint32_t { kWakeWithP = 1, kWakeToLook = 2, kWakeToGoOn = 3, kWakeToTake = 4 };

/// What an M is to take (kWakeToTake): the P of one that has blocked on the same CPU.
struct take_order {
  p* wanted = nullptr;
  m* victim = nullptr;
  whereabouts seen{};
  std::uint64_t ticks = 0;  // of the verdict
};

// The C++ runtime's per-thread exception state (Itanium ABI 2.2.2), which each goroutine has of its own.
struct eh_globals {
  void* caught;
  unsigned int uncaught;
};

/// Where an M is pinned: written by who gives it a P of another CPU (start_lockedm), read by itself and by anybody who
/// looks at Ms. No order is needed: CPUs live for ever.
class cpu_of_m {
 public:
  cpu_of_m& operator=(cpu* c) {
    c_.store(c, std::memory_order_relaxed);
    return *this;
  }
  operator cpu*() const { return c_.load(std::memory_order_relaxed); }
  cpu* operator->() const { return *this; }

 private:
  std::atomic<cpu*> c_{nullptr};
};

struct alignas(kLinePair) m {
  explicit m(std::uint32_t number) : id(number) {}

  const std::uint32_t id;
  std::uint32_t run = 0;                    // the number of the run() it belongs to
  std::atomic<std::uint32_t> idle_link{0};  // in an idle_stack
  cpu_of_m c;
  pthread_t thread{};
  std::atomic<int> tid{0};

  // The switch path; this M's alone.
  p* held = nullptr;                     // its P
  g* curg = nullptr;                     // the goroutine it runs; &g0 on its own stack
  g* previous = nullptr;                 // the goroutine it has just left, until finish_switch()
  core_lock* unlock = nullptr;           // for after_switch::unlock
  const lock_set* unlock_set = nullptr;  // for after_switch::unlock_all
  eh_globals* eh = nullptr;
  stack* dead_stack = nullptr;  // for after_switch::drop_stack
  after_switch after = after_switch::nothing;
  bool through_scheduler = false;  // never switch goroutine to goroutine: lockedg, m0
  bool spinning = false;
  bool woken_to_spin = false;  // by a wakep(), and has not found anything since
  bool is_m0 = false;
  bool ran_main = false;  // main has returned on it: m0 is told when it has let go of its P
  g* next_g = nullptr;    // taken from the run queue on the way to the scheduler
  bool next_inherits = false;
  std::atomic<g*> lockedg{nullptr};  // written by this M alone
  int lock_count = 0;
  g g0;
  g ended;  // stands for a goroutine that has ended, while its stack is left
  stack g0_stack;

  // Between Ms.
  alignas(kCacheLine) p_claim<> claim;
  std::atomic<bool> pinned{false};                // so that it never runs at the same time as others of its CPU
  std::atomic<p*> left_with{nullptr};             // its P, while it is not in the runtime
  std::atomic<std::uint64_t> blocked_ticks{0};    // when that P was taken because it had blocked; 0: it had not
  std::atomic<int> blocked_call{0};               // in which system call, -1: a page fault; while that is known
  std::atomic<bool> parked{false};                // in its signal handler, without a P
  std::atomic<const void*> interrupted{nullptr};  // what the signal interrupted then: a ucontext_t
  // The sentinel's (its CPU's): the last event of the slot that it judged, and, if it decided to wait for the end of
  // that block, until when (nanotime; else 0).
  std::atomic<std::uint64_t> judged{0};
  std::atomic<std::int64_t> waits_until{0};
  alignas(kCacheLine) note wake;
  p* next_p = nullptr;  // given with kWakeWithP
  take_order order;     // given with kWakeToTake
  bool next_spinning = false;
  std::uint64_t woken_ticks = 0;  // when it was given that P
  slot_lease slot;
  std::atomic<bool> told_to_exit{false};
  std::atomic<bool> scheduling{true};  // on g0: leaves by itself when its run() is over
  bool dead = false;                   // its thread has ended and nobody joins it. Guarded by sched.lock
  bool zombie = false;  // still in user code when its run() ended: detached, frees itself. Guarded by sched.lock
  void* signal_stack = nullptr;
  stack_t earlier_signal_stack{};

  /// Sleeps until woken with a value, or until the deadline; for the state page that is no block.
  std::uint32_t sleep(std::int64_t deadline = kNever);

  /// Tells it something, wherever it sleeps.
  void rouse(std::uint32_t what);
  void rouse_if_not_yet(std::uint32_t what);

  /// Makes the struct of a dead M as good as new; idle_link, which a slow pop may still read, is left alone.
  void reset() {
    held = nullptr;
    curg = previous = next_g = nullptr;
    lockedg.store(nullptr, std::memory_order_relaxed);
    after = after_switch::nothing;
    through_scheduler = spinning = woken_to_spin = is_m0 = ran_main = false;
    next_inherits = next_spinning = dead = zombie = false;
    lock_count = 0;
    next_p = nullptr;
    told_to_exit.store(false, std::memory_order_relaxed);
    judged.store(0, std::memory_order_relaxed);
    waits_until.store(0, std::memory_order_relaxed);
    wake.take();
  }
};

/// An M that sleeps because it has nothing to do: for the state page that is no block.
class idle_mark {
 public:
  explicit idle_mark(const m* mp) : slot_(mp->slot.get()) {
    if (slot_) bpf::announce(*slot_, bpf::doing::idle);
  }
  ~idle_mark() {
    if (slot_) bpf::announce(*slot_, bpf::doing::user_code);
  }
  idle_mark(const idle_mark&) = delete;
  idle_mark& operator=(const idle_mark&) = delete;

 private:
  bpf::slot* const slot_;
};

inline std::uint32_t m::sleep(std::int64_t deadline) {
  const idle_mark mark(this);
  return wake.wait(deadline);
}

/// The M that this thread is, or null. Never cache it across a park: noinline, so that no caller can.
m* this_m() noexcept;
void set_this_m(m* mp) noexcept;
/// Sets errno on the thread that runs now: callers that span a switch may hold the address of another thread's.
void set_errno(int value) noexcept;

}  // namespace weft::rt
