// SPDX-License-Identifier: Apache-2.0
// Channels: making, sending, receiving, closing. Go: chan.go. What happens under the lock is in chan_ops.h.
#include "weft/chan.h"

#include <new>

#include "runtime/chan_ops.h"

namespace weft::rt {
namespace {

constexpr std::size_t kMaxBytes = std::size_t{1} << 47;

std::size_t alignment(const detail::element_type* type) { return std::max(type->align, alignof(hchan)); }

// Releases the lock and readies who was won, at the end of an operation and when a move throws; unless park() does
// that, which the analysis of locks does not follow.
class operation {
 public:
  operation(const caller& who, hchan* c) : who_(who), c_(c) { c->lock.lock(); }
  ~operation() {
    if (c_) finish();
  }
  operation(const operation&) = delete;
  operation& operator=(const operation&) = delete;
  void finish() WEFT_NO_THREAD_SAFETY_ANALYSIS {
    c_->lock.unlock();
    c_ = nullptr;
    wake.ready_all(who_);
  }
  /// The lock goes to park().
  void leave_locked() { c_ = nullptr; }

  wake_list wake;

 private:
  const caller& who_;
  hchan* c_;
};

}  // namespace
}  // namespace weft::rt

namespace weft::detail {

using namespace weft::rt;

hchan* chan_make(const element_type* type, std::size_t capacity) {
  if (capacity > kMaxBytes / type->size) throw error("makechan: size out of range");
  const std::size_t align = alignment(type);
  const std::size_t header = (sizeof(hchan) + align - 1) / align * align;
  void* const p = ::operator new (header + capacity * type->size, std::align_val_t{align});
  hchan* const c = ::new (p) hchan;
  c->capacity = capacity;
  c->type = type;
  c->buffer = static_cast<std::byte*>(p) + header;
  return c;
}

void chan_free(hchan* c) noexcept {
  if (c->type->release) return c->type->release(c);
  for (std::size_t n = c->count.load(std::memory_order_relaxed); n > 0; --n) {
    destroy_element(c, slot(c, c->recv_index));
    advance(c, c->recv_index);
  }
  delete c->source;
  const std::size_t align = alignment(c->type);
  c->~hchan();
  ::operator delete (static_cast<void*>(c), std::align_val_t{align});
}

void chan_send(hchan* c, void* element) WEFT_NO_THREAD_SAFETY_ANALYSIS {
  entry who;
  if (!c) park_forever(who, wait_reason::chan_send_nil);
  operation op(who, c);
  const chan_status status = send_locked(c, element, op.wake);
  if (status == chan_status::done) [[likely]]
    return;
  if (status == chan_status::closed) throw_closed();
  waiter self;
  self.g = who.gp;
  self.element = element;
  std::exception_ptr failure;
  self.failure = &failure;
  enqueue(c->senders, &self);
  op.leave_locked();
  park(who, c->lock, wait_reason::chan_send);
  if (!self.success) throw_not_sent(std::move(failure));
}

bool chan_try_send(hchan* c, void* element) {
  entry who;
  if (!c || !may_send(c)) return false;
  operation op(who, c);
  const chan_status status = send_locked(c, element, op.wake);
  if (status == chan_status::closed) throw_closed();
  return status == chan_status::done;
}

bool chan_recv(hchan* c, void* to) WEFT_NO_THREAD_SAFETY_ANALYSIS {
  entry who;
  if (!c) park_forever(who, wait_reason::chan_receive_nil);
  operation op(who, c);
  const chan_status status = recv_locked(c, to, op.wake);
  if (status != chan_status::blocked) [[likely]]
    return status == chan_status::done;
  waiter self;
  self.g = who.gp;
  self.element = to;
  enqueue(c->receivers, &self);
  if (c->source) await_time(who, c);
  op.leave_locked();
  park(who, c->lock, wait_reason::chan_receive);
  return self.success;
}

recv_status chan_try_recv(hchan* c, void* to) {
  entry who;
  if (!c || !may_recv(c)) return recv_status::empty;
  operation op(who, c);
  switch (recv_locked(c, to, op.wake)) {
    case chan_status::done: return recv_status::received;
    case chan_status::blocked: return recv_status::empty;
    case chan_status::closed: break;
  }
  return recv_status::closed;
}

void chan_close(hchan* c) {
  entry who;
  if (!c) throw nil_channel("close of nil channel");
  operation op(who, c);
  if (c->closed.load(std::memory_order_relaxed)) throw closed_channel("close of closed channel");
  c->closed.store(true, std::memory_order_release);
  op.wake.add_all(c->receivers);
  op.wake.add_all(c->senders);
}

}  // namespace weft::detail
