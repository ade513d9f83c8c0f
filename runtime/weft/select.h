// SPDX-License-Identifier: Apache-2.0
// Waiting for several channels at once. Go: the select statement, and reflect.Select.
//
//   weft::select(weft::on_recv(jobs, [&](std::optional<job> j) { … }),   // nullopt: closed and drained
//                weft::on_send(results, r),
//                weft::on_timeout(100ms, [&] { … }));
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include <weft/chan.h>
#include <weft/time.h>

namespace weft {
namespace detail {

enum class case_kind : std::uint8_t { receive, send, otherwise, timeout };

/// One case, as the runtime sees it.
struct select_op {
  case_kind kind;
  hchan* c = nullptr;
  void* element = nullptr;        // what to send, or where to receive
  std::int64_t when = INT64_MAX;  // of a timeout
};

struct select_result {
  std::size_t index;
  bool received;  // the case is a receive, and got a value
};

select_result select_ops(const select_op* ops, std::size_t n);

struct no_handler {
  void operator()() const noexcept {}
};

/// A channel that outlives the case: no reference is counted, which would cost as much as the select.
class borrowed_chan {
 public:
  explicit borrowed_chan(const chan_ref& c) noexcept : c_(c.get()) {}
  hchan* get() const noexcept { return c_; }

