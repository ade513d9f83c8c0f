// SPDX-License-Identifier: Apache-2.0
// Metrics as text: the two formats, and the file that WEFT_METRICS names. Run()s are in children.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include <weft/weft.h>

#include "runtime/openmetrics.h"
#include "tests/child.h"
#include "tests/openmetrics.h"
#include "tests/promtool.h"

namespace {

using namespace weft;
using rt::exposition;
using rt::format_metrics;
using weft::test::child_result;
using weft::test::in_child;
using weft::test::parse_openmetrics;

metrics::snapshot example() {
  metrics::snapshot all;
  metrics::node_snapshot node{.node = 1, .gomaxprocs = 3, .idle_ps = 2, .spinning = 1, .queued = 7};
  for (const std::uint64_t ns : {63u, 64u, 127u, 128u, 5'000u}) {
    node.histograms["runq_wait"].add(metrics::histogram::bucket_of(ns), 1, ns);
    node.histograms["runq_wait"].add_max(ns);
  }
  node.counters = {{"handoffs_at_once", 4}, {"handoff_waits_won", 5}, {"handoff_regret_ns", 1'500'000'000}};
  all.nodes.push_back(node);
  metrics::p_snapshot p{.p = 2, .node = 1, .cpu = 9, .state = "running", .queued = 11};
  p.counters = {{"core_steals", 1}, {"cache_steals", 2}, {"node_steals", 3}, {"far_steals", 4}, {"schedticks", 99}};
  all.ps.push_back(p);
  all.goroutines = {{"running", 1}, {"chan receive (nil chan)", 2}};
  all.threads = {{"running", 1}, {"idle", 4}};
  all.counters = {{"kernel_assist", 1}, {"goroutines_created", 1234}, {"probe_runs_x", 3}, {"probe_ns_x", 600}};
  return all;
}

std::string example_text() { return format_metrics(example(), exposition::openmetrics); }

// What stands there, with labels.
bool has_line(const std::string& text, const std::string& line) {
  return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

TEST(openmetrics, is_what_the_specification_asks_for) { EXPECT_GT(parse_openmetrics(example_text()).size(), 20u); }

TEST(openmetrics, names_units_and_ends) {
  const std::string text = example_text();
  EXPECT_TRUE(has_line(text, "# TYPE weft_runq_wait_seconds histogram"));
  EXPECT_TRUE(has_line(text, "# UNIT weft_runq_wait_seconds seconds"));
  EXPECT_TRUE(has_line(text, "# TYPE weft_handoff_regret_seconds counter"));
  EXPECT_TRUE(has_line(text, "weft_handoff_regret_seconds_total{node=\"1\"} 1.5"));
  EXPECT_TRUE(text.ends_with("\n# EOF\n"));
}

TEST(openmetrics, histograms_have_a_bound_at_each_power_of_two) {
  const std::string text = example_text();
  EXPECT_TRUE(has_line(text, "weft_runq_wait_seconds_bucket{node=\"1\",le=\"6.4e-08\"} 1")) << text;
  EXPECT_TRUE(has_line(text, "weft_runq_wait_seconds_bucket{node=\"1\",le=\"1.28e-07\"} 3"));
  EXPECT_TRUE(has_line(text, "weft_runq_wait_seconds_bucket{node=\"1\",le=\"2.56e-07\"} 4"));
  EXPECT_TRUE(has_line(text, "weft_runq_wait_seconds_bucket{node=\"1\",le=\"8.192e-06\"} 5"));
  EXPECT_TRUE(has_line(text, "weft_runq_wait_seconds_bucket{node=\"1\",le=\"+Inf\"} 5"));
  EXPECT_TRUE(has_line(text, "weft_runq_wait_seconds_count{node=\"1\"} 5"));
}

TEST(openmetrics, labels_tell_what_the_snapshot_knows) {
  const std::string text = example_text();
  for (const char* line :
       {"weft_steals_total{node=\"1\",p=\"2\",distance=\"cache\"} 2", "weft_run_queue_length{node=\"1\",p=\"2\"} 11",
        "weft_goroutines{state=\"waiting\",reason=\"chan receive (nil chan)\"} 2",
        "weft_goroutines{state=\"syscall\"} 0", "weft_threads{state=\"idle\"} 4",
        "weft_kernel_assist{tier=\"sentinel\"} 1", "weft_kernel_assist{tier=\"bpf\"} 0",
        "weft_gomaxprocs{node=\"1\"} 3", "weft_handoff_decisions_total{node=\"1\",outcome=\"wait_won\"} 5",
        "weft_probe_runs_total{program=\"x\"} 3", "weft_probe_seconds_total{program=\"x\"} 6e-07"})
    EXPECT_TRUE(has_line(text, line)) << line << " is not in\n" << text;
}

TEST(openmetrics, the_older_format_has_the_same_samples) {
  const auto samples = [](const std::string& text) {
    std::vector<std::string> lines = weft::test::lines_of(text);
    std::erase_if(lines, [](const std::string& line) { return line.starts_with('#'); });
    return lines;
  };
  const std::string older = format_metrics(example(), exposition::prometheus);
  EXPECT_EQ(samples(older), samples(example_text()));
  EXPECT_TRUE(has_line(older, "# TYPE weft_steals_total counter"));
  EXPECT_EQ(older.find("# UNIT"), std::string::npos);
  EXPECT_EQ(older.find("# EOF"), std::string::npos);
}

TEST(openmetrics, promtool_finds_nothing_to_complain_about) {
  WEFT_SKIP_WITHOUT_PROMTOOL();
  EXPECT_TRUE(weft::test::promtool_takes("metrics", format_metrics(example(), exposition::prometheus)));
}

// A goroutine that can run waits while main keeps the only P; three wait for channels.
void work() {
  const auto never = make_chan<unit>();
  for (int i = 0; i < 3; ++i) go([=] { never.recv(); });
  for (int i = 0; i < 1000; ++i) yield();
}

TEST(openmetrics, of_a_program_are_what_read_tells) {
  const child_result r = in_child([] {
    run(run_options{.gomaxprocs = 1}, [] {
      work();
      std::fputs(metrics::openmetrics().c_str(), stdout);
    });
  });
  ASSERT_TRUE(r.exited(0)) << r;
  auto all = parse_openmetrics(r.out);
  EXPECT_EQ(all["weft_gomaxprocs"].sum(), 1);
  EXPECT_EQ(all["weft_goroutines"].sum("", {{"reason", "chan receive"}}), 3);
  EXPECT_EQ(all["weft_goroutines"].sum("", {{"state", "running"}}), 1);
  EXPECT_EQ(all["weft_goroutines_created"].sum("_total"), 4);
  EXPECT_GT(all["weft_runq_wait_seconds"].sum("_count"), 3);
  EXPECT_EQ(all["weft_kernel_assist"].sum(), 1);
  EXPECT_GE(all["weft_threads"].sum(), 1);
}

TEST(openmetrics, of_a_program_please_promtool) {
  WEFT_SKIP_WITHOUT_PROMTOOL();
  const child_result r = in_child([] {
    run([] {
      work();
      std::fputs(metrics::prometheus().c_str(), stdout);
    });
  });
  ASSERT_TRUE(r.exited(0)) << r;
  EXPECT_TRUE(weft::test::promtool_takes("metrics", r.out));
}

TEST(openmetrics, a_quantile_of_its_buckets_is_within_one_of_them) {
  metrics::snapshot all = example();
  metrics::histogram& h = all.nodes[0].histograms["runq_wait"];
  for (std::uint64_t ns = 100; ns < 1'000'000; ns += 77) h.add(metrics::histogram::bucket_of(ns), 1, ns), h.add_max(ns);
  const auto families = parse_openmetrics(format_metrics(all, exposition::openmetrics));
  const double rank = 0.99 * static_cast<double>(h.count());
  double below = 0;
  for (const auto& s : families.at("weft_runq_wait_seconds").samples) {
    if (!s.name.ends_with("_bucket")) continue;
    const double bound = s.label("le") == "+Inf" ? HUGE_VAL : std::stod(s.label("le"));
    if (s.value >= rank) {
      EXPECT_LE(h.quantile(0.99), bound);
      EXPECT_GE(h.quantile(0.99), below);
      return;
    }
    below = bound;
  }
  ADD_FAILURE() << "no bucket has the rank";
}

class metrics_file : public testing::Test {
 protected:
  metrics_file() { std::filesystem::create_directory(folder_); }
  ~metrics_file() override { std::filesystem::remove_all(folder_); }

  static std::string contents(const std::filesystem::path& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) names.push_back(entry.path().filename());
    return names;
  }

  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("weft-metrics-" + std::to_string(getpid()));
  const std::filesystem::path path_ = folder_ / "weft.prom";
};

TEST_F(metrics_file, is_written_soon_and_at_the_end) {
  const child_result r = in_child({{"WEFT_METRICS", "file:" + path_.string()}}, [this] {
    run([this] {
      const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
      while (!std::filesystem::exists(path_) && std::chrono::steady_clock::now() < until)
        sleep_for(std::chrono::milliseconds(1));
      EXPECT_NE(contents(path_).find("weft_gomaxprocs"), std::string::npos);
      for (int i = 0; i < 41; ++i) go([] {});
      yield();
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "");
  EXPECT_TRUE(has_line(contents(path_), "weft_goroutines_created_total 42")) << contents(path_);
  EXPECT_EQ(files(), std::vector<std::string>{"weft.prom"});
}

TEST_F(metrics_file, is_never_seen_half_written) {
  const child_result r = in_child({{"WEFT_METRICS", "file:" + path_.string()}}, [this] {
    std::ofstream(path_) << "old\n";
    std::filesystem::permissions(path_, std::filesystem::perms::owner_read);
    std::ifstream opened_before(path_);
    run([] {});
    std::string line;
    std::getline(opened_before, line);
    EXPECT_EQ(line, "old");
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_TRUE(has_line(contents(path_), "# TYPE weft_gomaxprocs gauge"));
}

TEST_F(metrics_file, that_cannot_be_written_is_one_line) {
  const std::string path = folder_ / "none" / "weft.prom";
  const child_result r = in_child({{"WEFT_METRICS", "file:" + path}}, [] {
    run([] {});
    run([] {});
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(weft::test::count_of("weft: WEFT_METRICS: cannot write " + path + ": No such file or directory\n", r.err),
            2)
      << r;
  EXPECT_EQ(weft::test::lines_of(r.err).size(), 2u) << "more than one for each run()" << r;
}

TEST(metrics_variable, that_is_malformed_ends_the_process) {
  for (const char* value : {"file", "file:", "file:relative.prom", "file:/", "/path", "localhost",
                            "localhost:", "localhost:65536", "localhost:http"}) {
    const child_result r = in_child({{"WEFT_METRICS", value}}, [] { run([] {}); });
    EXPECT_TRUE(r.exited(2)) << value << r;
    EXPECT_EQ(r.err, "weft: WEFT_METRICS=" + std::string(value) + ": expected HOST:PORT, or file:/PATH.prom\n");
  }
}

}  // namespace
