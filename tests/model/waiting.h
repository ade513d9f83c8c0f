// SPDX-License-Identifier: Apache-2.0
// What chan_model and select_model share: channels, selects and waits with a time limit, on the real queues and the
// real race of runtime/waitq.h. Around them, as in chan_ops.h, select.cpp and timers.cpp:
//
//   park    the thread notes that its context is saved, then releases the locks that it holds, one after the other; the
//           set of these locks lies on its stack
//   ready   by whoever took a waiter out of its queue and won its race, after releasing the lock
//   expire  the one timer: takes itself out of the heap and tries to win the race under the heap's lock
//   awake   the thread takes the timer out of the heap, and the waiters that lost out of their queues, each under its
//           lock. Then its frame dies: all of it is written again, which is a data race if anybody still looks.
#pragma once

#include "tests/model/model.h"

#include "runtime/waitq.h"

namespace weft::model {

/// var as a plain member of a struct.
template <class T>
class plain {
 public:
  plain() = default;
  plain(const plain&) = delete;
  T operator=(T value) {
    value_.set(value);
    return value;
  }
  plain& operator=(const plain& other) {
    value_.set(other.value_.get());
    return *this;
  }
  operator T() const { return value_.get(); }
  T operator->() const { return value_.get(); }
  std::remove_pointer_t<T>& operator*() const requires std::is_pointer_v<T> { return *value_.get(); }

 private:
  var<T> value_;
};

enum class outcome { done, closed, timed_out };

/// At most kThreads threads, kCases cases a select, one timer.
struct waiting {
  static constexpr int kThreads = 4, kCases = 2, kChans = 2, kLocks = kCases + 1;
  template <class T>
  using atomic = checked_atomic<T, false>;
  struct waiter;
  using race_word = atomic<waiter*>;

  struct waiter {
    plain<waiter*> next, prev;
    plain<race_word*> race;
    plain<int> thread, value;
    plain<bool> queued, success;
  };
  struct queue {
    race_word head;
    plain<waiter*> tail;
  };
  struct lock {
    atomic<int> held;
    void take() {
      while (held.exchange(1, std::memory_order_acquire) != 0) fences::relax();
    }
    void give() { held.store(0, std::memory_order_release); }
  };
  struct chan {
    lock guard;
    queue receivers, senders;
    plain<bool> closed;
    plain<int> count, slot;
    int capacity = 0;
  };
  struct thread_state {
    var<bool> saved;
    atomic<int> woken;
    // Its frame, while it waits.
    plain<bool> alive;
    std::array<waiter, kCases> waiters;
    race_word race;
    std::array<plain<lock*>, kLocks> locks;
    plain<int> nlocks;
  };
  struct select_case {
    bool send;
    int chan, value;  // what to send
  };
  struct result {
    outcome how = outcome::done;
    int which = -1, value = 0;  // what was received
  };

  std::array<chan, kChans> chans;
  std::array<thread_state, kThreads> threads;
  waiter timed_out;
  lock heap;
  plain<int> in_heap;  // the number of the thread whose time limit it is, and 1
  atomic<int> over;    // threads that wait no more

  chan& chan_at(int i) { return chans[static_cast<std::size_t>(i)]; }
  thread_state& thread_at(int i) { return threads[static_cast<std::size_t>(i)]; }

  // -- Parking

  void hold(thread_state& self, lock& l) {
    l.take();
    add_lock(self, l);
  }
  void add_lock(thread_state& self, lock& l) {
    self.locks[static_cast<std::size_t>(int(self.nlocks))] = &l;
    self.nlocks = self.nlocks + 1;
  }
  void release_all(thread_state& self) {
    int n = self.nlocks;
    for (std::size_t i = 0; n > 0; --n) static_cast<lock*>(self.locks[i++])->give();
  }
  void park(thread_state& self) {
    self.saved.set(true);
    release_all(self);
    while (self.woken.load(std::memory_order_acquire) == 0) fences::relax();
    self.woken.store(0, std::memory_order_relaxed);
  }
  void ready(int thread) {
    thread_state& t = thread_at(thread);
    require(t.saved.get(), "who is woken has stopped");
    t.saved.set(false);
    t.woken.store(1, std::memory_order_release);
  }
  void frame_dies(thread_state& self) {
    self.alive = false;
    for (waiter& w : self.waiters) {
      w.next = w.prev = nullptr;
      w.race = nullptr;
      w.thread = w.value = -1;
      w.queued = w.success = false;
    }
    for (auto& l : self.locks) l = nullptr;
    self.nlocks = 0;
  }

  // -- The timer

  void arm(int number) {
    heap.take();
    in_heap = number + 1;
    add_lock(thread_at(number), heap);
  }
  void disarm() {
    heap.take();
    in_heap = 0;
    heap.give();
  }
  race_word& race_of(int thread) {
    require(thread_at(thread).alive, "the frame is there");
    return thread_at(thread).race;
  }
  /// Whether there was a timer to expire.
  bool expire() {
    heap.take();
    const int thread = in_heap - 1;
    if (thread < 0) {
      heap.give();
      return false;
    }
    in_heap = 0;
    const bool won = rt::win_race(race_of(thread), &timed_out);
    heap.give();
    if (won) ready(thread);
    return true;
  }
  /// A timer that is due at some time, or as late as that the thread does not wait any more.
  void run_timer(int until_over) {
    if (rl::rand(2) == 0) {
      expire();
      return;
    }
    while (over.load(std::memory_order_acquire) < until_over && !expire()) fences::relax();
  }

