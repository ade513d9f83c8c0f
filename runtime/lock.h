// SPDX-License-Identifier: Apache-2.0
// The runtime's own lock (declared in weft/wait_list.h, where public types hold it): what is inlined in the runtime.
//
// Order in which locks may be held together: a channel's or wait list's lock, then a timer heap's, then sched.lock,
// then a G slab's or stack pool's. ready() is called with none of the first two held.
#pragma once

#include "runtime/barrier.h"
#include "weft/wait_list.h"

namespace weft::detail {

inline void core_lock::unlock() noexcept {
  const bool slept = sleepers_.load(std::memory_order_relaxed) != 0;
  held_.store(0, std::memory_order_release);  // from here on the lock may be gone
  if (slept) [[unlikely]]
    wake_one();
}

}  // namespace weft::detail

namespace weft::rt {

using detail::core_lock;
using detail::wait_queue;

template <class Lock>
class WEFT_SCOPED_CAPABILITY lock_guard {
 public:
  explicit lock_guard(Lock& lock) WEFT_ACQUIRE(lock) : lock_(lock) { lock_.lock(); }
  ~lock_guard() WEFT_RELEASE() { lock_.unlock(); }
  lock_guard(const lock_guard&) = delete;
  lock_guard& operator=(const lock_guard&) = delete;

 private:
  Lock& lock_;
};

}  // namespace weft::rt
