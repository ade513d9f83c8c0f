// SPDX-License-Identifier: Apache-2.0
// select. Go: select.go.
//
// 1. Look at each channel without its lock, and choose at random one of those whose case seems ready; lock that one
//    channel and try. Most selects that find something ready end here, having taken one lock.
// 2. Lock all channels, by address so that two selects cannot wait for each other, and try again in the same order:
// only
//    with all locks held is it certain that no case could go on at this moment, which otherwise() needs.
// 3. Queue a waiter on each, all with the same race (waitq.h), start the timer of the nearest timeout, park. The locks
//    are released once the context is saved. Whoever takes one of the waiters out of its queue and wins the race does
//    that case; the timer takes part in the race.
// 4. Awake: take the other waiters out of their queues, each under its channel's lock.
//
// Nothing is allocated for up to kSmall cases.
#include "weft/select.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "runtime/chan_ops.h"
#include "runtime/clock.h"

namespace weft::rt {
namespace {

using detail::case_kind;
using detail::select_op;
using detail::select_result;

constexpr std::size_t kSmall = 16;
constexpr std::size_t kNone = SIZE_MAX;

// An array on the stack, or on the heap if it is large.
template <class T>
class small_array {
 public:
  explicit small_array(std::size_t n) : data_(n <= kSmall ? reinterpret_cast<T*>(small_) : new_array(n)) {
    std::uninitialized_default_construct_n(data_, n);
  }
  T& operator[](std::size_t i) { return data_[i]; }
  T* begin() { return data_; }

 private:
  T* new_array(std::size_t n) {
    large_ = std::make_unique_for_overwrite<std::byte[]>(n * sizeof(T));
    return reinterpret_cast<T*>(large_.get());
  }
  static_assert(alignof(T) <= alignof(std::max_align_t) && std::is_trivially_destructible_v<T>);
  alignas(T) std::byte small_[kSmall * sizeof(T)];
  std::unique_ptr<std::byte[]> large_;
  T* data_;
};

rng& foreign_rng() {
  thread_local rng random(cputicks());
  return random;
}

rng& random_of(caller who) { return who.mp ? who.mp->held->random : foreign_rng(); }

// Tries case i under the locks of `locked`, that of its channel among them; releases them if it returns true or throws.
bool attempt(caller who, const select_op* ops, std::size_t i, const lock_set& locked, select_result& result) {
  const select_op& op = ops[i];
  const bool send = op.kind == case_kind::send;
  wake_list wake;
  chan_status status;
  try {
    status = send ? send_locked(op.c, op.element, wake) : recv_locked(op.c, op.element, wake);
  } catch (...) {
    unlock_all(locked);
    wake.ready_all(who);
    throw;
  }
  if (status == chan_status::blocked) return false;
  unlock_all(locked);
  wake.ready_all(who);
  if (send && status == chan_status::closed) throw_closed();
  result = {i, status == chan_status::done};
  return true;
}

bool seems_ready(const select_op& op) {
  if (!op.c) return false;
  return op.kind == case_kind::send ? may_send(op.c) : may_recv(op.c);
}

bool try_one(caller who, const select_op* ops, std::size_t n, select_result& result) WEFT_NO_THREAD_SAFETY_ANALYSIS {
  std::size_t chosen = kNone;
  std::uint32_t seen = 0;
  // From anywhere: a partner that comes while we look makes only the cases ready that are looked at later.
  std::size_t i = n > 1 ? random_of(who).below(static_cast<std::uint32_t>(n)) : 0;
  for (std::size_t left = n; left > 0; --left, i = i + 1 == n ? 0 : i + 1)
    if (seems_ready(ops[i]) && (++seen == 1 || random_of(who).below(seen) == 0)) chosen = i;
  if (chosen == kNone) return false;
  core_lock* lock = &ops[chosen].c->lock;
  lock->lock();
  if (attempt(who, ops, chosen, {&lock, 1}, result)) return true;
  lock->unlock();
  return false;
}

// What has not been done by try_one(). The analysis of locks follows no sets of them: what takes or releases one here
// is exempt.
class selecting {
 public:
  selecting(entry& who, const select_op* ops, std::size_t n)
      : who_(who), ops_(ops), order_(n), locks_(n), channels_(n), waiters_(n) {
    for (std::size_t i = 0; i < n; ++i) add(i);
    shuffle();
  }

  select_result run() {
    for (;;) {
      select_result result;
      if (otherwise_ == kNone && cases_ == 0 && deadline_ == kNever) park_forever(who_, wait_reason::select_no_cases);
      lock_all();
      if (try_all(result)) return result;
      if (otherwise_ != kNone || (deadline_ != kNever && deadline_ <= nanotime())) {
        unlock_all(locked_);
        return {otherwise_ != kNone ? otherwise_ : timeout_, false};
      }
      if (wait(result)) return result;
    }
  }

