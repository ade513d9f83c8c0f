// SPDX-License-Identifier: Apache-2.0
// semaphore, and the semaphore that locks are made of (runtime/sema.h).
#include <weft/sync.h>

#include <memory>
#include <optional>

#include "runtime/sema.h"
#include "tests/fixture.h"
#include "tests/foreign.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

class semaphore_test : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(semaphore_test);

TEST_P(semaphore_test, no_more_than_its_number_hold_it) {
  in_main([] {
    for (const int n : {1, 3, 10}) {
      semaphore s(n);
      std::atomic<int> inside{0}, most{0};
      wait_group done;
      for (int i = 0; i < 30; ++i)
        done.go([&] {
          for (int round = 0; round < scaled(50); ++round) {
            s.acquire();
            const int now = ++inside;
            for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
            }
            yield();
            --inside;
            s.release();
          }
        });
      done.wait();
      EXPECT_LE(most, n);
      EXPECT_EQ(inside, 0);
      for (int i = 0; i < n; ++i) EXPECT_TRUE(s.try_acquire());
      EXPECT_FALSE(s.try_acquire());
    }
  });
}

TEST_P(semaphore_test, waiters_are_served_in_order_of_arrival) {
  in_main([] {
    semaphore s(0);
    const auto order = make_chan<int>(50);
    const int before = parked(wait_reason::semaphore_acquire);
    for (int i = 0; i < 50; ++i) {
      go([&s, order, i] {
        s.acquire();
        order.send(i);
      });
      EXPECT_TRUE(eventually_parked(wait_reason::semaphore_acquire, before, i + 1));
    }
    for (int i = 0; i < 50; ++i) {
      s.release();
      EXPECT_EQ(order.recv(), i);
    }
  });
}

TEST_P(semaphore_test, a_newcomer_does_not_overtake_one_that_waits) {
  in_main([] {
    semaphore s(0);
    std::atomic<bool> got{false};
    const int before = parked(wait_reason::semaphore_acquire);
    go([&] {
      s.acquire();
      got = true;
    });
    EXPECT_TRUE(eventually_parked(wait_reason::semaphore_acquire, before, 1));
    s.release();
    EXPECT_FALSE(s.try_acquire());
    EXPECT_TRUE(eventually(got));
  });
}

TEST_P(semaphore_test, releases_before_the_first_acquire_count) {
  in_main([] {
    semaphore s(0);
    EXPECT_FALSE(s.try_acquire());
    for (int i = 0; i < 3; ++i) s.release();
    for (int i = 0; i < 3; ++i) s.acquire();
    EXPECT_FALSE(s.try_acquire());
  });
}

TEST_P(semaphore_test, foreign_threads_and_goroutines_share_it) {
  in_main([] {
    semaphore s(2);
    std::atomic<int> inside{0}, done_rounds{0};
    const auto work = [&] {
      for (int i = 0; i < scaled(300); ++i) {
        s.acquire();
        EXPECT_LE(++inside, 2);
        --inside;
        s.release();
        ++done_rounds;
      }
    };
    in_goroutines_and_threads(3, work);
    EXPECT_EQ(done_rounds, 6 * scaled(300));
  });
}

TEST_P(semaphore_test, it_may_be_destroyed_by_whoever_it_let_in) {
  in_main([] {
    for (int round = 0; round < scaled(500); ++round) {
      auto s = std::make_unique<semaphore>(0);
      go([p = s.get()] { p->release(); });
      s->acquire();
      s.reset();
    }
  });
}

TEST_P(semaphore_test, acquire_for_gives_up_when_the_time_is_up) {
  in_main([] {
    semaphore s(0);
    const auto start = clock::now();
    EXPECT_FALSE(s.acquire_for(2ms));
    EXPECT_GE(clock::now() - start, 2ms);
    EXPECT_FALSE(s.acquire_for(0s));
    EXPECT_FALSE(s.acquire_for(-1h));
    s.release();
    EXPECT_TRUE(s.acquire_for(0s));
    s.release();
    EXPECT_TRUE(s.acquire_for(1h));
    EXPECT_FALSE(s.try_acquire());
  });
}

TEST_P(semaphore_test, acquire_for_gets_what_is_released_in_time) {
  in_main([] {
    semaphore s(0);
    const int before = parked(wait_reason::semaphore_acquire);
    wait_group done;
    for (const auto d : {std::chrono::hours(1), std::chrono::hours::max()})
      done.go([&s, d] { EXPECT_TRUE(s.acquire_for(d)); });
    EXPECT_TRUE(eventually_parked(wait_reason::semaphore_acquire, before, 2));
    s.release();
    s.release();
    done.wait();
  });
}

