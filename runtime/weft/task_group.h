// SPDX-License-Identifier: Apache-2.0
// Goroutines that work on parts of one thing, and fail as one. Go: golang.org/x/sync/errgroup.
//
//   weft::task_group group(ctx);
//   for (const url& u : urls) group.go([u](const weft::context& ctx) { fetch(ctx, u); });
//   group.wait();   // throws what the first of them threw; the others saw ctx.done()
#pragma once

#include <cstddef>
#include <exception>
#include <type_traits>
#include <utility>

#include <weft/annotations.h>
#include <weft/context.h>
#include <weft/runtime.h>
#include <weft/wait_list.h>

namespace weft {

/// A group of goroutines with a context of its own, below a given one. The first exception that leaves one of them
/// cancels that context, with the exception as its cause(), and comes out of wait(). All members but the destructor may
/// be called from several goroutines and foreign threads at the same time, by its tasks too. Go: errgroup.Group.
class task_group {
 public:
  /// Its context is below `parent`. Throws std::bad_alloc. Go: errgroup.WithContext.
  explicit task_group(context parent = {});
  task_group(const task_group&) = delete;
  task_group& operator=(const task_group&) = delete;
  /// Cancels its context and waits for the tasks that are left, as std::jthread does; an exception that no wait() has
  /// thrown is lost. Call wait() first if the tasks are to finish their work.
  ~task_group();

  /// Runs f(context) or f() in a goroutine; what it returns is dropped. With a limit: parks until there are fewer tasks
  /// than that. f is destroyed before its task counts as done; goexit() ends a task without an error. Throws what
  /// weft::go() throws. Go: Group.Go.
  template <class F>
  [[gnu::always_inline]] inline void go(F&& f) {
    enter_task();
    spawn(std::forward<F>(f));
  }
  /// The same if the limit allows it now; false: it does not. Go: Group.TryGo.
  template <class F>
  [[gnu::always_inline]] inline bool try_go(F&& f) {
    if (!try_enter_task()) return false;
    spawn(std::forward<F>(f));
    return true;
  }

  /// Parks until no task is left, then throws the first exception that left one, every time it is called. The group
  /// may be used again after that; its context stays alive if there was no exception, unlike a Group's. Go: Group.Wait.
  void wait();

  /// At most n tasks at a time from now on; n < 0: no limit (as in the beginning); 0: go() waits until it is raised.
  /// Throws `error` while there are tasks. Go: Group.SetLimit.
  void set_limit(int n);

  /// The context that its tasks get.
  const context& ctx() const noexcept { return scope_.ctx; }

 private:
  using body_fn = void (*)(void* f, const context& ctx);

  struct leave_at_end {
    task_group* group = nullptr;  // null: the task has not started
    ~leave_at_end() {
      if (group) group->leave_task();
    }
  };

  template <class F>
  struct task {
    task_group* group;
    leave_at_end leaves;  // destroyed after f
    F f;
    void operator()() {
      leaves.group = group;
      group->run(call, &f);
    }
    static void call(void* p, const context& ctx) {
      F& f = *static_cast<F*>(p);
      if constexpr (std::is_invocable_v<F, const context&>)
        static_cast<void>(std::move(f)(ctx));
      else
        static_cast<void>(std::move(f)());
    }
  };

  template <class F>
  [[gnu::always_inline]] inline void spawn(F&& f) {
    try {
      weft::go(task<std::decay_t<F>>{this, {}, std::forward<F>(f)});
    } catch (...) {
      leave_task();
      throw;
    }
  }

  bool has_room() const WEFT_REQUIRES(lock_) { return limit_ < 0 || tasks_ < limit_; }
  void enter_task();
  bool try_enter_task();
  void leave_task() noexcept;
  void run(body_fn call, void* f);
  void fail(const std::exception_ptr& e) noexcept;
  void join() noexcept;

  cause_cancelable scope_;
  detail::core_lock lock_;
  int tasks_ WEFT_GUARDED_BY(lock_) = 0;
  int limit_ WEFT_GUARDED_BY(lock_) = -1;
  detail::wait_queue joiners_ WEFT_GUARDED_BY(lock_), entrants_ WEFT_GUARDED_BY(lock_);
  std::exception_ptr failure_ WEFT_GUARDED_BY(lock_);  // the first
};

}  // namespace weft
