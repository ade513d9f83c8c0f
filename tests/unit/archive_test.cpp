// SPDX-License-Identifier: Apache-2.0
// What goes from process to process arrives as it was, or not at all.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/archive.h"

namespace {

using namespace weft;
using rt::packed;
using rt::unpacked;

metrics::snapshot example() {
  metrics::snapshot all;
  metrics::histogram h;
  for (const std::uint64_t ns : {0u, 17u, 1'000u, 4'000'000'000u}) {
    h.add(metrics::histogram::bucket_of(ns), ns + 1, ns * (ns % 7));
    h.add_max(ns);
  }
  all.histograms = {{"a", h}, {"empty", {}}};
  all.counters = {{"", 0}, {"large", UINT64_MAX}};
  all.nodes.push_back({.node = -1, .gomaxprocs = 3, .histograms = {{"b", h}}});
  all.ps.push_back({.p = 1023, .state = "idle", .queued = 9, .counters = {{"x", 1}}});
  all.goroutines = {{"chan receive (nil chan)", 5}};
  return all;
}

TEST(archive, gives_a_snapshot_back) {
  const metrics::snapshot before = example(), after = unpacked<metrics::snapshot>(packed(before));
  EXPECT_EQ(packed(after), packed(before));
  EXPECT_EQ(after.counters, before.counters);
  EXPECT_EQ(after.goroutines, before.goroutines);
  EXPECT_EQ(after.nodes.at(0).node, -1);
  EXPECT_EQ(after.ps.at(0).state, "idle");
  const metrics::histogram &old = before.histograms.at("a"), &fresh = after.nodes.at(0).histograms.at("b");
  EXPECT_EQ(fresh.count(), old.count());
  EXPECT_EQ(fresh.sum(), old.sum());
  EXPECT_EQ(fresh.max(), old.max());
  EXPECT_EQ(fresh.quantile(0.9), old.quantile(0.9));
}

TEST(archive, gives_costs_and_goroutines_back) {
  metrics::node_costs costs;
  costs.costs["wake"] = {1.5e-6, 7};
  costs.blocks.push_back({.syscall = -1, .wait = 0.25, .lasted = {{0.5, 2}}});
  const auto told = unpacked<std::vector<metrics::node_costs>>(packed(std::vector{costs}));
  EXPECT_EQ(told.at(0).costs.at("wake").seconds, 1.5e-6);
  EXPECT_EQ(told.at(0).blocks.at(0).syscall, -1);
  EXPECT_EQ(told.at(0).blocks.at(0).lasted.at(0).count, 2u);
  const goroutine_group group{.state = "select", .stack = "f\n", .members = {{1, 2, "name"}}};
  EXPECT_EQ(unpacked<std::vector<goroutine_group>>(packed(std::vector{group})).at(0).members.at(0).name, "name");
}

TEST(archive, refuses_what_is_damaged) {
  const std::string whole = packed(example());
  for (std::size_t size = 0; size < whole.size(); size += 7)
    EXPECT_THROW(unpacked<metrics::snapshot>(whole.substr(0, size)), error) << size;
  EXPECT_THROW(unpacked<metrics::snapshot>(whole + "x"), error);
  EXPECT_THROW(unpacked<metrics::snapshot>(std::string(64, '\xff')), error);
}

}  // namespace
