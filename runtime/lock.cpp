// SPDX-License-Identifier: Apache-2.0
// The runtime's own locks. Both spin for as long as a holder that is running needs (tens of nanoseconds), then sleep:
// the holder may have lost its CPU.
#include "runtime/lock.h"

#include "runtime/futex.h"

namespace weft::detail {
namespace {

constexpr int kSpins = 100;

// Waits until *word reads 0, for a while.
void spin_on(const std::atomic<std::uint32_t>& word) {
  for (int i = 0; i < kSpins && word.load(std::memory_order_relaxed) != 0; ++i) rt::cpu_relax();
}

}  // namespace

// A sleeper announces itself, then the heavy barrier, then it looks at held_ again (the futex does): an unlock() that
// missed the announcement has its store visible by then, and an unlock() that comes later sees the announcement.
void core_lock::lock_slow() noexcept {
  spin_on(held_);
  if (held_.exchange(1, std::memory_order_acquire) == 0) return;
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  rt::hardware::heavy_barrier();
  while (held_.exchange(1, std::memory_order_acquire) != 0) rt::futex_wait(held_, 1);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

void core_lock::wake_one() noexcept { rt::futex_wake(held_); }

void list_lock::lock_slow() noexcept {
  spin_on(word_);
  std::uint32_t free = 0;
  if (word_.compare_exchange_strong(free, 1, std::memory_order_acquire, std::memory_order_relaxed)) return;
  while (word_.exchange(2, std::memory_order_acquire) != 0) rt::futex_wait(word_, 2);
}

void list_lock::unlock() noexcept {
  if (word_.exchange(0, std::memory_order_release) == 2) rt::futex_wake(word_);
}

}  // namespace weft::detail
