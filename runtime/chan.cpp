// SPDX-License-Identifier: Apache-2.0
// Channels. Go: chan.go.
//
// One lock a channel guards the buffer and the two queues of waiters. At most one queue is not empty; with a buffer,
// elements in it mean that nobody waits to receive, and room in it that nobody waits to send. So:
//   send:     closed: throw. A receiver waits: move the element straight to where it wants it. Room: into the buffer.
//             Else queue and park; whoever wakes us has taken the element, or the channel was closed (throw).
//   receive:  closed and empty: no more. A sender waits: unbuffered, its element; buffered (so it is full), the head of
//             the buffer, and the sender's element into the freed place. An element in the buffer: that. Else queue and
//             park.
//   close:    all waiters, each once; those that wait to send throw.
// Waiters are served in order of arrival. They are made ready after the lock is released. A parked goroutine's waiter
// and its element lie on its stack; nothing here allocates but making the channel.
//
// An element's move constructor may throw: the element is then where it was, and the exception goes to the goroutine
// whose element it is (which may be a waiting sender), or to the receiver for one that comes out of the buffer.
#include "weft/chan.h"

#include <cstring>
#include <exception>
#include <memory>
#include <new>

#include "runtime/park.h"
#include "runtime/waitq.h"

namespace weft::rt {
namespace {

using detail::hchan;

constexpr std::size_t kMaxBytes = std::size_t{1} << 47;

void copy_element(const hchan* c, void* to, const void* from) {
  switch (c->type->size) {
    case 1: std::memcpy(to, from, 1); return;
    case 4: std::memcpy(to, from, 4); return;
    case 8: std::memcpy(to, from, 8); return;
    default: std::memcpy(to, from, c->type->size);
  }
}

void destroy_element(const hchan* c, void* element) {
  if (c->type->destroy) c->type->destroy(element);
}

void* slot(const hchan* c, std::size_t index) { return c->buffer + index * c->type->size; }

void advance(const hchan* c, std::size_t& index) {
  if (++index == c->capacity) index = 0;
}

void set_count(hchan* c, std::size_t n) { c->count.store(n, std::memory_order_release); }

// Unlocks when a move throws.
class unlock_on_throw {
 public:
  explicit unlock_on_throw(hchan* c) : c_(c) {}
  ~unlock_on_throw() {
    if (c_) c_->lock.unlock();
  }
  void dismiss() { c_ = nullptr; }

 private:
  hchan* c_;
};

void move_locked(hchan* c, void* to, void* from) {
  if (!c->type->move_construct) return copy_element(c, to, from);
  unlock_on_throw guard(c);
  c->type->move_construct(to, from);
  guard.dismiss();
}

[[noreturn]] void throw_closed() { throw closed_channel("send on closed channel"); }

// Under the lock, which it releases if it returns true: the send was done.
bool send_now(caller who, hchan* c, void* element) {
  if (c->closed.load(std::memory_order_relaxed)) {
    c->lock.unlock();
    throw_closed();
  }
  if (waiter* const receiver = c->recv_head) {
    move_locked(c, receiver->element, element);
    dequeue(c->recv_head, c->recv_tail, receiver);
    c->lock.unlock();
    receiver->success = true;
    ready(who, receiver->g);
    return true;
  }
  const std::size_t n = c->count.load(std::memory_order_relaxed);
  if (n == c->capacity) return false;
  move_locked(c, slot(c, c->send_index), element);
  advance(c, c->send_index);
  set_count(c, n + 1);
  c->lock.unlock();
  return true;
}

// Moves the element of the first waiting sender that can be moved into the free place of a buffer; returns the senders
// that are to be made ready, last first: that one, and before it those whose move threw.
waiter* refill_from_senders(hchan* c) {
  waiter* done = nullptr;
  while (waiter* const sender = c->send_head) {
    dequeue(c->send_head, c->send_tail, sender);
    sender->next = done;
    done = sender;
    try {
      if (c->type->move_construct)
        c->type->move_construct(slot(c, c->send_index), sender->element);
      else
        copy_element(c, slot(c, c->send_index), sender->element);
      sender->success = true;
      advance(c, c->send_index);
      return done;
    } catch (...) {
      sender->failure = new std::exception_ptr(std::current_exception());
    }
  }
  set_count(c, c->capacity - 1);
  return done;
}

void ready_all(caller who, waiter* list) {
  while (waiter* const w = list) {
    list = w->next;
    ready(who, w->g);
  }
}

// Somebody waits to send. Under the lock, which it releases.
void recv_from_sender(caller who, hchan* c, waiter* sender, void* to) {
  if (c->capacity == 0) {
    move_locked(c, to, sender->element);
    dequeue(c->send_head, c->send_tail, sender);
    c->lock.unlock();
    sender->success = true;
    return ready(who, sender->g);
  }
  void* const head = slot(c, c->recv_index);
  move_locked(c, to, head);
  destroy_element(c, head);
  advance(c, c->recv_index);
  waiter* const done = refill_from_senders(c);
  c->lock.unlock();
  ready_all(who, done);
}

// Under the lock, which it releases unless it returns empty.
recv_status recv_now(caller who, hchan* c, void* to) {
  if (waiter* const sender = c->send_head) {
    recv_from_sender(who, c, sender, to);
    return recv_status::received;
  }
  const std::size_t n = c->count.load(std::memory_order_relaxed);
  if (n > 0) {
    void* const head = slot(c, c->recv_index);
    move_locked(c, to, head);
    destroy_element(c, head);
    advance(c, c->recv_index);
    set_count(c, n - 1);
    c->lock.unlock();
    return recv_status::received;
  }
  if (!c->closed.load(std::memory_order_relaxed)) return recv_status::empty;
  c->lock.unlock();
  return recv_status::closed;
}

// All of a queue's waiters are moved to the front of `list`, last first.
void take_all(waiter*& head, waiter*& tail, waiter*& list) {
  while (waiter* const w = head) {
    dequeue(head, tail, w);
    w->success = false;
    w->next = list;
    list = w;
  }
}

}  // namespace
}  // namespace weft::rt

