// SPDX-License-Identifier: Apache-2.0
// Channels: typed queues on which goroutines (and foreign threads) meet. Go's meaning throughout.
//
// Waiters are served in order of arrival. An operation allocates nothing. Any T will do that can be moved; if its move
// constructor throws, the exception goes to whoever moved (for an element that moves up from a waiting sender into the
// buffer: to that sender), the value stays where it was, and the channel goes on.
//
// chan<T> is a thin typed face of detail::hchan, which runtime/chan.cpp implements once for all T.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include <weft/error.h>
#include <weft/wait_list.h>

namespace weft {

namespace rt {
struct time_source;
}

/// Stands where Go writes struct{}.
struct unit {
  friend bool operator==(unit, unit) = default;
};

/// What try_recv() found.
enum class recv_status {
  received,  ///< a value
  empty,     ///< none at the moment
  closed     ///< none ever again: the channel is closed and drained
};

/// What try_recv() returns. Go: what `v, ok := <-c` assigns.
template <class T>
struct try_recv_result {
  recv_status status;      ///< how it went
  std::optional<T> value;  ///< the value, if one was received
};

namespace detail {

struct hchan;

/// How to move and destroy an element; trivially copyable ones are moved by memcpy (move_construct is null).
struct element_type {
  std::size_t size;
  std::size_t align;
  void (*move_construct)(void* to, void* from);  // also destroys nothing: `from` stays a moved-from object
  void (*destroy)(void* element);
  void (*release)(hchan* c) noexcept =
      nullptr;  // for channels that are part of something else: instead of freeing them
};

template <class T>
inline constexpr element_type kElementType = {
    sizeof(T), alignof(T),
    std::is_trivially_copyable_v<T> ? nullptr
                                    : +[](void* to, void* from) { ::new (to) T(std::move(*static_cast<T*>(from))); },
    std::is_trivially_destructible_v<T> ? nullptr : +[](void* element) { static_cast<T*>(element)->~T(); }};

/// A channel. One allocation holds it and its buffer. All but the constants is guarded by `lock`. Go: runtime.hchan.
struct hchan {
  std::atomic<std::uint32_t> references{1};
  core_lock lock;
  std::atomic<std::size_t> count{0};  // elements in the buffer; written under the lock, read by len() without
  std::size_t capacity;
  const element_type* type;
  std::byte* buffer;
  std::size_t send_index = 0, recv_index = 0;
  std::atomic<bool> closed{false};
  wait_queue receivers, senders;
  rt::time_source* source = nullptr;  // of a timer's or ticker's channel
};

hchan* chan_make(const element_type* type, std::size_t capacity);
void chan_free(hchan* c) noexcept;
void chan_send(hchan* c, void* element);
bool chan_try_send(hchan* c, void* element);
bool chan_recv(hchan* c, void* to);
recv_status chan_try_recv(hchan* c, void* to);
void chan_close(hchan* c);

template <class T>
struct element_slot {
  alignas(T) std::byte raw[sizeof(T)];
  T* get() noexcept { return std::launder(reinterpret_cast<T*>(raw)); }
  std::optional<T> take() {
    struct destroy {
      T* t;
      ~destroy() { t->~T(); }
    } at_end{get()};
    return std::optional<T>(std::move(*at_end.t));
  }
};

/// The counted reference that all three faces of a channel hold.
class chan_ref {
 public:
  chan_ref() = default;
  explicit chan_ref(hchan* adopted) noexcept : c_(adopted) {}
  static chan_ref shared(hchan* c) noexcept {
    if (c) c->references.fetch_add(1, std::memory_order_relaxed);
    return chan_ref(c);
  }
  chan_ref(const chan_ref& other) noexcept : c_(other.c_) {
    if (c_) c_->references.fetch_add(1, std::memory_order_relaxed);
  }
  chan_ref(chan_ref&& other) noexcept : c_(std::exchange(other.c_, nullptr)) {}
  chan_ref& operator=(chan_ref other) noexcept {
    std::swap(c_, other.c_);
    return *this;
  }
  ~chan_ref() {
    if (c_ && c_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) chan_free(c_);
  }
  hchan* get() const noexcept { return c_; }

 private:
  hchan* c_ = nullptr;
};

struct chan_access;

}  // namespace detail

template <class T>
class chan;

/// The receiving view of a channel: a copyable reference, nil by default. Thread-safe as chan is. Go: <-chan T.
template <class T>
class recv_chan {
 public:
  using value_type = T;  ///< what comes out
  recv_chan() = default;

  /// Parks until a value comes and returns it; nullopt once the channel is closed and drained. Nil: for ever. Throws
  /// what moving the value throws. Go: <-c.
  std::optional<T> recv() const {
    detail::element_slot<T> slot;
    if (!detail::chan_recv(c_.get(), slot.raw)) return std::nullopt;
    return slot.take();
  }
  /// Takes a value if one can be had at once. Nil: empty. Throws as recv() does. Go: select with default.
  try_recv_result<T> try_recv() const {
    detail::element_slot<T> slot;
    const recv_status status = detail::chan_try_recv(c_.get(), slot.raw);
    if (status != recv_status::received) return {status, std::nullopt};
    return {status, slot.take()};
  }
  /// Elements in the buffer now. Nil, and channels of timers: 0. Go: len(c).
  std::size_t len() const { return c_.get() ? c_.get()->count.load(std::memory_order_relaxed) : 0; }
  /// Elements that the buffer has room for. Nil, and channels of timers: 0. Go: cap(c).
  std::size_t cap() const { return c_.get() ? c_.get()->capacity : 0; }
  /// Not nil.
  explicit operator bool() const { return c_.get() != nullptr; }
  /// The same channel.
  friend bool operator==(const recv_chan& a, const recv_chan& b) { return a.c_.get() == b.c_.get(); }

