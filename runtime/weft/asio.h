// SPDX-License-Identifier: Apache-2.0
// Boost.Asio on weft: an execution context whose handlers run in goroutines. Not part of <weft/weft.h>: who includes it
// has Boost.Asio (1.74 or newer), which weft itself does not need.
//
//   weft::run([] {
//     weft::asio_context context;
//     boost::asio::ip::tcp::acceptor acceptor(context, endpoint);   // or any other I/O object, timer, strand
//     acceptor.async_accept([](auto error, auto socket) { … });      // called in a goroutine of its own
//     …
//   });
//
// One goroutine waits for all of Asio's files and timers, in a blocking() call; each handler, and each step of an
// awaitable<>, is started as a goroutine, where it may block as a goroutine can: on channels, locks, in blocking().
// Handlers of one object may run at the same time, as they do with several threads in io_context::run(); a strand keeps
// them apart.
//
// Asio's strand notes in a thread-local whose handler the thread runs. So a handler in a strand has to stay on its
// thread: one that may park calls lock_os_thread() first, and unlock_os_thread() at its end.
#pragma once

#include <atomic>
#include <boost/asio/execution.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

#include <weft/runtime.h>
#include <weft/sync.h>

namespace weft {

/// A place for Asio's I/O objects, which are destroyed before it. It must be destroyed before the run() ends in which
/// it was made, and not by one of its handlers. Thread safety: as io_context. What takes it for an io_context& has
/// handlers that are called by the goroutine that waits for all files, and should not block.
class asio_context : public boost::asio::io_context {
  // A handler's place among those that run, until it is destroyed.
  class turn {
   public:
    explicit turn(asio_context& context) : context_(&context) {
      const std::lock_guard hold(context.lock_);
      ++context.running_;
    }
    turn(turn&&) noexcept = default;
    turn& operator=(turn&&) = delete;

    bool still_wanted() const { return !context_->stopped_.load(std::memory_order_acquire); }

   private:
    struct end {
      void operator()(asio_context* context) const {
        const std::lock_guard hold(context->lock_);
        if (--context->running_ == 0) context->ended_.notify_all();
      }
    };
    std::unique_ptr<asio_context, end> context_;
  };

  template <class F>
  struct handler {
    turn running;  // ends after the function is destroyed
    F function;

    void operator()() {
      if (running.still_wanted()) function();
    }
  };

 public:
  /// Starts each function that it is given as a goroutine.
  class executor_type {
   public:
    /// @cond
    explicit executor_type(asio_context& of) noexcept : context_(&of) {}

    template <class F>
    void execute(F&& f) const {
      turn mine(*context_);
      if (mine.still_wanted()) go(handler<std::decay_t<F>>{std::move(mine), std::forward<F>(f)});
    }

    boost::asio::execution_context& query(boost::asio::execution::context_t) const noexcept { return *context_; }
    static constexpr boost::asio::execution::blocking_t query(boost::asio::execution::blocking_t) noexcept {
      return boost::asio::execution::blocking.never;
    }
    static constexpr boost::asio::execution::mapping_t query(boost::asio::execution::mapping_t) noexcept {
      return boost::asio::execution::mapping.thread;
    }
    executor_type require(boost::asio::execution::blocking_t::never_t) const noexcept { return *this; }

    friend bool operator==(const executor_type& a, const executor_type& b) noexcept { return a.context_ == b.context_; }
    friend bool operator!=(const executor_type& a, const executor_type& b) noexcept { return !(a == b); }
    /// @endcond

   private:
    asio_context* context_;
  };

  /// In a goroutine. Throws std::bad_alloc, and what io_context throws.
  asio_context() : io_context(1) {
    waiting_.go([this] { blocking([this] { run(); }); });
  }
  /// Waits for the handlers that run. Those that have not begun, and those of operations under way, are destroyed and
  /// not called.
  ~asio_context() {
    stopped_.store(true, std::memory_order_release);
    {
      std::unique_lock hold(lock_);
      ended_.wait(hold, [this] { return running_ == 0; });
    }
    stop();
    waiting_.wait();
    shutdown();  // destroys handlers, which may still use this
  }

  /// Any number of them are the same.
  executor_type get_executor() noexcept { return executor_type(*this); }

 private:
  mutex lock_;
  condition_variable ended_;
  std::size_t running_ = 0;
  std::atomic<bool> stopped_{false};
  const boost::asio::executor_work_guard<io_context::executor_type> kept_{io_context::get_executor()};
  wait_group waiting_;
};

}  // namespace weft