TEST_P(semaphore_test, one_that_gives_up_lets_the_next_in) {
  in_main([] {
    semaphore s(0);
    const int before = parked(wait_reason::semaphore_acquire);
    wait_group done;
    done.go([&s] { EXPECT_FALSE(s.acquire_for(3ms)); });
    EXPECT_TRUE(eventually([&] { return parked(wait_reason::semaphore_acquire) > before || num_goroutine() == 1; }));
    done.go([&s] { s.acquire(); });
    sleep_for(5ms);
    s.release();
    done.wait();
    EXPECT_FALSE(s.try_acquire());
  });
}

// Times that are up before the waiter has stopped, while it stops, and after.
TEST_P(semaphore_test, nothing_is_lost_between_releases_and_times_that_are_up) {
  in_main([] {
    semaphore s(0);
    std::atomic<int> acquired{0}, released{0};
    wait_group done;
    for (int i = 0; i < 6; ++i)
      done.go([&, i] {
        for (int n = 0; n < scaled(500); ++n)
          if (s.acquire_for(std::chrono::nanoseconds(1 + 997 * ((n + i) % 8)))) ++acquired;
      });
    foreign_threads threads;
    threads.start([&] {
      for (int n = 0; n < scaled(200); ++n)
        if (s.acquire_for(std::chrono::microseconds(n % 4))) ++acquired;
    });
    done.go([&] {
      for (int n = 0; n < scaled(1000); ++n) {
        s.release();
        ++released;
        yield();
      }
    });
    done.wait();
    threads.join();
    int left = 0;
    while (s.try_acquire()) ++left;
    EXPECT_EQ(acquired + left, released);
  });
}

TEST(semaphore_between_threads, works_without_a_run) {
  semaphore s(0);
  EXPECT_FALSE(s.acquire_for(1ms));
  foreign_threads threads;
  std::atomic<int> got{0};
  for (int i = 0; i < 3; ++i)
    threads.start([&] {
      while (!s.acquire_for(1us)) {
      }
      ++got;
      s.acquire();
      ++got;
    });
  for (int i = 0; i < 6; ++i) s.release();
  threads.join();
  EXPECT_EQ(got, 6);
  EXPECT_FALSE(s.try_acquire());
}

TEST(semaphore_misuse, a_negative_number_throws) { EXPECT_THROW(semaphore(-1), error); }

TEST_P(semaphore_test, a_hand_over_runs_the_waiter_before_the_releaser_s_next_statement) {
  in_main([] {
    constexpr int kRounds = 100;
    int before_us = 0;
    for (int i = 0; i < kRounds; ++i) {
      rt::sema s;
      std::atomic<bool> ran{false};
      const int before = parked(wait_reason::semaphore_acquire);
      wait_group done;
      done.go([&] {
        rt::waiter self;
        rt::entry who;
        rt::sem_acquire(who, s, self, false, wait_reason::semaphore_acquire);
        ran = true;
      });
      EXPECT_TRUE(eventually_parked(wait_reason::semaphore_acquire, before, 1));
      rt::sem_release(s, true);
      before_us += ran ? 1 : 0;
      done.wait();
    }
    // Chaos mode may run another one next; under ThreadSanitizer another P has the time to steal us.
    EXPECT_GE(before_us, chaos() || kThreadSanitizer ? 0 : kRounds * 2 / 3);
  });
}

// Waiters are in a list of the object's own, so a release costs the same with 1 and with 8000 of them, however many
// objects there are.
TEST_P(semaphore_test, thousands_wait_on_one_and_on_as_many) {
  in_main([] {
    const int n = std::min(scaled(8000), max_goroutines() / 2);
    std::vector<std::unique_ptr<semaphore>> own;
    semaphore one(0);
    std::atomic<int> woken{0};
    wait_group done;
    for (int i = 0; i < n; ++i) {
      semaphore& mine = *own.emplace_back(std::make_unique<semaphore>(0));
      done.go([&, i] {
        (i % 2 == 0 ? mine : one).acquire();
        ++woken;
      });
    }
    for (int i = (n - 1) / 2 * 2; i >= 0; i -= 2) own[static_cast<std::size_t>(i)]->release();
    for (int i = 1; i < n; i += 2) one.release();
    done.wait();
    EXPECT_EQ(woken, n);
  });
}

}  // namespace
