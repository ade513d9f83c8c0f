// SPDX-License-Identifier: Apache-2.0
// `weft tune`: what it runs, what it reads of that, what it prints, and how it ends.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/child.h"
#include "tests/command.h"
#include "tools/trial.h"
#include "tools/tune_command.h"

namespace {

using nlohmann::json;
using weft::test::child_result;
using weft::test::count_of;
using weft::test::folder;
using weft::test::in_child;
using weft::test::lines_of;
using weft::test::weft_command;
using namespace weft::tools;

child_result tune(std::vector<std::string> arguments, const weft::test::variables& environment = {}) {
  return in_child(environment, [&] {
    arguments.insert(arguments.begin(), "tune");
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    return tune_command(static_cast<int>(argv.size()), argv.data());
  });
}

std::string contents(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(report_text, is_read_as_it_is_written) {
  const auto read = parse_report("weft 1\nseconds 2.5\ncounter steals 37\nhistogram runq_wait 12 0.5 0.001 0.09\n");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->seconds, 2.5);
  EXPECT_EQ(read->counters.at("steals"), 37);
  EXPECT_EQ(read->histograms.at("runq_wait").p99, 0.09);
  EXPECT_FALSE(parse_report(""));
  EXPECT_FALSE(parse_report("weft 2\n"));
  EXPECT_FALSE(parse_report("weft 1\ncounter steals\n"));
}

TEST(run_once, gives_the_program_its_ps_and_a_group_of_its_own) {
  const folder here;
  const child_result r = in_child([&] {
    const program_run run = run_once(
        {{"sh", "-c", "echo $GOMAXPROCS $$ $(ps -o pgid= $$) > " + here.file("seen") + "; echo x; echo last >&2"}, 0},
        "node0=1");
    EXPECT_EQ(run.status, 0);
    EXPECT_EQ(run.last_error, "last");
    EXPECT_FALSE(run.latest);
    EXPECT_GT(run.seconds, 0);
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.out, "");
  EXPECT_TRUE(contents(here.file("seen")).starts_with("node0=1 "));
}

TEST(run_once, reads_what_a_weft_program_reports) {
  if (access(weft_command(), X_OK) != 0) GTEST_SKIP() << "no weft command";
  const child_result r = in_child([&] {
    const program_run run = run_once({{weft_command(), "sum", "/etc/passwd"}, 0}, "1");
    EXPECT_EQ(run.status, 0);
    ASSERT_TRUE(run.latest);
    EXPECT_EQ(run.latest->counters.at("gomaxprocs"), 1);
    EXPECT_GT(run.latest->counters.at("goroutines_created"), 0);
    EXPECT_GT(run.latest->histograms.at("runq_wait").count, 0);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(run_once, ends_what_does_not_end_and_leaves_nothing) {
  const folder here;
  const std::string stubborn = "trap '' TERM; sleep 100 & echo $! > " + here.file("pid") + "; wait; sleep 100";
  const child_result r = in_child([&] {
    const program_run run = run_once({{"sh", "-c", stubborn}, 0.2}, "1");
    EXPECT_TRUE(run.by_limit);
    EXPECT_TRUE(WIFSIGNALED(run.status));
  });
  EXPECT_TRUE(r.exited(0)) << r;
  const pid_t left = std::atoi(contents(here.file("pid")).c_str());
  ASSERT_GT(left, 0);
  for (int i = 0; i < 100 && kill(left, 0) == 0; ++i) usleep(10'000);  // init has yet to wait for it
  const std::string state = contents("/proc/" + std::to_string(left) + "/stat");
  EXPECT_TRUE(state.empty() || state.find(") Z ") != state.npos) << state;
}

TEST(weft_tune, tells_what_it_would_try_without_doing_it) {
  const folder here;
  const child_result r = tune({"--dry-run", "--gomaxprocs", "2", "touch", here.file("run")});
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_TRUE(r.out.starts_with("Begins with GOMAXPROCS=node")) << r;
  EXPECT_FALSE(std::filesystem::exists(here.file("run")));
  const json plan = json::parse(tune({"--dry-run", "--json", "true"}).out);
  EXPECT_EQ(plan["program"], json::array({"true"}));
  EXPECT_TRUE(plan["start"].get<std::string>().starts_with("node"));
}

TEST(weft_tune, prints_the_table_the_choice_and_the_line_for_the_environment) {
  const child_result r = tune({"--min-runs", "2", "--max-runs", "2", "--gomaxprocs", "1", "--", "sleep", "0.02"});
  EXPECT_TRUE(r.exited(0)) << r;
  const auto lines = lines_of(r.out);
  EXPECT_TRUE(lines.front().starts_with("GOMAXPROCS")) << r;
  EXPECT_TRUE(lines.back().starts_with("GOMAXPROCS=node")) << r;
  EXPECT_EQ(
      lines_of(r.err),
      std::vector<std::string>{"weft tune: the program has reported nothing: is it a weft program that calls run()?"});
}

TEST(weft_tune, prints_json) {
  if (access(weft_command(), X_OK) != 0) GTEST_SKIP() << "no weft command";
  const child_result r = tune({"--json", "--min-runs", "2", "--max-runs", "2", weft_command(), "sum", "/etc/passwd"},
                              {{"GOMAXPROCS", "1"}});
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "");
  const json told = json::parse(r.out);
  EXPECT_EQ(told["unit"], "seconds");
  EXPECT_GE(told["trials"].size(), 1u);
  EXPECT_GE(told["trials"][0]["values"].size(), 2u);
  EXPECT_TRUE(told["trials"][0]["runq_wait_p99"].is_number());
  EXPECT_TRUE(told["environment"].get<std::string>().starts_with("GOMAXPROCS=node"));
}

TEST(weft_tune, says_which_metric_is_missing_and_which_there_are) {
  if (access(weft_command(), X_OK) != 0) GTEST_SKIP() << "no weft command";
  const child_result none = tune({"--metric", "x", "true"});
  EXPECT_TRUE(none.exited(1)) << none;
  EXPECT_EQ(none.err, "weft tune: the program has reported nothing: is it a weft program that calls run()?\n");
  const child_result other = tune({"--metric", "x", weft_command(), "sum", "/etc/passwd"});
  EXPECT_TRUE(other.exited(1)) << other;
  EXPECT_TRUE(other.err.starts_with("weft tune: the program has no counter 'x'; it has ")) << other;
  EXPECT_NE(other.err.find("goroutines_created"), std::string::npos) << other;
}

TEST(weft_tune, says_how_a_program_fails) {
  const child_result failing = tune({"sh", "-c", "echo early >&2; echo no disk >&2; exit 3"});
  EXPECT_TRUE(failing.exited(1)) << failing;
  EXPECT_TRUE(failing.err.starts_with("weft tune: the program ended with status 3 with GOMAXPROCS=node")) << failing;
  EXPECT_TRUE(failing.err.ends_with(": no disk\n")) << failing;
  EXPECT_EQ(count_of("\n", failing.err), 1);
  const child_result killed = tune({"sh", "-c", "kill -SEGV $$"});
  EXPECT_NE(killed.err.find("was killed by signal 11"), std::string::npos) << killed;
  const child_result missing = tune({"/no/such/program"});
  EXPECT_TRUE(missing.exited(1)) << missing;
  EXPECT_EQ(missing.err, "weft tune: cannot run '/no/such/program': No such file or directory\n");
}

TEST(weft_tune, refuses_a_wrong_command_line_in_one_line) {
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{},
                                                {"--for", "5", "true"},
                                                {"--for", "1", "--metric", "x", "true"},
                                                {"--min-runs", "5", "--max-runs", "3", "true"},
                                                {"--gomaxprocs", "node0", "true"},
                                                {"--budget", "many", "true"},
                                                {"--live", "1"},
                                                {"--live", "0", "--metric", "x"},
                                                {"--live", "1", "--metric", "x", "true"},
                                                {"--live", "1", "--metric", "x", "--gomaxprocs", "2"},
                                                {"--no-such-option", "true"}}) {
    const child_result r = tune(wrong);
    EXPECT_TRUE(r.exited(2)) << r;
    EXPECT_EQ(lines_of(r.err).size(), 1u) << r;
    EXPECT_TRUE(r.err.starts_with("weft tune: ")) << r;
  }
  EXPECT_TRUE(tune({"--help"}).exited(0));
}

TEST(weft_tune, ends_by_the_signal_and_takes_the_program_with_it) {
  const folder here;
  for (const int signal : {SIGINT, SIGTERM}) {
    std::filesystem::remove(here.file("pid"));
    const child_result r = in_child([&] {
      std::thread([&, self = getpid()] {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, nullptr);
        while (contents(here.file("pid")).empty()) usleep(5'000);
        kill(self, signal);
      }).detach();
      std::vector<std::string> words = {"tune", "sh", "-c", "echo $$ > " + here.file("pid") + "; sleep 100"};
      std::vector<char*> argv;
      for (std::string& word : words) argv.push_back(word.data());
      return tune_command(static_cast<int>(argv.size()), argv.data());
    });
    EXPECT_TRUE(r.killed_by(signal)) << r;
    EXPECT_EQ(r.out, "");
    const pid_t left = std::atoi(contents(here.file("pid")).c_str());
    ASSERT_GT(left, 0);
    EXPECT_NE(kill(left, 0), 0) << "still there";
  }
}

}  // namespace
