// SPDX-License-Identifier: Apache-2.0
// Sleeping, timers, tickers, timed waits.
#include <weft/select.h>
#include <weft/sync.h>
#include <weft/time.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "runtime/clock.h"
#include "runtime/park.h"
#include "tests/counting_new.h"
#include "tests/fixture.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

class sleeping : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(sleeping);

template <class Rep, class Period>
void expect_to_sleep_at_least(std::chrono::duration<Rep, Period> d) {
  const time_point start = clock::now();
  sleep_for(d);
  EXPECT_GE(clock::now() - start, d);
}

TEST_P(sleeping, never_ends_before_its_time) {
  in_main([] {
    expect_to_sleep_at_least(1ns);
    expect_to_sleep_at_least(999ns);
    expect_to_sleep_at_least(50us);
    expect_to_sleep_at_least(1ms);
    expect_to_sleep_at_least(std::chrono::duration<double>(0.0015));
    expect_to_sleep_at_least(std::chrono::duration<float, std::micro>(70.5F));
    const time_point when = clock::now() + 1ms;
    sleep_until(when);
    EXPECT_GE(clock::now(), when);
  });
}

TEST_P(sleeping, for_no_time_or_less_does_not_wait_for_a_timer) {
  in_main([] {
    const int before = parked(wait_reason::sleep);
    std::atomic<bool> stop{false};
    wait_group done;
    done.go([&stop] {
      while (!stop) {
        sleep_for(0s);
        sleep_for(-1ns);
        sleep_for(-1h);
        sleep_for(std::chrono::nanoseconds::min());
        sleep_for(std::chrono::hours::min());
        sleep_for(std::chrono::duration<double>(-1e300));
        sleep_until(clock::now());
        sleep_until(clock::now() - 1h);
        sleep_until(time_point::min());
        yield();
      }
    });
    for (int i = 0; i < 100; ++i) {
      EXPECT_EQ(parked(wait_reason::sleep), before);
      yield();
    }
    stop = true;
    done.wait();
  });
}

TEST_P(sleeping, for_ever_is_what_a_time_beyond_the_clock_means) {
  leaving_goroutines([] {
    const int before = parked(wait_reason::sleep);
    const auto for_ever = [](auto sleep) {
      go([sleep] {
        sleep();
        ADD_FAILURE() << "for ever is over";
      });
    };
    for_ever([] { sleep_for(std::chrono::nanoseconds::max()); });
    for_ever([] { sleep_for(std::chrono::hours::max()); });
    for_ever([] { sleep_for(std::chrono::duration<double>(1e300)); });
    for_ever([] { sleep_for(std::chrono::hours(24 * 365 * 290)); });
    for_ever([] { sleep_until(time_point::max()); });
    EXPECT_TRUE(eventually_parked(wait_reason::sleep, before, 5));
    sleep_for(2ms);
    EXPECT_EQ(parked(wait_reason::sleep), before + 5);
  });
}

TEST_P(sleeping, others_run_meanwhile) {
  in_main([] {
    std::atomic<bool> awake{false};
    go([&awake] {
      sleep_for(2ms);
      awake = true;
    });
    int turns = 0;
    EXPECT_TRUE(eventually([&] {
      ++turns;
      return awake.load();
    }));
    EXPECT_GT(turns, 1);
  });
}

TEST_P(sleeping, the_main_goroutine_alone_wakes_up) {
  in_main([] {
    for (int i = 0; i < scaled(20); ++i) expect_to_sleep_at_least(200us);
  });
}

TEST_P(sleeping, of_many_lengths_at_once) {
  in_main([] {
    wait_group done;
    for (int i = 0; i < scaled(500); ++i)
      done.go([i] {
        for (int round = 0; round < 3; ++round) expect_to_sleep_at_least(std::chrono::microseconds(i * 37 % 2000));
      });
    done.wait();
  });
}

TEST_P(sleeping, a_short_sleep_is_not_held_up_by_long_ones) {
  leaving_goroutines([] {
    const auto long_ones_over = std::make_shared<std::atomic<int>>(0);
    for (int i = 0; i < 20; ++i)
      go([long_ones_over, i] {
        sleep_for(kPatience + std::chrono::milliseconds(i));
        ++*long_ones_over;
      });
    wait_group done;
    for (int i = 0; i < 10; ++i)
      done.go([] {
        for (int round = 0; round < 5; ++round) sleep_for(100us);
      });
    done.wait();
    EXPECT_EQ(*long_ones_over, 0);
  });
}

TEST_P(sleeping, many_short_sleeps_beside_many_timers_end) {
  in_main([] {
    wait_group done;
    for (int i = 0; i < scaled(500); ++i)
      done.go([] {
        for (int round = 0; round < 10; ++round) sleep_for(10us);
      });
    const auto ping = make_chan<int>(), pong = make_chan<int>();
    done.go([=] {
      for (const int value : ping) pong.send(value);
    });
    for (int i = 0; i < scaled(1000); ++i) {
      ping.send(i);
      EXPECT_EQ(pong.recv(), i);
    }
    ping.close();
    done.wait();
  });
}

