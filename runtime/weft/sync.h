// SPDX-License-Identifier: Apache-2.0
// Locks and counters on which goroutines wait by parking, and foreign threads by sleeping in the same queue, with or
// without an active run().
//
// A lock belongs to nobody in particular: it may be held across everything that parks, and unlocked by another
// goroutine or thread. It may be destroyed by whoever knows that its own unlock was the last, although another unlock
// has not returned yet. All of it is thread-safe; nothing can be copied or moved.
//
// Members that may wait are scheduling points: a goroutine that has used up its time slice lets others run there, and
// one that has caught its goexit() goes on unwinding.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include <weft/annotations.h>
#include <weft/error.h>
#include <weft/mutex_word.h>
#include <weft/runtime.h>
#include <weft/task_group.h>
#include <weft/time.h>
#include <weft/wait_list.h>

namespace weft {

/// Mutual exclusion, for std::lock_guard, unique_lock and scoped_lock. In normal mode a woken waiter competes with
/// newcomers; a waiter that has waited over 1 ms turns the mutex to starvation mode, in which it is handed over in
/// order of arrival. Not recursive. Go: sync.Mutex.
class WEFT_CAPABILITY("mutex") mutex {
 public:
  mutex() = default;
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;

  /// Parks until it is free, and takes it. Go: Mutex.Lock.
  void lock() WEFT_ACQUIRE() {
    detail::scheduling_point();
    if (!word_.lock_idle()) lock_slow();
  }
  /// Takes it if it is free. Go: Mutex.TryLock.
  bool try_lock() noexcept WEFT_TRY_ACQUIRE(true) { return word_.try_lock(); }
  /// Fatal if it is not locked ("sync: unlock of unlocked mutex"). Go: Mutex.Unlock.
  void unlock() WEFT_RELEASE() {
    if (const std::uint32_t left = word_.unlock()) unlock_slow(left);
  }

 private:
  void lock_slow();
  void unlock_slow(std::uint32_t left);

  detail::mutex_word<> word_;
  detail::sema sema_;
};

/// One writer or any number of readers (at most 2^30 - 1), for std::shared_lock too. A writer that waits keeps new
/// readers out; when a writer is done, the readers that wait go before the next writer; so nobody starves. Writers go
/// in order of arrival. A reader must not lock again while it reads: a writer may have come between. Go: sync.RWMutex.
class WEFT_CAPABILITY("shared_mutex") shared_mutex {
 public:
  shared_mutex() = default;
  shared_mutex(const shared_mutex&) = delete;
  shared_mutex& operator=(const shared_mutex&) = delete;

  /// Parks until nobody else has it, and takes it for writing. Go: RWMutex.Lock.
  void lock() WEFT_ACQUIRE() {
    detail::scheduling_point();
    if (!try_lock()) lock_slow();
  }
  /// Takes it for writing if nobody has it or waits for it. Go: RWMutex.TryLock.
  bool try_lock() noexcept WEFT_TRY_ACQUIRE(true) {
    std::uint32_t idle = 0;
    return state_.compare_exchange_strong(idle, kWriter, std::memory_order_acquire, std::memory_order_relaxed);
  }
  /// Fatal if it is not locked for writing ("sync: Unlock of unlocked RWMutex"). Go: RWMutex.Unlock.
  void unlock() WEFT_RELEASE() {
    const std::uint32_t before = state_.fetch_sub(kWriter, std::memory_order_acq_rel);
    if (before != kWriter) unlock_slow(before);
  }

  /// Parks until no writer has it or waits for it, and takes it for reading. Go: RWMutex.RLock.
  void lock_shared() WEFT_ACQUIRE_SHARED() {
    detail::scheduling_point();
    if (!try_lock_shared()) lock_shared_slow();
  }
  /// Takes it for reading if no writer has it or waits for it. Go: RWMutex.TryRLock.
  bool try_lock_shared() noexcept WEFT_TRY_ACQUIRE_SHARED(true) {
    std::uint32_t now = state_.load(std::memory_order_relaxed);
    while ((now & (kWriter | kQueued)) == 0)
      if (state_.compare_exchange_weak(now, now + kReader, std::memory_order_acquire, std::memory_order_relaxed))
        return true;
    return false;
  }
  /// Fatal if it is not locked for reading ("sync: RUnlock of unlocked RWMutex"). Go: RWMutex.RUnlock.
  void unlock_shared() WEFT_RELEASE_SHARED() {
    const std::uint32_t before = state_.fetch_sub(kReader, std::memory_order_acq_rel);
    if (before < 2 * kReader && before != kReader) unlock_shared_slow(before);
  }

