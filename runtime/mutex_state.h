// SPDX-License-Identifier: Apache-2.0
// The slow paths of a mutex. Go: internal/sync/mutex.go.
//
// One word:    | number of waiters, 29 bits | starving | woken | locked |
// and a semaphore (sema.h) on which they wait. A waiter counts itself before it goes to the semaphore; whoever wakes it
// takes it out of the count, except on a hand-over, where it does so itself.
//
//   normal    A woken waiter competes with newcomers. Those are running already and usually win: fast, not fair. One
//             that loses goes back to the head of the queue; after 1 ms in all it sets starving.
//   starving  unlock() hands the mutex to the first waiter and lets it run in what is left of the unlocker's time
//             slice. Newcomers do not try; they queue at the tail. The one that gets it ends this if it is the last or
//             has waited less than 1 ms.
//
// woken means that somebody is awake who will try, so unlock() wakes nobody: a waiter that was woken, or a newcomer
// that spins. It clears the bit with the same CAS with which it locks or queues itself (again), so there is never more
// than one. Newcomers spin for a short while (Go's rule: only while another P may run the holder, and this one has
// nothing else to do).
//
// Goroutines of a run() that has ended while they waited still count as waiters, and woken or starving may be all that
// is left of one that was to be awake: what sem_release() and sem_acquire() do about them is in sema.h. The next to
// come to the semaphore takes such a wake-up, which puts the word right.
//
// Who may touch the mutex after unlock()? With nobody else the holder's one subtraction is the end. Else whoever comes
// next may lock, unlock and destroy the mutex (it may know that it is the last) while the unlocker is still on its way
// to wake somebody. Go has a collector for that. Here:
//   unlocker    subtract locked. Left are waiters, and neither woken nor starving: it owes a wake-up. Add woken, take
//               one waiter out of the count (both in one addition), then wake one.
//   all others  take that state (waiters, not locked, not woken: see open()) for locked.
// So from the subtraction to the addition only the unlocker can do anything, and from there to the wake-up some waiter
// is stuck in lock() that nobody else is going to wake, so the mutex cannot be destroyed. It is the same with starving,
// where the mutex is not open until the first waiter, awake, has marked it as locked. The last thing touched is the
// lock of the semaphore.
#pragma once

#include <atomic>
#include <cstdint>

namespace weft::rt {

/// Locks, after lock_idle() has failed. Waiter: what it is for the caller to wait (mutex.cpp, mutex_model.cpp):
///   may_spin(round), spin()   whether, and a moment of it
///   wait()                    on the semaphore: at the tail at first, at the head when it comes back
///   starved()                 whether it has waited too long, in all
template <class Word, class Waiter>
void mutex_lock_slow(Word& word, Waiter& self) {
  constexpr auto kLocked = Word::kLocked, kWoken = Word::kWoken, kStarving = Word::kStarving, kWaiter = Word::kWaiter;
  bool starved = false, awake = false;  // awake: woken stands for the caller
  std::uint32_t now = word.state.load(std::memory_order_relaxed);
  for (int round = 0;;) {
    const bool open = Word::open(now);
    if (!open && (now & kStarving) == 0 && self.may_spin(round)) {
      if (!awake && (now & (kLocked | kWoken)) == kLocked && now >= kWaiter)
        awake =
            word.state.compare_exchange_strong(now, now | kWoken, std::memory_order_relaxed, std::memory_order_relaxed);
      self.spin();
      ++round;
      now = word.state.load(std::memory_order_relaxed);
      continue;
    }
    std::uint32_t wanted = open ? now | kLocked : now + kWaiter;
    if (starved && (now & kLocked) != 0) wanted |= kStarving;
    if (awake) wanted &= ~kWoken;
    if (!word.state.compare_exchange_strong(now, wanted, std::memory_order_acquire, std::memory_order_relaxed))
      continue;
    if (open) return;
    self.wait();
    starved = starved || self.starved();
    now = word.state.load(std::memory_order_relaxed);
    if ((now & kStarving) != 0) {
      // Handed over: not marked as locked yet, and the caller still counts as a waiter.
      std::uint32_t change = kLocked - kWaiter;
      if (!starved || now / kWaiter == 1) change -= kStarving;
      word.state.fetch_add(change, std::memory_order_acquire);
      return;
    }
    awake = true;
    round = 0;
  }
}

/// What unlock() still has to do for what it left. wake(hand_over): the semaphore's release.
template <class Word, class Wake>
void mutex_unlock_slow(Word& word, std::uint32_t left, Wake wake) {
  if ((left & Word::kStarving) != 0) return wake(true);
  if (left < Word::kWaiter || (left & Word::kWoken) != 0) return;
  word.state.fetch_add(Word::kWoken - Word::kWaiter, std::memory_order_release);
  wake(false);
}

}  // namespace weft::rt
