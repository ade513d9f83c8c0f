// SPDX-License-Identifier: Apache-2.0
// What `weft top`, `weft hist` and `weft dump` show, of made-up processes.
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tools/dump_command.h"
#include "tools/hist_draw.h"
#include "tools/observe.h"
#include "tools/top_screen.h"

namespace {

using namespace weft;
using namespace weft::tools;
using nlohmann::json;

metrics::histogram of(std::uint64_t ns, std::uint64_t times) {
  metrics::histogram h;
  h.add(metrics::histogram::bucket_of(ns), times, ns * times);
  h.add_max(ns);
  return h;
}

metrics::snapshot example(std::uint64_t n) {
  metrics::snapshot all;
  all.nodes.push_back({.node = 0, .gomaxprocs = 2, .idle_ps = 1, .queued = 5});
  all.ps.push_back({.p = 0, .node = 0, .cpu = 3, .state = "running", .queued = 7});
  all.ps.push_back({.p = 1, .node = 0, .cpu = 4, .state = "idle"});
  all.ps.push_back({.p = 2, .node = 0, .cpu = 4, .state = "surplus"});
  all.ps[0].counters = all.counters = {{"schedticks", n}, {"steals", 2 * n}};
  all.counters["gomaxprocs"] = 2;
  all.counters["kernel_assist"] = 1;
  all.goroutines = {{"running", 1}, {"chan receive", 1200}, {"select", 3}};
  all.threads = {{"running", 1}, {"idle", 2}};
  all.histograms["runq_wait"] = of(1000, n);
  all.nodes[0].histograms["runq_wait"] = of(1000, n);
  return all;
}

observation seen() {
  observation all{.pid = 77, .program = "server", .seconds = 2};
  all.state = example(3000);
  all.rest = between(example(1000), all.state);
  metrics::node_costs costs;
  costs.blocks = {{.syscall = SYS_read, .blocks = 9, .lasted = {}}, {.syscall = -1, .blocks = 4, .lasted = {}}};
  all.costs.push_back(costs);
  return all;
}

TEST(between, two_looks_histograms_and_counters_are_differences) {
  const metrics::snapshot rest = between(example(1000), example(3000));
  EXPECT_EQ(rest.counters.at("schedticks"), 2000u);
  EXPECT_EQ(rest.counters.at("gomaxprocs"), 2u) << "a state";
  EXPECT_EQ(rest.ps[0].counters.at("steals"), 4000u);
  EXPECT_EQ(rest.histograms.at("runq_wait").count(), 2000u);
  EXPECT_EQ(rest.nodes[0].histograms.at("runq_wait").count(), 2000u);
  EXPECT_EQ(rest.goroutines.at("select"), 3u);
}

TEST(between, runs_the_later_one_counts) {
  EXPECT_EQ(between(example(3000), example(1000)).counters.at("schedticks"), 1000u);
}

TEST(histogram_since, is_what_came_later) {
  metrics::histogram before = of(1000, 5), now = before;
  now.merge(of(50, 3));
  const metrics::histogram rest = now.since(before);
  EXPECT_EQ(rest.count(), 3u);
  EXPECT_NEAR(rest.sum(), 150e-9, 1e-12);
  EXPECT_NEAR(rest.max(), 50e-9, 4e-9);
  EXPECT_EQ(now.since(now).count(), 0u);
}

TEST(rows, of_milliseconds_begin_with_what_is_shorter) {
  metrics::histogram h = of(300'000, 2);
  h.merge(of(1'500'000, 1));
  const auto rows = log2_rows(h.buckets(), 1'000'000);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].upper_ns, 1'000'000u);
  EXPECT_EQ(rows[0].count, 2u);
  EXPECT_EQ(rows[1].lower_ns, 1'000'000u);
  EXPECT_EQ(rows[1].upper_ns, 2'000'000u);
}

TEST(sparkline, is_as_high_as_its_values) {
  EXPECT_EQ(sparkline({0, 1, 0.5, -1, 1}, true), "▁█▅ █");
  EXPECT_EQ(sparkline({0, 1}, false), "_#");
  EXPECT_EQ(sparkline({}, true), "");
}

std::string text_of(const std::vector<screen_line>& lines) {
  std::string text;
  for (const screen_line& line : lines) text += line.text + "\n";
  return text;
}

