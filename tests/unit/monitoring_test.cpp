// SPDX-License-Identifier: Apache-2.0
// What tools/ gives to Prometheus and Grafana speaks of metrics that there are. run_tests.py starts tests in the
// repository's root.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

#include <nlohmann/json.hpp>

#include "runtime/openmetrics.h"
#include "tests/child.h"
#include "tests/promtool.h"

namespace {

using namespace weft;

constexpr const char* kRules = "tools/weft-rules.yml";
constexpr const char* kDashboard = "tools/weft-grafana.json";
constexpr const char* kManual = "tools/weft.1";

std::string contents(const char* path) {
  std::ifstream file(path);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_FALSE(text.empty()) << path;
  return text;
}

// With all that there can be: of the kernel, and of the probes.
metrics::snapshot complete() {
  metrics::snapshot all;
  all.nodes.push_back({.node = 0});
  all.nodes[0].stacks["used"];
  all.ps.push_back({.p = 0});
  for (const char* name : {"runq_wait", "wakeup_to_run", "handoff", "blocked"}) all.nodes[0].histograms[name];
  for (const char* name : {"kernel_blocked", "kernel_runq_wait"}) all.histograms[name];
  for (const char* name : {"takes", "handoffs", "robberies", "node_moves", "preemptions", "schedticks", "core_steals"})
    all.ps[0].counters[name];
  for (const char* name : {"handoffs_at_once", "handoff_regret_ns", "spins_won", "spin_regret_ns"})
    all.nodes[0].counters[name];
  for (const char* name :
       {"goroutines_created", "cgroup_throttled_periods", "cgroup_throttled_ns", "kernel_blocks", "kernel_preemptions",
        "kernel_mm_switches", "kernel_migrations", "minor_faults", "page_faults_read", "tlb_flushes_task_switch",
        "kernel_assist", "blocked_times_in_read", "blocked_ns_in_read", "probe_runs_x", "probe_ns_x"})
    all.counters[name];
  all.threads["idle"];
  return all;
}

// The names of samples.
std::set<std::string> existing() {
  std::set<std::string> names;
  for (const std::string& line : weft::test::lines_of(rt::format_metrics(complete(), rt::exposition::openmetrics)))
    if (!line.starts_with('#')) names.insert(line.substr(0, line.find_first_of("{ ")));
  return names;
}

// Names with a colon are those that the rules record.
std::set<std::string> named_in(const std::string& text) {
  static const std::regex name(R"re([a-zA-Z0-9_:]*\bweft_[a-zA-Z0-9_:]+)re");
  std::set<std::string> names;
  for (std::sregex_iterator at(text.begin(), text.end(), name), last; at != last; ++at) names.insert(at->str());
  return names;
}

TEST(rules, name_metrics_that_exist) {
  const std::string text = contents(kRules);
  const std::set<std::string> there = existing();
  for (const std::string& name : named_in(text)) {
    const bool recorded = name.find(':') != name.npos;
    EXPECT_TRUE(recorded ? text.find("record: " + name + "\n") != text.npos : there.contains(name)) << name;
  }
}

TEST(rules, please_promtool) {
  WEFT_SKIP_WITHOUT_PROMTOOL();
  EXPECT_TRUE(weft::test::promtool_takes(std::string("rules ") + kRules, ""));
}

TEST(dashboard, names_metrics_that_exist) {
  const nlohmann::json dashboard = nlohmann::json::parse(contents(kDashboard));
  const std::set<std::string> there = existing();
  EXPECT_GE(dashboard["panels"].size(), 12u);
  for (const auto& panel : dashboard["panels"]) {
    EXPECT_FALSE(panel["targets"].empty()) << panel["title"];
    for (const auto& target : panel["targets"]) {
      const std::set<std::string> names = named_in(target["expr"]);
      EXPECT_FALSE(names.empty()) << target["expr"];
      for (const std::string& name : names) EXPECT_TRUE(there.contains(name)) << panel["title"] << ": " << name;
    }
  }
}

TEST(manual, explains_every_metric) {
  const std::string text = contents(kManual);
  const std::string all = rt::format_metrics(complete(), rt::exposition::prometheus);
  for (const std::string& line : weft::test::lines_of(all)) {
    if (!line.starts_with("# TYPE ")) continue;
    const std::string name = line.substr(7, line.find(' ', 7) - 7);
    EXPECT_NE(text.find("\n.B " + name), text.npos) << name;
  }
}

}  // namespace
