// SPDX-License-Identifier: Apache-2.0
// Time: sleeping, timers, tickers. All of it works on foreign threads too.
//
// Durations are any std::chrono::duration; zero and less mean now, huge ones never. Times are of
// std::chrono::steady_clock.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include <weft/chan.h>
#include <weft/error.h>

namespace weft {

/// All of weft's times are of this clock.
using clock = std::chrono::steady_clock;
/// A time of weft::clock.
using time_point = clock::time_point;

namespace detail {

using call_fn = void (*)(void* closure);
struct call_timer;

void sleep_until_ns(std::int64_t when);
hchan* time_chan_make(std::int64_t due, std::int64_t period);
bool time_chan_stop(hchan* c);
bool time_chan_reset(hchan* c, std::int64_t due, std::int64_t period);
call_timer* call_timer_make(call_fn call, call_fn drop, void* closure);
void call_timer_drop(call_timer* t) noexcept;
bool call_timer_stop(call_timer* t);
bool call_timer_reset(call_timer* t, std::int64_t when);
void call_timer_fire(call_timer* t);  // now, whatever its time
std::int64_t now_ns() noexcept;

/// A duration in nanoseconds, rounded up, held within int64: "huge" means never.
template <class Rep, class Period>
std::int64_t to_ns(std::chrono::duration<Rep, Period> d) {
  using seconds = std::chrono::duration<long double>;
  constexpr long double kLimit = 9.2e18L;
  const long double ns = std::chrono::duration_cast<seconds>(d).count() * 1e9L;
  if (ns >= kLimit) return INT64_MAX;
  if (ns <= -kLimit) return INT64_MIN;
  return std::chrono::ceil<std::chrono::nanoseconds>(d).count();
}

/// The instant d from now; a sum that overflows is never.
inline std::int64_t deadline_after(std::int64_t ns) {
  const std::int64_t now = now_ns();
  return ns > INT64_MAX - now ? INT64_MAX : now + ns;
}

template <class Rep, class Period>
std::int64_t deadline_in(std::chrono::duration<Rep, Period> d) {
  return deadline_after(std::max<std::int64_t>(to_ns(d), 0));
}

template <class Rep, class Period>
std::int64_t interval(std::chrono::duration<Rep, Period> d) {
  const std::int64_t ns = to_ns(d);
  if (ns <= 0) throw error("non-positive interval for ticker");
  return ns;
}

struct drop_call_timer {
  void operator()(call_timer* t) const noexcept { call_timer_drop(t); }
};

/// A timer that has not been started: a function that may be called.
using call_ptr = std::unique_ptr<call_timer, drop_call_timer>;

/// Inlined, as are its callers up to the user's function, which dumps name as the goroutine's creator.
template <class F>
[[gnu::always_inline]] inline call_ptr make_call(F f) {
  auto closure = std::make_unique<F>(std::move(f));
  call_ptr call(call_timer_make([](void* p) { (*static_cast<F*>(p))(); }, [](void* p) { delete static_cast<F*>(p); },
                                closure.get()));
  closure.release();
  return call;
}

}  // namespace detail

/// Parks this goroutine (or foreign thread) for at least d; d <= 0 returns at once, a huge d never. Throws
/// std::bad_alloc. Go: time.Sleep.
template <class Rep, class Period>
void sleep_for(std::chrono::duration<Rep, Period> d) {
  const std::int64_t ns = detail::to_ns(d);
  if (ns > 0) detail::sleep_until_ns(detail::deadline_after(ns));
}

/// Parks this goroutine (or foreign thread) until `when` at the earliest. Throws std::bad_alloc. Go:
/// time.Sleep(time.Until(when)).
inline void sleep_until(time_point when) {
  detail::sleep_until_ns(std::chrono::ceil<std::chrono::nanoseconds>(when.time_since_epoch()).count());
}

/// One event in the future: a value on a channel, or (see after_func()) a call. Movable; a timer that was moved from,
/// or made by the default constructor, never fires. All members may be called from several goroutines and threads at
/// the same time. Nothing needs to be stopped: a timer whose channel nobody holds any more is gone. Go: time.Timer,
/// with the channels of Go 1.23.
class timer {
 public:
  timer() = default;
  /// Sends the time at which it was due on c(), d from now (d <= 0: at once, huge: never). Throws std::bad_alloc.
  /// Go: time.NewTimer.
  template <class Rep, class Period>
  explicit timer(std::chrono::duration<Rep, Period> d)
      : c_(detail::chan_ref(detail::time_chan_make(detail::deadline_in(d), 0))) {}

