// SPDX-License-Identifier: Apache-2.0
// A real Prometheus server scrapes a program that runs weft, with the rules of tools/: what it then knows is what the
// program knows of itself, and `weft tune --prometheus` reads it there.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <weft/weft.h>

#include "tests/child.h"
#include "tests/command.h"
#include "tests/fixture.h"
#include "tests/sockets.h"
#include "tools/fleet.h"
#include "tools/prometheus.h"

namespace {

using namespace weft;
using nlohmann::json;
using tools::labelled_value;
using tools::prometheus_server;
using weft::test::child_result;
using weft::test::eventually;
using weft::test::folder;
using weft::test::free_port;
using weft::test::in_child;

// Ends with us.
class process {
 public:
  template <class F>
  explicit process(F body) : pid_(fork()) {
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    body();
    _exit(0);
  }
  ~process() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  process(const process&) = delete;
  process& operator=(const process&) = delete;
  pid_t pid() const { return pid_; }

 private:
  const pid_t pid_;
};

// Does some work, and from then on next to nothing, so that its histograms stand still.
void work_and_rest(int port) {
  setenv("WEFT_METRICS", ("127.0.0.1:" + std::to_string(port)).c_str(), 1);
  run({.gomaxprocs = 2}, [] {
    wait_group all;
    for (int i = 0; i < 8; ++i)
      all.go([] {
        for (int k = 0; k < 3000; ++k) yield();
      });
    all.wait();
    sleep_for(std::chrono::hours(1));
  });
}

std::string rules() {
  std::ifstream file("tools/weft-rules.yml");
  std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::string usual = "interval: 30s";
  const std::size_t at = text.find(usual);
  EXPECT_NE(at, std::string::npos);
  return text.replace(at, usual.size(), "interval: 250ms");
}

[[noreturn]] void become_prometheus(const folder& here, int port, int scraped) {
  std::ofstream(here.file("rules.yml")) << rules();
  std::ofstream(here.file("prometheus.yml"))
      << "global: {scrape_interval: 250ms, scrape_timeout: 250ms}\nrule_files: [rules.yml]\nscrape_configs:\n"
      << "  - job_name: weft\n    static_configs: [{targets: ['127.0.0.1:" << scraped << "']}]\n";
  execlp("prometheus", "prometheus", ("--config.file=" + here.file("prometheus.yml")).c_str(),
         ("--storage.tsdb.path=" + here.file("data")).c_str(),
         ("--web.listen-address=127.0.0.1:" + std::to_string(port)).c_str(), "--log.level=error", nullptr);
  _exit(99);
}

std::vector<labelled_value> values(const prometheus_server& at, const std::string& expression) {
  try {
    return at.query(expression);
  } catch (const std::runtime_error&) {  // not yet
    return {};
  }
}

double p99_in_process(pid_t pid) { return attachment(pid).read().histograms.at("runq_wait").quantile(0.99); }

// Prometheus' p99 and ours lie in the same bucket of those that it knows, which end at `le`.
void check_p99(const prometheus_server& at, double ours) {
  const auto found = at.query("histogram_quantile(0.99, sum by (le) (weft_runq_wait_seconds_bucket))");
  ASSERT_EQ(found.size(), 1u);
  double below = 0, above = INFINITY;
  for (const labelled_value& bucket : at.query("sum by (le) (weft_runq_wait_seconds_bucket)")) {
    const double le = std::stod(bucket.label("le"));
    if (le < ours) below = std::max(below, le);
    if (le >= ours) above = std::min(above, le);
  }
  EXPECT_GE(found.front().value, below * 0.999);
  EXPECT_LE(found.front().value, above * 1.001);
}

child_result tune(const std::string& url, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"tune", "--prometheus", url};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return weft::test::run_weft(arguments);
}

TEST(prometheus, knows_what_the_program_knows) {
  if (!weft::test::has_program("prometheus")) GTEST_SKIP() << "no prometheus (Debian's package)";
  const child_result r = in_child([] {
    const folder here;
    const int scraped = free_port(), port = free_port();
    const process program([scraped] { work_and_rest(scraped); });
    const process server([&] { become_prometheus(here, port, scraped); });
    const std::string url = "http://127.0.0.1:" + std::to_string(port);
    const prometheus_server at(url);
    const std::string ratio = "instance_node:weft_ps_busy:ratio", p99 = "instance_node:weft_runq_wait_seconds:p99_5m";
    EXPECT_TRUE(eventually([&] { return !values(at, ratio).empty() && !values(at, p99).empty(); }));
    check_p99(at, p99_in_process(program.pid()));

    const std::string instance = "127.0.0.1:" + std::to_string(scraped);
    const child_result table = tune(url);
    EXPECT_TRUE(table.exited(0)) << table;
    EXPECT_NE(table.out.find("weft  " + instance), std::string::npos) << table;
    const json told = json::parse(tune(url + "/", {"--json"}).out);
    int ps = 0;
    for (const json& one : told) {
      EXPECT_EQ(one["instance"], instance);
      EXPECT_EQ(one["advice"], "fits");
      ps += one["ps"].get<int>();
    }
    EXPECT_EQ(ps, 2);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(tune_prometheus, says_in_a_line_what_is_wrong) {
  const std::string nobody = "http://127.0.0.1:" + std::to_string(free_port());
  const child_result r = tune(nobody);
  EXPECT_TRUE(r.exited(1)) << r;
  EXPECT_TRUE(r.err.starts_with("weft tune: " + nobody + ": Failed to connect")) << r;
  EXPECT_EQ(weft::test::lines_of(r.err).size(), 1u);
  EXPECT_TRUE(tune(nobody, {"--metric", "x"}).exited(2));
}

TEST(advice, is_that_of_the_automatic_mode) {
  using tools::advice;
  const tools::fleet_node calm{.job = "a", .instance = "b", .ps = 4, .busy = 0.5};
  EXPECT_EQ(tools::advice_for(calm), advice::fits);
  tools::fleet_node seen = calm;
  seen.busy = 1;
  seen.gs_waiting = 3;
  EXPECT_EQ(tools::advice_for(seen), advice::more);
  seen.ms_waiting = 2;
  EXPECT_EQ(tools::advice_for(seen), advice::fewer);
  seen.ps = 1;
  EXPECT_EQ(tools::advice_for(seen), advice::fits);
}

}  // namespace
