// SPDX-License-Identifier: Apache-2.0
// Threads that are no Ms, and Ms inside blocking(): they wait in the same queues as goroutines, asleep on a futex.
//
// Each such thread has a pseudo-goroutine in a thread-local; ready() posts its note instead of queueing it. They keep
// their own time, with or without a run(): what they wait for until some time is in the foreign heap, and all that are
// parked run the timers there.
#include "runtime/clock.h"
#include "runtime/futex.h"
#include "runtime/proc.h"

namespace weft::rt {
namespace {

constexpr std::uint32_t kReady = 1, kLook = 2;  // what a note says

struct foreign_thread {
  foreign_thread() { self.foreign = true; }
  ~foreign_thread() { destroy_thread_locals(self.locals); }
  g self;
  note wake;
  foreign_thread *next = nullptr, *prev = nullptr;  // in `sleepers`
};

// Those that are parked, guarded by the foreign heap's lock.
foreign_thread* sleepers = nullptr;

void enlist(foreign_thread& t) {
  lock_guard hold(foreign_heap.lock);
  t.prev = nullptr;
  t.next = sleepers;
  if (sleepers) sleepers->prev = &t;
  sleepers = &t;
}

void delist(foreign_thread& t) {
  lock_guard hold(foreign_heap.lock);
  (t.prev ? t.prev->next : sleepers) = t.next;
  if (t.next) t.next->prev = t.prev;
}

foreign_thread& of(g* gp) {
  return *reinterpret_cast<foreign_thread*>(reinterpret_cast<std::byte*>(gp) - offsetof(foreign_thread, self));
}

}  // namespace

[[gnu::noinline]] g* foreign_g() {
  thread_local foreign_thread thread;
  asm volatile("");
  return &thread.self;
}

void foreign_park(g* gp) {
  if (is_forked_child()) end_forked_child();
  sched.nforeign_waiting.fetch_add(1, std::memory_order_seq_cst);
  sched.foreign_changes.fetch_add(1, std::memory_order_seq_cst);
  if (sched.busy.now() == 0) check_dead();
  foreign_thread& self = of(gp);
  enlist(self);
  while (self.wake.wait(foreign_heap.first_when()) != kReady) {
    // Awake, for the deadlock detector: what it takes out of the heap is nowhere for a moment.
    sched.nforeign_waiting.fetch_sub(1, std::memory_order_seq_cst);
    sched.foreign_changes.fetch_add(1, std::memory_order_seq_cst);
    run_timers(foreign_heap, nanotime());
    sched.nforeign_waiting.fetch_add(1, std::memory_order_seq_cst);
    sched.foreign_changes.fetch_add(1, std::memory_order_seq_cst);
  }
  delist(self);
}

void poke_foreign_sleepers() {
  lock_guard hold(foreign_heap.lock);
  for (foreign_thread* t = sleepers; t; t = t->next) t->wake.post_if_empty(kLook);
}

void foreign_ready(g* gp) {
  // It counts as awake before it can be: see deadlock.cpp.
  sched.nforeign_waiting.fetch_sub(1, std::memory_order_seq_cst);
  sched.foreign_changes.fetch_add(1, std::memory_order_seq_cst);
  of(gp).wake.post(kReady);
}

}  // namespace weft::rt
