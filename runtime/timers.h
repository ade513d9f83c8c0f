// SPDX-License-Identifier: Apache-2.0
// Heaps of timers: 4-ary, by due time, one a P. Go: runtime.timers.
//
// A heap is guarded by its lock, because idle Ps run the timers of busy ones. first_when lets everybody see without the
// lock whether something is due; it is written under the lock, after the heap.
//
// A sleeping goroutine is an entry and nothing else. What may be taken out or moved before it is due is a heap_timer,
// which knows its place. A timer that is moved to a later time stays where it is until it comes to the top (an I/O
// deadline moves with every request and is hardly ever met); one that is stopped is taken out at once, so nothing is
// kept alive by a timer that nobody wants. Go leaves it in as a zombie, because its timers have locks of their own and
// taking one out would need two; here the heap's lock is the timer's.
//
// Heaps outlive Ps and runs (heap_of_p() below), so a timer's heap can be locked at any time. One more heap belongs
// to foreign threads (see foreign.cpp), and takes over what is left at the end of a run().
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/cache_line.h"
#include "runtime/futex.h"
#include "runtime/g.h"
#include "runtime/lock.h"
#include "runtime/pages.h"

namespace weft::rt {

class timer_heap;
struct heap_timer;

/// What is to be done for a timer that was due, once its heap is unlocked.
struct expiry {
  g* wake = nullptr;
  void (*call)(void* argument) = nullptr;
  void* argument = nullptr;
};

/// What becomes of a timer at the end of the run() in whose heaps it is: it lies on a goroutine's stack and is
/// forgotten; it expires; or it goes on, in the foreign heap.
enum class at_end : std::uint8_t { forgotten, expires, goes_on };

struct heap_timer {
  static constexpr std::size_t kNotInHeap = SIZE_MAX;
  /// Called under the heap's lock when the timer is due and has been taken out; may not lock anything.
  using expire_fn = expiry (*)(heap_timer&);

  explicit heap_timer(expire_fn fn) : expire(fn) {}
  heap_timer(const heap_timer&) = delete;
  heap_timer& operator=(const heap_timer&) = delete;

  const expire_fn expire;
  std::atomic<timer_heap*> heap{nullptr};  // the one it is or was in; changed under the locks of both
  std::int64_t when = kNever;              // guarded by the heap's lock while it is in one
  std::size_t place = kNotInHeap;          // guarded by the heap's lock
  at_end end = at_end::forgotten;          // what the end of the run() means
};

class alignas(kLinePair) timer_heap {
 public:
  core_lock lock;

  /// When the first timer is due at the earliest (kNever: none). Any thread.
  std::int64_t first_when() const { return first_when_.load(std::memory_order_acquire); }

  // All below: under the lock.
  void push_sleeper(g* gp, std::int64_t when) { push({when, reinterpret_cast<std::uintptr_t>(gp) | kSleeper}); }
  void add(heap_timer& t) {
    t.heap.store(this, std::memory_order_relaxed);
    push({t.when, reinterpret_cast<std::uintptr_t>(&t)});
  }
  void remove(heap_timer& t) {
    const std::size_t i = t.place;
    t.place = heap_timer::kNotInHeap;
    const entry last = heap_.back();
    heap_.pop_back();
    if (i < heap_.size()) settle(i, last);
    publish();
  }
  /// t.when has changed.
  void moved(heap_timer& t) {
    if (t.when >= heap_[t.place].when) return;  // it is put right when it comes to the top
    heap_[t.place].when = t.when;
    sift_up(t.place);
    publish();
  }
  /// Takes out the first timer that is due at `now`; false: none is.
  bool pop_due(std::int64_t now, expiry& due) {
    while (!heap_.empty() && heap_.front().when <= now) {
      const entry first = heap_.front();
      heap_timer* const t = first.removable();
      if (t && t->when > first.when) {
        heap_.front().when = t->when;
        sift_down(0);
        continue;
      }
      if (t) t->place = heap_timer::kNotInHeap;
      const entry last = heap_.back();
      heap_.pop_back();
      if (!heap_.empty()) settle(0, last);
      publish();
      due = t ? t->expire(*t) : expiry{first.sleeper(), nullptr, nullptr};
      return true;
    }
    publish();
    return false;
  }
  /// Moves everything to `to`, whose lock is held too.
  void move_to(timer_heap& to) {
    for (const entry& e : heap_) move(e, to);
    heap_.clear();
    publish();
  }
  /// The run() is over: moves what goes on to `to`, whose lock is held too, and forgets the rest. (A goroutine that was
  /// woken just before, and still runs, may yet disarm its timer. The stacks of those that are left behind stay.)
  void hand_down(timer_heap& to) {
    for (const entry& e : heap_) {
      heap_timer* const t = e.removable();
      if (t && t->end == at_end::goes_on)
        move(e, to);
      else if (t)
        t->place = heap_timer::kNotInHeap;
    }
    heap_.clear();
    publish();
  }
  /// The run() is over: takes out all that expires then.
  std::vector<expiry> take_ended() {
    std::vector<heap_timer*> ended;
    for (const entry& e : heap_)
      if (heap_timer* const t = e.removable(); t && t->end == at_end::expires) ended.push_back(t);
    std::vector<expiry> due;
    for (heap_timer* t : ended) {
      remove(*t);
      due.push_back(t->expire(*t));
    }
    return due;
  }

