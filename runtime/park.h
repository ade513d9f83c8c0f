// SPDX-License-Identifier: Apache-2.0
// park.cpp's hot paths, inlined into the operations that wait and wake. Go: gopark, goready.
#pragma once

#include "runtime/proc.h"
#include "runtime/switch.h"
#include "runtime/timers.h"
#include "runtime/waitq.h"

namespace weft::rt {

/// Who calls into the runtime: a goroutine on an M that holds a P, or (mp null) a foreign thread, for which gp stands.
struct caller {
  m* mp;
  g* gp;
};

/// A goroutine's P was taken while it ran user code: gets one, or parks until there is one. Returns the M it is on
/// then.
m* regain_p(m* mp);
/// The M comes into the runtime from user code or a call. Returns the M that the goroutine is on then.
inline m* come_in(m* mp) {
  if (mp->claim.enter()) [[likely]]
    return mp;
  return regain_p(mp);
}
m* enter_slow(m* mp);
void sample_ready(p* pp, g* gp);
void ready_slow(g* gp);
void ready_far(p* pp, g* gp);
void foreign_park_on(g* gp, core_lock& lock, wait_reason reason) WEFT_RELEASE(lock);

/// For operations that neither park nor throw (unlock, done, release).
struct no_park_t {};
constexpr no_park_t kNoPark;

/// A call's stay in the runtime: from here to the end of the scope nobody takes the P from the M (claim.h), which may
/// be another one at the end: whoever parks on behalf of an entry updates it. Every public operation begins with one,
/// before it takes a lock; one in a callback of another operation (an element's move) changes nothing.
class entry : public caller {
 public:
  /// For operations that may park: also the cooperative preemption point, and where a swallowed goexit() goes on.
  entry() {
    enter();
    if (!mp) return;
    if (mp->held->preempt.load(std::memory_order_relaxed) || gp->goexiting) [[unlikely]]
      slow();
  }
  explicit entry(no_park_t) { enter(); }
  entry(const entry&) = delete;
  entry& operator=(const entry&) = delete;
  ~entry() {
    if (!outermost_) return;
    if (!mp) __builtin_unreachable();  // g++ 12 warns of a null pointer else
    if constexpr (kSanitized)
      if (mp != this_m()) __builtin_trap();
    mp->claim.to_user();
  }

 private:
  [[gnu::always_inline]] void enter() {
    mp = this_m();
    const place at = mp ? mp->claim.self() : place::call;
    outermost_ = at == place::user;
    if (at == place::user) [[likely]] {
      mp = come_in(mp);
    } else if (at == place::call) {
      mp = nullptr;
      gp = foreign_g();
      return;
    }
    gp = mp->curg;
  }
  // enter_slow() may throw, and then there is no destructor to leave.
  void slow();

  bool outermost_;
};

/// A lock of an object that threads of all kinds share, for operations that do no more than that.
class WEFT_SCOPED_CAPABILITY entered_lock {
 public:
  explicit entered_lock(core_lock& lock) WEFT_ACQUIRE(lock) : hold_(lock) {}
  ~entered_lock() WEFT_RELEASE() {}

