// SPDX-License-Identifier: Apache-2.0
// Timers and the deadlock report: it comes when nothing is pending any more, and not before. Each main runs in a child.
#include <weft/weft.h>

#include <string>
#include <thread>

#include "tests/child.h"
#include "tests/fixture.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

constexpr const char* kAllAsleep = "fatal error: all goroutines are asleep - deadlock!";

class timer_and_deadlock : public every_runtime {
 protected:
  template <class F>
  static child_result run_in_child(F main_fn) {
    return in_child({}, [&main_fn] { return weft::run(options(), main_fn); });
  }
  template <class F>
  static void expect_end(F main_fn) {
    const auto r = run_in_child(main_fn);
    EXPECT_TRUE(r.exited(0)) << r;
    EXPECT_EQ(r.err, "") << r;
  }
  template <class F>
  static void expect_deadlock(F main_fn, const std::string& state) {
    const auto r = run_in_child(main_fn);
    EXPECT_TRUE(r.exited(2)) << r;
    EXPECT_TRUE(r.err.starts_with(std::string(kAllAsleep) + "\n\ngoroutine 1 [" + state)) << r;
  }
};
WEFT_ON_FEW_RUNTIMES(timer_and_deadlock);

TEST_P(timer_and_deadlock, what_is_pending_is_no_deadlock) {
  expect_end([] {
    after(5ms).recv();
    timer(5ms).c().recv();
    const ticker beats(2ms);
    for (int i = 0; i < 3; ++i) select(on_recv(beats.c()), on_recv(make_chan<int>()));
    select(on_timeout(5ms));
    select(on_recv(chan<int>()), on_timeout(5ms));
    const auto c = make_chan<unit>();
    after_func(5ms, [c] { c.send({}); });
    c.recv();
  });
}

TEST_P(timer_and_deadlock, short_timers_are_never_missed_by_the_detector) {
  expect_end([] {
    const auto c = make_chan<unit>();
    for (int i = 0; i < 300; ++i) {
      after(std::chrono::microseconds(i % 50)).recv();
      select(on_recv(c), on_timeout(std::chrono::microseconds(i % 70)));
      after_func(std::chrono::microseconds(i % 60), [c] { c.send({}); });
      c.recv();
    }
  });
}

TEST_P(timer_and_deadlock, a_foreign_thread_that_sleeps_is_none) {
  expect_end([] {
    const auto c = make_chan<int>();
    std::thread thread([c] {
      sleep_for(20ms);
      select(on_timeout(5ms));
      after(5ms).recv();
      c.send(1);
    });
    c.recv();
    thread.join();
  });
}

// All Ps are idle, nobody has the watch, and sysmon sleeps for a second. Again if this machine is as slow as that.
TEST_P(timer_and_deadlock, a_timer_that_a_thread_starts_comes_on_time_when_all_sleep) {
  expect_end([] {
    const auto c = make_chan<std::string>();
    std::string first;
    for (int round = 0; round < 3 && first != "timer"; ++round) {
      wait_group calling;
      calling.go([c] {
        blocking([c] {
          while (!rt::sched.sysmon_asleep) sched_yield();
          after_func(50ms, [c] { c.send("timer"); });
          std::this_thread::sleep_for(600ms);
          c.send("late");
        });
      });
      first = c.recv().value_or("");
      c.recv();
      calling.wait();
    }
    if (first != "timer") std::fputs("the timer was late\n", stderr);
  });
}

TEST_P(timer_and_deadlock, is_reported_once_the_last_timer_is_stopped) {
  expect_deadlock(
      [] {
        timer t(1h), f = after_func(1h, [] {});
        ticker beats(1h);
        go([&] {
          sleep_for(1ms);
          t.stop();
          f.stop();
          beats.stop();
        });
        select(on_recv(t.c()), on_recv(beats.c()));
      },
      "select");
}

TEST_P(timer_and_deadlock, is_reported_once_the_last_has_fired) {
  expect_deadlock(
      [] {
        const timer t(1ms);
        t.c().recv();
        t.c().recv();
      },
      "chan receive");
}

TEST_P(timer_and_deadlock, timeouts_that_did_not_come_hold_no_report_up) {
  expect_deadlock(
      [] {
        const auto c = make_chan<int>(1);
        for (int i = 0; i < 10; ++i) {
          go([c] { c.send(1); });
          select(on_recv(c), on_timeout(1h));
        }
        timer unused(1h);
        select(on_recv(c), on_timeout(std::chrono::hours::max()));
      },
      "select");
}

TEST_P(timer_and_deadlock, the_timers_of_an_earlier_run_hold_no_report_up) {
  const auto r = in_child({}, [] {
    timer kept;
    weft::run(options(), [&kept] {
      kept = after_func(1h, [] {});
      after_func(1h, [] {});
      go([] { sleep_for(1h); });
      go([] { select(on_timeout(1h)); });
      yield();
    });
    return weft::run(options(), [] { make_chan<int>().recv(); });
  });
  EXPECT_TRUE(r.exited(2)) << r;
  EXPECT_TRUE(r.err.starts_with(kAllAsleep)) << r;
}

}  // namespace
