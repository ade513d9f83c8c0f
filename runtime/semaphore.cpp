// SPDX-License-Identifier: Apache-2.0
// semaphore. All under one lock. Somebody waits only while the count is 0, and release() gives to the first that waits
// before it counts, so nobody overtakes. A waiter whose time is up has lost the race (waitq.h) and is passed over.
#include "runtime/park.h"
#include "weft/sync.h"

namespace weft {

semaphore::semaphore(std::ptrdiff_t n) : count_(n) {
  if (n < 0) throw error("semaphore: negative count");
}

bool semaphore::take() noexcept {
  if (count_ == 0) return false;
  --count_;
  return true;
}

bool semaphore::acquire_until_ns(std::int64_t when) {
  rt::entry who;
  list_.lock.lock();
  if (take()) {
    list_.lock.unlock();
    return true;
  }
  rt::waiter self;
  return rt::park_until(who, list_.lock, list_.waiters, self, when, rt::wait_reason::semaphore_acquire);
}

bool semaphore::try_acquire() {
  const rt::entry who;
  const rt::lock_guard hold(list_.lock);
  return take();
}

void semaphore::release() noexcept {
  const rt::entry who(rt::kNoPark);
  list_.lock.lock();
  rt::waiter* const w = rt::take_first_present(list_.waiters);
  if (!w) ++count_;
  list_.lock.unlock();
  if (w) rt::ready(who, w->g);
}

}  // namespace weft