  /// Receives until the channel is closed and drained. For one goroutine.
  class iterator {
   public:
    using value_type = T;                               ///< what comes out
    using difference_type = std::ptrdiff_t;             ///< of no use
    using iterator_category = std::input_iterator_tag;  ///< each value comes once
    iterator() = default;
    /// Receives the first value.
    explicit iterator(const recv_chan* c) : c_(c) { ++*this; }
    /// The value, which may be moved out.
    T&& operator*() const { return std::move(*value_); }
    /// Receives the next value.
    iterator& operator++() {
      value_ = c_->recv();
      return *this;
    }
    /// The same.
    void operator++(int) { ++*this; }
    /// The channel is closed and drained.
    bool operator==(std::default_sentinel_t) const { return !value_.has_value(); }

   private:
    const recv_chan* c_ = nullptr;
    mutable std::optional<T> value_;
  };
  /// for (T v : c): receives until the channel is closed and drained. Go: for v := range c.
  iterator begin() const { return iterator(this); }
  /// The end that begin() comes to.
  std::default_sentinel_t end() const { return {}; }

 protected:
  /// For chan.
  explicit recv_chan(detail::chan_ref c) : c_(std::move(c)) {}
  detail::chan_ref c_;  ///< null: nil
  friend class chan<T>;
  friend struct detail::chan_access;
};

/// The sending view of a channel: a copyable reference, nil by default. Thread-safe as chan is. Go: chan<- T.
template <class T>
class send_chan {
 public:
  using value_type = T;  ///< what goes in
  send_chan() = default;

  /// Sends v, parking until a receiver or room takes it. Throws closed_channel ("send on closed channel"), also when
  /// the channel is closed meanwhile, and what moving v throws. Nil: for ever. Go: c <- v.
  void send(T v) const { detail::chan_send(c_.get(), std::addressof(v)); }
  /// Sends if that can be done at once; false: it would block, and the value is untouched. Nil: false. Throws as send()
  /// does. Go: select with default.
  bool try_send(T&& v) const { return detail::chan_try_send(c_.get(), std::addressof(v)); }
  /// The same with a copy.
  bool try_send(const T& v) const requires std::is_copy_constructible_v<T> {
    T copy(v);
    return detail::chan_try_send(c_.get(), std::addressof(copy));
  }
  /// Closes the channel: receivers drain it and then get nullopt, senders get closed_channel. Throws closed_channel
  /// ("close of closed channel") or nil_channel ("close of nil channel"). Takes time in proportion to those who wait.
  /// Go: close(c).
  void close() const { detail::chan_close(c_.get()); }
  /// As recv_chan's.
  std::size_t len() const { return c_.get() ? c_.get()->count.load(std::memory_order_relaxed) : 0; }
  /// As recv_chan's.
  std::size_t cap() const { return c_.get() ? c_.get()->capacity : 0; }
  /// Not nil.
  explicit operator bool() const { return c_.get() != nullptr; }
  /// The same channel.
  friend bool operator==(const send_chan& a, const send_chan& b) { return a.c_.get() == b.c_.get(); }

 private:
  explicit send_chan(detail::chan_ref c) : c_(std::move(c)) {}
  detail::chan_ref c_;
  friend class chan<T>;
  friend struct detail::chan_access;
};

/// A reference to a channel, copyable as in Go; chan<T>{} is nil. All members may be called from any goroutine and any
/// foreign thread at the same time. Go: chan T.
template <class T>
class chan : public recv_chan<T> {
 public:
  using value_type = T;  ///< what goes in and comes out
  chan() = default;
  /// For make_chan().
  explicit chan(detail::hchan* adopted) : recv_chan<T>(detail::chan_ref(adopted)) {}

  /// The sending view.
  operator send_chan<T>() const { return send_chan<T>(this->c_); }

  /// As send_chan's.
  void send(T v) const { detail::chan_send(this->c_.get(), std::addressof(v)); }
  /// As send_chan's.
  bool try_send(T&& v) const { return detail::chan_try_send(this->c_.get(), std::addressof(v)); }
  /// As send_chan's.
  bool try_send(const T& v) const requires std::is_copy_constructible_v<T> {
    T copy(v);
    return detail::chan_try_send(this->c_.get(), std::addressof(copy));
  }
  /// As send_chan's.
  void close() const { detail::chan_close(this->c_.get()); }
  /// The same channel.
  friend bool operator==(const chan& a, const chan& b) { return a.c_.get() == b.c_.get(); }
};

namespace detail {

/// For the other headers.
struct chan_access {
  template <class Chan>
  static const chan_ref& ref(const Chan& c) {
    return c.c_;
  }
  template <class T>
  static recv_chan<T> make(const chan_ref& c) {
    return recv_chan<T>(c);
  }
};

}  // namespace detail

/// Makes a channel with room for `capacity` elements; 0: unbuffered. Throws `error` ("makechan: size out of range") for
/// sizes that no memory can hold, std::bad_alloc when it is short. Go: make(chan T, capacity).
template <class T>
chan<T> make_chan(std::size_t capacity = 0) {
  return chan<T>(detail::chan_make(&detail::kElementType<T>, capacity));
}

}  // namespace weft
