// SPDX-License-Identifier: Apache-2.0
// poll_side: one or two readers of a file into which a writer puts pieces, with the poller between them, and one that
// closes it. Around it, as in poll_desc.cpp and netpoll.cpp:
//
//   file    a count of bytes; the writer adds to it, and announces it afterwards, as the kernel does
//   poller  takes an announcement, which means whatever has been added before; edge() under the lock; wakes
//   reader  takes its turn, may_look(), reads outside the lock up to kRoom bytes, must_wait(), parks; if it got less
//           than there was room for, the side is drained
//   close   gives up the one that waits, and all that wait for their turn
//
//   read    the readers get all that was written: no edge is lost, whether it comes before the call, in it, after it or
//           while somebody waits; one has the turn at a time
//   close   everybody ends
//
// Mutations that it catches (mutations.sh): an edge is not kept, or announced too early; may_look() leaves the edge of
// before, or comes after the call; must_wait() does not look for an edge; a drained side keeps out who has an edge; the
// turn is taken twice, or passed without telling; give_up() leaves the waiter in place; close() forgets some.
#include "tests/model/waiting.h"

#include "runtime/poll_side.h"

namespace {

using namespace weft::model;

using waiter = waiting::waiter;
using side = weft::rt::poll_side<waiter, waiting::queue, plain<bool>, plain<waiter*>>;

template <int kReaders, int kPieces, bool Closed>
struct reading : suite<reading<kReaders, kPieces, Closed>, kReaders + 2 + (Closed ? 1 : 0)> {
  static constexpr int kRoom = 2;
  template <class T>
  using atomic = checked_atomic<T, false>;

  waiting::lock guard;
  side s;
  plain<bool> closing;
  std::array<waiter, kReaders> waiters;
  std::array<atomic<int>, kReaders> woken;
  var<int> holder;  // whose turn it is, and 1
  atomic<int> there, announced, written, got, done;

  void thread(unsigned index) {
    const int number = static_cast<int>(index);
    if (number < kReaders) return read_all(number);
    if (number == kReaders) return write_all();
    if (number == kReaders + 1) return poll_all();
    close();
  }
  void after() {
    require(Closed || got.load(std::memory_order_relaxed) == kPieces, "all that was written is read");
    require(!weft::rt::first_of(s.turns), "nobody is left in the queue");
  }

  template <class Array>
  static auto& at(Array& array, int i) {
    return array[static_cast<std::size_t>(i)];
  }

  void write_all() {
    for (int i = 0; i < kPieces; ++i) {
      there.fetch_add(1, std::memory_order_acq_rel);
      announced.store(1, std::memory_order_release);
    }
    written.store(1, std::memory_order_release);
  }

  void poll_all() {
    while (done.load(std::memory_order_acquire) < kReaders) {
      if (announced.exchange(0, std::memory_order_acq_rel) == 0) {
        fences::relax();
        continue;
      }
      guard.take();
      waiter* const w = s.edge();
      guard.give();
      if (w) wake(w);
    }
  }

  void close() {
    guard.take();
    closing = true;
    waiter* const w = s.give_up();
    weft::rt::taken_waiters<waiter> others;
    others.add_all(s.turns);
    guard.give();
    if (w) wake(w);
    others.wake_all([this](const waiter* each) { wake(each); });
  }

  void wake(const waiter* w) { at(woken, w->thread).store(1, std::memory_order_release); }
  void park(int number) {
    guard.give();
    while (at(woken, number).exchange(0, std::memory_order_acquire) == 0) fences::relax();
  }

  void read_all(int number) {
    at(waiters, number).thread = number;
    while (got.load(std::memory_order_acquire) < kPieces && read_some(number)) {
    }
    done.fetch_add(1, std::memory_order_acq_rel);
  }

  /// False: closed.
  bool read_some(int number) {
    waiter& self = at(waiters, number);
    if (!take_turn(number, self)) return false;
    holder.set(number + 1);
    bool open = true;
    guard.take();
    bool look = s.may_look();
    guard.give();
    int n = 0;
    while (open && got.load(std::memory_order_acquire) < kPieces) {
      if (look && (n = take()) > 0) break;
      open = wait(number, self);
      look = true;
    }
    require(holder.get() == number + 1, "nobody else has had the turn");
    got.fetch_add(n, std::memory_order_acq_rel);
    pass_turn(n > 0 && n < kRoom);
    return open;
  }

  int take() {
    int n = there.load(std::memory_order_acquire);
    while (n > 0) {
      const int part = n < kRoom ? n : kRoom;
      if (there.compare_exchange_strong(n, n - part, std::memory_order_acq_rel, std::memory_order_acquire)) return part;
    }
    return 0;
  }

  bool take_turn(int number, waiter& self) {
    for (;;) {
      guard.take();
      if (closing) {
        guard.give();
        return false;
      }
      if (s.take_turn(&self)) {
        guard.give();
        return true;
      }
      park(number);
      if (self.success) return true;
    }
  }
  void pass_turn(bool drained) {
    guard.take();
    if (drained) s.drained = true;
    waiter* const next = weft::rt::take_first(s.turns);
    s.pass_turn(next);
    // The last ones wait for what will never come; the program ends here.
    if (waiter* const w = got.load(std::memory_order_acquire) == kPieces ? s.give_up() : nullptr) wake(w);
    guard.give();
    if (next) wake(next);
  }
  bool wait(int number, waiter& self) {
    for (;;) {
      guard.take();
      const bool go_on = closing || !s.must_wait(&self);
      if (go_on) {
        const bool open = !closing;
        if (open) s.drained = !s.may_look();
        guard.give();
        return open;
      }
      park(number);
      if (self.success) return true;
    }
  }
};

}  // namespace

int main(int argc, char** argv) {
  checker check("poll", argc, argv);
  check.random<reading<1, 3, false>>("one reader", 60000);
  check.random<reading<2, 4, false>>("two readers", 60000);
  check.random<reading<2, 2, true>>("two readers, closed", 60000);
  check.bounded<reading<1, 2, false>>("one reader, bounded", 3);
  return check.finish();
}
