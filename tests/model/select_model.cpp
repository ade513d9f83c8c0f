// SPDX-License-Identifier: Apache-2.0
// select and waits with a time limit: a waiter that can be woken from several sides is woken by one.
//
// Everybody ends, and is woken only when it has stopped. A value is received just when its sender was told that it was
// sent. Afterwards no waiter is in a queue and no timer in a heap, and nobody looks at a frame that is gone.
//
// Mutations that it catches (mutations.sh): a race that is not run, or that two can win; losers that stay in their
// queues; a heap that is unlocked before the context is saved; a timer that is left in the heap.
#include "tests/model/waiting.h"

namespace {

using namespace weft::model;
using result = waiting::result;

using two_cases = std::array<waiting::select_case, 2>;

/// A wait with a limit, somebody who wakes it, and the timer.
struct timed_wait : suite<timed_wait, 3> {
  waiting w;
  result waited;

  void before() { w.chan_at(0).capacity = 1; }
  void thread(unsigned index) {
    if (index == 0) waited = w.recv(0, 0, true);
    if (index == 1) w.send(1, 0, 9);
    if (index == 2) w.run_timer(2);
  }
  void after() {
    const bool got = waited.how == outcome::done;
    require(got == (w.chan_at(0).count == 0), "the value is there unless it was received");
    require(got ? waited.value == 9 : waited.how == outcome::timed_out, "there is no third way");
    w.check_empty();
  }
};

/// The same with nobody else: it ends by its time.
struct timer_alone : suite<timer_alone, 2> {
  waiting w;
  result waited;

  void thread(unsigned index) {
    if (index == 0)
      waited = w.select(0, two_cases{{{false, 0, 0}, {true, 1, 1}}}, true);
    else
      while (!w.expire()) fences::relax();
  }
  void after() {
    require(waited.how == outcome::timed_out, "its time was up");
    w.check_empty();
  }
};

/// A select of two receives, with a limit, and a sender on each channel.
struct two_partners : suite<two_partners, 4> {
  waiting w;
  result chosen;

  void before() {
    for (auto& c : w.chans) c.capacity = 1;
  }
  void thread(unsigned index) {
    const int number = static_cast<int>(index);
    if (index == 0) chosen = w.select(0, two_cases{{{false, 0, 0}, {false, 1, 0}}}, true);
    if (index == 1 || index == 2) w.send(number, number - 1, number);
    if (index == 3) w.run_timer(3);
  }
  void after() {
    const int left = w.chan_at(0).count + w.chan_at(1).count;
    if (chosen.how == outcome::timed_out) {
      require(left == 2, "who gives up receives nothing");
    } else {
      require(left == 1 && w.chan_at(chosen.which).count == 0, "one value is received");
      require(chosen.value == chosen.which + 1, "that of the case that ran");
    }
    w.check_empty();
  }
};

/// Two wait on one channel, one of them with a limit, perhaps as the second in the queue.
struct limit_behind : suite<limit_behind, 4> {
  waiting w;
  std::array<result, 2> waited;

  void before() { w.chan_at(0).capacity = 1; }
  void thread(unsigned index) {
    if (index == 0) waited[0] = w.recv(0, 0);
    if (index == 1) waited[1] = w.recv(1, 0, true);
    if (index == 2) {
      w.send(2, 0, 4);
      w.close(0);
    }
    if (index == 3) w.run_timer(2);
  }
  void after() {
    const int received = (waited[0].how == outcome::done ? 1 : 0) + (waited[1].how == outcome::done ? 1 : 0);
    require(received + w.chan_at(0).count == 1, "the value is received once or is there");
    w.check_empty();
  }
};

/// A select and two receivers on one channel: one that was taken off in vain must not take others off when it leaves.
struct among_others : suite<among_others, 4> {
  waiting w;

  void before() {
    for (auto& c : w.chans) c.capacity = 1;
  }
  void thread(unsigned index) {
    const int number = static_cast<int>(index);
    if (index == 0) w.select(0, two_cases{{{false, 0, 0}, {false, 1, 0}}});
    if (index == 1 || index == 2) w.recv(number, 0);
    if (index < 3) return;
    w.send(3, 1, 1);
    w.send(3, 0, 2);
    w.close(0);
    w.close(1);
  }
  void after() { w.check_empty(); }
};

/// Two selects that both send and receive on one channel: they meet each other, and neither itself.
struct each_other : suite<each_other, 2> {
  waiting w;
  std::array<result, 2> chosen;

  void thread(unsigned index) {
    const int number = static_cast<int>(index);
    chosen[index] = w.select(number, two_cases{{{true, 0, number + 1}, {false, 0, 0}}});
  }
  void after() {
    require(chosen[0].which != chosen[1].which, "one sends, the other receives");
    for (int i : {0, 1})
      if (chosen[static_cast<std::size_t>(i)].which == 1)
        require(chosen[static_cast<std::size_t>(i)].value == 2 - i, "what the other sent");
    w.check_empty();
  }
};

/// Two selects on the same two channels, and one value on each.
struct two_selects : suite<two_selects, 4> {
  waiting w;
  std::array<result, 2> chosen;

  void thread(unsigned index) {
    const int number = static_cast<int>(index);
    if (index <= 1)
      chosen[index] = w.select(number, two_cases{{{false, 0, 0}, {false, 1, 0}}});
    else
      w.send(number, number - 2, number);
  }
  void after() {
    require(chosen[0].value + chosen[1].value == 5 && chosen[0].which != chosen[1].which, "each gets one");
    w.check_empty();
  }
};

}  // namespace

int main(int argc, char** argv) {
  checker check("select", argc, argv);
  check.random<timed_wait>("timed wait", 30000);
  check.random<timer_alone>("timer alone", 10000);
  check.random<two_partners>("two partners and a timer", 40000);
  check.random<limit_behind>("a limit behind another", 40000);
  check.random<among_others>("a select among others", 60000);
  check.random<each_other>("two that meet", 20000);
  check.random<two_selects>("two selects", 40000);
  return check.finish();
}
