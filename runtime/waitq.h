// SPDX-License-Identifier: Apache-2.0
// Doubly linked FIFO queues of waiters, under the lock of whatever they belong to, and the race for a waiter that can
// be woken from several sides. Go: waitq, sudog, selectDone.
//
// A waiter without a race is woken by whoever takes it out of its queue. One with a race (a select, a wait with a time
// limit) stands in several queues, or has a timer: who takes it out of one must win its race too before touching what
// it waits with, and leaves it alone otherwise. The waiter itself, once awake, takes what is left of it out of the
// other queues, each under that queue's lock, before its frame goes; so a waiter seen in a queue is always alive.
#pragma once

#include "runtime/g.h"

namespace weft::rt {

using detail::wait_queue;

inline waiter* first_of(const wait_queue& q) { return q.head.load(std::memory_order_relaxed); }

inline void enqueue(wait_queue& q, waiter* w) {
  w->next = nullptr;
  w->prev = q.tail;
  w->queued = true;
  if (q.tail)
    q.tail->next = w;
  else
    q.head.store(w, std::memory_order_relaxed);
  q.tail = w;
}

inline void enqueue_first(wait_queue& q, waiter* w) {
  waiter* const head = first_of(q);
  w->prev = nullptr;
  w->next = head;
  w->queued = true;
  if (head)
    head->prev = w;
  else
    q.tail = w;
  q.head.store(w, std::memory_order_relaxed);
}

inline void dequeue(wait_queue& q, waiter* w) {
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

/// Whether the caller, who has taken w out of its queue, is the one that wakes it.
inline bool win(waiter* w) {
  if (!w->race) [[likely]]
    return true;
  waiter* nobody = nullptr;
  return w->race->compare_exchange_strong(nobody, w, std::memory_order_acq_rel, std::memory_order_relaxed);
}

/// Takes the first waiter that the caller may wake out of the queue; null: none.
inline waiter* take_first(wait_queue& q) {
  while (waiter* const w = first_of(q)) {
    dequeue(q, w);
    if (win(w)) return w;
  }
  return nullptr;
}

/// Takes all that the caller may wake and puts them in front of `list` (linked by next), the last one first.
inline void take_all(wait_queue& q, waiter*& list) {
  while (waiter* const w = take_first(q)) {
    w->next = list;
    list = w;
  }
}

}  // namespace weft::rt
