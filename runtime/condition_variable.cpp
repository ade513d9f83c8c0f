// SPDX-License-Identifier: Apache-2.0
// condition_variable. Go: cond.go, sema.go's notifyList.
//
//   wait     queue a waiter (its ticket); release the user's lock; park until notified; take the user's lock again.
//   notify   take the first waiter (or all) out of the queue, and wake it.
// The ticket comes before the lock is released, so a notify after a change made under that lock finds everybody who has
// not seen the change; and the queue is in the order of the tickets, so no newcomer gets an older one's notify.
//
// Between its ticket and its park a waiter runs the user's unlock(), which may take long, and may even park on
// something else. So the two meet at a lock of the waiter's own, on its stack: a notifier that finds it not parked yet
// marks it as notified, and it does not park. The waiter does not touch the condition variable after it was notified,
// which may be destroyed as soon as notify_*() has returned.
//
// A waiter with a time limit is in a race between the notifiers and its timer (waitq.h). A notifier that has lost it
// goes on to the next, so no notify is lost. The waiter that was not notified takes itself out of the queue.
#include "runtime/park.h"
#include "weft/sync.h"

namespace weft::rt {
namespace {

using detail::wait_list;

class ticket : waiter {
 public:
  ticket(const entry& who, wait_list& list, std::int64_t when) : list_(list), limit_(who.gp), when_(when) {
    g = who.gp;
    if (when != kNever) race = &limit_.race;
    const rt::lock_guard hold(list.lock);
    enqueue(list.waiters, static_cast<waiter*>(this));
  }
  ticket(const ticket&) = delete;
  ticket& operator=(const ticket&) = delete;

  /// False: the time is up.
  bool wait() noexcept {
    entry who(kNoPark);
    lock_.lock();
    if (notified_) {
      lock_.unlock();
      return true;
    }
    parked_ = true;
    if (when_ == kNever) {
      park(who, lock_, wait_reason::cond_wait);
      return true;
    }
    if (park_limited(who, lock_, *this, limit_, when_, wait_reason::cond_wait)) return true;
    leave();
    return false;
  }
  /// Instead of waiting. False: it was notified.
  bool give_back() noexcept {
    if (leave()) return true;
    wait();  // the notifier is not through with it
    return false;
  }
  static void notify(caller who, waiter* w) {
    auto& self = *static_cast<ticket*>(w);
    self.lock_.lock();
    rt::g* const waiting = self.g;
    const bool parked = self.parked_;
    self.notified_ = true;
    self.lock_.unlock();
    if (parked) ready(who, waiting);
  }

 private:
  bool leave() {
    const entered_lock hold(list_.lock);
    const bool was_in = queued;
    if (was_in) dequeue(list_.waiters, static_cast<waiter*>(this));
    return was_in;
  }

  wait_list& list_;
  core_lock lock_;
  bool parked_ WEFT_GUARDED_BY(lock_) = false;
  bool notified_ WEFT_GUARDED_BY(lock_) = false;
  time_limit limit_;
  const std::int64_t when_;
};

}  // namespace
}  // namespace weft::rt

namespace weft {

bool condition_variable::wait_until_ns(const detail::erased_lock& lock, std::int64_t when) {
  rt::ticket self(rt::entry(), list_, when);
  try {
    lock.release(lock.object);
  } catch (...) {
    if (!self.give_back()) notify_one();
    throw;
  }
  const bool notified = self.wait();
  lock.acquire(lock.object);
  return notified;
}

void condition_variable::notify_one() noexcept {
  if (nobody_waits()) return;
  const rt::entry who(rt::kNoPark);
  list_.lock.lock();
  rt::waiter* const w = rt::take_first_present(list_.waiters);
  list_.lock.unlock();
  if (w) rt::ticket::notify(who, w);
}

void condition_variable::notify_all() noexcept {
  if (nobody_waits()) return;
  const rt::entry who(rt::kNoPark);
  rt::wake_list woken;
  list_.lock.lock();
  woken.add_all(list_.waiters);
  list_.lock.unlock();
  woken.wake_all([&who](rt::waiter* w) { rt::ticket::notify(who, w); });
}

// Without the lock: who has queued itself before it released the user's lock is seen by whoever took that lock since.
bool condition_variable::nobody_waits() const noexcept WEFT_NO_THREAD_SAFETY_ANALYSIS { return list_.waiters.empty(); }

}  // namespace weft