  // -- Channels

  bool send_locked(chan& c, int value, waiter*& wake, outcome& how) {
    how = c.closed ? outcome::closed : outcome::done;
    if (c.closed) return true;
    if (waiter* const w = rt::take_first(c.receivers)) {
      w->value = value;
      w->success = true;
      wake = w;
      return true;
    }
    if (c.count == c.capacity) return false;
    c.slot = value;
    c.count = 1;
    return true;
  }
  bool recv_locked(chan& c, int& value, waiter*& wake, outcome& how) {
    how = outcome::done;
    if (c.count > 0) {
      value = c.slot;
      wake = rt::take_first(c.senders);
      if (!wake) {
        c.count = 0;
        return true;
      }
      c.slot = wake->value;
      wake->success = true;
      return true;
    }
    if ((wake = rt::take_first(c.senders))) {
      value = wake->value;
      wake->success = true;
      return true;
    }
    how = outcome::closed;
    return c.closed;
  }

  void close(int number) {
    chan& c = chan_at(number);
    rt::taken_waiters<waiter> woken;
    c.guard.take();
    c.closed = true;
    woken.add_all(c.receivers);
    woken.add_all(c.senders);
    c.guard.give();
    woken.wake_all([this](const waiter* w) { ready(w->thread); });
  }

  // -- Selecting

  bool try_case(const select_case& each, result& r, waiter*& wake) {
    chan& c = chan_at(each.chan);
    return each.send ? send_locked(c, each.value, wake, r.how) : recv_locked(c, r.value, wake, r.how);
  }
  queue& queue_of(const select_case& each) {
    return each.send ? chan_at(each.chan).senders : chan_at(each.chan).receivers;
  }

  /// Does one of n cases, which stand in the order of their channels, or gives up when its time is up.
  template <std::size_t N>
  result select(int number, const std::array<select_case, N>& cases, bool limited = false) {
    thread_state& self = thread_at(number);
    result r;
    for (std::size_t i = 0; i < N; ++i)
      if (i == 0 || cases[i].chan != cases[i - 1].chan) hold(self, chan_at(cases[i].chan).guard);
    const std::size_t first = N > 1 ? rl::rand(N) : 0;
    for (std::size_t k = 0; k < N; ++k) {
      const std::size_t i = (first + k) % N;
      waiter* wake = nullptr;
      if (!try_case(cases[i], r, wake)) continue;
      r.which = static_cast<int>(i);
      release_all(self);
      if (wake) ready(wake->thread);
      return leave(self, r);
    }
    // A lone operation without a limit has no race.
    const bool race = N > 1 || limited;
    self.alive = true;
    self.race.store(nullptr, std::memory_order_relaxed);
    for (std::size_t i = 0; i < N; ++i) {
      waiter& w = self.waiters[i];
      w.thread = number;
      w.value = cases[i].value;
      w.success = false;
      w.race = race ? &self.race : nullptr;
      rt::enqueue(queue_of(cases[i]), &w);
    }
    if (limited) arm(number);
    park(self);
    if (limited) disarm();
    waiter* const winner = race ? self.race.load(std::memory_order_acquire) : &self.waiters[0];
    for (std::size_t i = 0; i < N; ++i) {
      waiter& w = self.waiters[i];
      if (&w == winner) {
        r.which = static_cast<int>(i);
        r.how = w.success ? outcome::done : outcome::closed;
        if (w.success && !cases[i].send) r.value = w.value;
        continue;
      }
      chan& c = chan_at(cases[i].chan);
      c.guard.take();
      if (w.queued) rt::dequeue(queue_of(cases[i]), &w);
      c.guard.give();
    }
    if (winner == &timed_out)
      r.how = outcome::timed_out;
    else
      require(r.which >= 0, "who has been woken has a winner");
    return leave(self, r);
  }
  result leave(thread_state& self, const result& r) {
    frame_dies(self);
    over.fetch_add(1, std::memory_order_acq_rel);
    return r;
  }

  result send(int number, int c, int value, bool limited = false) {
    return select(number, std::array<select_case, 1>{{{true, c, value}}}, limited);
  }
  result recv(int number, int c, bool limited = false) {
    return select(number, std::array<select_case, 1>{{{false, c, 0}}}, limited);
  }

  void check_empty() {
    for (chan& c : chans) {
      require(!rt::first_of(c.receivers) && !rt::first_of(c.senders), "nobody is left in a queue");
      require(!c.receivers.tail && !c.senders.tail, "nor at its end");
    }
    require(in_heap == 0, "no timer is left in the heap");
  }
};

}  // namespace weft::model
