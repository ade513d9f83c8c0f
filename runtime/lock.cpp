// SPDX-License-Identifier: Apache-2.0
// The runtime's own lock. It spins for as long as a holder that is running needs (tens of nanoseconds), then sleeps:
// the holder may have lost its CPU.
#include "runtime/lock.h"

#include "runtime/clock.h"
#include "runtime/futex.h"

namespace weft::detail {
namespace {

constexpr int kFirstPauses = 4, kMostPauses = 64;
constexpr std::int64_t kLookAgainNs = 1'000'000;

// Waits until *word reads 0, for a while. Each look takes the line from the holder, who wants to write it: two Ps at
// one channel that looked at every pause took 200 ns a message, and with these intervals 40, because whoever has the
// line gets something done with it.
void spin_on(const std::atomic<std::uint32_t>& word) {
  for (int pauses = kFirstPauses; pauses <= kMostPauses; pauses *= 2) {
    for (int i = 0; i < pauses; ++i) rt::cpu_relax();
    if (word.load(std::memory_order_relaxed) == 0) return;
  }
}

}  // namespace

// A sleeper announces itself; an unlock() that looks after that wakes it. One that has looked before, but has not yet
// released the lock (it must lose its CPU between the two instructions), does not: so the sleeper looks again by
// itself.
void core_lock::lock_slow() noexcept {
  spin_on(held_);
  if (held_.exchange(1, std::memory_order_acquire) == 0) return;
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (held_.exchange(1, std::memory_order_acquire) != 0) rt::futex_wait(held_, 1, rt::nanotime() + kLookAgainNs);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

void core_lock::wake_one() noexcept { rt::futex_wake(held_); }

}  // namespace weft::detail