 private:
  static constexpr std::uint32_t kWriter = 1, kQueued = 2, kReader = 4;
  void lock_slow();
  void lock_shared_slow();
  void unlock_slow(std::uint32_t before);
  void unlock_shared_slow(std::uint32_t before);
  bool take_or_mark(std::uint32_t closed, std::uint32_t taken) WEFT_REQUIRES(lock_);
  void pass_on(bool readers_first);

  std::atomic<std::uint32_t> state_{0};
  detail::core_lock lock_;
  detail::wait_queue writers_ WEFT_GUARDED_BY(lock_), readers_ WEFT_GUARDED_BY(lock_);
};

namespace detail {

/// A lock of any type.
struct erased_lock {
  void* object;
  void (*acquire)(void* object);
  void (*release)(void* object);
};

}  // namespace detail

/// Waits for something to change that a lock guards. Any type with lock() and unlock() will do, std::unique_lock too,
/// if it may be unlocked on another thread than it was locked on (a std::mutex may not, in a goroutine). wait*()
/// return, or throw (what a predicate throws, or unlock()), with the lock held. There are no wake-ups without a cause.
/// It may be destroyed when all who wait have been notified and no wait with a time limit is still under way. Go:
/// sync.Cond.
class condition_variable {
 public:
  condition_variable() = default;
  condition_variable(const condition_variable&) = delete;
  condition_variable& operator=(const condition_variable&) = delete;

  /// Releases the lock, parks until notified, and takes the lock again. The place in the queue is taken before the lock
  /// is released. Go: Cond.Wait.
  template <class Lock>
  void wait(Lock& lock) {
    wait_until_ns(erase(lock), kNever);
  }
  /// Waits until done() is true; done is called with the lock held. Go: the loop around Cond.Wait.
  template <class Lock, class Predicate>
  void wait(Lock& lock, Predicate done) {
    while (!done()) wait(lock);
  }
  /// Waits for d at most (d <= 0: not at all, huge: for ever). False: the time is up and nobody has notified it.
  template <class Lock, class Rep, class Period>
  bool wait_for(Lock& lock, std::chrono::duration<Rep, Period> d) {
    return wait_until_ns(erase(lock), detail::deadline_in(d));
  }
  /// Waits until done() is true, for d at most; returns what done() said last.
  template <class Lock, class Rep, class Period, class Predicate>
  bool wait_for(Lock& lock, std::chrono::duration<Rep, Period> d, Predicate done) {
    return wait_until_ns(lock, detail::deadline_in(d), done);
  }
  /// Waits until `when` at most. False: the time is up and nobody has notified it.
  template <class Lock>
  bool wait_until(Lock& lock, time_point when) {
    return wait_until_ns(erase(lock), to_ns(when));
  }
  /// Waits until done() is true, until `when` at most; returns what done() said last.
  template <class Lock, class Predicate>
  bool wait_until(Lock& lock, time_point when, Predicate done) {
    return wait_until_ns(lock, to_ns(when), done);
  }

  /// Wakes the one that has waited longest, if any; the lock need not be held. Go: Cond.Signal.
  void notify_one() noexcept;
  /// Wakes all who wait now. Go: Cond.Broadcast.
  void notify_all() noexcept;

 private:
  static constexpr std::int64_t kNever = INT64_MAX;
  // To the caller of wait() the lock is held all the time.
  template <class Lock>
  static detail::erased_lock erase(Lock& lock) {
    return {std::addressof(lock), [](void* l) WEFT_NO_THREAD_SAFETY_ANALYSIS { static_cast<Lock*>(l)->lock(); },
            [](void* l) WEFT_NO_THREAD_SAFETY_ANALYSIS { static_cast<Lock*>(l)->unlock(); }};
  }
  static std::int64_t to_ns(time_point when) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(when.time_since_epoch()).count();
  }
  template <class Lock, class Predicate>
  bool wait_until_ns(Lock& lock, std::int64_t when, Predicate& done) {
    while (!done())
      if (!wait_until_ns(erase(lock), when)) return done();
    return true;
  }
  bool wait_until_ns(const detail::erased_lock& lock, std::int64_t when);
  bool nobody_waits() const noexcept;

  detail::wait_list list_;
};

/// Runs a function once. Go: sync.Once.
class once {
 public:
  once() = default;
  once(const once&) = delete;
  once& operator=(const once&) = delete;

