// SPDX-License-Identifier: Apache-2.0
// condition_variable.
#include <weft/sync.h>

#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>

#include "tests/fixture.h"
#include "tests/foreign.h"
#include "tests/unchecked_locks.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

class condition_variable_test : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(condition_variable_test);

TEST_P(condition_variable_test, each_notify_one_wakes_one) {
  in_main([] {
    mutex m;
    condition_variable changed;
    constexpr int kWaiters = 20;
    const int before = parked(wait_reason::cond_wait);
    std::atomic<int> awake{0};
    wait_group done;
    for (int i = 0; i < kWaiters; ++i)
      done.go([&] {
        std::unique_lock lock(m);
        changed.wait(lock);
        ++awake;
      });
    EXPECT_TRUE(eventually_parked(wait_reason::cond_wait, before, kWaiters));
    for (int i = 1; i <= kWaiters; ++i) {
      EXPECT_EQ(awake, i - 1);
      changed.notify_one();
      EXPECT_TRUE(eventually([&] { return awake == i; }));
    }
    done.wait();
    changed.notify_one();
    changed.notify_all();
  });
}

TEST_P(condition_variable_test, notify_one_wakes_in_order_of_arrival) {
  in_main([] {
    mutex m;
    condition_variable changed;
    const auto order = make_chan<int>(100);
    const int before = parked(wait_reason::cond_wait);
    for (int i = 0; i < 100; ++i) {
      go([&, order, i] {
        std::unique_lock lock(m);
        changed.wait(lock);
        order.send(i);
      });
      EXPECT_TRUE(eventually_parked(wait_reason::cond_wait, before, i + 1));
    }
    for (int i = 0; i < 100; ++i) {
      changed.notify_one();
      EXPECT_EQ(order.recv(), i);
    }
  });
}

TEST_P(condition_variable_test, notify_all_wakes_all_who_wait_and_nobody_later) {
  in_main([] {
    mutex m;
    condition_variable changed;
    int running = 0;
    bool stop = false;
    constexpr int kWaiters = 50;
    wait_group done;
    for (int i = 0; i < kWaiters; ++i)
      done.go([&] {
        const std::lock_guard hold(m);
        while (!stop) {
          ++running;
          changed.wait(m);
        }
      });
    for (int round = 0; round < scaled(100); ++round) {
      EXPECT_TRUE(eventually([&] {
        const std::lock_guard hold(m);
        return running == kWaiters;
      }));
      const std::lock_guard hold(m);
      running = 0;
      stop = round == scaled(100) - 1;
      changed.notify_all();
    }
    done.wait();
    EXPECT_EQ(running, 0);
  });
}

// Go's TestCondSignalStealing: two wait, one of them since before the notify, the other since after it.
TEST_P(condition_variable_test, a_newcomer_does_not_get_an_older_one_s_notify) {
  in_main([] {
    for (int round = 0; round < scaled(500); ++round) {
      mutex m;
      condition_variable changed;
      const auto queued = make_chan<unit>(), woken = make_chan<unit>();
      go([&, queued, woken] {
        m.lock();
        queued.send({});
        changed.wait(m);
        m.unlock();
        woken.send({});
      });
      queued.recv();
      m.lock();
      m.unlock();
      bool let_in = false;
      wait_group done;
      done.go([&] {
        m.lock();
        while (!let_in) changed.wait(m);
        m.unlock();
      });
      changed.notify_one();
      woken.recv();
      m.lock();
      let_in = true;
      m.unlock();
      changed.notify_all();
      done.wait();
    }
  });
}

TEST_P(condition_variable_test, the_place_is_taken_before_the_lock_is_released) {
  in_main([] {
    // A lock whose unlock() notifies: that finds the waiter in its place, though it has not parked.
    struct noisy {
      condition_variable* changed;
      int locked = 0, unlocked = 0;
      void lock() { ++locked; }
      void unlock() {
        ++unlocked;
        changed->notify_one();
        yield();
      }
    };
    condition_variable changed;
    noisy lock{&changed};
    changed.wait(lock);
    EXPECT_TRUE(changed.wait_for(lock, 1h));
    EXPECT_EQ(lock.locked, 2);
    EXPECT_EQ(lock.unlocked, 2);
  });
}

