// SPDX-License-Identifier: Apache-2.0
// The cost model alone: what it makes of what it was told.
#include <gtest/gtest.h>

#include "runtime/costs.h"

namespace {

using namespace weft::rt;

constexpr std::uint64_t kTooLong = block_kind::kLongestWait + 1;

// The wait of the next decision that does not explore.
std::uint32_t usual_wait(block_kind& kind) {
  std::uint32_t least = block_kind::kLongestWait;
  for (int i = 0; i < 8; ++i) least = std::min(least, kind.next_wait());
  return least;
}

TEST(estimate, is_the_default_until_something_was_measured) {
  estimate e(2'500);
  EXPECT_EQ(e.ns(), 2'500u);
  e.add(1'000);
  EXPECT_EQ(e.ns(), 1'000u);
  EXPECT_EQ(e.samples(), 1u);
}

TEST(estimate, follows_what_was_measured_of_late) {
  estimate e(1);
  for (int i = 0; i < 100; ++i) e.add(1'000);
  for (int i = 0; i < 100; ++i) e.add(5'000);
  EXPECT_NEAR(e.ns(), 5'000, 50);
}

TEST(estimate, takes_durations_of_any_length) {
  estimate e(1);
  e.add(UINT64_MAX);
  e.add(UINT64_MAX);
  EXPECT_GT(e.ns(), 1u << 30);
}

TEST(block_kind, is_not_waited_for_at_first_but_to_learn) {
  block_kind kind;
  EXPECT_EQ(kind.next_wait(), block_kind::kLongestWait);
  EXPECT_EQ(usual_wait(kind), 0u);
}

TEST(block_kind, of_short_blocks_is_waited_for) {
  block_kind kind;
  for (int i = 0; i < 20; ++i) kind.learn(1'500, 5'000);
  EXPECT_EQ(usual_wait(kind), 2'000u);
}

TEST(block_kind, of_long_blocks_is_not_waited_for) {
  block_kind kind;
  for (int i = 0; i < 20; ++i) kind.learn(kTooLong, 5'000);
  EXPECT_EQ(usual_wait(kind), 0u);
}

TEST(block_kind, is_waited_for_when_enough_are_short) {
  block_kind kind;
  for (int i = 0; i < 100; ++i) kind.learn(i % 10 == 0 ? kTooLong : 1'500, 5'000);
  EXPECT_EQ(usual_wait(kind), 2'000u);
  for (int i = 0; i < 1'000; ++i) kind.learn(i % 10 == 0 ? 1'500 : kTooLong, 5'000);
  EXPECT_EQ(usual_wait(kind), 0u);
}

TEST(block_kind, forgets_what_was_long_ago) {
  block_kind kind;
  for (int i = 0; i < 5'000; ++i) kind.learn(kTooLong, 5'000);
  for (int i = 0; i < 3'000; ++i) kind.learn(1'500, 5'000);
  EXPECT_EQ(usual_wait(kind), 2'000u);
}

TEST(block_kind, that_is_only_given_up_when_hopeless_is_waited_for_as_long_as_a_switch_costs) {
  block_kind kind;
  for (int i = 0; i < 100; ++i) kind.learn_if_hopeless(i % 10 == 0 ? 3'000 : kTooLong, 6'000);
  EXPECT_EQ(usual_wait(kind), 8'000u);
  for (int i = 0; i < 2'000; ++i) kind.learn_if_hopeless(kTooLong, 6'000);
  EXPECT_EQ(usual_wait(kind), 0u);
}

TEST(block_kind, is_never_waited_for_longer_than_the_longest_wait) {
  block_kind kind;
  for (int i = 0; i < 10; ++i) kind.learn_if_hopeless(3'000, 1'000'000);
  EXPECT_EQ(usual_wait(kind), block_kind::kLongestWait);
}

TEST(node_costs, counts_what_spinning_was_good_for) {
  node_costs costs;
  costs.learn_from_spin(true, 3'000);
  costs.learn_from_spin(false, 8'000);
  EXPECT_EQ(costs.spins_won, 1u);
  EXPECT_EQ(costs.spins_lost, 1u);
  EXPECT_EQ(costs.spin_regret_ns, 8'000u);
}

}  // namespace
