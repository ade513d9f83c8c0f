// SPDX-License-Identifier: Apache-2.0
// wait_group. What ends the process is in sync_deadlock_test.cpp.
#include <weft/sync.h>

#include <memory>

#include "tests/fixture.h"
#include "tests/foreign.h"

namespace {

using namespace weft;
using namespace weft::test;

class wait_group_test : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(wait_group_test);

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
    foreign_threads threads;
    for (int i = 0; i < 4; ++i) {
      go([&] {
        ++finished;
        group.done();
      });
      threads.start([&] {
        ++finished;
        group.done();
        group.wait();
        EXPECT_EQ(finished, 8);
      });
    }
    group.wait();
    EXPECT_EQ(finished, 8);
    threads.join();
  });
}

TEST_P(wait_group_test, using_it_again_before_wait_has_returned_throws) {
  in_main([] {
    wait_group group;
    group.add(1);
    const int before = parked(wait_reason::wait_group_wait);
    std::atomic<bool> threw{false}, returned{false};
    go([&] {
      try {
        group.wait();
      } catch (const error& e) {
        EXPECT_STREQ(e.what(), "sync: WaitGroup is reused before previous Wait has returned");
        threw = true;
      }
      returned = true;
    });
    EXPECT_TRUE(eventually_parked(wait_reason::wait_group_wait, before, 1));
    group.done();
    group.add(1);
    EXPECT_TRUE(eventually(returned));
    group.done();
    EXPECT_TRUE(threw || ps() > 1);  // on another P it may be faster
  });
}

TEST_P(wait_group_test, goexit_counts_as_done) {
  in_main([] {
    wait_group group;
    for (int i = 0; i < 10; ++i)
      group.go([i] {
        if (i % 2 == 0) goexit();
        try {
          goexit();
        } catch (...) {
        }
      });
    group.wait();
  });
}

TEST_P(wait_group_test, functions_are_destroyed_before_wait_returns) {
  in_main([] {
    for (int round = 0; round < scaled(300); ++round) {
      const auto held = std::make_shared<int>(0);
      wait_group group;
      for (int i = 0; i < 4; ++i)
        group.go([held, i] {
          if (i == 0) goexit();
        });
      group.wait();
      EXPECT_EQ(held.use_count(), 1);
    }
  });
}

TEST_P(wait_group_test, nobody_is_woken_early) {
  in_main([] {
    for (int round = 0; round < scaled(1000); ++round) {
      wait_group group;
      std::atomic<int> n{0};
      for (int i = 0; i < 2; ++i) group.go([&n] { ++n; });
      group.wait();
      EXPECT_EQ(n, 2);
    }
  });
}

TEST(wait_group_between_threads, works_without_a_run) {
  for (int round = 0; round < scaled(100); ++round) {
    wait_group group;
    std::atomic<int> finished{0};
    group.add(2);
    foreign_threads threads;
    for (int i = 0; i < 2; ++i)
      threads.start([&] {
        ++finished;
        group.done();
      });
    group.wait();
    EXPECT_EQ(finished, 2);
    threads.join();
  }
}

TEST(wait_group_between_threads, go_without_a_run_throws_and_counts_nothing) {
  wait_group group;
  EXPECT_THROW(group.go([] {}), error);
  group.wait();
}

}  // namespace