  /// Calls f if nobody has called this before, else parks until that call is done, if it is not yet. A call that throws
  /// (the exception goes to its caller) or ends by goexit() counts. f must not use the same once. Go: Once.Do.
  template <class F>
  void call(F&& f) {
    if (done() || !begin()) return;
    struct at_end {
      once* self;
      ~at_end() { self->end(); }
    } const mark{this};
    std::forward<F>(f)();
  }

 private:
  enum state : std::uint8_t { kFresh, kRunning, kDone };
  bool done() const noexcept { return state_.load(std::memory_order_acquire) == kDone; }
  bool begin();
  void end() noexcept;

  std::atomic<state> state_{kFresh};
  detail::wait_list list_;
};

/// A counting semaphore; waiters are served in order of arrival and not overtaken. Go: golang.org/x/sync/semaphore.
class semaphore {
 public:
  /// Throws `error` if n < 0.
  explicit semaphore(std::ptrdiff_t n);
  semaphore(const semaphore&) = delete;
  semaphore& operator=(const semaphore&) = delete;

  /// Takes one, parking until there is one. Go: Weighted.Acquire.
  void acquire() { acquire_until_ns(INT64_MAX); }
  /// Takes one, parking for d at most (d <= 0: not at all, huge: for ever). False: the time is up, and none was taken.
  /// Go: Weighted.Acquire with a context.
  template <class Rep, class Period>
  bool acquire_for(std::chrono::duration<Rep, Period> d) {
    const std::int64_t ns = detail::to_ns(d);
    return ns <= 0 ? try_acquire() : acquire_until_ns(detail::deadline_after(ns));
  }
  /// Takes one if it can be had at once. Go: Weighted.TryAcquire.
  bool try_acquire();
  /// Gives one back, or one more: to the first waiter, if any. Go: Weighted.Release.
  void release() noexcept;

 private:
  bool acquire_until_ns(std::int64_t when);
  bool take() noexcept WEFT_REQUIRES(list_.lock);

  detail::wait_list list_;
  std::ptrdiff_t count_ WEFT_GUARDED_BY(list_.lock);
};

/// A place where n goroutines or threads wait for each other, again and again. Go has none; std::barrier, without
/// phases.
class barrier {
 public:
  /// Throws `error` ("barrier: number of participants out of range") if n < 1.
  explicit barrier(std::ptrdiff_t n);
  barrier(const barrier&) = delete;
  barrier& operator=(const barrier&) = delete;

  /// Parks until n have called this; they all go on, and the next n wait for each other.
  void arrive_and_wait();

 private:
  const std::ptrdiff_t parties_;
  detail::wait_list list_;
  std::ptrdiff_t arrived_ WEFT_GUARDED_BY(list_.lock) = 0;
};

/// Waits for a number of things to end; can be used again when wait() has returned. Go: sync.WaitGroup.
class wait_group {
 public:
  wait_group() = default;
  wait_group(const wait_group&) = delete;
  wait_group& operator=(const wait_group&) = delete;

  /// Adds n, which may be negative, to the counter; at zero all waiters go on. Throws `error` below zero
  /// ("sync: negative WaitGroup counter") and when it races with wait() from zero
  /// ("sync: WaitGroup misuse: Add called concurrently with Wait"). Go: WaitGroup.Add.
  void add(int n);
  /// One less. Go: WaitGroup.Done.
  void done() { add(-1); }
  /// Parks until the counter is zero. Throws `error` if the counter has gone up meanwhile
  /// ("sync: WaitGroup is reused before previous Wait has returned"). Go: WaitGroup.Wait.
  void wait();
  /// Counts f in, runs it in a goroutine, destroys it, and counts it out: at its end, by goexit() too. An exception
  /// that leaves f ends the process before wait() can return. Throws what weft::go() does. Go: WaitGroup.Go.
  template <class F>
  [[gnu::always_inline]] inline void go(F&& f) {
    add(1);
    weft::go(counted<std::decay_t<F>>{count_out(this), std::forward<F>(f)});
  }

 private:
  struct count_out {
    explicit count_out(wait_group* g) noexcept : group(g) {}
    count_out(count_out&& other) noexcept : group(std::exchange(other.group, nullptr)) {}
    ~count_out() {
      if (group) group->done();
    }
    wait_group* group;
  };
  /// Its end, which destroys f first, counts out. A goexit() unwinds to there; for an exception that nobody handles
  /// nothing is unwound.
  template <class F>
  struct counted {
    count_out at_end;
    F f;
    void operator()() { std::move(f)(); }
  };

  std::atomic<std::uint64_t> state_{0};
  detail::sema sema_;
};

}  // namespace weft
