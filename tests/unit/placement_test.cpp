// SPDX-License-Identifier: Apache-2.0
//
// Where Ps go and who is near whom, on described machines of 1 to 16 nodes.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "numa/cgroup.h"
#include "numa/description.h"
#include "numa/nearness.h"
#include "numa/placement.h"
#include "tests/unit/topologies.h"

namespace {

using namespace weft::numa;
using cpu_list = std::vector<int>;

class on_nodes : public testing::TestWithParam<int> {
 protected:
  const int nodes_ = GetParam();
  const topology plain_ = shapes::regular(nodes_, 4);
  const topology smt_ = shapes::regular(nodes_, 4, 2);
};
INSTANTIATE_TEST_SUITE_P(one_to_sixteen, on_nodes, testing::Values(1, 2, 4, 8, 16));

TEST_P(on_nodes, cores_come_before_their_smt_siblings) {
  std::set<int> cores;
  const cpu_list& order = smt_.cpus();
  ASSERT_EQ(order.size(), static_cast<std::size_t>(8 * nodes_));
  for (int i = 0; i < 4 * nodes_; ++i)
    EXPECT_TRUE(cores.insert(smt_.find_cpu(order[static_cast<std::size_t>(i)])->core).second);
}

TEST_P(on_nodes, ps_are_spread_by_turns) {
  for (int n = 1; n <= 8 * nodes_; ++n) {
    const placement ps = spread(smt_, n);
    ASSERT_EQ(ps.size(), static_cast<std::size_t>(nodes_));
    EXPECT_EQ(count_ps(ps), n);
    const auto [least, most] =
        std::minmax_element(ps.begin(), ps.end(), [](const node_ps& a, const node_ps& b) { return a.ps < b.ps; });
    EXPECT_LE(most->ps - least->ps, 1);
  }
}

TEST_P(on_nodes, the_first_ps_stay_where_they_are_when_more_are_spread) {
  const cpu_list all = cpus_for(plain_, spread(plain_, 8 * nodes_));
  for (int n = 1; n <= 8 * nodes_; ++n)
    EXPECT_EQ(cpus_for(plain_, spread(plain_, n)), cpu_list(all.begin(), all.begin() + n));
}

TEST_P(on_nodes, a_quota_packs_whole_nodes) {
  for (int n = 1; n <= 4 * nodes_; ++n) {
    const placement ps = pack(smt_, n);
    EXPECT_EQ(count_ps(ps), n);
    const auto used = std::count_if(ps.begin(), ps.end(), [](const node_ps& each) { return each.ps > 0; });
    EXPECT_EQ(used, (n + 3) / 4);
    EXPECT_LE(std::count_if(ps.begin(), ps.end(), [](const node_ps& each) { return each.ps % 4 != 0; }), 1);
  }
}

TEST_P(on_nodes, packed_nodes_are_neighbours) {
  if (nodes_ < 2) GTEST_SKIP();
  const placement ps = pack(plain_, 8);
  EXPECT_EQ(ps[0].ps, 4);
  EXPECT_EQ(ps[1].ps, 4);
}

TEST_P(on_nodes, siblings_are_packed_once_every_core_is_taken) {
  const cpu_list cpus = cpus_for(smt_, pack(smt_, 4 * nodes_ + 1));
  std::set<int> cores;
  for (int cpu : cpus) cores.insert(smt_.find_cpu(cpu)->core);
  EXPECT_EQ(cores.size(), static_cast<std::size_t>(4 * nodes_));
}

TEST_P(on_nodes, the_default_has_one_p_on_each_cpu) {
  cpu_list cpus = cpus_for(smt_, default_placement(smt_));
  EXPECT_EQ(cpus, smt_.cpus());
}

TEST_P(on_nodes, every_cpu_is_in_the_row_once_and_sees_itself) {
  const neighbourhood near(smt_);
  EXPECT_EQ(std::set<int>(near.row().begin(), near.row().end()).size(), static_cast<std::size_t>(8 * nodes_));
  for (int place = 0; place < 8 * nodes_; ++place) {
    const view& v = near.view_from(place);
    EXPECT_EQ(near.place_of(near.row()[static_cast<std::size_t>(place)]), place);
    EXPECT_EQ(v.core.size(), 2);
    EXPECT_EQ(v.node.size(), 8);
    EXPECT_EQ(v.cache, v.node);
    EXPECT_TRUE(v.core.begin <= place && place < v.core.end);
    EXPECT_TRUE(v.cache.begin <= v.core.begin && v.core.end <= v.cache.end);
  }
}

TEST_P(on_nodes, other_nodes_come_by_distance) {
  const neighbourhood near(plain_);
  for (int node = 0; node < nodes_; ++node) {
    const auto& others = near.others(node);
    ASSERT_EQ(others.size(), static_cast<std::size_t>(nodes_ - 1));
    for (std::size_t i = 1; i < others.size(); ++i) EXPECT_LE(others[i - 1].distance, others[i].distance);
    for (const other_node& other : others)
      for (int place = other.cpus.begin; place < other.cpus.end; ++place)
        EXPECT_EQ(plain_.node_of_cpu(near.row()[static_cast<std::size_t>(place)]), other.node);
  }
}

TEST(binding_order, takes_cores_before_smt_siblings_and_nodes_by_turns) {
  const topology machine =
      parse_description("node 0 cpus 0,1,4,5\nnode 1 cpus 2,3,6,7\ncore 0,4\ncore 1,5\ncore 2,3\ncore 6-7\n");
  EXPECT_EQ(machine.cpus(), (cpu_list{0, 2, 1, 6, 4, 3, 5, 7}));
}

TEST(binding_order, takes_the_sibling_of_a_thread_that_is_not_allowed_as_a_core) {
  EXPECT_EQ(parse_description("node 0 cpus 0-3\ncore 0,2\ncore 1,3\nallowed 1-3").cpus(), (cpu_list{1, 2, 3}));
}

TEST(binding_order, puts_cpus_of_no_known_node_last) {
  EXPECT_EQ(binding_order({{5, 0, 5, 5}, {1, 2, 1, 1}, {3, 2, 3, 1}, {0, -1, 0, 0}}), (cpu_list{5, 1, 3, 0}));
}

TEST(binding, follows_a_vector) {
  const topology machine = shapes::regular(2, 4);
  EXPECT_EQ(cpus_for(machine, {{0, 3}, {1, 1}}), (cpu_list{0, 4, 1, 2}));
  EXPECT_EQ(cpus_for(machine, {{1, 6}}), (cpu_list{4, 5, 6, 7, 4, 5}));
  EXPECT_EQ(cpus_for(machine, {{7, 3}, {0, 1}}), (cpu_list{0}));
}

TEST(packing, takes_the_smallest_node_that_suffices_and_else_the_largest_first) {
  const topology machine =
      parse_description("node 0 cpus 0-1\nnode 1 cpus 2-9\nnode 2 cpus 10-13\ndistance 1 2 30\ndistance 1 0 16\n");
  EXPECT_EQ(pack(machine, 2), (placement{{0, 2}, {1, 0}, {2, 0}}));
  EXPECT_EQ(pack(machine, 3), (placement{{0, 0}, {1, 0}, {2, 3}}));
  EXPECT_EQ(pack(machine, 9), (placement{{0, 1}, {1, 8}, {2, 0}}));
  EXPECT_EQ(pack(machine, 11), (placement{{0, 2}, {1, 8}, {2, 1}}));
}

TEST(packing, is_what_a_quota_leads_to) {
  EXPECT_EQ(default_placement(parse_description(shapes::text(2, 8) + "quota 3.2")), (placement{{0, 4}, {1, 0}}));
  EXPECT_EQ(default_placement(parse_description(shapes::text(2, 8) + "quota 12")), (placement{{0, 8}, {1, 4}}));
  EXPECT_EQ(default_placement(parse_description(shapes::text(2, 8) + "quota 0.5")), (placement{{0, 2}, {1, 0}}));
  EXPECT_EQ(default_placement(parse_description(shapes::text(2, 8) + "quota 99")), (placement{{0, 8}, {1, 8}}));
}

TEST(cpuless_node, gets_no_ps_and_is_nobodys_neighbour) {
  const topology machine = parse_description(shapes::kCpuless);
  EXPECT_EQ(default_placement(machine), (placement{{0, 4}}));
  EXPECT_TRUE(neighbourhood(machine).others(0).empty());
  EXPECT_EQ(machine.nodes().size(), 2u);
}

TEST(memoryless_node, gets_ps_and_the_nearest_memory) {
  const topology machine = parse_description(shapes::kMemless);
  EXPECT_EQ(default_placement(machine), (placement{{0, 2}, {1, 2}}));
  EXPECT_EQ(machine.nearest_memory(1), 0);
  EXPECT_EQ(machine.nearest_memory(0), 0);
}

TEST(two_caches_in_a_node, are_told_apart) {
  const neighbourhood near(parse_description(shapes::kCcx));
  const view& v = near.view_from(near.place_of(5));
  EXPECT_EQ(v.core, (range{4, 6}));
  EXPECT_EQ(v.cache, (range{4, 8}));
  EXPECT_EQ(v.node, (range{0, 8}));
}

TEST(offline_cpus, get_no_ps) {
  const topology machine = parse_description(shapes::kOffline);
  EXPECT_EQ(default_placement(machine), (placement{{0, 3}, {1, 1}}));
  EXPECT_EQ(machine.offline(), (cpu_list{1, 4, 5, 6}));
  EXPECT_EQ(machine.cpus(), (cpu_list{0, 7, 2, 3}));
}

TEST(distance_cost, grows_with_the_distance_and_is_nothing_at_home) {
  EXPECT_EQ(distance_cost_ns(10, 2500), 0u);
  EXPECT_EQ(distance_cost_ns(20, 2500), 2500u);
  EXPECT_EQ(distance_cost_ns(32, 2500), 5500u);
  EXPECT_EQ(distance_cost_ns(0, 2500), 0u);
}

TEST(description, of_a_machine_is_read_back_as_the_same) {
  for (const std::string& text : {shapes::text(1, 1), shapes::text(4, 2, 2), std::string(shapes::kCpuless),
                                  std::string(shapes::kMemless), std::string(shapes::kCcx)}) {
    const topology machine = parse_description(text);
    const std::string once = describe(machine);
    EXPECT_EQ(describe(parse_description(once)), once);
    EXPECT_EQ(parse_description(once).cpus(), machine.cpus());
  }
}

std::string error_of(const std::string& text) {
  try {
    parse_description(text);
    return "none";
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
}

TEST(description, that_is_false_is_told_in_one_line) {
  const std::string node = "node 0 cpus 0-3 memory 8G\n";
  EXPECT_EQ(error_of(""), "no node: expected at least one line such as \"node 0 cpus 0-3 memory 8G\"");
  EXPECT_EQ(error_of("nodes 1"), "line 1: \"nodes\": expected node, distance, core, cache, offline, allowed or quota");
  EXPECT_EQ(error_of(node + "\n# x\nnode 0"), "line 4: node 0 again: expected each node once");
  EXPECT_EQ(error_of(node + "node 1 cpus 3"), "line 2: CPU 3 again: expected each CPU in one node");
  EXPECT_EQ(error_of("node 0 cpus 3-1"), "line 1: \"3-1\": expected CPUs such as 0-3,8");
  EXPECT_EQ(error_of("node 0 cpus"), "line 1: too few words: expected node NUMBER [cpus LIST] [memory SIZE]");
  EXPECT_EQ(error_of("node x"), "line 1: \"x\": expected a node's number from 0 to 1023");
  EXPECT_EQ(error_of("node 0 memory 8X"), "line 1: \"8X\": expected a size such as 512M, 16G or 0");
  EXPECT_EQ(error_of("node 0 memory 99999999999T"), "line 1: \"99999999999T\": expected a size such as 512M, 16G or 0");
  EXPECT_EQ(error_of(node + "distance 0 1 20"), "line 2: node 1: expected a node of a line above");
  EXPECT_EQ(error_of(node + "distance 0 0 20"), "line 2: a distance of node 0 to itself: expected two nodes");
  EXPECT_EQ(error_of(node + "node 1\ndistance 0 1 10"), "line 3: \"10\": expected a distance from 11 to 255");
  EXPECT_EQ(error_of(node + "core 0,9"), "line 2: CPU 9: expected a CPU of a node line above");
  EXPECT_EQ(error_of(node + "core 0-1\ncore 1-2"), "line 3: CPU 1 again: expected each CPU in one core");
  EXPECT_EQ(error_of(node + "node 1 cpus 4\ncache 3-4"), "line 3: CPU 4 of node 1: expected CPUs of one node");
  EXPECT_EQ(error_of(node + "quota 0"), "line 2: \"0\": expected a number of CPUs above 0, such as 1.5");
  EXPECT_EQ(error_of(node + "offline 0-3"),
            "no CPU is left: expected a node with a CPU that is allowed and not offline");
  EXPECT_EQ(error_of("node 0 memory 8G"), "no CPU is left: expected a node with a CPU that is allowed and not offline");
}

}  // namespace