TEST_P(condition_variable_test, any_lock_will_do) {
  in_main([] {
    condition_variable changed;
    bool ready = false;
    shared_mutex m;
    mutex plain;
    const auto wait_with = [&](auto lock) {
      changed.wait(lock, [&] { return ready; });
      EXPECT_TRUE(lock.owns_lock());
    };
    const int before = parked(wait_reason::cond_wait);
    wait_group done;
    done.go([&] { wait_with(std::shared_lock(m)); });
    done.go([&] { wait_with(std::shared_lock(m)); });
    EXPECT_TRUE(eventually_parked(wait_reason::cond_wait, before, 2));
    {
      const std::lock_guard hold(m);
      ready = true;
    }
    changed.notify_all();
    done.wait();
    wait_with(std::unique_lock(m));
    wait_with(std::unique_lock(plain));
  });
}

TEST_P(condition_variable_test, a_wait_gives_up_when_the_time_is_up) {
  in_main([] {
    mutex m;
    condition_variable changed;
    std::unique_lock lock(m);
    const auto start = weft::clock::now();
    EXPECT_FALSE(changed.wait_for(lock, 2ms));
    EXPECT_TRUE(lock.owns_lock());
    EXPECT_FALSE(changed.wait_for(lock, 2ms, [] { return false; }));
    EXPECT_FALSE(changed.wait_until(lock, start + 6ms));
    EXPECT_FALSE(changed.wait_until(lock, start + 8ms, [] { return false; }));
    EXPECT_GE(weft::clock::now() - start, 8ms);
    EXPECT_TRUE(changed.wait_for(lock, -1h, [] { return true; }));
    EXPECT_FALSE(changed.wait_for(lock, -1h, [] { return false; }));
    EXPECT_FALSE(changed.wait_for(lock, 0s));
    EXPECT_FALSE(changed.wait_until(lock, start));
    bool asked = false;
    EXPECT_TRUE(changed.wait_for(lock, 1ms, [&] { return std::exchange(asked, true); }));
    EXPECT_TRUE(lock.owns_lock());
    EXPECT_FALSE(m.try_lock());
  });
}

TEST_P(condition_variable_test, a_wait_with_a_far_limit_is_notified) {
  in_main([] {
    mutex m;
    condition_variable changed;
    bool ready = false;
    const int before = parked(wait_reason::cond_wait);
    wait_group done;
    const auto is_ready = [&ready] { return ready; };
    done.go([&] {
      std::unique_lock lock(m);
      EXPECT_TRUE(changed.wait_for(lock, 1h, is_ready));
    });
    done.go([&] {
      std::unique_lock lock(m);
      EXPECT_TRUE(changed.wait_for(lock, std::chrono::hours::max(), is_ready));
    });
    done.go([&] {
      std::unique_lock lock(m);
      EXPECT_TRUE(changed.wait_until(lock, time_point::max()));
    });
    EXPECT_TRUE(eventually_parked(wait_reason::cond_wait, before, 3));
    m.lock();
    ready = true;
    m.unlock();
    changed.notify_all();
    done.wait();
  });
}

