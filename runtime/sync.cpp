// SPDX-License-Identifier: Apache-2.0
// mutex, wait_group, semaphore. Go: internal/sync/mutex.go, waitgroup.go, sema.go.
//
// Each object has its own list of waiters with a count of tokens, Go's semaphore: acquire takes a token or queues and
// parks; release wakes the first in the queue or leaves a token.
//
// mutex's state: bit 0 locked, bit 1 woken (a waiter is on its way: unlock wakes no other), bit 2 starving, the number
// of waiters above.
//   normal    a woken waiter competes with newcomers, who are running already and so usually win: fast, not fair. A
//   waiter
//             that loses goes back to the head of the queue; after kStarvingNs in all it sets starving.
//   starving  unlock hands the lock to the first waiter; newcomers do not try, they queue at the tail. The waiter that
//   gets
//             it ends starvation if it is the last or has waited less than kStarvingNs.
#include "weft/sync.h"

#include "runtime/barrier.h"
#include "runtime/clock.h"
#include "runtime/park.h"
#include "runtime/waitq.h"

namespace weft::rt {
namespace {

constexpr std::int64_t kStarvingNs = 1'000'000;   // Go's
constexpr int kSpinRounds = 4, kSpinPauses = 30;  // Go's

using detail::wait_list;

void sem_acquire(caller who, wait_list& list, waiter& self, bool first, wait_reason reason) {
  list.lock.lock();
  if (list.tokens > 0) {
    --list.tokens;
    list.lock.unlock();
    return;
  }
  self.g = who.gp;
  if (first)
    enqueue_first(list.waiters, &self);
  else
    enqueue(list.waiters, &self);
  park(who, list.lock, reason);
}

// With hand_over the waiter runs next, in what is left of the caller's time slice.
void sem_release(wait_list& list, bool hand_over) {
  list.lock.lock();
  waiter* const w = take_first(list.waiters);
  if (!w) {
    ++list.tokens;
    list.lock.unlock();
    return;
  }
  list.lock.unlock();
  const caller who = enter_nopark();
  ready(who, w->g);
  if (!hand_over) return;
  if (who.mp) yield_m(who.mp, who.gp);
}

// Spinning pays only while the holder runs on another CPU and this P has nothing else to do.
bool may_spin(caller who, int round) {
  return who.mp && round < kSpinRounds && sched.gomaxprocs.load(std::memory_order_relaxed) > 1 &&
         sched.gate.nidle() + sched.gate.nspinning() + 1 < sched.gomaxprocs.load(std::memory_order_relaxed) &&
         who.mp->held->runq.empty();
}

}  // namespace
}  // namespace weft::rt

namespace weft {

using namespace rt;

void detail::scheduling_point() { enter(); }

bool mutex::try_lock() noexcept {
  std::uint32_t old = state_.load(std::memory_order_relaxed);
  return (old & (kLocked | kStarving)) == 0 &&
         state_.compare_exchange_strong(old, old | kLocked, std::memory_order_acquire, std::memory_order_relaxed);
}

void mutex::lock_slow() {
  caller who = enter();
  waiter self;
  bool starving = false, awoke = false;
  int round = 0;
  std::uint32_t old = state_.load(std::memory_order_relaxed);
  for (;;) {
    if ((old & (kLocked | kStarving)) == kLocked && may_spin(who, round)) {
      // Tell unlock that it need not wake anybody.
      if (!awoke && (old & kWoken) == 0 && old >= kWaiter &&
          state_.compare_exchange_strong(old, old | kWoken, std::memory_order_relaxed))
        awoke = true;
      for (int i = 0; i < kSpinPauses; ++i) cpu_relax();
      ++round;
      old = state_.load(std::memory_order_relaxed);
      continue;
    }
    std::uint32_t wanted = old;
    if ((old & kStarving) == 0) wanted |= kLocked;
    if ((old & (kLocked | kStarving)) != 0) wanted += kWaiter;
    if (starving && (old & kLocked) != 0) wanted |= kStarving;
    if (awoke) wanted &= ~kWoken;
    if (!state_.compare_exchange_strong(old, wanted, std::memory_order_acquire, std::memory_order_relaxed)) continue;
    if ((old & (kLocked | kStarving)) == 0) return;
    const bool again = self.since != 0;
    if (!again) self.since = nanotime();
    sem_acquire(who, waiters_, self, again, wait_reason::mutex_lock);
    who = enter_nopark();
    starving = starving || nanotime() - self.since > kStarvingNs;
    old = state_.load(std::memory_order_relaxed);
    if ((old & kStarving) != 0) {
      // Handed over: the state does not say locked yet, and still counts us as a waiter.
      std::uint32_t change = kLocked - kWaiter;
      if (!starving || old / kWaiter == 1) change -= kStarving;
      state_.fetch_add(change, std::memory_order_acquire);
      return;
    }
    awoke = true;
    round = 0;
  }
}

void mutex::unlock_slow(std::uint32_t left) {
  if (((left + kLocked) & kLocked) == 0) fatal("sync: unlock of unlocked mutex");
  if ((left & kStarving) != 0) return sem_release(waiters_, true);
  std::uint32_t old = left;
  for (;;) {
    if (old < kWaiter || (old & (kLocked | kWoken | kStarving)) != 0) return;
    if (state_.compare_exchange_weak(old, (old - kWaiter) | kWoken, std::memory_order_release,
                                     std::memory_order_relaxed))
      return sem_release(waiters_, false);
  }
}

void wait_group::add(int n) {
  const std::uint64_t change = static_cast<std::uint64_t>(static_cast<std::int64_t>(n)) << 32;
  const std::uint64_t now = state_.fetch_add(change, std::memory_order_acq_rel) + change;
  const auto counter = static_cast<std::int32_t>(now >> 32);
  auto waiters = static_cast<std::uint32_t>(now);
  if (counter < 0) throw error("sync: negative WaitGroup counter");
  if (waiters != 0 && n > 0 && counter == n) throw error("sync: WaitGroup misuse: Add called concurrently with Wait");
  if (counter > 0 || waiters == 0) return;
  if (state_.load(std::memory_order_relaxed) != now)
    throw error("sync: WaitGroup misuse: Add called concurrently with Wait");
  state_.store(0, std::memory_order_relaxed);
  for (; waiters > 0; --waiters) sem_release(waiters_, false);
}

void wait_group::wait() {
  const caller who = enter();
  std::uint64_t now = state_.load(std::memory_order_acquire);
  while (now >> 32 != 0) {
    if (!state_.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    waiter self;
    sem_acquire(who, waiters_, self, false, wait_reason::wait_group_wait);
    if (state_.load(std::memory_order_acquire) != 0)
      throw error("sync: WaitGroup is reused before previous Wait has returned");
    return;
  }
}

void semaphore::acquire() {
  const caller who = enter();
  waiters_.lock.lock();
  if (count_ > 0) {
    --count_;
    waiters_.lock.unlock();
    return;
  }
  waiter self;
  self.g = who.gp;
  enqueue(waiters_.waiters, &self);
  park(who, waiters_.lock, wait_reason::semaphore_acquire);
}

bool semaphore::try_acquire() {
  enter();
  rt::lock_guard hold(waiters_.lock);
  if (count_ <= 0) return false;
  --count_;
  return true;
}

void semaphore::release() {
  waiters_.lock.lock();
  waiter* const w = take_first(waiters_.waiters);
  if (!w) ++count_;
  waiters_.lock.unlock();
  if (w) ready(enter_nopark(), w->g);
}

}  // namespace weft
