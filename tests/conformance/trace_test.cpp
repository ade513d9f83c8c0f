// SPDX-License-Identifier: Apache-2.0
// `weft trace` on a program that works: what the trace says must be possible, and the program must not mind.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include <weft/weft.h>

#include "tests/child.h"
#include "tests/command.h"
#include "tests/unprivileged.h"
#include "tests/victim.h"

namespace {

using namespace weft;
using nlohmann::json;
using weft::test::child_result;
using weft::test::folder;
using weft::test::hold_out;
using weft::test::in_child;
using weft::test::victim;

child_result weft_trace(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "trace");
  return weft::test::run_weft(arguments);
}

std::string content(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct span {
  double begin, end;
  std::uint64_t goroutine;
};

// In the order of their beginnings, by some key.
using spans = std::map<std::uint64_t, std::vector<span>>;

spans goroutine_slices(const json& records, const std::string& by) {
  spans found;
  for (const json& one : records) {
    if (one["ph"] != "X" || one["cat"] != "goroutine") continue;
    const std::uint64_t goroutine = one["args"]["goroutine"];
    const double begin = one["ts"], end = begin + one["dur"].get<double>();
    found[by == "goroutine" ? goroutine : one["tid"].get<std::uint64_t>()].push_back({begin, end, goroutine});
  }
  for (auto& [key, all] : found)
    std::stable_sort(all.begin(), all.end(), [](const span& a, const span& b) { return a.begin < b.begin; });
  return found;
}

constexpr double kRounding = 0.002;  // microseconds, of two figures with three digits each

int overlaps(const spans& all) {
  int n = 0;
  for (const auto& [key, row] : all)
    for (std::size_t i = 1; i < row.size(); ++i) n += row[i].begin < row[i - 1].end - kRounding ? 1 : 0;
  return n;
}

bool begins_one(const std::vector<span>& row, double when) {
  const auto at = std::lower_bound(row.begin(), row.end(), when - kRounding,
                                   [](const span& one, double time) { return one.begin < time; });
  return at != row.end() && at->begin <= when + kRounding;
}

// Each arrow has its two ends, the first not after the second, which is where a goroutine begins to run.
void check_arrows(const json& records, const spans& on_p) {
  std::map<std::uint64_t, double> begun;
  std::size_t ended = 0;
  for (const json& one : records)
    if (one["ph"] == "s") begun[one["id"]] = one["ts"];
  for (const json& one : records) {
    if (one["ph"] != "f") continue;
    ++ended;
    ASSERT_TRUE(begun.contains(one["id"]));
    EXPECT_LE(begun[one["id"]], one["ts"]);
    EXPECT_TRUE(begins_one(on_p.at(one["tid"]), one["ts"]));
  }
  EXPECT_EQ(ended, begun.size());
}

std::size_t count(const json& records, const std::string& category) {
  return static_cast<std::size_t>(
      std::count_if(records.begin(), records.end(), [&](const json& one) { return one.value("cat", "") == category; }));
}

void check_invariants(const json& told) {
  const json& records = told["traceEvents"];
  const spans on_p = goroutine_slices(records, "p");
  EXPECT_FALSE(on_p.empty());
  EXPECT_LE(on_p.size(), 2u);
  EXPECT_EQ(overlaps(on_p), 0) << "a P ran two goroutines at a time";
  EXPECT_EQ(overlaps(goroutine_slices(records, "goroutine")), 0) << "a goroutine ran on two Ps at a time";
  check_arrows(records, on_p);
}

class tracing : public weft::test::on_each_tier {};
WEFT_ON_EACH_TIER(tracing);

TEST_P(tracing, tells_what_is_possible) {
  hold_out(options(), [](const victim& v) {
    const folder here;
    const std::string file = here.file("trace.json");
    const auto has_all = [&] {  // on a busy machine not at once
      const child_result r =
          weft_trace({"-p", std::to_string(v.pid()), "-o", file, "--for", "0.5", "--size", "4", "--force"});
      EXPECT_TRUE(r.exited(0)) << r;
      const json told = json::parse(content(file));
      EXPECT_EQ(told["otherData"]["pid"], v.pid());
      check_invariants(told);
      const auto is_there = [&](const char* category) { return count(told["traceEvents"], category) != 0; };
      return is_there("goroutine") && is_there("ready") && is_there("call");
    };
    EXPECT_TRUE(weft::test::eventually(has_all));
  });
}

TEST_P(tracing, sees_ps_that_are_taken_from_blocked_threads) {
  hold_out(options(), [](const victim& v) {
    tracer t(v.pid());
    EXPECT_TRUE(weft::test::eventually([&t] {
      t.fetch();
      const trace seen = t.take();
      return std::any_of(seen.lanes.begin(), seen.lanes.end(), [](const trace::lane& lane) {
        return std::any_of(lane.events.begin(), lane.events.end(), [](const trace_event& e) {
          return e.what == trace_event::kind::take && std::string_view(e.why) == "blocked";
        });
      });
    }));
  });
}

TEST_P(tracing, can_be_done_again_and_again_and_by_several) {
  hold_out(options(), [](const victim& v) {
    for (int round = 0; round < 2; ++round) {
      std::vector<std::thread> tracers;
      for (int i = 0; i < 2; ++i)
        tracers.emplace_back([&v] {
          tracer t(v.pid());
          EXPECT_TRUE(weft::test::eventually([&] { return !t.fetch() || t.events() > 100; }));
          const trace seen = t.take();
          EXPECT_EQ(seen.pid, v.pid());
          EXPECT_EQ(seen.lanes.size(), 2u);
        });
      for (std::thread& each : tracers) each.join();
      EXPECT_TRUE(v.goes_on());
    }
  });
}

// So nothing is left behind by a tracer that was killed.
TEST(tracing_ends, with_the_last_tracer) {
  const child_result r = in_child([] {
    run(run_options{.gomaxprocs = 1}, [] {
      std::thread([] { tracer(getpid()).fetch(); }).join();
      const rt::p* const pp = rt::p_at(0);
      EXPECT_NE(pp->lane.wanted.load(), nullptr);
      const auto off = [pp] {
        sleep_for(std::chrono::milliseconds(10));
        return !pp->lane.wanted.load() && !pp->trace;
      };
      EXPECT_TRUE(weft::test::eventually(off));
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(weft_trace, keeps_what_a_process_did_before_it_died) {
  const child_result all = in_child([] {
    const folder here;
    const std::string file = here.file("trace.json");
    const victim v(run_options{.gomaxprocs = 2});
    EXPECT_TRUE(v.goes_on());
    std::thread killer([&] {
      EXPECT_TRUE(weft::test::eventually([&] { return std::filesystem::exists(file); }));
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      kill(v.pid(), SIGKILL);
    });
    const child_result r = weft_trace({"-p", std::to_string(v.pid()), "-o", file});
    killer.join();
    EXPECT_TRUE(r.exited(0)) << r;
    EXPECT_TRUE(r.err.starts_with("weft trace: process " + std::to_string(v.pid()) + " has ended")) << r;
    check_invariants(json::parse(content(file)));
    v.rest();
  });
  EXPECT_TRUE(all.exited(0)) << all;
}

TEST(weft_trace, is_bounded) {
  hold_out(run_options{.gomaxprocs = 2}, [](const victim& v) {
    const folder here;
    const std::string file = here.file("trace.json");
    const child_result r = weft_trace({"-p", std::to_string(v.pid()), "-o", file, "--size", "0.2"});
    EXPECT_TRUE(r.exited(0)) << r;
    EXPECT_NE(r.err.find("all would be larger than 0.2 MB"), std::string::npos) << r;
    EXPECT_LE(std::filesystem::file_size(file), 200'000u);
    check_invariants(json::parse(content(file)));
  });
}

TEST(weft_trace, replaces_a_file_only_if_told_to) {
  hold_out(run_options{.gomaxprocs = 2}, [](const victim& v) {
    const folder here;
    const std::string file = here.file("trace.json"), pid = std::to_string(v.pid());
    std::ofstream(file) << "mine";
    const child_result refused = weft_trace({"-p", pid, "-o", file, "--for", "0.1"});
    EXPECT_TRUE(refused.exited(1)) << refused;
    EXPECT_EQ(refused.err, "weft trace: " + file + ": exists (--force replaces it)\n");
    EXPECT_EQ(content(file), "mine");
    EXPECT_TRUE(weft_trace({"-p", pid, "-o", file, "--for", "0.1", "--force"}).exited(0));
    EXPECT_NE(content(file), "mine");
    const child_result nowhere = weft_trace({"-p", pid, "-o", here.file("no/trace.json")});
    EXPECT_TRUE(nowhere.exited(1)) << nowhere;
    EXPECT_EQ(nowhere.err, "weft trace: " + here.file("no/trace.json") + ": No such file or directory\n");
  });
}

TEST(weft_trace, says_in_a_line_what_cannot_be_traced) {
  const pid_t gone = fork();
  if (gone == 0) _exit(0);
  waitpid(gone, nullptr, 0);
  const child_result none = weft_trace({"-p", std::to_string(gone), "-o", "-"});
  EXPECT_TRUE(none.exited(1)) << none;
  EXPECT_EQ(none.err, "weft trace: there is no process " + std::to_string(gone) + "\n");
  const child_result stranger = weft_trace({"-p", std::to_string(getpid()), "-o", "-"});
  EXPECT_TRUE(stranger.exited(1)) << stranger;
  EXPECT_EQ(stranger.err, "weft trace: process " + std::to_string(getpid()) + " does not run weft\n");
  for (const std::vector<std::string>& words : {std::vector<std::string>{},
                                                {"-p", "1"},
                                                {"-o", "-"},
                                                {"-p", "x", "-o", "-"},
                                                {"-p", "1", "--read", "x", "-o", "-"}})
    EXPECT_TRUE(weft_trace(words).exited(2));
  EXPECT_TRUE(weft_trace({"--help"}).exited(0));
}

TEST(weft_trace, is_for_the_same_user_only) {
  if (getuid() != 0) GTEST_SKIP() << "needs root";
  hold_out(run_options{.gomaxprocs = 1}, [](const victim& v) {
    const pid_t other = fork();
    if (other == 0) {
      weft::test::become_nobody();
      try {
        const tracer t(v.pid());
      } catch (const error& e) {
        _exit(std::string(e.what()).ends_with("is another user's, or has privileges: only root may look at it") ? 0
                                                                                                                : 1);
      }
      _exit(2);
    }
    int status = 0;
    waitpid(other, &status, 0);
    EXPECT_EQ(status, 0);
  });
}

}  // namespace