TEST_P(sleeping, a_hundred_thousand_at_once) {
  in_main([] {
    const int n = std::min(scaled(chaos() ? 20'000 : 100'000), max_goroutines());
    std::atomic<int> early{0}, awake{0};
    for (int i = 0; i < n; ++i)
      go([&, i] {
        const auto d = i % 2 == 0 ? 500ms : 500ms + std::chrono::microseconds(i % 1000);
        const time_point start = clock::now();
        sleep_for(d);
        if (clock::now() - start < d) ++early;
        ++awake;
      });
    EXPECT_TRUE(eventually([&] { return awake == n; })) << awake << " of " << n;
    EXPECT_EQ(early, 0);
  });
}

TEST_P(sleeping, a_goroutine_that_yields_all_the_time_holds_no_sleeper_up) {
  in_main([] {
    std::atomic<bool> stop{false};
    wait_group busy, done;
    for (int i = 0; i < ps(); ++i)
      busy.go([&stop] {
        while (!stop) yield();
      });
    for (int i = 0; i < 10; ++i)
      done.go([] {
        for (int round = 0; round < 3; ++round) expect_to_sleep_at_least(100us);
      });
    done.wait();
    stop = true;
    busy.wait();
  });
}

TEST_P(sleeping, foreign_threads_sleep_too) {
  expect_to_sleep_at_least(1ms);
  sleep_for(-1s);
  sleep_until(clock::now() - 1s);
  in_main([] {
    std::thread thread([] {
      expect_to_sleep_at_least(1ms);
      sleep_for(0s);
      const time_point when = clock::now() + 1ms;
      sleep_until(when);
      EXPECT_GE(clock::now(), when);
    });
    blocking([&thread] { thread.join(); });
  });
}

TEST_P(sleeping, is_no_deadlock) {
  in_main([] {
    const auto c = make_chan<int>();
    go([c] {
      sleep_for(5ms);
      c.send(1);
    });
    EXPECT_EQ(c.recv(), 1);
  });
}

TEST_P(sleeping, foreign_threads_that_sleep_run_the_timers_that_wait_for_them) {
  std::atomic<bool> called{false};
  const timer t = after_func(1ms, [&called] { called = true; });
  const auto until = clock::now() + kPatience;
  while (!called && clock::now() < until) sleep_for(2ms);
  EXPECT_TRUE(called);
}

// -- Timers -----------------------------------------------------------------------------------------------------------

class timing : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(timing);

bool has_value(const recv_chan<time_point>& c) { return c.try_recv().status == recv_status::received; }

void expect_past(std::optional<time_point> value) {
  ASSERT_TRUE(value.has_value());
  EXPECT_LE(*value, clock::now());
}

// Not a sleep: the timer's channel does not know that time goes by unless somebody looks.
void wait_until(time_point when) {
  EXPECT_TRUE(eventually([when] { return clock::now() >= when; }));
}

TEST_P(timing, a_timer_sends_the_time_at_which_it_was_due_and_not_before) {
  in_main([] {
    for (const auto d : {0us, 1us, 100us, 2000us}) {
      const time_point start = clock::now();
      const timer t(d);
      const time_point made = clock::now();
      const time_point value = t.c().recv().value();
      EXPECT_GE(clock::now(), value);
      EXPECT_GE(value, start + d);
      EXPECT_LE(value, made + d);
      EXPECT_FALSE(has_value(t.c()));
    }
    const time_point start = clock::now();
    EXPECT_GE(after(500us).recv().value(), start + 500us);
    expect_past(after(-1h).recv());
    expect_past(timer(std::chrono::nanoseconds::min()).c().recv());
  });
}

TEST_P(timing, a_late_receive_sees_when_the_timer_was_due) {
  in_main([] {
    const time_point start = clock::now();
    const timer t(100us);
    const time_point made = clock::now();
    wait_until(made + 3ms);
    const time_point value = t.c().recv().value();
    EXPECT_GE(value, start + 100us);
    EXPECT_LE(value, made + 100us);
  });
}

TEST_P(timing, len_and_cap_of_its_channel_are_zero) {
  in_main([] {
    const timer t(100us);
    const ticker beats(100us);
    const auto expect_zero = [&] {
      for (const auto& c : {t.c(), beats.c()}) {
        EXPECT_EQ(c.len(), 0u);
        EXPECT_EQ(c.cap(), 0u);
      }
    };
    expect_zero();
    wait_until(clock::now() + 200us);
    expect_zero();
    t.c().recv(), beats.c().recv();
    expect_zero();
    EXPECT_TRUE(t.c());
    EXPECT_TRUE(t.c() == t.c());
    EXPECT_FALSE(timer().c());
    EXPECT_FALSE(after_func(1h, [] {}).c());
  });
}