namespace weft::detail {

using namespace weft::rt;

hchan* chan_make(const element_type* type, std::size_t capacity) {
  if (capacity > kMaxBytes / type->size) throw error("makechan: size out of range");
  const std::size_t align = std::max(type->align, alignof(hchan));
  const std::size_t header = (sizeof(hchan) + align - 1) / align * align;
  void* const p = ::operator new (header + capacity * type->size, std::align_val_t{align});
  hchan* const c = ::new (p) hchan;
  c->capacity = capacity;
  c->type = type;
  c->buffer = static_cast<std::byte*>(p) + header;
  return c;
}

void chan_free(hchan* c) noexcept {
  for (std::size_t n = c->count.load(std::memory_order_relaxed); n > 0; --n) {
    destroy_element(c, slot(c, c->recv_index));
    advance(c, c->recv_index);
  }
  const std::size_t align = std::max(c->type->align, alignof(hchan));
  c->~hchan();
  ::operator delete (static_cast<void*>(c), std::align_val_t{align});
}

void chan_send(hchan* c, void* element) {
  const caller who = enter();
  if (!c) park_forever(who, wait_reason::chan_send_nil);
  c->lock.lock();
  if (send_now(who, c, element)) return;
  waiter self;
  self.g = who.gp;
  self.element = element;
  enqueue(c->send_head, c->send_tail, &self);
  park(who, c->lock, wait_reason::chan_send);
  if (self.success) return;
  if (!self.failure) throw_closed();
  const std::unique_ptr<std::exception_ptr> failure(self.failure);
  std::rethrow_exception(*failure);
}

bool chan_try_send(hchan* c, void* element) {
  const caller who = enter();
  if (!c) return false;
  // Full and open at one moment: full is looked at second, and a closed channel stays closed.
  if (!c->closed.load(std::memory_order_acquire) && c->capacity > 0 &&
      c->count.load(std::memory_order_acquire) == c->capacity)
    return false;
  c->lock.lock();
  if (send_now(who, c, element)) return true;
  c->lock.unlock();
  return false;
}

bool chan_recv(hchan* c, void* to) {
  const caller who = enter();
  if (!c) park_forever(who, wait_reason::chan_receive_nil);
  c->lock.lock();
  const recv_status status = recv_now(who, c, to);
  if (status != recv_status::empty) return status == recv_status::received;
  waiter self;
  self.g = who.gp;
  self.element = to;
  enqueue(c->recv_head, c->recv_tail, &self);
  park(who, c->lock, wait_reason::chan_receive);
  return self.success;
}

recv_status chan_try_recv(hchan* c, void* to) {
  const caller who = enter();
  if (!c) return recv_status::empty;
  // Empty and open at one moment: closed is looked at second, and a closed channel was open before.
  if (c->capacity > 0 && c->count.load(std::memory_order_acquire) == 0 && !c->closed.load(std::memory_order_acquire))
    return recv_status::empty;
  c->lock.lock();
  const recv_status status = recv_now(who, c, to);
  if (status == recv_status::empty) c->lock.unlock();
  return status;
}

// The first receiver is made ready last, so it is the next to run.
void chan_close(hchan* c) {
  const caller who = enter();
  if (!c) throw nil_channel("close of nil channel");
  waiter* woken = nullptr;
  {
    lock_guard hold(c->lock);
    if (c->closed.load(std::memory_order_relaxed)) throw closed_channel("close of closed channel");
    c->closed.store(true, std::memory_order_release);
    take_all(c->recv_head, c->recv_tail, woken);
    take_all(c->send_head, c->send_tail, woken);
  }
  ready_all(who, woken);
}

}  // namespace weft::detail
