// SPDX-License-Identifier: Apache-2.0
// A trace as Perfetto gets it: which records an event becomes.
#include "tools/trace_json.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace {

using namespace weft;
using nlohmann::json;
using kind = trace_event::kind;

constexpr std::uint64_t kPlenty = 1 << 20;

std::string text_of(const trace& shown, std::uint64_t most = kPlenty) {
  std::string text;
  tools::write_json(shown, most, [&text](std::string_view piece) {
    text += piece;
    return true;
  });
  return text;
}

json records_of(const trace& shown) { return json::parse(text_of(shown))["traceEvents"]; }

// Those of a phase ("X": slices), in a category.
std::vector<json> chosen(const json& records, const std::string& phase, const std::string& category) {
  std::vector<json> found;
  for (const json& one : records)
    if (one["ph"] == phase && one.value("cat", "") == category) found.push_back(one);
  return found;
}

trace on_one_p(std::vector<trace_event> events) {
  return {.pid = 1, .program = "server", .begin = 1000, .end = 11'000, .lanes = {{0, 0, 0, std::move(events)}}};
}

TEST(trace_json, shows_what_ran_and_why_it_stopped) {
  const json records = records_of(on_one_p({{.time = 1000, .what = kind::resume},
                                            {.time = 1100, .what = kind::thread, .number = 77},
                                            {.time = 2000, .what = kind::run, .goroutine = 5},
                                            {.time = 3500, .what = kind::run, .goroutine = 6, .why = "chan receive"},
                                            {.time = 4000, .what = kind::run, .why = "ended"},
                                            {.time = 4100, .what = kind::idle}}));
  const std::vector<json> slices = chosen(records, "X", "goroutine");
  ASSERT_EQ(slices.size(), 2u);
  EXPECT_EQ(slices[0]["name"], "G5");
  EXPECT_EQ(slices[0]["ts"], 1.0);
  EXPECT_EQ(slices[0]["dur"], 1.5);
  EXPECT_EQ(slices[0]["args"]["stopped"], "chan receive");
  EXPECT_EQ(slices[0]["args"]["thread"], 77);
  EXPECT_EQ(slices[1]["name"], "G6");
  EXPECT_EQ(slices[1]["args"]["stopped"], "ended");
}

TEST(trace_json, has_a_track_for_each_p_below_its_node) {
  const json records = records_of({.pid = 1, .end = 100, .lanes = {{0, 0, 4, {}}, {1, 2, 5, {}}}});
  std::vector<std::string> names;
  for (const json& one : records)
    if (one["name"] == "process_name" || one["name"] == "thread_name")
      names.push_back(one["args"]["name"].get<std::string>() + "@" + std::to_string(one["pid"].get<int>()));
  EXPECT_EQ(names, (std::vector<std::string>{"node 0@1", "node 2@3", "P 0 (CPU 4)@1", "P 1 (CPU 5)@3"}));
}

TEST(trace_json, draws_an_arrow_from_who_wakes_to_who_runs) {
  trace shown = on_one_p({{.time = 2000, .what = kind::run, .goroutine = 5},
                          {.time = 2500, .what = kind::ready, .goroutine = 8, .why = "woken"}});
  shown.lanes.push_back({1, 0, 1, {{.time = 3000, .what = kind::run, .goroutine = 8}}});
  const json records = records_of(shown);
  const std::vector<json> from = chosen(records, "s", "ready"), to = chosen(records, "f", "ready");
  ASSERT_EQ(from.size(), 1u);
  ASSERT_EQ(to.size(), 1u);
  EXPECT_EQ(from[0]["id"], to[0]["id"]);
  EXPECT_EQ(from[0]["ts"], 1.5);
  EXPECT_EQ(from[0]["tid"], 1);
  EXPECT_EQ(to[0]["ts"], 2.0);
  EXPECT_EQ(to[0]["tid"], 2);
  EXPECT_EQ(from[0]["name"], "woken");
}

TEST(trace_json, draws_no_arrow_from_the_scheduler) {
  const json records = records_of(on_one_p({{.time = 2000, .what = kind::ready, .goroutine = 8, .why = "woken"},
                                            {.time = 3000, .what = kind::run, .goroutine = 8}}));
  EXPECT_TRUE(chosen(records, "s", "ready").empty());
}

TEST(trace_json, shows_a_handoff_from_the_loss_to_the_next_goroutine) {
  const json records = records_of(on_one_p({{.time = 2000, .what = kind::run, .goroutine = 5},
                                            {.time = 2100, .what = kind::call},
                                            {.time = 3000, .what = kind::take, .number = 0, .why = "blocked"},
                                            {.time = 3400, .what = kind::run, .goroutine = 6}}));
  const std::vector<json> handoffs = chosen(records, "X", "handoff"), calls = chosen(records, "X", "call");
  ASSERT_EQ(handoffs.size(), 1u);
  EXPECT_EQ(handoffs[0]["ts"], 2.0);
  EXPECT_EQ(handoffs[0]["dur"], 0.4);
  ASSERT_EQ(calls.size(), 1u);
  EXPECT_EQ(calls[0]["ts"], 1.1);
  EXPECT_EQ(chosen(records, "X", "goroutine")[0]["dur"], 1.0);
}

TEST(trace_json, shows_no_handoff_where_nobody_was_waiting) {
  const json records = records_of(on_one_p({{.time = 2000, .what = kind::run, .goroutine = 5},
                                            {.time = 3000, .what = kind::take, .number = -1, .why = "blocked"},
                                            {.time = 3100, .what = kind::idle},
                                            {.time = 9000, .what = kind::run, .goroutine = 6}}));
  EXPECT_TRUE(chosen(records, "X", "handoff").empty());
}

TEST(trace_json, shows_preemptions_steals_and_the_kernels) {
  const json records =
      records_of(on_one_p({{.time = 1500, .what = kind::steal, .goroutine = 5, .number = 3, .why = "node"},
                           {.time = 2000, .what = kind::run, .goroutine = 5},
                           {.time = 2200, .what = kind::off_cpu, .number = 300, .count = 1},
                           {.time = 3000, .what = kind::run, .why = "preempted"}}));
  EXPECT_EQ(chosen(records, "i", "preemption").size(), 1u);
  ASSERT_EQ(chosen(records, "i", "steal").size(), 1u);
  EXPECT_EQ(chosen(records, "i", "steal")[0]["name"], "steals G5 from P 3 (node)");
  ASSERT_EQ(chosen(records, "X", "kernel").size(), 1u);
  EXPECT_EQ(chosen(records, "X", "kernel")[0]["dur"], 0.3);
  EXPECT_NE(chosen(records, "X", "kernel")[0]["tid"], chosen(records, "X", "goroutine")[0]["tid"]);
}

TEST(trace_json, shows_gaps) {
  const json records = records_of(on_one_p({{.time = 2000, .what = kind::run, .goroutine = 5},
                                            {.time = 3000, .what = kind::pause},
                                            {.time = 7000, .what = kind::resume},
                                            {.time = 8000, .what = kind::run, .goroutine = 6}}));
  const std::vector<json> gaps = chosen(records, "X", "gap"), slices = chosen(records, "X", "goroutine");
  ASSERT_EQ(gaps.size(), 1u);
  EXPECT_EQ(gaps[0]["ts"], 2.0);
  EXPECT_EQ(gaps[0]["dur"], 4.0);
  ASSERT_EQ(slices.size(), 2u);
  EXPECT_EQ(slices[0]["dur"], 1.0);
  EXPECT_EQ(slices[1]["dur"], 3.0);  // to the trace's end
}

TEST(trace_json, begins_where_it_begins) {
  const json records = records_of(on_one_p({{.time = 200, .what = kind::run, .goroutine = 5},
                                            {.time = 900, .what = kind::run, .goroutine = 6},
                                            {.time = 2000, .what = kind::run, .goroutine = 7}}));
  const std::vector<json> slices = chosen(records, "X", "goroutine");
  ASSERT_EQ(slices.size(), 3u);
  EXPECT_EQ(slices[0]["dur"], 0.0);
  EXPECT_EQ(slices[1]["ts"], 0.0);
  EXPECT_EQ(slices[1]["dur"], 1.0);
  EXPECT_EQ(slices[2]["ts"], 1.0);
}

TEST(trace_json, is_never_larger_than_it_may_be) {
  std::vector<trace_event> events;
  for (int i = 0; i < 10'000; ++i)
    events.push_back({.time = 1000 + i, .what = kind::run, .goroutine = static_cast<std::uint64_t>(i + 1)});
  const std::string text = text_of(on_one_p(std::move(events)), 100'000);
  EXPECT_LE(text.size(), 100'000u);
  EXPECT_GT(text.size(), 90'000u);
  EXPECT_FALSE(json::parse(text)["traceEvents"].empty());
}

}  // namespace
