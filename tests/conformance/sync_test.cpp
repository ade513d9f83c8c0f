// SPDX-License-Identifier: Apache-2.0
// mutex, wait_group, semaphore.
#include <weft/sync.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/fixture.h"

namespace {

using namespace weft;
using namespace weft::test;

class mutex_test : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(mutex_test);
class wait_group_test : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(wait_group_test);
class semaphore_test : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(semaphore_test);

void join(std::vector<std::thread>& threads) {
  for (std::thread& t : threads) blocking([&t] { t.join(); });
}

// -- mutex
// -------------------------------------------------------------------------------------------------------------

TEST_P(mutex_test, one_holds_it_at_a_time) {
  in_main([] {
    mutex m;
    int counter = 0;
    bool held = false;
    wait_group done;
    for (int i = 0; i < 10; ++i)
      done.go([&] {
        for (int n = 0; n < scaled(1000); ++n) {
          const std::lock_guard hold(m);
          EXPECT_FALSE(held);
          held = true;
          ++counter;
          if (n % 16 == 0) yield();
          held = false;
        }
      });
    done.wait();
    EXPECT_EQ(counter, 10 * scaled(1000));
  });
}

TEST_P(mutex_test, try_lock_takes_it_only_when_it_is_free) {
  in_main([] {
    mutex m;
    EXPECT_TRUE(m.try_lock());
    EXPECT_FALSE(m.try_lock());
    wait_group done;
    done.go([&m] { EXPECT_FALSE(m.try_lock()); });
    done.wait();
    m.unlock();
    std::unique_lock lock(m, std::try_to_lock);
    EXPECT_TRUE(lock.owns_lock());
  });
}

TEST_P(mutex_test, lock_and_try_lock_mix) {
  in_main([] {
    mutex m;
    int counter = 0;
    wait_group done;
    for (int i = 0; i < 10; ++i)
      done.go([&m, &counter, i] {
        for (int n = 0; n < scaled(1000);) {
          if ((n + i) % 3 != 0) {
            m.lock();
          } else if (!m.try_lock()) {
            yield();
            continue;
          }
          ++counter;
          ++n;
          m.unlock();
        }
      });
    done.wait();
    EXPECT_EQ(counter, 10 * scaled(1000));
  });
}

TEST_P(mutex_test, a_waiter_parks_and_gets_it_when_it_is_free) {
  in_main([] {
    mutex m;
    m.lock();
    std::atomic<bool> got{false};
    const int before = parked(wait_reason::mutex_lock);
    go([&] {
      m.lock();
      m.unlock();
      got = true;
    });
    EXPECT_TRUE(eventually_parked(wait_reason::mutex_lock, before, 1));
    EXPECT_FALSE(got);
    m.unlock();
    EXPECT_TRUE(eventually(got));
  });
}

TEST_P(mutex_test, another_goroutine_may_unlock_it) {
  in_main([] {
    mutex m;
    m.lock();
    go([&m] { m.unlock(); });
    m.lock();
    m.unlock();
  });
}

// Holds the lock for d, with a point at which the scheduler may take the P away.
void compute_for(std::chrono::microseconds d) {
  const auto until = clock::now() + d;
  const auto c = make_chan<unit>(1);
  do c.try_recv();
  while (clock::now() < until);
}

TEST_P(mutex_test, a_hog_that_locks_again_at_once_starves_nobody) {
  in_main([] {
    mutex m;
    constexpr int kWanted = 5, kTooMany = 100'000;
    std::atomic<int> got{0}, hogged{0};
    wait_group done;
    done.go([&] {
      while (got < kWanted && hogged < kTooMany) {
        const std::lock_guard hold(m);
        compute_for(std::chrono::microseconds(100));
        ++hogged;
      }
    });
    done.go([&] {
      for (int i = 0; i < kWanted && hogged < kTooMany; ++i) {
        sleep_for(std::chrono::microseconds(100));
        const std::lock_guard hold(m);
        ++got;
      }
    });
    done.wait();
    EXPECT_EQ(got, kWanted);
    EXPECT_LT(hogged, kTooMany);
  });
}

TEST_P(mutex_test, all_who_compete_for_it_get_it) {
  in_main([] {
    mutex m;
    constexpr int kGoroutines = 20;
    std::atomic<int> left{kGoroutines};
    wait_group done;
    for (int i = 0; i < kGoroutines; ++i)
      done.go([&] {
        for (int n = 0; left > 0; ++n) {
          if (n == 3) --left;
          const std::lock_guard hold(m);
          compute_for(std::chrono::microseconds(10));
        }
      });
    done.wait();
  });
}

TEST_P(mutex_test, foreign_threads_and_goroutines_share_it) {
  in_main([] {
    mutex m;
    int counter = 0;
    const auto count = [&] {
      for (int n = 0; n < scaled(1000); ++n) {
        const std::lock_guard hold(m);
        ++counter;
      }
    };
    wait_group done;
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      done.go(count);
      threads.emplace_back(count);
    }
    done.wait();
    join(threads);
    EXPECT_EQ(counter, 6 * scaled(1000));
  });
}

