// SPDX-License-Identifier: Apache-2.0
// once.
#include <weft/sync.h>

#include <exception>
#include <memory>
#include <stdexcept>

#include "tests/fixture.h"
#include "tests/foreign.h"

namespace {

using namespace weft;
using namespace weft::test;

class once_test : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(once_test);

TEST_P(once_test, only_the_first_call_runs) {
  in_main([] {
    once o;
    int ran = 0;
    o.call([&] { ran = 1; });
    o.call([&] { ran = 2; });
    o.call([] { FAIL(); });
    EXPECT_EQ(ran, 1);
  });
}

TEST_P(once_test, all_who_call_wait_for_the_end_of_the_one_that_runs) {
  in_main([] {
    for (int round = 0; round < scaled(200); ++round) {
      once o;
      int value = 0;
      std::atomic<int> ran{0};
      wait_group done;
      for (int i = 0; i < 10; ++i)
        done.go([&] {
          o.call([&] {
            ++ran;
            for (int n = 0; n < 3; ++n) yield();
            value = 7;
          });
          EXPECT_EQ(value, 7);
        });
      done.wait();
      EXPECT_EQ(ran, 1);
    }
  });
}

TEST_P(once_test, those_who_come_during_the_call_park) {
  in_main([] {
    once o;
    const auto let_go = make_chan<unit>();
    const int before = parked(wait_reason::mutex_lock);
    std::atomic<int> through{0};
    std::atomic<bool> running{false};
    wait_group done;
    done.go([&, let_go] {
      o.call([&] {
        running = true;
        let_go.recv();
      });
    });
    EXPECT_TRUE(eventually(running));
    for (int i = 0; i < 5; ++i)
      done.go([&] {
        o.call([] { FAIL(); });
        ++through;
      });
    EXPECT_TRUE(eventually_parked(wait_reason::mutex_lock, before, 5));
    EXPECT_EQ(through, 0);
    let_go.send({});
    done.wait();
    EXPECT_EQ(through, 5);
  });
}

TEST_P(once_test, a_call_that_throws_counts) {
  in_main([] {
    once o;
    std::atomic<int> threw{0};
    wait_group done;
    for (int i = 0; i < 5; ++i)
      done.go([&] {
        try {
          o.call([] {
            yield();
            throw std::runtime_error("no");
          });
        } catch (const std::runtime_error&) {
          ++threw;
        }
      });
    done.wait();
    EXPECT_EQ(threw, 1);
    o.call([] { FAIL(); });
  });
}

// Go's OnceFunc: what the one call threw reaches everybody who calls.
TEST_P(once_test, what_the_call_threw_can_be_kept_for_all_who_wait_for_it) {
  in_main([] {
    for (int round = 0; round < scaled(100); ++round) {
      once o;
      std::exception_ptr failure;
      std::atomic<int> ran{0}, threw{0};
      const auto call = [&] {
        o.call([&] {
          ++ran;
          try {
            yield();
            throw std::runtime_error("no");
          } catch (const std::runtime_error&) {
            failure = std::current_exception();
          }
        });
        std::rethrow_exception(failure);
      };
      wait_group done;
      for (int i = 0; i < 5; ++i)
        done.go([&] {
          try {
            call();
          } catch (const std::runtime_error&) {
            EXPECT_EQ(std::current_exception(), failure);
            ++threw;
          }
        });
      done.wait();
      EXPECT_THROW(call(), std::runtime_error);
      EXPECT_EQ(ran, 1);
      EXPECT_EQ(threw, 5);
    }
  });
}

TEST_P(once_test, a_call_that_ends_by_goexit_counts) {
  in_main([] {
    once o;
    std::atomic<int> went_on{0};
    wait_group done;
    for (int i = 0; i < 5; ++i)
      done.go([&] {
        o.call([] {
          yield();
          goexit();
        });
        ++went_on;
      });
    done.wait();
    EXPECT_EQ(went_on, 4);
  });
}

TEST_P(once_test, the_function_may_be_move_only) {
  in_main([] {
    once o;
    int got = 0;
    o.call([&got, n = std::make_unique<int>(5)]() mutable { got = *std::exchange(n, nullptr); });
    EXPECT_EQ(got, 5);
  });
}

TEST_P(once_test, foreign_threads_and_goroutines_share_it) {
  in_main([] {
    for (int round = 0; round < scaled(50); ++round) {
      once o;
      int value = 0;
      const auto use = [&] {
        o.call([&] { ++value; });
        EXPECT_EQ(value, 1);
      };
      in_goroutines_and_threads(3, use);
    }
  });
}

TEST(once_between_threads, works_without_a_run) {
  for (int round = 0; round < scaled(50); ++round) {
    once o;
    int value = 0;
    foreign_threads threads;
    for (int i = 0; i < 4; ++i)
      threads.start([&] {
        o.call([&] { ++value; });
        EXPECT_EQ(value, 1);
      });
    threads.join();
  }
}

}  // namespace
