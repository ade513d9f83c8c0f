// SPDX-License-Identifier: Apache-2.0
// The scheduling policy on simulated machines (tests/sim), beside Go's: what must hold for every seed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "tests/sim/simulation.h"

namespace {

using namespace weft::sim;

result of(const std::string& policy, const std::string& work, int nodes, double remote = 2, std::uint64_t seed = 1) {
  return simulate(
      {.nodes = nodes, .remote = remote, .work = work, .policy = policy, .seed = seed, .duration = 5'000'000});
}

class simulated : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(work, simulated, testing::ValuesIn(workload_names()),
                         [](const auto& each) { return each.param; });

TEST_P(simulated, the_same_seed_gives_the_same_run_and_another_one_does_not) {
  for (const char* const policy : {"weft", "go"}) {
    const result first = of(policy, GetParam(), 4), again = of(policy, GetParam(), 4);
    EXPECT_EQ(first.digest, again.digest);
    EXPECT_EQ(first.throughput, again.throughput);
    EXPECT_NE(of(policy, GetParam(), 4, 2, 2).digest, first.digest);
  }
}

TEST_P(simulated, no_work_is_lost) {
  for (const int nodes : {1, 2, 4, 16})
    for (const char* const policy : {"weft", "go"}) {
      const result r = of(policy, GetParam(), nodes);
      EXPECT_EQ(r.lost, 0u) << policy << " on " << nodes;
      EXPECT_GT(r.throughput, 0) << policy << " on " << nodes;
    }
}

TEST_P(simulated, on_one_node_both_policies_do_as_well) {
  double weft = 0, go = 0;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    weft += of("weft", GetParam(), 1, 2, seed).throughput;
    go += of("go", GetParam(), 1, 2, seed).throughput;
  }
  EXPECT_NEAR(weft / go, 1, 0.05);
}

auto name_of = [](const auto& each) { return each.param; };

class evenly_spread : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(work, evenly_spread, testing::Values("server", "fork_join", "pipeline", "pipeline_across"),
                         name_of);

TEST_P(evenly_spread, gets_at_least_as_much_done_on_four_nodes_as_with_go_s_policy) {
  for (const double remote : {1.5, 2.0, 3.0}) {
    const result weft = of("weft", GetParam(), 4, remote), go = of("go", GetParam(), 4, remote);
    EXPECT_GE(weft.throughput, go.throughput) << remote;
  }
}

// Between bursts of their own (fork_join) nodes help each other: that is no balanced load.
class balanced : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(work, balanced, testing::Values("server", "pipeline", "pipeline_across"), name_of);

TEST_P(balanced, runs_at_home) {
  for (const int nodes : {2, 4, 16})
    for (const double remote : {1.5, 3.0}) EXPECT_GE(of("weft", GetParam(), nodes, remote).home_share, 0.95) << nodes;
}

class from_one_node : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(work, from_one_node, testing::Values("server_one_node", "fork_join_one_node"), name_of);

TEST_P(from_one_node, is_done_by_all) {
  for (const int nodes : {2, 4}) {
    const result alone = of("weft", GetParam(), 1), together = of("weft", GetParam(), nodes);
    EXPECT_LE(together.idle_beside_work, 0.1) << nodes;
    // Those of the other nodes work at half speed.
    EXPECT_GE(together.throughput, 0.75 * (1 + (nodes - 1) / 2.0) * alone.throughput) << nodes;
    EXPECT_GE(together.throughput, 0.92 * of("go", GetParam(), nodes).throughput) << nodes;
  }
}

}  // namespace