 private:
  static constexpr std::size_t kWays = 4;
  static constexpr std::uintptr_t kSleeper = 1;

  struct entry {
    std::int64_t when;
    std::uintptr_t what;  // a timer, or a goroutine with kSleeper set
    heap_timer* removable() const { return what & kSleeper ? nullptr : reinterpret_cast<heap_timer*>(what); }
    g* sleeper() const { return reinterpret_cast<g*>(what & ~kSleeper); }
  };

  static void move(const entry& e, timer_heap& to) {
    if (heap_timer* const t = e.removable()) t->heap.store(&to, std::memory_order_release);
    to.push(e);
  }

  void publish() { first_when_.store(heap_.empty() ? kNever : heap_.front().when, std::memory_order_release); }

  void push(const entry& e) {
    heap_.push_back(e);
    sift_up(heap_.size() - 1);
    publish();
  }

  void put(std::size_t i, const entry& e) {
    heap_[i] = e;
    if (heap_timer* const t = e.removable()) t->place = i;
  }

  // Puts e, which comes from the end, into the free place i.
  void settle(std::size_t i, const entry& e) {
    heap_[i] = e;
    if (i > 0 && e.when < heap_[(i - 1) / kWays].when)
      sift_up(i);
    else
      sift_down(i);
  }

  void sift_up(std::size_t i) {
    const entry e = heap_[i];
    for (; i > 0 && e.when < heap_[(i - 1) / kWays].when; i = (i - 1) / kWays) put(i, heap_[(i - 1) / kWays]);
    put(i, e);
  }

  void sift_down(std::size_t i) {
    const entry e = heap_[i];
    for (;;) {
      std::size_t least = i * kWays + 1;
      if (least >= heap_.size()) break;
      const std::size_t end = std::min(least + kWays, heap_.size());
      for (std::size_t child = least + 1; child < end; ++child)
        if (heap_[child].when < heap_[least].when) least = child;
      if (heap_[least].when >= e.when) break;
      put(i, heap_[least]);
      i = least;
    }
    put(i, e);
  }

  std::vector<entry, page_allocator<entry>> heap_;
  std::atomic<std::int64_t> first_when_{kNever};
};

/// Without a lock.
void act_on(const expiry& due);

/// What a timer that is set for `when` is due at: one that is never due is pending all the same.
inline std::int64_t before_never(std::int64_t when) { return std::min(when, kNever - 1); }

/// The heap of the P of this number; made at the first call, never deleted.
timer_heap& heap_of_p(int id);
/// The heap of foreign threads.
extern timer_heap& foreign_heap;

/// Starts t, which is in no heap, for the time `when`: in the heap of the caller's P, or of foreign threads. Memory
/// that runs out is fatal. A channel's or wait list's lock may be held.
struct caller;
void arm(caller who, heap_timer& t, std::int64_t when);
/// As arm(), for one that wakes the caller: its heap stays locked. The caller parks with the lock that is returned in
/// its set, so that the timer cannot expire, and wake it, before its context is saved.
core_lock& arm_to_park(caller who, heap_timer& t, std::int64_t when);
/// Takes t out of its heap. False: it was in none, so it has expired, is about to, or was never started.
bool disarm(heap_timer& t);
/// Changes the time of t if it is in a heap, else returns false.
bool move_timer(heap_timer& t, std::int64_t when);

}  // namespace weft::rt
