// SPDX-License-Identifier: Apache-2.0
// shared_mutex. Go: rwmutex.go.
//
// One word:    | number of readers that hold it, 30 bits | queued | writer holds it |
// and two queues under one lock: writers, readers.
//
//   lock_shared()    queued and writer clear: count a reader in.
//   lock()           the word is 0: writer.
//   otherwise        under the lock: once more; set queued; wait in the queue of one's kind.
//   unlock*()        one subtraction. If that leaves queued and no holder, pass it on, under the lock:
//     a writer       to all readers that wait; if there are none, to the first writer
//     last reader    to the first writer (if there is none, to the readers)
//
// A pending writer keeps queued set, so new readers wait, and writers do not starve; the readers that wait when a
// writer is done go before the next writer, so neither do they. As in Go, a reader that locks again while a writer
// waits is stuck.
//
// Ownership is handed over: who waits has it when it is woken, and nobody overtakes it. While queued is set and nobody
// holds the mutex, which is from an unlocker's subtraction until it has passed it on, that unlocker alone may change
// the word (others queue themselves, under the lock). So whoever waits keeps the mutex alive until the unlocker, which
// touches the lock last, is through: the mutex may be destroyed by whoever knows that its unlock is the last, as a
// mutex may.
#include "runtime/park.h"
#include "weft/sync.h"

namespace weft {

using rt::wait_reason;
using rt::waiter;

// Under the lock: either takes the mutex, or leaves it marked as waited for. `closed`: the bits that keep the caller
// out.
bool shared_mutex::take_or_mark(std::uint32_t closed, std::uint32_t taken) {
  std::uint32_t now = state_.load(std::memory_order_relaxed);
  for (;;) {
    const bool open = (now & closed) == 0;
    if (!open && (now & kQueued) != 0) return false;
    if (state_.compare_exchange_weak(now, open ? now + taken : now | kQueued, std::memory_order_acquire,
                                     std::memory_order_relaxed))
      return open;
  }
}

void shared_mutex::lock_slow() {
  rt::entry who(rt::kNoPark);
  lock_.lock();
  if (take_or_mark(~0u, kWriter)) return lock_.unlock();
  waiter self;
  self.g = who.gp;
  rt::enqueue(writers_, &self);
  rt::park(who, lock_, wait_reason::rw_lock);
}

void shared_mutex::lock_shared_slow() {
  rt::entry who(rt::kNoPark);
  lock_.lock();
  if (take_or_mark(kWriter | kQueued, kReader)) return lock_.unlock();
  waiter self;
  self.g = who.gp;
  rt::enqueue(readers_, &self);
  rt::park(who, lock_, wait_reason::rw_rlock);
}

void shared_mutex::unlock_slow(std::uint32_t before) {
  if ((before & kWriter) == 0) rt::fatal("sync: Unlock of unlocked RWMutex");
  pass_on(true);
}

void shared_mutex::unlock_shared_slow(std::uint32_t before) {
  if (before < kReader) rt::fatal("sync: RUnlock of unlocked RWMutex");
  pass_on(false);
}

void shared_mutex::pass_on(bool readers_first) {
  const rt::entry who(rt::kNoPark);
  rt::wake_list woken;
  {
    const rt::lock_guard hold(lock_);
    std::uint32_t now = 0;
    const auto add = [&](waiter* w, std::uint32_t holder) {
      woken.add(w);
      now += holder;
    };
    if (waiter* const w = readers_first ? nullptr : rt::take_first_present(writers_)) add(w, kWriter);
    while (waiter* const w = now == kWriter ? nullptr : rt::take_first_present(readers_)) add(w, kReader);
    if (waiter* const w = now != 0 ? nullptr : rt::take_first_present(writers_)) add(w, kWriter);
    if (!writers_.empty() || !readers_.empty()) now |= kQueued;
    state_.store(now, std::memory_order_release);
  }
  woken.ready_all(who);
}

}  // namespace weft