// Go's TestStopResult and TestResetResult.
TEST_P(timing, stop_tells_whether_it_kept_a_value_back) {
  in_main([] {
    timer pending(1h);
    EXPECT_TRUE(pending.stop());
    EXPECT_FALSE(pending.stop());
    EXPECT_FALSE(has_value(pending.c()));

    timer due(0s);
    EXPECT_TRUE(due.stop()) << "the value was not received, and is taken back";
    EXPECT_FALSE(due.stop());
    EXPECT_FALSE(has_value(due.c()));

    timer received(0s);
    EXPECT_TRUE(has_value(received.c()));
    EXPECT_FALSE(received.stop());

    timer never(std::chrono::hours::max());
    EXPECT_FALSE(has_value(never.c()));
    EXPECT_TRUE(never.stop());
    EXPECT_FALSE(never.stop());
    EXPECT_FALSE(timer().stop());
  });
}

TEST_P(timing, reset_tells_the_same_and_keeps_nothing_of_before) {
  in_main([] {
    timer t(1h);
    EXPECT_TRUE(t.reset(2h));
    EXPECT_TRUE(t.reset(0s));
    EXPECT_TRUE(t.reset(1h)) << "the value was not received";
    EXPECT_FALSE(has_value(t.c()));
    const time_point start = clock::now();
    EXPECT_TRUE(t.reset(100us));
    EXPECT_GE(t.c().recv().value(), start + 100us);
    EXPECT_FALSE(t.reset(0s));
    EXPECT_TRUE(has_value(t.c()));
    EXPECT_FALSE(t.reset(1h));
    EXPECT_TRUE(t.stop());
    EXPECT_FALSE(t.reset(std::chrono::hours::max()));
    EXPECT_TRUE(t.reset(1h));
    EXPECT_FALSE(timer().reset(0s));
  });
}

TEST_P(timing, stop_and_reset_of_a_function_tell_whether_they_kept_it_back) {
  in_main([] {
    std::atomic<int> calls{0};
    const auto count = [&calls] { ++calls; };
    timer t = after_func(1h, count);
    EXPECT_TRUE(t.stop());
    EXPECT_FALSE(t.stop());
    EXPECT_FALSE(t.reset(0s));
    EXPECT_TRUE(eventually([&] { return calls == 1; }));
    EXPECT_FALSE(t.stop());
    EXPECT_FALSE(t.reset(1h));
    EXPECT_TRUE(t.reset(2h));
    EXPECT_TRUE(t.reset(100us));
    EXPECT_TRUE(eventually([&] { return calls == 2; }));
    EXPECT_FALSE(t.reset(0s));
    EXPECT_TRUE(eventually([&] { return calls == 3; }));
    timer never = after_func(std::chrono::hours::max(), count);
    EXPECT_TRUE(never.stop());
    EXPECT_FALSE(never.stop());
    EXPECT_EQ(calls, 3);
  });
}

TEST_P(timing, a_receiver_that_waits_follows_stop_and_reset) {
  in_main([] {
    timer t(1h);
    const auto receive_from = [&t] { return [&t] { expect_past(t.c().recv()); }; };
    for (const bool by_select : {false, true}) {
      wait_group done;
      const wait_reason reason = by_select ? wait_reason::select : wait_reason::chan_receive;
      const int before = parked(reason);
      if (by_select)
        done.go([&t] { EXPECT_EQ(select(on_recv(t.c()), on_timeout(1h), on_recv(make_chan<int>())), 0u); });
      else
        done.go(receive_from());
      ASSERT_TRUE(eventually_parked(reason, before, 1));
      // Later, earlier, never, and far, near, far: what is in the heap has to follow each time.
      EXPECT_TRUE(t.reset(2h));
      EXPECT_TRUE(t.reset(30min));
      EXPECT_TRUE(t.reset(4h));
      EXPECT_TRUE(t.stop());
      EXPECT_FALSE(t.reset(3h));
      EXPECT_EQ(parked(reason), before + 1);
      EXPECT_TRUE(t.reset(1ms));
      done.wait();
      EXPECT_FALSE(t.reset(1h));
    }
  });
}

TEST_P(timing, nothing_stale_comes_out_after_stop_or_reset) {
  in_main([] {
    timer t(1us);
    ticker beats(1us);
    for (int i = 0; i < scaled(3000); ++i) {
      beats.stop();
      t.stop();
      EXPECT_FALSE(has_value(beats.c()));
      EXPECT_FALSE(has_value(t.c()));
      const time_point start = clock::now();
      beats.reset(20us);
      t.reset(20us);
      if (i % 2 == 0) {
        EXPECT_GE(beats.c().recv().value(), start + 20us);
        EXPECT_GE(t.c().recv().value(), start + 20us);
      }
    }
  });
}

