// SPDX-License-Identifier: Apache-2.0
// Contexts: how a request that is over, late or given up is told to everybody who works on it. Go: package context.
//
//   auto [ctx, cancel] = weft::with_timeout(parent, 100ms);
//   weft::go([ctx = ctx, jobs] {
//     weft::select(weft::on_recv(jobs, work), weft::on_recv(ctx.done(), [] { … }));
//   });
//   cancel();
//
// Contexts form a tree: one that is cancelled cancels all below it, and none above. What is no longer referred to is
// gone, cancelled or not: calling cancel() is not needed to free anything, only to cancel.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <system_error>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include <weft/chan.h>
#include <weft/time.h>

namespace weft {
namespace detail {

struct cancel_node;
struct context_node;
void context_release(context_node* n) noexcept;

/// A counted reference to a node of the tree of contexts; null stands for the background.
class context_ref {
 public:
  context_ref() = default;
  explicit context_ref(context_node* adopted) noexcept : n_(adopted) {}
  inline context_ref(const context_ref& other) noexcept;
  context_ref(context_ref&& other) noexcept : n_(other.detach()) {}
  context_ref& operator=(context_ref other) noexcept {
    std::swap(n_, other.n_);
    return *this;
  }
  ~context_ref() {
    if (n_) context_release(n_);
  }
  context_node* get() const noexcept { return n_; }
  context_node* detach() noexcept { return std::exchange(n_, nullptr); }

 private:
  context_node* n_ = nullptr;
};

/// What all nodes have. A node keeps its parent.
struct context_node {
  inline explicit context_node(context_ref up) noexcept;
  context_node(const context_node&) = delete;
  context_node& operator=(const context_node&) = delete;
  virtual ~context_node() = default;
  /// Its value, if it has one of this type.
  virtual const void* value_of(const std::type_info&) const noexcept { return nullptr; }
  /// The last reference is gone. The parent is still there.
  virtual void dispose() noexcept { delete this; }

  std::atomic<std::uint32_t> references{1};
  context_ref parent;
  cancel_node* canceller;  // the nearest that can be cancelled, from here on upwards; null: none
};

inline context_ref::context_ref(const context_ref& other) noexcept : n_(other.n_) {
  if (n_) n_->references.fetch_add(1, std::memory_order_relaxed);
}

inline context_node::context_node(context_ref up) noexcept
    : parent(std::move(up)), canceller(parent.get() ? parent.get()->canceller : nullptr) {}

template <class T>
struct value_node final : context_node {
  value_node(context_ref up, T&& v) : context_node(std::move(up)), value(std::move(v)) {}
  const void* value_of(const std::type_info& type) const noexcept override {
    return type == typeid(T) ? std::addressof(value) : nullptr;
  }
  T value;
};

/// What lets its holder cancel a context: while there is one, the context may end yet.
class cancel_handle {
 public:
  cancel_handle() = default;
  explicit cancel_handle(context_ref adopted) noexcept : node_(std::move(adopted)) {}
  cancel_handle(const cancel_handle& other) noexcept;
  cancel_handle(cancel_handle&&) noexcept = default;
  cancel_handle& operator=(cancel_handle other) noexcept {
    std::swap(node_, other.node_);
    return *this;
  }
  ~cancel_handle();
  void cancel(std::exception_ptr cause) const noexcept;

 private:
  context_ref node_;
};

struct context_access;

}  // namespace detail

/// A deadline, a signal that says stop, and values, for one request, handed down to all who work on it. A copyable
/// reference; two that are equal are the same context. All members may be called from any goroutine and any foreign
/// thread at the same time. The default constructor makes the background. Go: context.Context.
class context {
 public:
  context() = default;
  /// The root: never cancelled, without deadline and values. Go: context.Background.
  static context background() noexcept { return {}; }

  /// A channel that is closed when this context is cancelled or its deadline passes; nil if it can never be. The same
  /// channel every time. Go: Context.Done.
  recv_chan<unit> done() const;
  /// Why done() was closed: errc::operation_canceled or errc::timed_out; none before that. Once it tells a reason
  /// done() is closed, and the other way round, and never changes. Never none after the deadline. A scheduling point,
  /// so a loop may poll it. Go: Context.Err.
  std::error_code err() const;
  /// The time at which it is cancelled at the latest, its parents' included. Go: Context.Deadline.
  std::optional<time_point> deadline() const;
  /// The value of type T that was attached last, by this context or the nearest above it; null: none. Lives as long as
  /// a context at or below the one that it was attached to. Go: Context.Value, by type instead of key.
  template <class T>
  const T* value() const {
    return static_cast<const T*>(find(typeid(T)));
  }
  /// The same context.
  friend bool operator==(const context& a, const context& b) noexcept { return a.node_.get() == b.node_.get(); }