TEST(top, shows_the_interval) {
  history past;
  remember(past, seen());
  EXPECT_EQ(text_of(draw_top(seen(), past, 0, false)),
            "weft top: process 77 (server), kernel assist sentinel, 2 s\n"
            "goroutines 1204: running 1, waiting 1203\n"
            "threads 3: idle 2, running 1\n"
            "a second: slices 1.00k  steals 2.00k \n"
            "latency           a sec.      p50      p90      p99      max  p99 of late\n"
            "runq_wait          1.00k  1.00 us  1.00 us  1.00 us  1.00 us  #\n"
            "node     Ps  idle  spinning  queued\n"
            "0         2     1         0       5\n"
            "waiting for                  goroutines\n"
            "chan receive                       1200\n"
            "select                                3\n"
            "blocked in                       so far\n"
            "read                                  9\n"
            "page fault                            4\n"
            "   P node  CPU state     queue  slices  steals handoffs preempt.\n"
            "   0    0    3 running       7   1.00k   2.00k        0        0\n"
            "   1    0    4 idle          0       0       0        0        0\n");
}

TEST(top, fits_the_screen) {
  EXPECT_EQ(draw_top(seen(), {}, 5, false).size(), 5u);
  for (const screen_line& line : draw_top(seen(), {}, 0, false))
    EXPECT_LE(line.text.size(), static_cast<std::size_t>(kLeastColumns));
}

TEST(top, remembers_no_more_than_it_can_show) {
  history past;
  for (int i = 0; i < 100; ++i) remember(past, seen());
  EXPECT_EQ(past.at("runq_wait").size(), kRemembered);
}

TEST(top, json_has_it_all) {
  const json told = json::parse(json_of(seen()));
  EXPECT_EQ(told["pid"], 77);
  EXPECT_EQ(told["interval"], 2);
  EXPECT_EQ(told["goroutines"]["chan receive"], 1200);
  EXPECT_EQ(told["counters"]["schedticks"], 2000);
  EXPECT_EQ(told["histograms"]["runq_wait"]["count"], 2000);
  EXPECT_EQ(told["nodes"][0]["gomaxprocs"], 2);
  EXPECT_EQ(told["ps"][0]["state"], "running");
  EXPECT_EQ(told["costs"][0]["blocks"][1]["syscall"], -1);
  EXPECT_EQ(told["costs"][0]["blocks"][0]["name"], "read");
}

std::vector<goroutine_group> groups() {
  const std::string stack = "main::{lambda()#1}::operator()(...)\n\t/x.cpp:3 +0x10\n";
  const std::string creator = "created by main in goroutine 1\n\t/x.cpp:2\n";
  goroutine_group many{.state = "chan receive", .stack = stack, .creator = creator};
  for (std::uint64_t id = 2; id < 22; ++id) many.members.push_back({id, id * 10'000'000'000, ""});
  return {many, {.state = "running", .stack = "\tsomewhere\n", .members = {{1, 0, "the \"first\""}}}};
}

TEST(dump, shows_what_is_equal_once) {
  EXPECT_EQ(
      draw_groups(groups()),
      "20 goroutines [chan receive, 20 seconds to 3 minutes]: 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, "
      "17, ...\n"
      "main::{lambda()#1}::operator()(...)\n\t/x.cpp:3 +0x10\n"
      "created by main in goroutine 1\n\t/x.cpp:2\n"
      "\n"
      "goroutine 1 [running] \"the \"first\"\":\n"
      "\tsomewhere\n");
}

TEST(dump, json_has_every_goroutine) {
  const json told = json::parse(json_of(groups()));
  EXPECT_EQ(told["goroutines"], 21);
  EXPECT_EQ(told["groups"][0]["count"], 20);
  EXPECT_EQ(told["groups"][0]["goroutines"][1]["wait"], 30);
  EXPECT_EQ(told["groups"][0]["stack"][1], "\t/x.cpp:3 +0x10");
  EXPECT_TRUE(told["groups"][1]["goroutines"][0]["wait"].is_null());
  EXPECT_EQ(told["groups"][1]["goroutines"][0]["name"], "the \"first\"");
}

}  // namespace
