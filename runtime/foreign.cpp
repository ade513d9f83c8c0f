// SPDX-License-Identifier: Apache-2.0
// Threads that are no Ms, and Ms inside blocking(): they wait in the same queues as goroutines, asleep on a futex.
//
// Each such thread has a pseudo-goroutine in a thread-local; ready() posts its note instead of queueing it.
#include "runtime/futex.h"
#include "runtime/proc.h"

namespace weft::rt {
namespace {

struct foreign_thread {
  foreign_thread() { self.foreign = true; }
  ~foreign_thread() { destroy_thread_locals(self.locals); }
  g self;
  note wake;
};

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
  sched.nforeign_waiting.fetch_add(1, std::memory_order_seq_cst);
  sched.foreign_changes.fetch_add(1, std::memory_order_seq_cst);
  if (sched.gate.busy() == 0) check_dead();
  of(gp).wake.wait();
}

void foreign_ready(g* gp) {
  // It counts as awake before it can be: see deadlock.cpp.
  sched.nforeign_waiting.fetch_sub(1, std::memory_order_seq_cst);
  sched.foreign_changes.fetch_add(1, std::memory_order_seq_cst);
  of(gp).wake.post(1);
}

}  // namespace weft::rt