  /// Calls it off. True: it would have fired, and now will not, or its value had not been received and has been taken
  /// back. False: the value was received or the function's goroutine started, or the timer was stopped. After stop() no
  /// value of before comes out of the channel. Go: Timer.Stop.
  bool stop() {
    if (call_) return detail::call_timer_stop(call_.get());
    return c_.get() && detail::time_chan_stop(c_.get());
  }
  /// Lets it fire d from now instead; returns what stop() would have. No value of before comes out of the channel after
  /// this. Go: Timer.Reset.
  template <class Rep, class Period>
  bool reset(std::chrono::duration<Rep, Period> d) {
    const std::int64_t when = detail::deadline_in(d);
    if (call_) return detail::call_timer_reset(call_.get(), when);
    return c_.get() && detail::time_chan_reset(c_.get(), when, 0);
  }
  /// The channel; nil for after_func() and for a timer that was moved from. len() and cap() are 0. Go: Timer.C.
  recv_chan<time_point> c() const { return detail::chan_access::make<time_point>(c_); }

 private:
  detail::chan_ref c_;
  detail::call_ptr call_;
  template <class Rep, class Period, class F>
  friend timer after_func(std::chrono::duration<Rep, Period> d, F f);
};

/// Calls f in a goroutine of its own d from now, and again d after each reset(d). It does so when the timer that is
/// returned is gone, too; stop() calls it off. Throws std::bad_alloc. Go: time.AfterFunc.
template <class Rep, class Period, class F>
[[gnu::always_inline]] inline timer after_func(std::chrono::duration<Rep, Period> d, F f) {
  timer t;
  t.call_ = detail::make_call(std::move(f));
  detail::call_timer_reset(t.call_.get(), detail::deadline_in(d));
  return t;
}

/// A channel that gets the time once, d from now. Throws std::bad_alloc. Go: time.After.
template <class Rep, class Period>
recv_chan<time_point> after(std::chrono::duration<Rep, Period> d) {
  return timer(d).c();
}

/// Sends the time on c() every d, in phase with its start; a tick that comes before the last was received is dropped.
/// Not copyable; movable. Thread-safe as a timer is. Go: time.Ticker.
class ticker {
 public:
  /// The first tick comes d from now. Throws `error` ("non-positive interval for ticker"), std::bad_alloc.
  /// Go: time.NewTicker.
  template <class Rep, class Period>
  explicit ticker(std::chrono::duration<Rep, Period> d) {
    const std::int64_t ns = detail::interval(d);
    c_ = detail::chan_ref(detail::time_chan_make(detail::deadline_after(ns), ns));
  }
  /// The other one has no channel after that.
  ticker(ticker&&) noexcept = default;
  /// The same.
  ticker& operator=(ticker&&) noexcept = default;

  /// No more ticks, and none of before comes out of the channel, which stays open. Go: Ticker.Stop.
  void stop() {
    if (c_.get()) detail::time_chan_stop(c_.get());
  }
  /// A new interval, whose first tick comes d from now. Throws `error` as the constructor does. Go: Ticker.Reset.
  template <class Rep, class Period>
  void reset(std::chrono::duration<Rep, Period> d) {
    const std::int64_t ns = detail::interval(d);
    if (c_.get()) detail::time_chan_reset(c_.get(), detail::deadline_after(ns), ns);
  }
  /// The channel. len() and cap() are 0. Go: Ticker.C.
  recv_chan<time_point> c() const { return detail::chan_access::make<time_point>(c_); }

 private:
  detail::chan_ref c_;
};

}  // namespace weft
