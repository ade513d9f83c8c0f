// SPDX-License-Identifier: Apache-2.0
// What channels and locks are made of: not for programs.
#pragma once

#include <atomic>
#include <cstdint>

#include <weft/annotations.h>

namespace weft {
namespace detail {

struct waiter;

/// Where a goroutine that has used up its time slice lets others run.
void scheduling_point();

/// A lock of the runtime's own: held for a few instructions, never across user code. Unlocking is a load and a plain
/// store, so there is one locked instruction and not two; it does not touch the lock after that. lock_slow() says what
/// a sleeper does in return.
class WEFT_CAPABILITY("core_lock") core_lock {
 public:
  void lock() noexcept WEFT_ACQUIRE() {
    if (held_.exchange(1, std::memory_order_acquire) != 0) lock_slow();
  }
  bool try_lock() noexcept WEFT_TRY_ACQUIRE(true) {
    return held_.load(std::memory_order_relaxed) == 0 && held_.exchange(1, std::memory_order_acquire) == 0;
  }
  void unlock() noexcept WEFT_RELEASE();

 private:
  void lock_slow() noexcept;
  void wake_one() noexcept;
  std::atomic<std::uint32_t> held_{0};
  std::atomic<std::uint32_t> sleepers_{0};
};

/// Waiters in order of arrival, guarded by the lock of what they wait for; `head` may be peeked at without it. The
/// operations are in runtime/waitq.h. Go: waitq.
struct wait_queue {
  std::atomic<waiter*> head{nullptr};
  waiter* tail = nullptr;
  bool empty() const noexcept { return head.load(std::memory_order_relaxed) == nullptr; }
};

/// Waiters guarded by `lock`. Go: a semaRoot's list.
struct wait_list {
  core_lock lock;
  wait_queue waiters WEFT_GUARDED_BY(lock);
};

/// Go's semaphore: waiters, and the wake-ups that came before them. The operations are in runtime/sema.h.
struct sema : wait_list {
  std::uint32_t tokens WEFT_GUARDED_BY(lock) = 0;
  std::atomic<std::uint32_t> woken_run{0};  // of the goroutine that a mutex has woken, until it runs; 0: none
};

}  // namespace detail

}  // namespace weft
