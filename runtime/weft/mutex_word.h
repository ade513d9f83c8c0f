// SPDX-License-Identifier: Apache-2.0
// The word of a mutex and what is done on it without waiting: not for programs. The essay is in runtime/mutex_state.h.
#pragma once

#include <atomic>
#include <cstdint>

namespace weft::detail {

/// The model checker (tests/model) runs the same code on its own atomics.
template <template <class> class Atomic = std::atomic>
struct mutex_word {
  static constexpr std::uint32_t kLocked = 1, kWoken = 2, kStarving = 4, kWaiter = 8;

  Atomic<std::uint32_t> state{0};

  /// Whether the mutex in this state can be taken by whoever comes.
  static constexpr bool open(std::uint32_t now) noexcept {
    return (now & (kLocked | kStarving)) == 0 && (now < kWaiter || (now & kWoken) != 0);
  }
  /// Takes it if nobody holds it or waits.
  bool lock_idle() noexcept {
    std::uint32_t idle = 0;
    return state.compare_exchange_strong(idle, kLocked, std::memory_order_acquire, std::memory_order_relaxed);
  }
  bool try_lock() noexcept {
    std::uint32_t now = state.load(std::memory_order_relaxed);
    while (open(now))
      if (state.compare_exchange_weak(now, now | kLocked, std::memory_order_acquire, std::memory_order_relaxed))
        return true;
    return false;
  }
  /// Returns what is left: 0 means that there is nothing more to do.
  std::uint32_t unlock() noexcept { return state.fetch_sub(kLocked, std::memory_order_release) - kLocked; }
};

}  // namespace weft::detail
