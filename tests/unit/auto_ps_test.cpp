// SPDX-License-Identifier: Apache-2.0
// The policy of GOMAXPROCS=auto on made-up nodes: what it does, how soon, and that it lets go of what does not help.
#include "runtime/auto_ps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace {

using weft::rt::auto_ps;
using weft::rt::node_load;

// A node on which so many goroutines want to run, and others keep some of its CPUs busy.
struct node {
  int cpus = 8;
  double wanted = 100;  // goroutines
  double others = 0;    // CPUs' worth
  double worth = 1;     // what a P more adds to the throughput
  double noise = 0;
  int ps = 8;
  std::mt19937 random{1};

  node_load second() {
    const double busy = std::min<double>(ps, wanted), got = std::min(busy, cpus - others);
    const double jitter = noise == 0 ? 1 : std::uniform_real_distribution<double>(1 - noise, 1 + noise)(random);
    return {.ps = ps,
            .most = cpus,
            .idle = ps - busy,
            .waiting_gs = wanted - busy,
            .waiting_ms = busy - got,
            .done = 1000 * (1 + worth * (got - 1)) * jitter};
  }
};

// How many Ps it had in each second.
std::vector<int> run(auto_ps& policy, node& where, int seconds) {
  std::vector<int> ps;
  for (int i = 0; i < seconds; ++i) ps.push_back(where.ps = policy.decide(where.second()));
  return ps;
}

int changes(const std::vector<int>& ps) {
  int n = 0;
  for (std::size_t i = 1; i < ps.size(); ++i) n += ps[i] != ps[i - 1] ? 1 : 0;
  return n;
}

TEST(automatic_ps, stay_where_all_is_well) {
  auto_ps policy;
  node busy, quiet{.wanted = 2, .ps = 4};
  EXPECT_EQ(changes(run(policy, busy, 100)), 0);
  auto_ps other;
  EXPECT_EQ(changes(run(other, quiet, 100)), 0);
}

TEST(automatic_ps, become_more_where_goroutines_wait) {
  auto_ps policy;
  node where{.ps = 2};
  const auto ps = run(policy, where, 100);
  EXPECT_EQ(ps.back(), 8);
  EXPECT_EQ(changes(ps), 6);
}

TEST(automatic_ps, become_fewer_where_others_have_the_cpus) {
  auto_ps policy;
  node where{.others = 3, .ps = 8};
  EXPECT_EQ(run(policy, where, 100).back(), 5);
}

TEST(automatic_ps, do_not_react_to_a_moment) {
  auto_ps policy;
  node where{.ps = 4};
  for (int i = 0; i < 60; ++i) {
    where.wanted = i % auto_ps::kSure == 0 ? 2 : 100;
    EXPECT_EQ(policy.decide(where.second()), 4);
  }
}

TEST(automatic_ps, take_back_what_harms_and_try_it_less_and_less) {
  auto_ps policy;
  node where{.worth = -0.2, .ps = 2};
  const auto ps = run(policy, where, 1000);
  EXPECT_EQ(*std::max_element(ps.begin(), ps.end()), 3);
  EXPECT_EQ(*std::min_element(ps.begin(), ps.end()), 2);
  EXPECT_LE(changes(ps), 12);  // there and back each time
  EXPECT_LE(std::count(ps.begin(), ps.end(), 3), 40);
}

TEST(automatic_ps, do_not_blame_a_change_for_there_being_less_to_do) {
  auto_ps policy;
  node where{.ps = 2};
  while (where.ps == 2) where.ps = policy.decide(where.second());
  where.wanted = 1;
  EXPECT_EQ(run(policy, where, 20).back(), 3);
}

TEST(automatic_ps, follow_those_who_come_and_go) {
  auto_ps policy;
  node where{.ps = 8};
  where.others = 4;
  EXPECT_EQ(run(policy, where, 60).back(), 4);
  where.others = 0;
  EXPECT_EQ(run(policy, where, 60).back(), 8);
}

TEST(automatic_ps, begin_anew_when_somebody_else_changes_them) {
  auto_ps policy;
  node where{.ps = 2};
  run(policy, where, 2);
  where.ps = 6;
  EXPECT_EQ(run(policy, where, auto_ps::kSure - 1).back(), 6);
}

TEST(automatic_ps, leave_a_node_without_ps_alone_and_the_last_p_where_it_is) {
  auto_ps none, last;
  node without{.ps = 0}, crowded{.others = 8, .ps = 1};
  EXPECT_EQ(run(none, without, 50).back(), 0);
  EXPECT_EQ(run(last, crowded, 50).back(), 1);
}

TEST(automatic_ps, hardly_ever_change_for_noise) {
  auto_ps policy;
  node where{.noise = 0.3, .ps = 8};
  EXPECT_EQ(changes(run(policy, where, 1000)), 0);
}

}  // namespace
