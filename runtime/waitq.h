// SPDX-License-Identifier: Apache-2.0
// Doubly linked FIFO queues of waiters, under the lock of whatever they belong to, and the race for a waiter that can
// be woken from several sides. Go: waitq, sudog, selectDone.
//
// A waiter without a race is woken by whoever takes it out of its queue. One with a race (a select, a wait with a time
// limit) stands in several queues, or has a timer: who takes it out of one must win its race too before touching what
// it waits with, and leaves it alone otherwise. The waiter itself, once awake, takes what is left of it out of the
// other queues, each under that queue's lock, before its frame goes; so a waiter seen in a queue is always alive.
//
// Templates, so that tests/model runs them on its own waiters and queues.
#pragma once

#include <atomic>

namespace weft::rt {

template <class Queue>
auto first_of(const Queue& q) {
  return q.head.load(std::memory_order_relaxed);
}

template <class Queue, class Waiter>
void enqueue(Queue& q, Waiter* w) {
  w->next = nullptr;
  w->prev = q.tail;
  w->queued = true;
  if (q.tail)
    q.tail->next = w;
  else
    q.head.store(w, std::memory_order_relaxed);
  q.tail = w;
}

template <class Queue, class Waiter>
void enqueue_first(Queue& q, Waiter* w) {
  Waiter* const head = first_of(q);
  w->prev = nullptr;
  w->next = head;
  w->queued = true;
  if (head)
    head->prev = w;
  else
    q.tail = w;
  q.head.store(w, std::memory_order_relaxed);
}

template <class Queue, class Waiter>
void dequeue(Queue& q, Waiter* w) {
  if (w->prev)
    w->prev->next = w->next;
  else
    q.head.store(w->next, std::memory_order_relaxed);
  if (w->next)
    w->next->prev = w->prev;
  else
    q.tail = w->prev;
  w->next = w->prev = nullptr;
  w->queued = false;
}

/// Whether the caller is the first to end this race, and so the one that wakes whoever runs it.
template <class Race, class Waiter>
bool win_race(Race& race, Waiter* winner) {
  Waiter* nobody = nullptr;
  return race.compare_exchange_strong(nobody, winner, std::memory_order_acq_rel, std::memory_order_relaxed);
}

/// Whether the caller, who has taken w out of its queue, is the one that wakes it.
template <class Waiter>
bool win(Waiter* w) {
  if (!w->race) [[likely]]
    return true;
  return win_race(*w->race, w);
}

/// Takes the first waiter that the caller may wake out of the queue; null: none.
template <class Queue>
auto take_first(Queue& q) -> decltype(first_of(q)) {
  while (auto* const w = first_of(q)) {
    dequeue(q, w);
    if (win(w)) return w;
  }
  return nullptr;
}

/// Waiters that have been taken out of their queues to be woken once the lock is released, in that order.
template <class Waiter>
class taken_waiters {
 public:
  void add(Waiter* w) {
    if (last_)
      last_->next = w;
    else
      first_ = w;
    last_ = w;
  }
  /// All that the caller may wake.
  template <class Queue>
  void add_all(Queue& q) {
    while (Waiter* const w = take_first(q)) add(w);
  }
  /// Calls wake(w) for each, which may be gone after that. The first comes last: what is readied last runs next.
  template <class Wake>
  void wake_all(Wake wake) const {
    if (!first_) return;
    if (first_ != last_) [[unlikely]]
      for (Waiter* w = first_->next; w;) {
        Waiter* const next = w->next;
        wake(w);
        w = next;
      }
    wake(first_);
  }

 private:
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
};

}  // namespace weft::rt
