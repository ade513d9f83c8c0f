// SPDX-License-Identifier: Apache-2.0
// A poll descriptor: what the runtime knows of one file descriptor that goroutines and threads wait for. Go: pollDesc
// and poll.FD.
//
// Its lock guards it; nobody holds that over a system call. An operation counts as a user from begin to end, so the
// number is closed, and can be given to another file, only when no operation is in the kernel any more; close_desc()
// wakes those that wait, so that they come back. Descriptors are never freed, but used again: an event that the poller
// has got for the file of before is known by its tag, the upper half of which counts the uses.
//
// Deadlines are times, not flags: whoever is about to wait compares. The one timer, set for the next of them, wakes
// those that wait already. When it fires it looks at the times again, so if they were moved meanwhile, or the
// descriptor is used for another file, it does no harm.
//
// A thread that is no M, or an M inside blocking(), waits in poll(2), with or without a run(). The poller of a run()
// may see its edge first: whoever takes it out of `waiting`, under the lock, has won.
//
// A goroutine that its run() has left behind never gives its turn back. The end of the run() takes it from it, and so
// does whoever comes before that; the next one in the queue has it then, and is told. So the descriptor can be used on.
// One that was waiting is no user any more, so the descriptor can be closed as well. Any other may be in a call: it
// stays a user, which keeps the number from being given to another file. If its M still runs, it finds that the turn is
// gone where it would pass it on, or wait.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <system_error>

#include "runtime/lock.h"
#include "runtime/poll_side.h"
#include "runtime/timers.h"

namespace weft::detail {

enum class direction : std::uint8_t { read, write };

struct poll_desc {
  struct side : rt::poll_side<waiter, wait_queue> {
    std::int64_t deadline = rt::kNever;
    std::int64_t pause = rt::kNever;  // the holder waits until then at most, and goes on
    bool foreign_holder = false;      // whose turn it is, if it is taken: a thread's that is no M,
    std::uint32_t holder_run = 0;     // or a goroutine's of this run()
  };
  struct deadline_timer : rt::heap_timer {
    explicit deadline_timer(poll_desc* of);
    poll_desc* const desc;
  };

  explicit poll_desc(std::uint32_t number) : index(number), timer(this) {}
  side& at(direction way) WEFT_REQUIRES(lock) { return sides[static_cast<std::size_t>(way)]; }

  const std::uint32_t index;
  rt::core_lock lock;
  int fd WEFT_GUARDED_BY(lock) = -1;
  std::uint32_t use WEFT_GUARDED_BY(lock) = 0;
  int users WEFT_GUARDED_BY(lock) = 0;
  bool owned WEFT_GUARDED_BY(lock) = false;
  bool closing WEFT_GUARDED_BY(lock) = false;
  bool may_drain WEFT_GUARDED_BY(lock) = false;  // less than asked for means that no more is there
  std::array<side, 2> sides WEFT_GUARDED_BY(lock);
  std::atomic<std::uint32_t> registered{0};  // in the poller of this generation; only users touch it
  std::atomic<std::uint64_t> place{0};       // where: the generation, and below it the share
  deadline_timer timer;
  poll_desc* next_free = nullptr;  // guarded by the pool's lock
};

}  // namespace weft::detail

namespace weft::rt {

using detail::direction;
using detail::poll_desc;

inline std::error_code system_code(int number) { return {number, std::system_category()}; }

/// Whether a short read means that the file is drained: so it is with TCP.
enum class short_read : bool { may_have_more, is_all };

/// A descriptor for fd, which must not block, and is closed with it. Null: no memory; fd is closed.
poll_desc* adopt_fd(int fd, short_read kind = short_read::may_have_more);
/// All that wait fail with EBADF, and all later calls; the file is closed once no operation uses it. May be repeated.
void close_desc(poll_desc* d);
/// close_desc(), and its owner forgets it.
void drop_desc(poll_desc* d);
/// For these directions; kNever: none. One in the past makes all that wait fail with ETIMEDOUT.
void set_deadlines(poll_desc* d, bool read, bool write, std::int64_t when);
/// A run() has ended: the turns that its goroutines have go to those that wait for them.
void free_turns_left_behind();

struct harvest;
struct caller;

/// What the kernel has told of the file with this tag. Goroutines to be made ready are added.
struct poll_news {
  bool readable, writable, last;  // last: perhaps no edge will follow
};
void take_news(std::uint64_t tag, poll_news news, harvest& woken);

/// Keeps the file open for a call that does not wait, and so needs no turn.
class poll_use {
 public:
  poll_use(poll_desc* d, std::error_code& error);
  ~poll_use();
  poll_use(const poll_use&) = delete;
  poll_use& operator=(const poll_use&) = delete;
  int fd() const { return fd_; }

 private:
  poll_desc* d_ = nullptr;
  int fd_ = -1;
};

enum class amount : bool { all_asked_for, less };

/// An operation on a descriptor in one direction, with its turn. try_again() tells whether to make the system call:
///
///   poll_operation op(d, direction::read, error);
///   while (op.try_again()) {
///     ... recv(op.fd(), …): if it would block, op.would_block(), else done ...
///   }
class poll_operation {
 public:
  /// Waits for its turn. `error` is cleared, or says why there is none.
  poll_operation(poll_desc* d, direction way, std::error_code& error);
  ~poll_operation() {
    if (d_) end();
  }
  poll_operation(const poll_operation&) = delete;
  poll_operation& operator=(const poll_operation&) = delete;

  /// True at first, and after again(); after would_block() or pause_until() once there is reason to try. False: it is
  /// done, or there is an error.
  bool try_again();
  void would_block() { next_ = step::wait; }
  void again() { next_ = step::look; }
  /// The next try comes with the next edge, at this time at the latest.
  void pause_until(std::int64_t when) {
    pause_ = when;
    next_ = step::wait;
  }
  /// What the last call got.
  void got(amount what) { drained_ = what == amount::less; }
  int fd() const { return fd_; }

 private:
  enum class step : std::uint8_t { look, wait, stop };

  int take_turn(caller& who, detail::waiter& self, bool first);
  void end();
  bool wait();
  int wait_for_edge(caller& who, detail::waiter& self, std::int64_t until);
  bool fail(int why);

  poll_desc* d_;
  const direction way_;
  step next_ = step::stop;
  bool has_turn_ = false;
  bool drained_ = false;
  int fd_ = -1;
  int file_ = -1;  // to be closed: this was the last user
  std::uint64_t tag_ = 0;
  std::int64_t pause_ = kNever;
  std::error_code& error_;
};

}  // namespace weft::rt