 private:
  entry who_{kNoPark};
  lock_guard<core_lock> hold_;
};

/// For what any thread may do, also an M on g0, and what neither parks nor throws: stopping, starting and running
/// timers. Inside the runtime.
inline caller any_caller() {
  m* const mp = this_m();
  return {mp && mp->held && mp->claim.self() == place::runtime && !left_behind(mp->run) ? mp : nullptr, nullptr};
}

inline void prepare_to_park(g* gp, wait_reason reason) {
  gp->reason.store(reason, std::memory_order_relaxed);
  gp->wait_since.store(sched.coarse_now.load(std::memory_order_relaxed), std::memory_order_relaxed);
  gp->status.store(g_status::waiting, std::memory_order_relaxed);
}

inline void park_m(caller& who, core_lock* lock, after_switch after, wait_reason reason) {
  prepare_to_park(who.gp, reason);
  who.mp->after = after;
  who.mp->unlock = lock;
  g* const next = next_local(who.mp);
  who.mp = switch_to(who.mp, who.gp, next ? next : &who.mp->g0);
}

/// Parks the caller; `lock`, under which it has queued itself, is released once its context is saved:
/// not analysed, since whoever runs next does that.
inline void park(caller& who, core_lock& lock, wait_reason reason) WEFT_RELEASE(lock) WEFT_NO_THREAD_SAFETY_ANALYSIS {
  if (!who.mp) [[unlikely]]
    return foreign_park_on(who.gp, lock, reason);
  park_m(who, &lock, after_switch::unlock, reason);
}

/// Locks in the order in which they were taken, each once.
struct lock_set {
  core_lock** locks;
  std::size_t n;
};
void unlock_all(const lock_set& set) WEFT_NO_THREAD_SAFETY_ANALYSIS;  // the analysis knows no sets of locks
/// As park(), with several locks.
void park_all(caller& who, const lock_set& set, wait_reason reason);

/// Wakes gp when its time is up, unless somebody else has: the waiters of gp share `race`.
struct time_limit : heap_timer {
  explicit time_limit(g* waiting) : heap_timer(expire), gp(waiting) {}
  static expiry expire(heap_timer& t);
  g* const gp;
  std::atomic<waiter*> race{nullptr};
};

/// Parks the caller, whose waiter w is in the race of `limit`, until it is woken (true) or `when` has come (false);
/// `lock`, under which w can be found, is released meanwhile and not held afterwards.
bool park_limited(caller& who, core_lock& lock, const waiter& w, time_limit& limit, std::int64_t when,
                  wait_reason reason) WEFT_RELEASE(lock) WEFT_NO_THREAD_SAFETY_ANALYSIS;

/// Queues the caller in `queue` as w and parks it; `lock`, which guards the queue, is released meanwhile and not held
/// afterwards. True: it was woken; false: the time is up (kNever: never), and w is in no queue any more. Whoever wakes
/// the queue's waiters finds them with take_first_present().
bool park_until(caller& who, core_lock& lock, wait_queue& queue, waiter& w, std::int64_t when, wait_reason reason)
    WEFT_RELEASE(lock);

/// Parks it for ever (nil channels).
[[noreturn]] void park_forever(caller& who, wait_reason reason);

/// Notes that gp has become runnable, and when, if this time is sampled.
inline void note_ready(p* pp, g* gp, ready_cause cause) {
  gp->status.store(g_status::runnable, std::memory_order_relaxed);
  gp->cause = cause;
  if (cause != ready_cause::requeued) trace_ready(pp, gp, cause);
  if (--pp->sampler.left <= 0) [[unlikely]]
    sample_ready(pp, gp);
}

/// Makes a goroutine (or foreign thread) that `who` has dequeued run again: next on this P, if it ran on this node
/// last; else it goes home. No lock of a channel or wait list may be held.
inline void ready(caller who, g* gp) {
  // A foreign thread's pseudo-goroutine has no run.
  if (!who.mp || gp->run != who.mp->run) [[unlikely]]
    return ready_slow(gp);
  p* const pp = who.mp->held;
  note_ready(pp, gp, ready_cause::readied);
  if (gp->home != pp->home_index) [[unlikely]]
    return ready_far(pp, gp);
  if (g* kicked = pp->runq.put_next(gp)) runqput(pp, kicked);
  wakep(pp);
}

/// Takes the first waiter that the caller may wake, and that can wake up, out of the queue; null: none. A goroutine
/// whose run() is over never does: what it was given would be lost. (What it sends can be taken.)
inline waiter* take_first_present(wait_queue& q) {
  while (waiter* const w = take_first(q))
    if (w->g->foreign || !left_behind(w->g->run)) [[likely]]
      return w;
  return nullptr;
}

/// Waiters that wait to be made ready; on one P they run in this order.
class wake_list : public taken_waiters<waiter> {
 public:
  /// No lock may be held.
  void ready_all(const caller& who) const {
    wake_all([&who](waiter* w) { ready(who, w->g); });
  }
};

/// The caller's goroutine goes to the tail of its queue (to the global one if it has had its time slice). Returns the M
/// that it is on afterwards.
m* yield_m(m* mp, g* gp);

}  // namespace weft::rt