 private:
  hchan* c_;
};

/// How a case holds a channel that it was given as a Chan.
template <class Chan>
using held_chan = std::conditional_t<std::is_lvalue_reference_v<Chan>, borrowed_chan, chan_ref>;

template <class Chan>
using value_of = typename std::remove_cvref_t<Chan>::value_type;

template <class T, class F, class Held>
struct recv_case {
  Held c;
  F handler;
  element_slot<T> slot;
  select_op op() { return {case_kind::receive, c.get(), slot.raw}; }
  void run(bool received) {
    if constexpr (std::is_invocable_v<F&, std::optional<T>>) {
      handler(received ? slot.take() : std::optional<T>());
    } else {
      if (received) slot.take();
      handler();
    }
  }
};

template <class T, class F, class Held>
struct send_case {
  Held c;
  T value;
  F handler;
  select_op op() { return {case_kind::send, c.get(), std::addressof(value)}; }
  void run(bool) { handler(); }
};

/// Refers to the value where it is, so that it is untouched unless the case wins.
template <class T, class F, class Held>
struct send_from_case {
  Held c;
  T* value;
  F handler;
  select_op op() { return {case_kind::send, c.get(), value}; }
  void run(bool) { handler(); }
  send_case<T, F, Held> with_value() && { return {std::move(c), std::move(*value), std::move(handler)}; }
};

template <class F>
struct otherwise_case {
  F handler;
  select_op op() { return {case_kind::otherwise}; }
  void run(bool) { handler(); }
};

template <class F>
struct timeout_case {
  std::int64_t ns;
  F handler;
  select_op op() { return {case_kind::timeout, nullptr, nullptr, ns <= 0 ? 0 : deadline_after(ns)}; }
  void run(bool) { handler(); }
};

template <class Case>
concept select_part = requires(Case c) {
  { c.op() } -> std::same_as<select_op>;
  c.run(true);
};

}  // namespace detail

/// Receive from c, then call f(std::optional<T>), nullopt if it is closed and drained, or f(). A nil channel is never
/// ready. A case that is kept in a variable must not outlive the channel variable that it was made from, nor be used by
/// two at the same time; a select_case may outlive it. Go: case v, ok := <-c.
template <class Chan, class F = detail::no_handler>
requires std::is_convertible_v<Chan, recv_chan<detail::value_of<Chan>>>
auto on_recv(Chan&& c, F f = {}) {
  using held = detail::held_chan<Chan>;
  return detail::recv_case<detail::value_of<Chan>, F, held>{held(detail::chan_access::ref(c)), std::move(f), {}};
}

/// Send v on c, then call f(). An lvalue is copied; an rvalue of the channel's type stays where it is, must live until
/// select() returns, and is moved from only if the case wins. A closed channel makes select() throw closed_channel if
/// the case is chosen. What is said of a channel variable in on_recv() holds here too. Go: case c <- v.
template <class Chan, class V, class F = detail::no_handler>
requires std::is_convertible_v<Chan, send_chan<detail::value_of<Chan>>>
auto on_send(Chan&& c, V&& v, F f = {}) {
  using held = detail::held_chan<Chan>;
  using value = detail::value_of<Chan>;
  held channel(detail::chan_access::ref(c));
  if constexpr (std::is_same_v<V, value> && !std::is_trivially_copyable_v<value>)
    return detail::send_from_case<value, F, held>{std::move(channel), std::addressof(v), std::move(f)};
  else
    return detail::send_case<value, F, held>{std::move(channel), value(std::forward<V>(v)), std::move(f)};
}

/// If no other case can go on at once: call f(). Go: default.
template <class F = detail::no_handler>
auto otherwise(F f = {}) {
  return detail::otherwise_case<F>{std::move(f)};
}

/// If no other case could go on within d of the call of select(): call f(). d <= 0: at once, if nothing else is ready;
/// a huge d: never. Costs neither a goroutine nor a channel. Go: case <-time.After(d).
template <class Rep, class Period, class F = detail::no_handler>
auto on_timeout(std::chrono::duration<Rep, Period> d, F f = {}) {
  return detail::timeout_case<F>{detail::to_ns(d), std::move(f)};
}

/// Waits until one of the cases can go on, does it, calls its handler, and returns its index. Of several that can go on
/// at the same moment one is chosen, each with the same probability; with otherwise() it never waits; of several
/// timeouts the nearest counts. Without a case, or with none that can ever go on, it waits for ever. Throws
/// closed_channel if it has chosen a send on a closed channel, and what moving an element throws; what a handler throws
/// leaves select(), the operation has been done then. Any goroutine or foreign thread. Go: select.
template <class... Case>
requires(detail::select_part<std::remove_cvref_t<Case>>&&...) std::size_t select(Case&&... cases) {
  const std::array<detail::select_op, sizeof...(Case)> ops{cases.op()...};
  const detail::select_result result = detail::select_ops(ops.data(), ops.size());
  std::size_t i = 0;
  ((i++ == result.index ? cases.run(result.received) : void()), ...);
  return result.index;
}

/// Any of the cases above, for a set that is known only at run time. Movable; may be used in one select() after another
/// (a send case owns its value, and has given it away once it has won), but not in two at the same time. Making one
/// throws std::bad_alloc. Go: reflect.SelectCase.
class select_case {
 public:
  /// Takes over what on_recv(), on_send(), otherwise() or on_timeout() made.
  template <class Case>
  requires(detail::select_part<Case> && !std::is_same_v<Case, select_case>) select_case(Case c)
      : part_(part_from(std::move(c))) {}

  /// For select(): what to wait for.
  detail::select_op op() { return part_->op(); }
  /// For select(): calls the handler.
  void run(bool received) { part_->run(received); }

 private:
  struct part {
    virtual ~part() = default;
    virtual detail::select_op op() = 0;
    virtual void run(bool received) = 0;
  };
  template <class Case>
  struct part_of final : part {
    explicit part_of(Case from) : c(std::move(from)), channel(detail::chan_ref::shared(c.op().c)) {}
    detail::select_op op() override { return c.op(); }
    void run(bool received) override { c.run(received); }
    Case c;
    detail::chan_ref channel;  // the case may have borrowed it
  };
  template <class Case>
  static std::unique_ptr<part> part_from(Case c) {
    return std::make_unique<part_of<Case>>(std::move(c));
  }
  template <class T, class F, class Held>
  static std::unique_ptr<part> part_from(detail::send_from_case<T, F, Held> c) {
    return part_from(std::move(c).with_value());
  }
  std::unique_ptr<part> part_;
};

/// The same for cases that are known only at run time; the index is that in `cases`. Throws std::bad_alloc too, for
/// more than 16 cases. Go: reflect.Select.
std::size_t select(std::span<select_case> cases);

}  // namespace weft
