// SPDX-License-Identifier: Apache-2.0
// Locks and counters on which goroutines wait by parking, and foreign threads by sleeping in the same queue.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include <weft/runtime.h>
#include <weft/task_group.h>
#include <weft/wait_list.h>

namespace weft {

/// Mutual exclusion. In normal mode a woken waiter competes with newcomers; a waiter that has waited over 1 ms turns
/// the mutex to starvation mode, in which it is handed over in order of arrival. Unlocking an unlocked mutex is fatal.
/// Go: sync.Mutex.
class mutex {
 public:
  mutex() = default;
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;

  /// Parks until the mutex is free, and takes it. Go: Mutex.Lock.
  void lock() {
    detail::scheduling_point();
    std::uint32_t free = 0;
    if (!state_.compare_exchange_strong(free, kLocked, std::memory_order_acquire, std::memory_order_relaxed))
      lock_slow();
  }
  /// Takes it if it is free. Go: Mutex.TryLock.
  bool try_lock() noexcept;
  /// Lets the next one have it; any goroutine or thread may, not only the one that took it. Go: Mutex.Unlock.
  void unlock() {
    const std::uint32_t left = state_.fetch_sub(kLocked, std::memory_order_release) - kLocked;
    if (left != 0) unlock_slow(left);
  }

 private:
  static constexpr std::uint32_t kLocked = 1, kWoken = 2, kStarving = 4, kWaiter = 8;
  void lock_slow();
  void unlock_slow(std::uint32_t left);

  std::atomic<std::uint32_t> state_{0};
  detail::wait_list waiters_;
};

/// Waits for a number of things to end. Go: sync.WaitGroup.
class wait_group {
 public:
  wait_group() = default;
  wait_group(const wait_group&) = delete;
  wait_group& operator=(const wait_group&) = delete;

  /// Adds n, which may be negative, to the counter; at zero all waiters go on. Throws `error` below zero
  /// ("sync: negative WaitGroup counter") and when it races with wait() from zero.
  void add(int n);
  /// add(-1).
  void done() { add(-1); }
  /// Parks until the counter is zero.
  void wait();
  /// Counts f in, runs it in a goroutine, and counts it out at its end, by goexit() too.
  template <class F>
  void go(F&& f) {
    add(1);
    try {
      weft::go([this, f = std::decay_t<F>(std::forward<F>(f))]() mutable {
        struct count_out {
          wait_group* group;
          ~count_out() { group->done(); }
        } at_end{this};
        std::move(f)();
      });
    } catch (...) {
      done();
      throw;
    }
  }

 private:
  std::atomic<std::uint64_t> state_{0};  // counter in the upper half, number of waiters in the lower
  detail::wait_list waiters_;
};

/// A counting semaphore; waiters are served in order of arrival.
class semaphore {
 public:
  /// n may be taken at the same time.
  explicit semaphore(std::ptrdiff_t n) : count_(n) {}
  semaphore(const semaphore&) = delete;
  semaphore& operator=(const semaphore&) = delete;

  /// Takes one, parking until there is one.
  void acquire();
  /// Takes one if it can be had at once.
  bool try_acquire();
  /// Gives one back: to the first waiter, if any.
  void release();

 private:
  std::ptrdiff_t count_;  // guarded by waiters_.lock
  detail::wait_list waiters_;
};

}  // namespace weft
