// SPDX-License-Identifier: Apache-2.0
// Timers that call a function in a goroutine of its own. Go: time.AfterFunc.
//
// A call_timer is referred to by its handle, by the heap that it is in, and by each call that is under way.
#include <pthread.h>
#include <thread>

#include "runtime/clock.h"
#include "runtime/park.h"
#include "runtime/timers.h"
#include "weft/time.h"

namespace weft::detail {

struct call_timer : rt::heap_timer {
  call_timer(call_fn fn, call_fn destroy, void* data, std::uintptr_t maker)
      : heap_timer(expire),
        call(fn),
        drop(destroy),
        closure(data),
        run(rt::sched.run.load(std::memory_order_relaxed)),
        creator_pc(maker),
        creator_id(current_goroutine_id()) {
    end = rt::sched.active.load(std::memory_order_acquire) ? rt::at_end::expires : rt::at_end::goes_on;
  }
  ~call_timer() { drop(closure); }
  static rt::expiry expire(heap_timer& t);

  std::atomic<int> references{1};
  rt::core_lock lock;  // serialises stop and reset
  const call_fn call, drop;
  void* const closure;
  const std::uint32_t run;
  const std::uintptr_t creator_pc;  // of the goroutines that it starts: who made it
  const std::uint64_t creator_id;
};

}  // namespace weft::detail

namespace weft::rt {
namespace {

using detail::call_timer;

struct call {
  explicit call(call_timer* t) : timer(t) {}
  call(call&& other) noexcept : timer(std::exchange(other.timer, nullptr)) {}
  call(const call&) = delete;
  ~call() {
    if (timer) detail::call_timer_drop(timer);
  }
  void operator()() const { timer->call(timer->closure); }
  call_timer* timer;
};

// A timer that was made outside of any run() goes on for ever; any other ends with its run().
bool over(const call_timer& t) {
  return t.end != at_end::goes_on &&
         (!sched.active.load(std::memory_order_acquire) || t.run != sched.run.load(std::memory_order_relaxed));
}

// False: there is no run() any more, or another one than the timer's.
bool start_goroutine(call& one) {
  try {
    const detail::new_goroutine fresh = detail::newproc({}, sizeof(call), alignof(call));
    if (one.timer->end != at_end::goes_on && fresh.g->run != one.timer->run) {
      detail::newproc_abort(fresh.g);
      return false;
    }
    fresh.g->creator_pc = one.timer->creator_pc;
    fresh.g->creator_id = one.timer->creator_id;
    ::new (fresh.storage) call(std::move(one));
    detail::newproc_start(fresh.g, detail::closure_main<call>);
  } catch (const error&) {
    return false;
  }
  return true;
}

// In a goroutine; a timer that goes on has none while there is no run(), and gets a thread.
void fire(void* argument) {
  call one(static_cast<call_timer*>(argument));
  if (over(*one.timer)) return;
  try {
    if (sched.active.load(std::memory_order_acquire) && start_goroutine(one)) return;
    if (one.timer->end == at_end::goes_on) std::thread(std::move(one)).detach();
  } catch (const std::exception& e) {
    fatal_throw("", std::string("no goroutine for a timer's function: ") + e.what());
  }
}

void start(call_timer* t, std::int64_t when) {
  if (over(*t)) return;
  t->references.fetch_add(1, std::memory_order_relaxed);
  arm(any_caller(), *t, when);
}

bool stop(call_timer* t) {
  if (!disarm(*t)) return false;
  t->references.fetch_sub(1, std::memory_order_relaxed);  // the heap's; the caller has one
  return true;
}

}  // namespace
}  // namespace weft::rt

namespace weft::detail {

using namespace weft::rt;

// The heap's reference goes to the call.
expiry call_timer::expire(heap_timer& t) { return {nullptr, fire, &static_cast<call_timer&>(t)}; }

call_timer* call_timer_make(call_fn call, call_fn drop, void* closure) {
  return new call_timer(call, drop, closure, reinterpret_cast<std::uintptr_t>(__builtin_return_address(0)));
}

void call_timer_drop(call_timer* t) noexcept {
  if (t->references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete t;
}

bool call_timer_stop(call_timer* t) {
  const entered_lock hold(t->lock);
  return stop(t);
}

bool call_timer_reset(call_timer* t, std::int64_t when) {
  const entered_lock hold(t->lock);
  const bool pending = stop(t);
  start(t, before_never(when));
  return pending;
}

void call_timer_fire(call_timer* t) {
  t->references.fetch_add(1, std::memory_order_relaxed);
  fire(t);
}

}  // namespace weft::detail