 private:
  explicit context(detail::context_ref node) noexcept : node_(std::move(node)) {}
  const void* find(const std::type_info& type) const noexcept;
  detail::context_ref node_;
  friend struct detail::context_access;
};

/// Cancels the context that it was made with, and all below it, with errc::operation_canceled. Copyable; callable any
/// number of times (the first counts, also against the deadline), from any goroutine, foreign thread and destructor.
/// When it returns all below has ended. It waits for nobody. One made by the default constructor does nothing. Go:
/// context.CancelFunc.
class cancel_func {
 public:
  cancel_func() = default;
  /// Cancels.
  void operator()() const noexcept { handle_.cancel(nullptr); }

 private:
  explicit cancel_func(detail::cancel_handle handle) noexcept : handle_(std::move(handle)) {}
  detail::cancel_handle handle_;
  friend struct detail::context_access;
};

/// The same, with an exception that says why; see cause(). Go: context.CancelCauseFunc.
class cancel_cause_func {
 public:
  cancel_cause_func() = default;
  /// Cancels; null: without a cause of its own.
  void operator()(std::exception_ptr why = nullptr) const noexcept { handle_.cancel(std::move(why)); }

 private:
  explicit cancel_cause_func(detail::cancel_handle handle) noexcept : handle_(std::move(handle)) {}
  detail::cancel_handle handle_;
  friend struct detail::context_access;
};

/// Calls an after_func() of a context off. True: it will not run because of this call. False: it was started, or called
/// off before. Copyable, may be dropped; thread-safe. Waits for nobody. Go: what context.AfterFunc returns.
class stop_func {
 public:
  /// Calls it off.
  bool operator()() const noexcept;

 private:
  explicit stop_func(detail::context_ref node) noexcept : node_(std::move(node)) {}
  detail::context_ref node_;
  friend struct detail::context_access;
};

/// What with_cancel(), with_timeout() and with_deadline() return, for `auto [ctx, cancel] = …`.
struct cancelable {
  context ctx;         ///< the new context
  cancel_func cancel;  ///< what cancels it
};

/// What with_cancel_cause() returns, for `auto [ctx, cancel] = …`.
struct cause_cancelable {
  context ctx;               ///< the new context
  cancel_cause_func cancel;  ///< what cancels it
};

namespace detail {

struct context_access {
  static context make(context_ref node) noexcept { return context(std::move(node)); }
  static context_ref take(context&& c) noexcept { return std::move(c.node_); }
  static context_node* node(const context& c) noexcept { return c.node_.get(); }
  template <class Func, class Part>
  static Func func(Part part) noexcept {
    return Func(std::move(part));
  }
};

cancelable context_until(context parent, std::int64_t when);
stop_func context_after(const context& ctx, call_ptr f);

}  // namespace detail

/// A context below `parent` that can be cancelled by itself. Throws std::bad_alloc. Go: context.WithCancel.
[[nodiscard]] cancelable with_cancel(context parent);

/// The same with a cause: after `cancel(e)` cause() tells e for it and all below it. Go: context.WithCancelCause.
[[nodiscard]] cause_cancelable with_cancel_cause(context parent);

/// A context below `parent` that is cancelled at `when`, with errc::timed_out, or with its parent if that is earlier. A
/// time that has passed: at once; time_point::max(): as with_cancel(). Cancelling it stops its timer. Throws
/// std::bad_alloc. Go: context.WithDeadline.
template <class Duration>
[[nodiscard]] cancelable with_deadline(const context& parent, std::chrono::time_point<clock, Duration> when) {
  return detail::context_until(parent, detail::to_ns(when.time_since_epoch()));
}

/// with_deadline() d from now: d <= 0 at once, a huge d never. Throws std::bad_alloc. Go: context.WithTimeout.
template <class Rep, class Period>
[[nodiscard]] cancelable with_timeout(const context& parent, std::chrono::duration<Rep, Period> d) {
  return detail::context_until(parent, detail::deadline_in(d));
}

/// A context as `parent`, with a value; done(), err() and deadline() are the parent's. value<T>() finds it by its type,
/// so give it a type of its own. All who have the context may read it at the same time. Throws std::bad_alloc, and what
/// copying or moving the value throws. Go: context.WithValue.
template <class T>
[[nodiscard]] context with_value(context parent, T value) {
  return detail::context_access::make(detail::context_ref(
      new detail::value_node<T>(detail::context_access::take(std::move(parent)), std::move(value))));
}

/// A context with the parent's values that is never cancelled and has no deadline. Throws std::bad_alloc.
/// Go: context.WithoutCancel.
[[nodiscard]] context without_cancel(context parent);

/// Why ctx was cancelled: what the cancel_cause_func was given that cancelled it or the nearest cancelled parent, else
/// a std::system_error with err(); null while it is not cancelled. Go: context.Cause.
std::exception_ptr cause(const context& ctx);

/// Calls f in a goroutine of its own once ctx is cancelled; at once if it is already. The function that is returned
/// calls it off. f is kept until it has run or never can. Without an active run() f gets a thread.
/// Throws std::bad_alloc. Go: context.AfterFunc.
template <class F>
[[gnu::always_inline]] inline stop_func after_func(const context& ctx, F f) {
  return detail::context_after(ctx, detail::make_call(std::move(f)));
}

}  // namespace weft
