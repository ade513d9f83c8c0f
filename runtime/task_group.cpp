// SPDX-License-Identifier: Apache-2.0
// task_group. Go: errgroup.Group.
//
// One lock, a count, and two queues: of those that wait for the count to be zero, and of those that wait for it to be
// below the limit. Who leaves passes its place on to the first in the second queue, so the count stays as it is. Not a
// wait_group and a semaphore: the destructor has to wait in a goroutine that goexit() is unwinding too, and so must
// neither throw nor be a scheduling point.
#include "weft/task_group.h"

#include <string>

#include "runtime/chan_ops.h"
#include "runtime/goexit.h"
#include "runtime/park.h"

namespace weft {

using namespace rt;

task_group::task_group(context parent) : scope_(with_cancel_cause(std::move(parent))) {}

// The context may live on in others' hands, with the exception as its cause: the group lets go of it first.
task_group::~task_group() {
  scope_.cancel();
  join();
  failure_ = nullptr;
}

void task_group::enter_task() {
  entry who;
  lock_.lock();
  if (has_room()) {
    ++tasks_;
    lock_.unlock();
    return;
  }
  waiter self;
  self.g = who.gp;
  enqueue(entrants_, &self);
  park(who, lock_, wait_reason::semaphore_acquire);
}

bool task_group::try_enter_task() {
  const entry who;
  rt::lock_guard hold(lock_);
  if (!has_room()) return false;
  ++tasks_;
  return true;
}

// The group may be gone as soon as the lock is free.
void task_group::leave_task() noexcept {
  const entry who(kNoPark);
  wake_list wake;
  {
    rt::lock_guard hold(lock_);
    if (waiter* const w = take_first_present(entrants_)) {
      wake.add(w);
    } else if (--tasks_ == 0) {
      wake.add_all(joiners_);
    }
  }
  wake.ready_all(who);
}

// An exception ends here: the task has let go of it before it counts as done.
void task_group::run(body_fn call, void* f) {
  try {
    call(f, scope_.ctx);
  } catch (const goexit_signal&) {
    throw;
  } catch (...) {
    fail(std::current_exception());
  }
}

void task_group::fail(const std::exception_ptr& e) noexcept {
  {
    const entered_lock hold(lock_);
    if (failure_) return;
    failure_ = e;
  }
  scope_.cancel(e);
}

void task_group::join() noexcept {
  entry who(kNoPark);
  lock_.lock();
  if (tasks_ == 0) return lock_.unlock();
  waiter self;
  self.g = who.gp;
  enqueue(joiners_, &self);
  park(who, lock_, wait_reason::wait_group_wait);
}

void task_group::wait() {
  detail::scheduling_point();
  join();
  std::exception_ptr failure;
  {
    const entered_lock hold(lock_);
    failure = failure_;
  }
  if (failure) std::rethrow_exception(std::move(failure));
}

void task_group::set_limit(int n) {
  const entry who(kNoPark);
  wake_list wake;
  int tasks;
  {
    rt::lock_guard hold(lock_);
    tasks = tasks_;
    if (tasks == 0) {
      limit_ = n;
      while (waiter* const w = has_room() ? take_first_present(entrants_) : nullptr) {
        wake.add(w);
        ++tasks_;
      }
    }
  }
  if (tasks != 0)
    throw error("errgroup: modify limit while " + std::to_string(tasks) + " goroutines in the group are still active");
  wake.ready_all(who);
}

}  // namespace weft
