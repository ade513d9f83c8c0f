// SPDX-License-Identifier: Apache-2.0
// What a channel does under its lock: shared by chan.cpp and select.cpp. Go: send, recv, closechan in chan.go.
//
// One lock a channel guards the buffer and the two queues of waiters. Elements in the buffer mean that nobody waits to
// receive, and room in it that nobody waits to send. So:
//   send:     closed: an error. A receiver waits: move the element straight to where it wants it. Room: into the
//   buffer. receive:  A sender waits: unbuffered, its element; buffered (so it is full), the head of the buffer, and
//   the sender's
//             element into the freed place. An element in the buffer: that. Closed: no more.
//   else      the caller queues itself and parks. Whoever wakes it has moved the element, or closed the channel.
//   close:    all waiters, each once.
// Waiters are served in order of arrival. A waiter of a select counts only if its race is won (waitq.h). They are made
// ready after the lock is released: the operations collect them in `wake`. A waiter and its element lie on the stack of
// the goroutine that waits; nothing here allocates.
//
// An element's move constructor may throw: the element is then where it was, and the exception goes to the goroutine
// that moves it; for one that comes out of a waiting sender's hands into the buffer, to that sender. A waiter of a
// select that has been won in vain then begins anew.
//
// The channel of a timer or ticker has no buffer: its value comes out of the clock (time_source.h).
#pragma once

#include <cstring>
#include <exception>

#include "runtime/park.h"
#include "runtime/time_source.h"
#include "runtime/waitq.h"
#include "weft/chan.h"

namespace weft::rt {

using detail::hchan;

enum class chan_status : std::uint8_t { done, blocked, closed };

inline void copy_element(const hchan* c, void* to, const void* from) {
  switch (c->type->size) {
    case 1: std::memcpy(to, from, 1); return;
    case 4: std::memcpy(to, from, 4); return;
    case 8: std::memcpy(to, from, 8); return;
    default: std::memcpy(to, from, c->type->size);
  }
}

inline void move_element(const hchan* c, void* to, void* from) {
  if (c->type->move_construct)
    c->type->move_construct(to, from);
  else
    copy_element(c, to, from);
}

inline void destroy_element(const hchan* c, void* element) {
  if (c->type->destroy) c->type->destroy(element);
}

inline void* slot(const hchan* c, std::size_t index) { return c->buffer + index * c->type->size; }

inline void advance(const hchan* c, std::size_t& index) {
  if (++index == c->capacity) index = 0;
}

inline void set_count(hchan* c, std::size_t n) { c->count.store(n, std::memory_order_release); }

/// Moves an element from or to a waiter that has been won; if the move throws, the waiter is as it was before.
inline void move_with(hchan* c, wait_queue& q, waiter* w, void* to, void* from, wake_list& wake) {
  if (!c->type->move_construct) return copy_element(c, to, from);
  try {
    c->type->move_construct(to, from);
  } catch (...) {
    if (w->race) {
      w->again = true;
      wake.add(w);
    } else {
      enqueue_first(q, w);
    }
    throw;
  }
}

/// All three: under the lock.
inline chan_status send_locked(hchan* c, void* element, wake_list& wake) {
  if (c->closed.load(std::memory_order_relaxed)) return chan_status::closed;
  if (waiter* const receiver = take_first_present(c->receivers)) {
    move_with(c, c->receivers, receiver, receiver->element, element, wake);
    receiver->success = true;
    wake.add(receiver);
    return chan_status::done;
  }
  const std::size_t n = c->count.load(std::memory_order_relaxed);
  if (n == c->capacity) return chan_status::blocked;
  move_element(c, slot(c, c->send_index), element);
  advance(c, c->send_index);
  set_count(c, n + 1);
  return chan_status::done;
}

/// Moves the element of the first waiting sender that can be moved into the free place of a buffer.
inline void refill(hchan* c, wake_list& wake) {
  while (waiter* const sender = take_first(c->senders)) {
    wake.add(sender);
    try {
      move_element(c, slot(c, c->send_index), sender->element);
      sender->success = true;
      return advance(c, c->send_index);
    } catch (...) {
      *sender->failure = std::current_exception();
    }
  }
  set_count(c, c->capacity - 1);
}

inline chan_status recv_locked(hchan* c, void* to, wake_list& wake) {
  if (c->source) [[unlikely]]
    return take_time(c, to) ? chan_status::done : chan_status::blocked;
  if (const std::size_t n = c->count.load(std::memory_order_relaxed); n > 0) {
    void* const head = slot(c, c->recv_index);
    move_element(c, to, head);
    destroy_element(c, head);
    advance(c, c->recv_index);
    if (n == c->capacity && !c->senders.empty())
      refill(c, wake);
    else
      set_count(c, n - 1);
    return chan_status::done;
  }
  if (waiter* const sender = take_first(c->senders)) {
    move_with(c, c->senders, sender, to, sender->element, wake);
    sender->success = true;
    wake.add(sender);
    return chan_status::done;
  }
  return c->closed.load(std::memory_order_relaxed) ? chan_status::closed : chan_status::blocked;
}

/// Without the lock: false if the operation would have had to wait at some moment during the call.
inline bool may_send(const hchan* c) {
  // Full (or nobody there) is looked at second: a closed channel stays closed, so it was open then.
  if (c->closed.load(std::memory_order_acquire)) return true;
  return c->capacity == 0 ? !c->receivers.empty() : c->count.load(std::memory_order_acquire) < c->capacity;
}

inline bool may_recv(const hchan* c) {
  if (c->source) return true;
  // Closed is looked at second: before that it was open.
  const bool empty = c->capacity == 0 ? c->senders.empty() : c->count.load(std::memory_order_acquire) == 0;
  return !empty || c->closed.load(std::memory_order_acquire);
}

/// A sender that was woken without having sent: its element could not be moved, or the channel is closed.
[[noreturn]] inline void throw_not_sent(std::exception_ptr&& failure) {
  if (failure) std::rethrow_exception(std::move(failure));
  throw closed_channel("send on closed channel");
}
[[noreturn]] inline void throw_closed() { throw_not_sent(nullptr); }

}  // namespace weft::rt
