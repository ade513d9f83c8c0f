// SPDX-License-Identifier: Apache-2.0
// Threads that are no Ms, and Ms inside blocking(): they wait in the same queues as goroutines, asleep on a futex.
//
// Each such thread has a pseudo-goroutine in a thread-local; ready() posts its note instead of queueing it. They keep
// their own time, with or without a run(): what they wait for until some time is in the foreign heap, and all that are
// parked run the timers there.
//
// One that waits for a file does so in poll(2), beside an eventfd by which it is told that it need not wait any more.
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <algorithm>
#include <array>

#include "runtime/clock.h"
#include "runtime/futex.h"
#include "runtime/proc.h"

namespace weft::rt {
namespace {

constexpr std::uint32_t kReady = 1, kLook = 2;            // what a note says
constexpr std::int64_t kLookWithoutEventNs = 10'000'000;  // when no eventfd is to be had

struct foreign_thread {
  foreign_thread() { self.foreign = true; }
  ~foreign_thread() {
    destroy_thread_locals(self.locals);
    if (event >= 0) close(event);
    event = -1;  // other thread-locals' destructors may still wait
  }
  g self;
  note wake;
  int event = -1;                                   // an eventfd: wakes it in poll(2); made there
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

void wake_up(foreign_thread& t, bool in_poll) {
  const std::uint64_t one = 1;
  if (in_poll && t.event >= 0) [[maybe_unused]]
    const ssize_t written = write(t.event, &one, sizeof one);
}

// It was woken in poll(2), so its event is there, or about to be.
void take_event(const foreign_thread& t) {
  pollfd event{t.event, POLLIN, 0};
  while (t.event >= 0 && poll(&event, 1, -1) != 1) {
  }
  std::uint64_t count;
  [[maybe_unused]] const ssize_t got = read(t.event, &count, sizeof count);
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
  for (foreign_thread* t = sleepers; t; t = t->next) wake_up(*t, t->wake.post_if_empty(kLook));
}

void foreign_ready(g* gp) {
  // It counts as awake before it can be: see deadlock.cpp.
  sched.nforeign_waiting.fetch_sub(1, std::memory_order_seq_cst);
  sched.foreign_changes.fetch_add(1, std::memory_order_seq_cst);
  of(gp).wake.post(kReady);
}

foreign_event foreign_poll(g* gp, int fd, short events, std::int64_t deadline) {
  foreign_thread& self = of(gp);
  if (self.event < 0) self.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (self.event < 0) deadline = std::min(deadline, nanotime() + kLookWithoutEventNs);
  if (!self.wake.begin_elsewhere()) return self.wake.wait() == kReady ? foreign_event::told : foreign_event::look;
  std::array<pollfd, 2> any{{{fd, events, 0}, {self.event, POLLIN, 0}}};
  const std::int64_t left = std::max<std::int64_t>(deadline - nanotime(), 0);
  const timespec limit{left / 1'000'000'000, left % 1'000'000'000};
  const int n = ppoll(any.data(), any.size(), deadline == kNever ? nullptr : &limit, nullptr);
  const std::uint32_t word = self.wake.end_elsewhere();
  if (word != note::kNothing) take_event(self);
  if (word == kReady) return foreign_event::told;
  return n > 0 && any[0].revents != 0 ? foreign_event::ready : foreign_event::look;
}

void foreign_await_word(g* gp) {
  while (of(gp).wake.wait() != kReady) {
  }
}

void foreign_rouse(g* gp) {
  foreign_thread& t = of(gp);
  wake_up(t, t.wake.post(kReady));
}

void foreign_look(g* gp) {
  foreign_thread& t = of(gp);
  wake_up(t, t.wake.post_if_empty(kLook));
}

}  // namespace weft::rt