// Each notify goes to somebody who then returns true, or nobody waits: however it races with times that are up.
TEST_P(condition_variable_test, no_notify_is_lost_to_a_wait_whose_time_is_up) {
  in_main([] {
    mutex m;
    condition_variable changed;
    int items = 0, taken = 0;
    bool stop = false;
    wait_group done;
    for (int i = 0; i < 4; ++i)
      done.go([&, i] {
        std::unique_lock lock(m);
        for (int n = i; !stop || items > 0; ++n) {
          if (items == 0) {
            // Who was notified finds an item, or somebody has taken it since without having waited.
            changed.wait_for(lock, std::chrono::nanoseconds(1 + 1'009 * (n % 16)));
            continue;
          }
          --items;
          ++taken;
        }
      });
    // One without a time limit: it must get each notify that the others, whose time was up, did not take.
    done.go([&] {
      std::unique_lock lock(m);
      for (;;) {
        changed.wait(lock, [&] { return stop || items > 0; });
        if (items == 0) return;
        --items;
        ++taken;
      }
    });
    const int n = scaled(2000);
    for (int i = 0; i < n; ++i) {
      const std::lock_guard hold(m);
      ++items;
      changed.notify_one();
      if (i % 8 == 0) yield();
    }
    {
      const std::lock_guard hold(m);
      stop = true;
      changed.notify_all();
    }
    done.wait();
    EXPECT_EQ(taken, n);
  });
}

TEST_P(condition_variable_test, a_notify_passes_over_a_wait_whose_time_is_up) {
  in_main([] {
    for (int round = 0; round < scaled(200); ++round) {
      mutex m;
      condition_variable changed;
      std::atomic<bool> late{false}, notified{false}, second_notified{false};
      const int before = parked(wait_reason::cond_wait);
      wait_group done;
      done.go([&] {
        std::unique_lock lock(m);
        (changed.wait_for(lock, std::chrono::microseconds(round % 32)) ? notified : late) = true;
      });
      EXPECT_TRUE(eventually([&] { return late || parked(wait_reason::cond_wait) > before; }));
      done.go([&] {
        std::unique_lock lock(m);
        changed.wait(lock);
        second_notified = true;
      });
      EXPECT_TRUE(eventually([&] {
        const int waiting = late ? 1 : 2;  // is it late after this, there are fewer than 2
        return parked(wait_reason::cond_wait) == before + waiting;
      }));
      changed.notify_one();
      EXPECT_TRUE(eventually([&] { return notified || second_notified; }));
      changed.notify_one();
      done.wait();
    }
  });
}

TEST_P(condition_variable_test, what_a_predicate_throws_leaves_with_the_lock_held) {
  in_main([] {
    mutex m;
    condition_variable changed;
    std::unique_lock lock(m);
    const auto fail = []() -> bool { throw std::runtime_error("no"); };
    EXPECT_THROW(changed.wait(lock, fail), std::runtime_error);
    EXPECT_THROW(changed.wait_for(lock, 1ms, fail), std::runtime_error);
    bool first = true;
    const auto fail_later = [&] {
      if (std::exchange(first, false)) return false;
      throw std::runtime_error("no");
    };
    EXPECT_THROW(changed.wait_for(lock, 1ms, fail_later), std::runtime_error);
    EXPECT_TRUE(lock.owns_lock());
    EXPECT_FALSE(m.try_lock());
  });
}

TEST_P(condition_variable_test, goexit_in_a_predicate_leaves_with_the_lock_held) {
  in_main([] {
    mutex m;
    condition_variable changed;
    wait_group done;
    done.go([&] {
      std::unique_lock lock(m);
      changed.wait(lock, []() -> bool { goexit(); });
    });
    // Unwinding, goroutines may wait.
    done.go([&] {
      struct at_end {
        mutex* m;
        condition_variable* changed;
        ~at_end() {
          std::unique_lock lock(*m);
          EXPECT_FALSE(changed->wait_for(lock, 1ms));
          EXPECT_TRUE(lock.owns_lock());
        }
      } const waits{&m, &changed};
      goexit();
    });
    done.wait();
    EXPECT_TRUE(m.try_lock());
    m.unlock();
  });
}

TEST_P(condition_variable_test, what_unlock_throws_gives_the_place_back) {
  in_main([] {
    mutex m;
    condition_variable changed;
    std::unique_lock nothing(m, std::defer_lock);
    EXPECT_THROW(changed.wait(nothing), std::system_error);
    EXPECT_THROW(changed.wait_for(nothing, 1h), std::system_error);
    const int before = parked(wait_reason::cond_wait);
    wait_group done;
    done.go([&] {
      std::unique_lock lock(m);
      changed.wait(lock);
    });
    EXPECT_TRUE(eventually_parked(wait_reason::cond_wait, before, 1));
    changed.notify_one();
    done.wait();
  });
}

// The second waiter comes when the first was notified, which then does not wait after all.
TEST_P(condition_variable_test, what_unlock_throws_passes_a_notify_on) {
  in_main([] {
    struct throwing {
      std::function<void()> before;
      void lock() { ADD_FAILURE(); }
      void unlock() {
        before();
        throw std::runtime_error("no");
      }
    };
    mutex m;
    condition_variable changed;
    wait_group done;
    throwing lock{[&] {
      const int before = parked(wait_reason::cond_wait);
      changed.notify_one();
      done.go([&] {
        std::unique_lock held(m);
        changed.wait(held);
      });
      EXPECT_TRUE(eventually_parked(wait_reason::cond_wait, before, 1));
    }};
    EXPECT_THROW(changed.wait(lock), std::runtime_error);
    done.wait();
    EXPECT_THROW(changed.wait_for(lock, 1h), std::runtime_error);
    done.wait();
  });
}

TEST_P(condition_variable_test, it_may_be_destroyed_when_all_are_notified) {
  in_main([] {
    for (int round = 0; round < scaled(1000); ++round) {
      mutex m;
      auto changed = std::make_unique<condition_variable>();
      int waiting = 0;
      wait_group done;
      for (int i = 0; i < 3; ++i)
        done.go([&, c = changed.get()] {
          std::unique_lock lock(m);
          ++waiting;
          c->wait(lock);
        });
      EXPECT_TRUE(eventually([&] {
        const std::lock_guard hold(m);
        return waiting == 3;
      }));
      if (round % 2 == 0) {
        changed->notify_all();
      } else {
        for (int i = 0; i < 3; ++i) changed->notify_one();
      }
      changed.reset();
      done.wait();
    }
  });
}

TEST_P(condition_variable_test, foreign_threads_and_goroutines_share_it) {
  in_main([] {
    mutex m;
    condition_variable changed;
    int turn = 0;
    constexpr int kParties = 6;
    const int last = kParties * scaled(100);
    const auto play = [&](int me) {
      std::unique_lock lock(m);
      for (; turn < last;) {
        if (turn % kParties == me) {
          ++turn;
          changed.notify_all();
        } else if (me % 2 == 0) {
          changed.wait(lock);
        } else {
          changed.wait_for(lock, 1h);
        }
      }
    };
    wait_group done;
    foreign_threads threads;
    for (int i = 0; i < kParties; i += 2) {
      done.go([&play, i] { play(i); });
      threads.start([&play, i] { play(i + 1); });
    }
    done.wait();
    threads.join();
    EXPECT_EQ(turn, last);
  });
}

// Go's TestCondCopy.
static_assert(!std::is_copy_constructible_v<condition_variable> && !std::is_copy_assignable_v<condition_variable>);

TEST(condition_variable_between_threads, works_without_a_run) {
  mutex m;
  condition_variable changed;
  int items = 0;
  std::atomic<int> taken{0};
  foreign_threads threads;
  const int n = scaled(1000);
  for (int i = 0; i < 3; ++i)
    threads.start([&, i] {
      std::unique_lock lock(m);
      for (int k = 0; k < n; ++k) {
        while (items == 0) {
          if (i == 0)
            changed.wait_for(lock, 100us);
          else
            changed.wait(lock);
        }
        --items;
        ++taken;
      }
    });
  for (int k = 0; k < 3 * n; ++k) {
    const std::lock_guard hold(m);
    ++items;
    changed.notify_one();
  }
  threads.join();
  EXPECT_EQ(taken, 3 * n);
}

}  // namespace