TEST(mutex_between_threads, works_without_a_run) {
  mutex m;
  int counter = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int n = 0; n < scaled(10'000); ++n) {
        const std::lock_guard hold(m);
        ++counter;
      }
    });
  join(threads);
  EXPECT_EQ(counter, 4 * scaled(10'000));
}

TEST(mutex_misuse, unlock_of_an_unlocked_one_is_fatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto by_goroutine = [] {
    run([] {
      mutex m;
      try {
        m.unlock();
      } catch (...) {
      }
    });
  };
  const auto after_use = [] {
    run([] {
      mutex m;
      m.lock();
      m.unlock();
      m.unlock();
    });
  };
  EXPECT_EXIT(by_goroutine(), testing::ExitedWithCode(2), "fatal error: sync: unlock of unlocked mutex");
  EXPECT_EXIT(after_use(), testing::ExitedWithCode(2), "fatal error: sync: unlock of unlocked mutex");
}

// -- wait_group
// --------------------------------------------------------------------------------------------------------

TEST_P(wait_group_test, wait_returns_at_once_at_zero) {
  in_main([] {
    wait_group group;
    group.wait();
    group.add(0);
    group.wait();
    group.add(2);
    group.done();
    group.done();
    group.wait();
  });
}

TEST_P(wait_group_test, wait_returns_when_all_are_done_and_not_before) {
  in_main([] {
    for (int round = 0; round < scaled(300); ++round) {
      wait_group group;
      std::atomic<int> finished{0};
      group.add(5);
      for (int i = 0; i < 5; ++i)
        go([&] {
          ++finished;
          group.done();
        });
      group.wait();
      EXPECT_EQ(finished, 5);
    }
  });
}

TEST_P(wait_group_test, it_can_be_used_again) {
  in_main([] {
    wait_group group;
    for (int round = 0; round < 8; ++round) {
      std::atomic<int> finished{0};
      for (int i = 0; i < 16; ++i)
        group.go([&finished] {
          yield();
          ++finished;
        });
      group.wait();
      EXPECT_EQ(finished, 16);
    }
  });
}

TEST_P(wait_group_test, many_may_wait) {
  in_main([] {
    wait_group group, waiters;
    group.add(1);
    const int before = parked(wait_reason::wait_group_wait);
    std::atomic<int> released{0};
    for (int i = 0; i < 100; ++i)
      waiters.go([&] {
        group.wait();
        ++released;
      });
    EXPECT_TRUE(eventually_parked(wait_reason::wait_group_wait, before, 100));
    EXPECT_EQ(released, 0);
    group.done();
    waiters.wait();
    EXPECT_EQ(released, 100);
  });
}

TEST_P(wait_group_test, it_may_be_destroyed_as_soon_as_wait_returns) {
  in_main([] {
    for (int round = 0; round < scaled(500); ++round) {
      auto group = std::make_unique<wait_group>();
      group->add(3);
      for (int i = 0; i < 3; ++i) go([g = group.get()] { g->done(); });
      group->wait();
      group.reset();
    }
  });
}

TEST_P(wait_group_test, a_counter_below_zero_throws) {
  in_main([] {
    wait_group group;
    group.add(1);
    group.done();
    for (const bool by_done : {true, false}) {
      wait_group fresh;
      try {
        if (by_done)
          fresh.done();
        else
          fresh.add(-3);
        ADD_FAILURE();
      } catch (const error& e) {
        EXPECT_STREQ(e.what(), "sync: negative WaitGroup counter");
      }
    }
  });
}

TEST_P(wait_group_test, go_runs_a_move_only_function) {
  in_main([] {
    wait_group group;
    std::atomic<int> sum{0};
    for (int i = 1; i <= 10; ++i) group.go([&sum, n = std::make_unique<int>(i)] { sum += *n; });
    group.wait();
    EXPECT_EQ(sum, 55);
  });
}

TEST_P(wait_group_test, goroutines_of_a_group_may_start_more) {
  in_main([] {
    struct tree {
      wait_group* group;
      std::atomic<int>* leaves;
      void grow(int depth) const {
        if (depth == 0) ++*leaves;
        for (int i = 0; i < 2 && depth > 0; ++i) group->go([*this, depth] { grow(depth - 1); });
      }
    };
    wait_group group;
    std::atomic<int> leaves{0};
    tree{&group, &leaves}.grow(8);
    group.wait();
    EXPECT_EQ(leaves, 256);
  });
}

TEST_P(wait_group_test, foreign_threads_wait_and_are_waited_for) {
  in_main([] {
    wait_group group;
    std::atomic<int> finished{0};
    group.add(8);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      go([&] {
        ++finished;
        group.done();
      });
      threads.emplace_back([&] {
        ++finished;
        group.done();
        group.wait();
        EXPECT_EQ(finished, 8);
      });
    }
    group.wait();
    EXPECT_EQ(finished, 8);
    join(threads);
  });
}

// -- semaphore
// ---------------------------------------------------------------------------------------------------------

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
    wait_group done;
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      done.go(work);
      threads.emplace_back(work);
    }
    done.wait();
    join(threads);
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

}  // namespace