// Go's TestTimerStopStress, and more: stop() was true just when nobody received a value.
TEST_P(timing, stop_is_true_just_when_no_value_is_received) {
  in_main([] {
    wait_group done;
    for (int i = 0; i < scaled(1000); ++i)
      done.go([i] {
        for (int round = 0; round < 20; ++round) {
          timer t(std::chrono::nanoseconds((i * 37 + round * 211) % 5000));
          const auto quit = make_chan<unit>();
          const auto got = make_chan<bool>(2);
          for (int r = 0; r < 1 + round % 2; ++r)
            go([=, c = t.c()] { got.send(select(on_recv(c), on_recv(quit)) == 0); });
          if (round % 3 == 0) yield();
          const bool stopped = t.stop();
          quit.close();
          int values = 0;
          for (int r = 0; r < 1 + round % 2; ++r) values += got.recv().value() ? 1 : 0;
          if (has_value(t.c())) ++values;
          // A select that found both ready may have taken either: then the value had been there before stop().
          EXPECT_EQ(values, stopped ? 0 : 1);
        }
      });
    done.wait();
  });
}

TEST_P(timing, every_start_of_a_function_is_called_or_called_off) {
  in_main([] {
    std::atomic<long> calls{0}, expected{0};
    wait_group done;
    for (int i = 0; i < 20; ++i)
      done.go([&, i] {
        timer t = after_func(std::chrono::nanoseconds(i * 100), [&calls] { ++calls; });
        int starts = 1, called_off = 0;
        for (int round = 0; round < scaled(500); ++round) {
          if (round % 7 == 0) yield();
          if (round % 3 == 0) {
            called_off += t.stop();
          } else {
            called_off += t.reset(std::chrono::nanoseconds((round * 97 + i * 31) % 3000));
            ++starts;
          }
        }
        called_off += t.stop();
        expected += starts - called_off;
      });
    done.wait();
    EXPECT_TRUE(eventually([&] { return calls == expected; })) << calls << " of " << expected;
    for (int i = 0; i < 100; ++i) yield();
    EXPECT_EQ(calls, expected);
  });
}

TEST_P(timing, many_may_stop_and_reset_one_timer_while_others_receive) {
  in_main([] {
    timer t(1us);
    ticker beats(1us);
    std::atomic<int> values{0};
    const auto quit = make_chan<unit>();
    wait_group resetters, receivers;
    for (int i = 0; i < 4; ++i)
      receivers.go([&] {
        while (select(on_recv(t.c(), [&] { ++values; }), on_recv(beats.c(), [&] { ++values; }), on_recv(quit)) != 2) {
        }
      });
    for (int i = 0; i < 4; ++i)
      resetters.go([&, i] {
        for (int n = 0; n < scaled(2000); ++n) {
          const auto d = std::chrono::nanoseconds(1 + (n * 53 + i * 17) % 4000);
          if (n % 5 == 0)
            t.stop(), beats.stop();
          else
            t.reset(d), beats.reset(d);
          if (n % 16 == 0) yield();
        }
      });
    resetters.wait();
    t.reset(0s);
    const int before = values;
    EXPECT_TRUE(eventually([&] { return values > before; }));
    quit.close();
    receivers.wait();
  });
}

TEST_P(timing, two_selects_may_share_a_timer_and_one_gets_the_value) {
  in_main([] {
    for (int i = 0; i < scaled(200); ++i) {
      const timer t(std::chrono::microseconds(i % 20));
      const auto quit = make_chan<unit>();
      const auto got = make_chan<bool>(3);
      for (int k = 0; k < 3; ++k)
        go([=, c = t.c()] { got.send(select(on_recv(c), on_recv(quit), on_timeout(1h)) == 0); });
      EXPECT_EQ(got.recv(), true);
      quit.close();
      EXPECT_EQ(got.recv(), false);
      EXPECT_EQ(got.recv(), false);
    }
  });
}

TEST_P(timing, a_select_may_wait_for_one_timer_in_several_cases) {
  in_main([] {
    for (int i = 0; i < 20; ++i) {
      const timer t(20us), far(1h);
      EXPECT_LT(select(on_recv(t.c()), on_recv(t.c()), on_recv(far.c()), on_timeout(1h)), 2u);
      EXPECT_FALSE(has_value(t.c()));
    }
    EXPECT_EQ(rt::next_timer(), rt::kNever);
  });
}

TEST_P(timing, a_timer_can_be_moved) {
  in_main([] {
    timer a(100us), b(1h);
    const recv_chan<time_point> c = a.c();
    b = std::move(a);
    EXPECT_FALSE(a.c());  // NOLINT(bugprone-use-after-move): what it says
    EXPECT_FALSE(a.stop());
    EXPECT_FALSE(a.reset(0s));
    EXPECT_TRUE(b.c() == c);
    EXPECT_TRUE(c.recv().has_value());
    std::atomic<int> calls{0};
    timer f = after_func(1h, [&calls] { ++calls; });
    timer g(std::move(f));
    EXPECT_FALSE(f.stop());  // NOLINT(bugprone-use-after-move)
    EXPECT_TRUE(g.reset(0s));
    EXPECT_TRUE(eventually([&] { return calls == 1; }));
    ticker t(1h), u(50us);
    t = std::move(u);
    EXPECT_FALSE(u.c());  // NOLINT(bugprone-use-after-move)
    u.stop();
    u.reset(1s);
    EXPECT_TRUE(t.c().recv().has_value());
  });
}