 private:
  void add(std::size_t i) {
    const select_op& op = ops_[i];
    switch (op.kind) {
      case case_kind::otherwise: otherwise_ = i; break;
      case case_kind::timeout:
        if (op.when < deadline_ || timeout_ == kNone) {
          deadline_ = op.when;
          timeout_ = i;
        }
        break;
      case case_kind::receive:
      case case_kind::send:
        if (op.c) order_[cases_++] = static_cast<std::uint32_t>(i);
    }
  }

  void shuffle() {
    rng& random = random_of(who_);
    for (std::size_t i = cases_; i > 1; --i)
      std::swap(order_[i - 1], order_[random.below(static_cast<std::uint32_t>(i))]);
  }

  void lock_all() WEFT_NO_THREAD_SAFETY_ANALYSIS {
    for (std::size_t k = 0; k < cases_; ++k) channels_[k] = ops_[order_[k]].c;
    std::sort(channels_.begin(), channels_.begin() + cases_, std::less<>());
    hchan** const end = std::unique(channels_.begin(), channels_.begin() + cases_);
    locked_ = {locks_.begin(), 0};
    for (hchan** c = channels_.begin(); c != end; ++c) {
      (*c)->lock.lock();
      locks_[locked_.n++] = &(*c)->lock;
    }
  }

  bool try_all(select_result& result) {
    for (std::size_t k = 0; k < cases_; ++k)
      if (attempt(who_, ops_, order_[k], locked_, result)) return true;
    return false;
  }

  // With all locks, which it releases. False: begin anew.
  bool wait(select_result& result) WEFT_NO_THREAD_SAFETY_ANALYSIS {
    time_limit limit(who_.gp);
    std::exception_ptr failure;
    for (std::size_t k = 0; k < cases_; ++k) {
      const select_op& op = ops_[order_[k]];
      waiter& w = waiters_[k] = waiter{};
      w.g = who_.gp;
      w.element = op.element;
      w.race = &limit.race;
      w.failure = &failure;
      enqueue(op.kind == case_kind::send ? op.c->senders : op.c->receivers, &w);
      if (op.c->source) await_time(who_, op.c);
    }
    if (deadline_ != kNever) locks_[locked_.n++] = &arm_to_park(who_, limit, deadline_);
    park_all(who_, locked_, wait_reason::select);
    if (deadline_ != kNever) disarm(limit);
    waiter* const winner = limit.race.load(std::memory_order_acquire);
    leave_queues(winner);
    if (winner == &detail::timed_out) {
      result = {timeout_, false};
      return true;
    }
    if (winner->again) return false;
    const std::size_t i = order_[static_cast<std::size_t>(winner - waiters_.begin())];
    if (ops_[i].kind == case_kind::send && !winner->success) throw_not_sent(std::move(failure));
    result = {i, winner->success};
    return true;
  }

  void leave_queues(const waiter* winner) {
    for (std::size_t k = 0; k < cases_; ++k) {
      waiter& w = waiters_[k];
      if (&w == winner) continue;
      const select_op& op = ops_[order_[k]];
      lock_guard hold(op.c->lock);
      if (w.queued) dequeue(op.kind == case_kind::send ? op.c->senders : op.c->receivers, &w);
      if (op.c->source) leave_time(op.c);
    }
  }

  entry& who_;
  const select_op* ops_;
  std::size_t cases_ = 0;  // receives and sends on channels that are not nil
  std::size_t otherwise_ = kNone, timeout_ = kNone;
  std::int64_t deadline_ = kNever;
  lock_set locked_{};
  small_array<std::uint32_t> order_;  // of the cases
  small_array<core_lock*> locks_;
  small_array<hchan*> channels_;
  small_array<waiter> waiters_;  // by place in order_
};

}  // namespace
}  // namespace weft::rt

namespace weft {

detail::select_result detail::select_ops(const select_op* ops, std::size_t n) {
  rt::entry who;
  select_result result;
  if (rt::try_one(who, ops, n, result)) return result;
  return rt::selecting(who, ops, n).run();
}

std::size_t select(std::span<select_case> cases) {
  rt::small_array<detail::select_op> ops(cases.size());
  for (std::size_t i = 0; i < cases.size(); ++i) ops[i] = cases[i].op();
  const detail::select_result result = detail::select_ops(ops.begin(), cases.size());
  cases[result.index].run(result.received);
  return result.index;
}

}  // namespace weft
