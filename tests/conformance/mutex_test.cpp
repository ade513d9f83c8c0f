// SPDX-License-Identifier: Apache-2.0
// mutex.
#include <weft/sync.h>

#include <memory>
#include <mutex>

#include "tests/fixture.h"
#include "tests/foreign.h"
#include "tests/unchecked_locks.h"

namespace {

using namespace weft;
using namespace weft::test;

class mutex_test : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(mutex_test);

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
    in_goroutines_and_threads(3, count);
    EXPECT_EQ(counter, 6 * scaled(1000));
  });
}

TEST(mutex_between_threads, works_without_a_run) {
  mutex m;
  int counter = 0;
  foreign_threads threads;
  for (int i = 0; i < 4; ++i)
    threads.start([&] {
      for (int n = 0; n < scaled(10'000); ++n) {
        const std::lock_guard hold(m);
        ++counter;
      }
    });
  threads.join();
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

TEST_P(mutex_test, scoped_lock_takes_two_in_any_order) {
  in_main([] {
    mutex a, b;
    int counter = 0;
    wait_group done;
    for (int i = 0; i < 4; ++i)
      done.go([&, i] {
        for (int n = 0; n < scaled(500); ++n) {
          if (i % 2 == 0) {
            const std::scoped_lock both(a, b);
            ++counter;
          } else {
            const std::scoped_lock both(b, a);
            ++counter;
          }
        }
      });
    done.wait();
    EXPECT_EQ(counter, 4 * scaled(500));
  });
}

TEST_P(mutex_test, it_may_be_held_while_its_holder_waits_for_something_else) {
  in_main([] {
    mutex m;
    int counter = 0;
    const auto turn = make_chan<unit>();
    wait_group done;
    for (int i = 0; i < 8; ++i)
      done.go([&, turn] {
        const std::lock_guard hold(m);
        turn.recv();
        ++counter;
      });
    for (int i = 0; i < 8; ++i) turn.send({});
    done.wait();
    EXPECT_EQ(counter, 8);
  });
}

// Whoever is the last to hold it knows that nobody will want it again; the unlock before may not have returned yet.
TEST_P(mutex_test, the_last_holder_may_destroy_it) {
  in_main([] {
    struct shared {
      mutex m;
      int left = 4;
    };
    for (int round = 0; round < scaled(2000); ++round) {
      auto* const s = new shared;
      wait_group done;
      const auto use = [s] {
        s->m.lock();
        const bool last = --s->left == 0;
        if (last) yield();
        s->m.unlock();
        if (last) delete s;
      };
      for (int i = 0; i < 4; ++i) done.go(use);
      done.wait();
    }
  });
}

TEST(mutex_between_threads, the_last_holder_may_destroy_it) {
  struct shared {
    mutex m;
    int left = 3;
  };
  constexpr int kThreads = 3;
  const int rounds = scaled(2000);
  std::vector<std::unique_ptr<shared>> all(static_cast<std::size_t>(rounds));
  for (auto& each : all) each = std::make_unique<shared>();
  foreign_threads threads;
  for (int i = 0; i < kThreads; ++i)
    threads.start([&all] {
      for (auto& each : all) {
        shared* const s = each.get();
        s->m.lock();
        const bool last = --s->left == 0;
        s->m.unlock();
        if (last) each.reset();
      }
    });
  threads.join();
  for (auto& each : all) EXPECT_EQ(each, nullptr);
}

// The first wake-up may be in vain, since we lock again at once. Then the waiter, which has waited for over 1 ms, turns
// the mutex to starvation mode, and we cannot get it again before it has had it.
TEST_P(mutex_test, one_that_has_waited_too_long_gets_it_next) {
  in_main([] {
    mutex m;
    std::atomic<bool> got{false};
    const int before = parked(wait_reason::mutex_lock);
    m.lock();
    go([&] {
      const std::lock_guard hold(m);
      got = true;
    });
    EXPECT_TRUE(eventually_parked(wait_reason::mutex_lock, before, 1));
    sleep_for(std::chrono::milliseconds(2));
    m.unlock();
    m.lock();
    EXPECT_TRUE(eventually([&] { return got || parked(wait_reason::mutex_lock) == before + 1; }));
    m.unlock();
    m.lock();
    EXPECT_TRUE(got);
    m.unlock();
  });
}

}  // namespace
