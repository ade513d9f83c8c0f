// SPDX-License-Identifier: Apache-2.0
// Doubly linked FIFO queues of waiters, under the lock of whatever they belong to. Go: waitq.
#pragma once

#include "runtime/g.h"

namespace weft::rt {

inline void enqueue(waiter*& head, waiter*& tail, waiter* w) {
  w->next = nullptr;
  w->prev = tail;
  (tail ? tail->next : head) = w;
  tail = w;
}

inline void enqueue_first(waiter*& head, waiter*& tail, waiter* w) {
  w->prev = nullptr;
  w->next = head;
  (head ? head->prev : tail) = w;
  head = w;
}

inline void dequeue(waiter*& head, waiter*& tail, waiter* w) {
  (w->prev ? w->prev->next : head) = w->next;
  (w->next ? w->next->prev : tail) = w->prev;
  w->next = w->prev = nullptr;
}

}  // namespace weft::rt
