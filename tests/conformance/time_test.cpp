// SPDX-License-Identifier: Apache-2.0
// Sleeping.
#include <weft/time.h>

#include <memory>
#include <thread>

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
        const auto d = 50ms + std::chrono::microseconds(i % 1000);
        const time_point start = clock::now();
        sleep_for(d);
        if (clock::now() - start < d) ++early;
        ++awake;
      });
    EXPECT_TRUE(eventually([&] { return awake == n; }));
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

}  // namespace
