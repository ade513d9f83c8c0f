// SPDX-License-Identifier: Apache-2.0
// once. Go: once.go.
//
//   fresh -> running -> done      under the lock, but done may be seen without
// The first caller runs the function; others queue themselves until its end, however it ends.
#include "runtime/park.h"
#include "weft/sync.h"

namespace weft {

bool once::begin() {
  rt::entry who;
  list_.lock.lock();
  const bool first = state_.load(std::memory_order_relaxed) == kFresh;
  if (first) state_.store(kRunning, std::memory_order_relaxed);
  if (first || done()) {
    list_.lock.unlock();
    return first;
  }
  rt::waiter self;
  self.g = who.gp;
  rt::enqueue(list_.waiters, &self);
  rt::park(who, list_.lock, rt::wait_reason::mutex_lock);
  return false;
}

void once::end() noexcept {
  const rt::entry who(rt::kNoPark);
  rt::wake_list woken;
  {
    const rt::lock_guard hold(list_.lock);
    state_.store(kDone, std::memory_order_release);
    woken.add_all(list_.waiters);
  }
  woken.ready_all(who);
}

}  // namespace weft
