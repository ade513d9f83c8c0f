// SPDX-License-Identifier: Apache-2.0
// barrier.
#include <weft/sync.h>

#include <array>
#include <string>

#include "tests/fixture.h"
#include "tests/foreign.h"

namespace {

using namespace weft;
using namespace weft::test;

class barrier_test : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(barrier_test);

TEST_P(barrier_test, nobody_goes_on_before_all_have_come) {
  in_main([] {
    constexpr int kParties = 5;
    barrier b(kParties);
    std::atomic<int> gone_on{0};
    const int before = parked(wait_reason::barrier_wait);
    wait_group done;
    for (int i = 0; i < kParties - 1; ++i)
      done.go([&] {
        b.arrive_and_wait();
        ++gone_on;
      });
    EXPECT_TRUE(eventually_parked(wait_reason::barrier_wait, before, kParties - 1));
    EXPECT_EQ(gone_on, 0);
    b.arrive_and_wait();
    done.wait();
    EXPECT_EQ(gone_on, kParties - 1);
  });
}

TEST_P(barrier_test, generations_follow_each_other) {
  in_main([] {
    constexpr std::size_t kParties = 6;
    barrier b(kParties);
    std::array<std::atomic<int>, kParties> at{};
    wait_group done;
    for (std::size_t me = 0; me < kParties; ++me)
      done.go([&, me] {
        for (int round = 1; round <= scaled(300); ++round) {
          if (me == static_cast<std::size_t>(round) % kParties) yield();
          at[me] = round;
          b.arrive_and_wait();
          for (const auto& other : at) {
            EXPECT_GE(other, round);
            EXPECT_LE(other, round + 1);
          }
        }
      });
    done.wait();
  });
}

TEST_P(barrier_test, of_one_never_waits) {
  in_main([] {
    barrier b(1);
    for (int i = 0; i < 10; ++i) b.arrive_and_wait();
  });
}

TEST_P(barrier_test, foreign_threads_and_goroutines_meet) {
  in_main([] {
    barrier b(6);
    std::atomic<int> arrived{0};
    const auto meet = [&] {
      for (int round = 1; round <= scaled(100); ++round) {
        ++arrived;
        b.arrive_and_wait();
        EXPECT_GE(arrived, 6 * round);
      }
    };
    in_goroutines_and_threads(3, meet);
  });
}

TEST(barrier_between_threads, works_without_a_run) {
  barrier b(3);
  std::atomic<int> arrived{0};
  foreign_threads threads;
  for (int i = 0; i < 3; ++i)
    threads.start([&] {
      for (int round = 1; round <= scaled(100); ++round) {
        ++arrived;
        b.arrive_and_wait();
        EXPECT_GE(arrived, 3 * round);
      }
    });
  threads.join();
}

TEST(barrier_misuse, fewer_than_one_participant_throws) {
  for (const int n : {0, -1}) {
    try {
      barrier b(n);
      ADD_FAILURE();
    } catch (const error& e) {
      EXPECT_STREQ(e.what(), "barrier: number of participants out of range");
    }
  }
}

}  // namespace