// Go's TestTimerGC. What is due in an hour is not waited for.
TEST_P(timing, what_nobody_holds_any_more_is_gone) {
  in_main([] {
    const long before = allocated;
    for (int i = 0; i < scaled(10'000); ++i) {
      after(1h);
      timer t(1h);
      ticker beats(1h);
      select(on_recv(t.c()), on_recv(after(1h)), otherwise());
      if (i % 10 == 0) select(on_recv(t.c()), on_recv(after(1h)), on_recv(beats.c()), on_timeout(1us));
      after_func(1h, [] {}).stop();
    }
    EXPECT_LE(allocated - before, 100);
    EXPECT_TRUE(eventually([] { return rt::next_timer() == rt::kNever; }));
  });
}

// -- Functions --------------------------------------------------------------------------------------------------------

// Counts its living instances.
struct live {
  static inline std::atomic<int> n{0};
  live() { ++n; }
  live(const live&) { ++n; }
  ~live() { --n; }
};

TEST_P(timing, a_function_is_called_when_its_handle_is_gone_and_destroyed_once_in_all_cases) {
  in_main([] {
    ASSERT_EQ(live::n, 0);
    std::atomic<int> calls{0};
    const auto count = [&calls, l = live()] { ++calls; };
    ASSERT_EQ(live::n, 1);
    after_func(100us, count);  // dropped while it is pending
    EXPECT_TRUE(eventually([&] { return calls == 1 && live::n == 1; }));
    { const timer t = after_func(1h, count); }
    EXPECT_EQ(live::n, 2) << "still pending";
    timer stopped = after_func(1h, count);
    EXPECT_TRUE(stopped.stop());
    EXPECT_EQ(live::n, 3);
    stopped = timer();
    EXPECT_EQ(live::n, 2);
    timer again = after_func(0s, count);
    EXPECT_TRUE(eventually([&] { return calls == 2; }));
    for (int i = 3; i < 10; ++i) {
      EXPECT_FALSE(again.reset(0s));
      EXPECT_TRUE(eventually([&] { return calls == i; }));
    }
    again.reset(1ms);
    again = timer();
    EXPECT_TRUE(eventually([&] { return calls == 10 && live::n == 2; }));
    after_func(0s, [l = live()] { goexit(); });
    EXPECT_TRUE(eventually([] { return live::n == 2; }));
  });
  EXPECT_EQ(live::n, 0) << "the end of the run() called the pending one off";
}

TEST_P(timing, a_function_may_hold_and_reset_its_own_timer) {
  in_main([] {
    struct state {
      timer t;
      std::atomic<int> calls{0};
    };
    const auto s = std::make_shared<state>();
    const auto go_on = make_chan<unit>();
    s->t = after_func(1h, [s, go_on] {
      if (++s->calls < 20)
        s->t.reset(std::chrono::microseconds(s->calls * 10));
      else
        go_on.close();
    });
    s->t.reset(0s);
    go_on.recv();
    EXPECT_EQ(s->calls, 20);
    s->t = timer();
  });
}

TEST_P(timing, functions_are_called_in_the_order_in_which_they_are_due) {
  in_main([] {
    // A machine that stalls for as long as the distance may start two at once.
    for (auto distance = 2ms; distance < 2s; distance *= 8) {
      std::vector<int> delays(20);
      std::iota(delays.begin(), delays.end(), 0);
      std::shuffle(delays.begin(), delays.end(), std::mt19937(5));
      const auto order = make_chan<int>(delays.size());
      for (const int delay : delays) {
        if (delay % 2 == 0)
          after_func(distance * (delay + 1), [=] { order.send(delay); });
        else
          go([=] {
            after(distance * (delay + 1)).recv();
            order.send(delay);
          });
      }
      std::vector<int> got;
      for (std::size_t i = 0; i < delays.size(); ++i) got.push_back(order.recv().value());
      if (std::is_sorted(got.begin(), got.end())) return;
    }
    ADD_FAILURE() << "never in order";
  });
}

// Goroutines that compute as long as this lives, and let others run every 100 us.
class load {
 public:
  explicit load(int goroutines) {
    for (int i = 0; i < goroutines; ++i)
      busy_.go([this] {
        while (!stop_) {
          const auto until = clock::now() + 100us;
          while (clock::now() < until) {
          }
          yield();
        }
      });
  }
  ~load() {
    stop_ = true;
    busy_.wait();
  }
  load(const load&) = delete;
  load& operator=(const load&) = delete;

 private:
  std::atomic<bool> stop_{false};
  wait_group busy_;
};

// Functions are started on the scheduler's own stack, where a P may be asked at any time to let others run.
TEST_P(timing, functions_are_called_beside_goroutines_that_compute) {
  in_main([] {
    const load on_every_p(2 * ps());
    std::atomic<int> calls{0};
    const int n = scaled(2000);
    for (int i = 0; i < n; ++i) after_func(std::chrono::microseconds(i % 30 * 1000), [&calls] { ++calls; });
    EXPECT_TRUE(eventually([&] { return calls == n; }));
  });
}

// Go's ParallelTimerLatency and StaggeredTickerLatency. How late they are is for a benchmark to say.
TEST_P(timing, while_every_p_computes_no_timer_is_forgotten_and_none_is_early) {
  in_main([] {
    const load on_every_p(2 * ps());
    std::atomic<int> called{0}, early{0};
    const int n = scaled(500);
    const time_point at_once = clock::now() + 5ms;
    for (int i = 0; i < n; ++i)
      after_func(at_once - clock::now(), [&, at_once] {
        if (clock::now() < at_once) ++early;
        ++called;
      });
    wait_group staggered;
    for (int i = 0; i < 20; ++i)
      staggered.go([i] {
        sleep_for(std::chrono::microseconds(50 * i));
        const time_point start = clock::now();
        const ticker beats(1ms);
        for (int n = 1; n <= 10; ++n) {
          const time_point value = beats.c().recv().value();
          EXPECT_GE(value, start + n * 1ms);
          EXPECT_LE(value, clock::now());
        }
      });
    staggered.wait();
    EXPECT_TRUE(eventually([&] { return called == n; })) << called << " of " << n;
    EXPECT_EQ(early, 0);
  });
}

TEST_P(timing, a_run_may_end_while_functions_are_called) {
  for (int round = 0; round < scaled(100); ++round) {
    leaving_goroutines([round] {
      for (int i = 0; i < 50; ++i) after_func(std::chrono::microseconds(i * 4), [l = live()] {});
      sleep_for(std::chrono::microseconds(round));
    });
    EXPECT_TRUE(eventually([] { return live::n == 0; })) << live::n << " functions are left";
  }
}

TEST_P(timing, the_timers_of_an_ended_run_do_nothing_any_more) {
  std::atomic<int> calls{0};
  timer kept, foreign;
  leaving_goroutines([&] {
    kept = after_func(2ms, [&calls] { ++calls; });
    after_func(1ms, [&calls] { ++calls; });
    std::thread thread([&] { foreign = after_func(1ms, [&calls] { ++calls; }); });
    thread.join();
  });
  const int before = calls;  // what was due before the end
  EXPECT_EQ(rt::next_timer(), rt::kNever);
  EXPECT_FALSE(kept.stop());
  EXPECT_FALSE(kept.reset(0s));
  EXPECT_FALSE(foreign.reset(0s));
  in_main([] { sleep_for(3ms); });
  EXPECT_EQ(calls, before);
}

// -- Tickers ----------------------------------------------------------------------------------------------------------

TEST_P(timing, ticks_are_in_phase_and_none_comes_early) {
  in_main([] {
    const time_point start = clock::now();
    const ticker beats(200us);
    const time_point made = clock::now();
    const time_point first = beats.c().recv().value();
    EXPECT_GE(first, start + 200us);
    time_point last = first;
    if (first <= made + 200us) {
      for (int i = 0; i < 20; ++i) {
        const time_point next = beats.c().recv().value();
        EXPECT_GE(clock::now(), next);
        EXPECT_GT(next, last);
        EXPECT_EQ((next - first) % 200us, 0ns);
        last = next;
      }
    }
  });
}

TEST_P(timing, ticks_that_nobody_takes_are_dropped_but_the_first) {
  in_main([] {
    const ticker beats(1ms);
    for (int i = 0; i < 5; ++i) {
      const time_point first = beats.c().recv().value();
      const bool in_time = clock::now() < first + 1ms;
      wait_until(first + 5500us);
      const time_point waited = beats.c().recv().value();
      if (in_time) {
        EXPECT_EQ(waited, first + 1ms);
      }
      const time_point now = clock::now();
      const time_point next = beats.c().recv().value();
      EXPECT_GE(next, first + 6ms);
      EXPECT_GT(next, now - 1ms);
      EXPECT_EQ((next - first) % 1ms, 0ns);
    }
  });
}

TEST_P(timing, a_ticker_can_be_stopped_and_started_again) {
  in_main([] {
    ticker beats(100us);
    beats.c().recv();
    beats.stop();
    beats.stop();
    wait_until(clock::now() + 300us);
    EXPECT_FALSE(has_value(beats.c()));
    EXPECT_EQ(select(on_recv(beats.c()), on_timeout(500us)), 1u);
    const time_point start = clock::now();
    beats.reset(300us);
    const time_point first = beats.c().recv().value();
    EXPECT_GE(first, start + 300us);
    EXPECT_EQ((beats.c().recv().value() - first) % 300us, 0ns);
    beats.reset(1h);
    EXPECT_FALSE(has_value(beats.c()));
    beats.reset(50us);
    int n = 0;
    for ([[maybe_unused]] const time_point t : beats.c())
      if (++n == 5) break;
  });
}

template <class F>
std::string text_of_error(F&& f) {
  try {
    f();
  } catch (const error& e) {
    return e.what();
  }
  return "nothing was thrown";
}

TEST_P(timing, an_interval_of_nothing_or_less_throws) {
  in_main([] {
    const std::string expected = "non-positive interval for ticker";
    EXPECT_EQ(text_of_error([] { ticker(0s); }), expected);
    EXPECT_EQ(text_of_error([] { ticker(-1ns); }), expected);
    EXPECT_EQ(text_of_error([] { ticker{std::chrono::hours::min()}; }), expected);
    EXPECT_EQ(text_of_error([] { ticker(std::chrono::duration<double>(0)); }), expected);
    ticker beats(1h);
    EXPECT_EQ(text_of_error([&] { beats.reset(0s); }), expected);
    EXPECT_EQ(text_of_error([&] { beats.reset(-1s); }), expected);
    ticker never(std::chrono::hours::max());
    EXPECT_EQ(select(on_recv(never.c()), on_timeout(100us)), 1u);
  });
}

TEST_P(timing, each_tick_goes_to_one_of_those_that_wait) {
  in_main([] {
    const ticker beats(20us);
    const auto got = make_chan<time_point>();
    const auto quit = make_chan<unit>();
    wait_group done;
    for (int i = 0; i < 4; ++i)
      done.go([=, c = beats.c()] {
        for (bool on = true; on;)
          select(on_recv(c, [&](std::optional<time_point> t) { select(on_send(got, *t), on_recv(quit)); }),
                 on_recv(quit, [&] { on = false; }));
      });
    std::vector<time_point> all;
    for (int i = 0; i < scaled(300); ++i) all.push_back(got.recv().value());
    quit.close();
    done.wait();
    std::sort(all.begin(), all.end());
    EXPECT_EQ(std::adjacent_find(all.begin(), all.end()), all.end());
  });
}

// -- Heaps ------------------------------------------------------------------------------------------------------------

TEST_P(timing, all_of_them_survive_changes_of_gomaxprocs) {
  in_main([] {
    const int before = gomaxprocs();
    std::atomic<int> fired{0};
    std::atomic<bool> started{false};
    const int n = scaled(500);
    wait_group done;
    for (int i = 0; i < n; ++i)
      done.go([&, i] {
        const auto d = std::chrono::microseconds(i * 101 % 20'000);
        const timer called = after_func(d, [&fired] { ++fired; });
        timer moved(1h);
        const ticker beats(5ms);
        started = true;
        sleep_for(d);
        select(on_recv(moved.c()), on_timeout(d));
        after(d).recv();
        beats.c().recv();
        moved.reset(d);
        moved.c().recv();
        ++fired;
      });
    EXPECT_TRUE(eventually(started));
    for (int i = 0; fired < 2 * n; ++i) {
      gomaxprocs(1 + i * 7 % 9);
      sleep_for(300us);
    }
    done.wait();
    gomaxprocs(before);
    EXPECT_EQ(fired, 2 * n);
  });
}

// main holds its P and calls nothing; the foreign thread waits behind a goroutine of that P.
TEST_P(timing, a_p_that_does_not_listen_holds_no_timer_up) {
  in_main([] {
    const ticker beats(100us);
    const auto quit = make_chan<unit>();
    const int before = parked(wait_reason::select);
    wait_group done;
    done.go([&] {
      while (select(on_recv(beats.c()), on_recv(quit)) == 0) {
      }
    });
    EXPECT_TRUE(eventually_parked(wait_reason::select, before, 1));
    for (int i = 0; i < 3; ++i) {
      std::atomic<bool> waits{false}, received{false};
      std::thread thread([&] {
        waits = true;
        beats.c().recv();
        received = true;
      });
      const auto until = clock::now() + kPatience;
      while (!received && clock::now() < until) {
      }
      EXPECT_TRUE(received);
      blocking([&thread] { thread.join(); });
    }
    quit.close();
    done.wait();
  });
}

TEST_P(timing, a_function_that_a_foreign_thread_starts_is_called_while_all_are_idle) {
  in_main([] {
    const auto c = make_chan<unit>();
    for (int i = 0; i < scaled(20); ++i) {
      std::thread thread([c] { after_func(1ms, [c] { c.send({}); }); });
      blocking([&thread] { thread.join(); });
      c.recv();
    }
    timer t(1h);
    const int before = parked(wait_reason::chan_receive);
    std::thread thread([&] {
      EXPECT_TRUE(eventually_parked(wait_reason::chan_receive, before, 1));
      t.reset(1ms);
    });
    t.c().recv();
    blocking([&thread] { thread.join(); });
  });
}

// Go's TestLongAdjustTimers.
TEST_P(timing, many_sleeps_hold_nobody_up_who_selects_with_timeouts) {
  in_main([] {
    wait_group done;
    for (int i = 0; i < scaled(1000); ++i)
      done.go([] {
        for (int round = 0; round < 5; ++round) sleep_for(10us);
      });
    const auto ping = make_chan<int>(), pong = make_chan<int>();
    done.go([=] {
      for (const int v : ping) select(on_send(pong, v), on_recv(after(1h)));
    });
    for (int i = 0; i < scaled(1000); ++i) {
      select(on_send(ping, i), on_recv(after(1h)));
      EXPECT_EQ(select(on_recv(pong), on_timeout(1h)), 0u);
    }
    ping.close();
    done.wait();
  });
}

// -- Foreign threads --------------------------------------------------------------------------------------------------

TEST(timing_between_threads, works_without_a_run) {
  const time_point start = clock::now();
  EXPECT_GE(after(1ms).recv().value(), start + 1ms);
  timer t(1h);
  ticker beats(200us);
  std::atomic<int> values{0}, calls{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      t.c().recv();
      ++values;
    });
  for (int i = 1; i <= 3; ++i) {
    t.reset(100us);
    while (values < i) beats.c().recv();
  }
  for (std::thread& thread : threads) thread.join();
  timer f = after_func(1us, [&calls] { ++calls; });
  while (calls < 1) beats.c().recv();
  EXPECT_FALSE(f.reset(1us));
  while (calls < 2) sleep_for(100us);
  EXPECT_FALSE(f.reset(1h));
  EXPECT_TRUE(f.stop());
  beats.stop();
  EXPECT_EQ(select(on_recv(beats.c()), on_timeout(500us)), 1u);
}

TEST_P(timing, a_foreign_thread_gets_its_value_though_the_run_in_which_it_waited_has_ended) {
  for (int round = 0; round < scaled(20); ++round) {
    timer t(1h);
    std::thread thread;
    leaving_goroutines([&] {
      const int before = parked(wait_reason::chan_receive);
      go([c = t.c()] { c.recv(); });
      EXPECT_TRUE(eventually_parked(wait_reason::chan_receive, before, 1));
      thread = std::thread([&t] { EXPECT_TRUE(t.c().recv().has_value()); });
      if (round % 2 == 0) t.reset(1ms);
    });
    if (round % 2 != 0) t.reset(1ms);
    if (round % 4 == 0) in_main([] { sleep_for(2ms); });
    // The goroutine may have got the value before its run() ended.
    std::atomic<bool> joined{false};
    std::thread again([&] {
      while (!joined) {
        sleep_for(5ms);
        t.reset(0s);
      }
    });
    thread.join();
    joined = true;
    again.join();
  }
}

// -- Waits with a time limit ------------------------------------------------------------------------------------------

// The least that waits with a limit: a semaphore.
struct timed_semaphore {
  detail::wait_list list;
  std::uint32_t tokens = 0;  // guarded by the list's lock

  bool acquire(std::chrono::nanoseconds limit) {
    rt::entry who;
    list.lock.lock();
    if (tokens > 0) {
      --tokens;
      list.lock.unlock();
      return true;
    }
    rt::waiter self;
    const std::int64_t when = limit == std::chrono::nanoseconds::max() ? rt::kNever : rt::nanotime() + limit.count();
    return rt::park_until(who, list.lock, list.waiters, self, when, wait_reason::semaphore_acquire);
  }
  bool nobody_waits() {
    const rt::lock_guard hold(list.lock);
    return list.waiters.empty();
  }
  void release() {
    const rt::entry who(rt::kNoPark);
    list.lock.lock();
    rt::waiter* const w = rt::take_first(list.waiters);
    if (!w) ++tokens;
    list.lock.unlock();
    if (w) rt::ready(who, w->g);
  }
};

TEST_P(timing, a_timed_wait_ends_by_its_time_or_by_a_wake_and_never_by_both) {
  in_main([] {
    timed_semaphore s;
    std::atomic<long> acquired{0}, given_up{0}, released{0};
    const int rounds = scaled(3000);
    const auto take = [&](int seed) {
      for (int i = 0; i < rounds; ++i)
        ++(s.acquire(std::chrono::nanoseconds((i * 71 + seed * 13) % 2500)) ? acquired : given_up);
    };
    const auto give = [&] {
      for (int i = 0; i < rounds; ++i) {
        s.release();
        ++released;
        if (i % 4 == 0) sleep_for(1us);
      }
    };
    wait_group done;
    for (int i = 0; i < 4; ++i) {
      done.go([&, i] { take(i); });
      done.go(give);
    }
    std::thread taker([&] { take(9); }), giver(give);
    done.wait();
    blocking([&] {
      taker.join();
      giver.join();
    });
    EXPECT_EQ(acquired + given_up, 5L * rounds);
    EXPECT_EQ(acquired + s.tokens, released);
    EXPECT_TRUE(s.nobody_waits());
    EXPECT_FALSE(s.tokens == 0 && s.acquire(1ms));
    const int before = parked(wait_reason::semaphore_acquire);
    while (s.tokens > 0) s.acquire(0ns);
    go([&] { EXPECT_TRUE(s.acquire(std::chrono::nanoseconds::max())); });
    EXPECT_TRUE(eventually_parked(wait_reason::semaphore_acquire, before, 1));
    s.release();
    EXPECT_TRUE(eventually([] { return num_goroutine() == 1; }));
  });
}

}  // namespace
