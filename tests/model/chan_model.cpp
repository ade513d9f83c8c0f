// SPDX-License-Identifier: Apache-2.0
// A channel, with or without a buffer, while it is closed: plain senders and receivers, and a select among them.
//
// Everybody ends: a wake-up that is lost is a deadlock. What is received was sent, once, by somebody who was told so;
// who was told that the channel is closed has sent nothing. Nobody looks at a frame that is gone.
//
// Mutations that it catches (mutations.sh): a waiter without a race that is not taken out of its queue, or only half;
// close() that forgets senders, or does not look whether it won; send and receive that do; locks that do not order.
#include "tests/model/waiting.h"

namespace {

using namespace weft::model;

// What each thread was told.
struct ledger {
  std::array<waiting::result, waiting::kThreads> said;
  waiting::result& operator[](unsigned i) { return said[i]; }
  bool sent(unsigned i) { return said[i].how == outcome::done; }
};

/// A sender and two receivers on one channel that is closed meanwhile.
template <int Capacity>
struct closing : suite<closing<Capacity>, 4> {
  waiting w;
  ledger say;

  void before() { w.chan_at(0).capacity = Capacity; }
  void thread(unsigned index) {
    const int number = static_cast<int>(index);
    if (index == 0) say[0] = w.send(0, 0, 7);
    if (index == 1 || index == 2) say[index] = w.recv(number, 0);
    if (index == 3) w.close(0);
  }
  void after() {
    int received = 0;
    for (unsigned i : {1u, 2u}) {
      if (say[i].how != outcome::done) continue;
      ++received;
      require(say[i].value == 7, "what is received was sent");
    }
    require(received + w.chan_at(0).count == (say.sent(0) ? 1 : 0), "each value is received once, or nobody sent it");
    w.check_empty();
  }
};

/// Two senders wait, one behind the other, while the channel is received from and closed.
template <int Capacity>
struct senders : suite<senders<Capacity>, 4> {
  waiting w;
  ledger say;

  void before() { w.chan_at(0).capacity = Capacity; }
  void thread(unsigned index) {
    const int number = static_cast<int>(index);
    if (index <= 1) say[index] = w.send(number, 0, 5 + number);
    if (index == 2) say[2] = w.recv(2, 0);
    if (index == 3) w.close(0);
  }
  void after() {
    const int sent = (say.sent(0) ? 5 : 0) + (say.sent(1) ? 6 : 0);
    const int received = say[2].how == outcome::done ? say[2].value : 0;
    require(received + (w.chan_at(0).count > 0 ? int(w.chan_at(0).slot) : 0) == sent, "what was sent is there");
    w.check_empty();
  }
};

/// Two senders and a buffer for one: the second goes on as soon as there is room again.
struct full_buffer : suite<full_buffer, 3> {
  waiting w;
  int received = 0;

  void before() { w.chan_at(0).capacity = 1; }
  void thread(unsigned index) {
    const int number = static_cast<int>(index);
    if (index <= 1)
      w.send(number, 0, 5 + number);
    else
      received = w.recv(2, 0).value;
  }
  void after() {
    require(w.chan_at(0).count == 1 && received + w.chan_at(0).slot == 11, "one is received, one is there");
    w.check_empty();
  }
};

/// A select that would send on the one channel or receive from the other, while the first is closed and the second is
/// sent to.
struct select_and_close : suite<select_and_close, 3> {
  waiting w;
  ledger say;

  void before() { w.chan_at(1).capacity = 1; }
  void thread(unsigned index) {
    if (index == 0) say[0] = w.select(0, std::array<waiting::select_case, 2>{{{true, 0, 3}, {false, 1, 0}}});
    if (index == 1) w.close(0);
    if (index == 2) say[2] = w.send(2, 1, 4);
  }
  void after() {
    require(say[0].which == 0 ? say[0].how == outcome::closed : say[0].how == outcome::done && say[0].value == 4,
            "the case that ran was ready");
    require(w.chan_at(1).count == (say[0].which == 0 ? 1 : 0), "the value is there unless it was received");
    w.check_empty();
  }
};

}  // namespace

int main(int argc, char** argv) {
  checker check("chan", argc, argv);
  check.random<closing<0>>("close, unbuffered", 40000);
  check.random<closing<1>>("close, buffered", 20000);
  check.random<senders<0>>("two senders, unbuffered", 40000);
  check.random<senders<1>>("two senders, buffered", 20000);
  check.random<full_buffer>("a full buffer", 20000);
  check.random<select_and_close>("select and close", 40000);
  return check.finish();
}
