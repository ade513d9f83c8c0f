// SPDX-License-Identifier: Apache-2.0
// GOMAXPROCS changed from outside, and `weft tune --live`, on a program that works: it must not mind.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include <weft/weft.h>

#include "tests/child.h"
#include "tests/command.h"
#include "tests/victim.h"

namespace {

using namespace weft;
using nlohmann::json;
using weft::test::child_result;
using weft::test::eventually;
using weft::test::hold_out;
using weft::test::in_child;
using weft::test::victim;

constexpr std::chrono::minutes kLong{5};

run_options two_ps() { return {.gomaxprocs = 2}; }

struct wanted {
  std::string metric = "schedticks", seconds = "0.1";
  std::vector<std::string> more{};
};

// With a search that is over soon.
[[noreturn]] void become_tuner(pid_t pid, const wanted& w) {
  std::vector<std::string> words = {weft::test::weft_command(),
                                    "tune",
                                    "--live",
                                    std::to_string(pid),
                                    "--metric",
                                    w.metric,
                                    "--for",
                                    w.seconds,
                                    "--min-runs",
                                    "2",
                                    "--max-runs",
                                    "2"};
  words.insert(words.end(), w.more.begin(), w.more.end());
  weft::test::exec(words);
}

child_result tune(pid_t pid, const wanted& w = {}) {
  return in_child([&] { become_tuner(pid, w); });
}

int count(const process_ps& has) {
  int n = 0;
  for (const process_ps::on_node& each : has.nodes) n += each.ps;
  return n;
}

std::string why_not(attachment& process, const std::string& wish) {
  try {
    process.place_ps(wish);
  } catch (const error& e) {
    return e.what();
  }
  return "";
}

TEST(place_ps, changes_the_ps_of_a_program_that_works) {
  hold_out(two_ps(), [](const victim& v) {
    attachment process(v.pid());
    EXPECT_EQ(process.ps().wish, "2");
    for (const auto& [wish, n] : {std::pair{"1", 1}, {"5", 5}, {"node0=3", 0}, {"2", 2}}) {
      const process_ps has = process.place_ps(wish);
      EXPECT_EQ(has.wish, wish);
      EXPECT_FALSE(has.on_trial);
      if (n > 0) {
        EXPECT_EQ(count(has), n);
      }
      EXPECT_GT(has.nodes.front().cpus, 0);
      EXPECT_TRUE(v.goes_on()) << wish;
    }
    process.place_ps("");
    EXPECT_EQ(process.ps().wish, "");
  });
}

TEST(place_ps, says_in_a_line_what_is_none) {
  hold_out(two_ps(), [](const victim& v) {
    attachment process(v.pid());
    const std::string who = "process " + std::to_string(v.pid()) + " ";
    EXPECT_TRUE(why_not(process, "0").starts_with(who + "was asked for GOMAXPROCS=0: expected "))
        << why_not(process, "0");
    EXPECT_EQ(why_not(process, "node999=1"), who + "node 999 has no CPUs that it may use");
    EXPECT_FALSE(why_not(process, std::string(100'000, '9')).empty());
    EXPECT_EQ(process.ps().wish, "2");
  });
}

TEST(a_trial, ends_by_itself) {
  hold_out(two_ps(), [](const victim& v) {
    attachment process(v.pid());
    EXPECT_TRUE(process.place_ps("1", kLong).on_trial);
    EXPECT_EQ(process.place_ps("3", std::chrono::milliseconds(1)).wish, "3");
    EXPECT_TRUE(eventually([&] { return process.ps().wish == "2"; }));
    EXPECT_EQ(count(process.ps()), 2);
    EXPECT_FALSE(process.ps().on_trial);
  });
}

TEST(a_trial, gives_way_to_what_the_program_itself_wishes) {
  const child_result r = in_child([] {
    run(two_ps(), [] {
      std::thread([] {
        attachment self(getpid());
        self.place_ps("1", std::chrono::milliseconds(1));
        gomaxprocs(4);
        EXPECT_FALSE(self.ps().on_trial);
        for (int i = 0; i < 2; ++i) {
          std::this_thread::sleep_for(std::chrono::milliseconds(1200));  // in which a trial would end
          EXPECT_EQ(self.ps().wish, "4");
        }
      }).join();
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(tune_live, ends_with_the_ps_that_it_tells_of) {
  hold_out(two_ps(), [](const victim& v) {
    const child_result r = tune(v.pid(), {.more = {"--json"}});
    EXPECT_TRUE(r.exited(0)) << r;
    EXPECT_EQ(r.err, "");
    const json told = json::parse(r.out);
    EXPECT_EQ(told["process"], v.pid());
    EXPECT_EQ(told["unit"], "schedticks/s");
    EXPECT_GE(told["trials"].size(), 2u);
    EXPECT_GT(told["trials"][0]["mean"], 0);
    attachment process(v.pid());
    const process_ps has = process.ps();
    EXPECT_FALSE(has.on_trial);
    EXPECT_EQ(has.wish, told["gain"].is_null() ? "2" : told["gomaxprocs"].get<std::string>());
  });
}

TEST(tune_live, gives_back_what_was_there_if_it_is_interrupted) {
  hold_out(two_ps(), [](const victim& v) {
    const pid_t tuner = fork();
    if (tuner == 0) become_tuner(v.pid(), {.seconds = "60"});
    attachment process(v.pid());
    EXPECT_TRUE(eventually([&] { return process.ps().on_trial; }));
    kill(tuner, SIGINT);
    int status = 0;
    waitpid(tuner, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT) << status;
    EXPECT_EQ(process.ps().wish, "2");
  });
}

TEST(tune_live, leaves_a_process_alone_whose_ps_somebody_else_changes) {
  hold_out(two_ps(), [](const victim& v) {
    std::thread other([&] {
      attachment process(v.pid());
      EXPECT_TRUE(eventually([&] { return process.ps().on_trial; }));
      process.place_ps("3");
    });
    const child_result r = tune(v.pid(), {.seconds = "30"});
    other.join();
    EXPECT_TRUE(r.exited(1)) << r;
    EXPECT_EQ(r.err, "weft tune: process " + std::to_string(v.pid()) +
                         ": somebody else has changed its GOMAXPROCS meanwhile\n");
    attachment process(v.pid());
    EXPECT_EQ(process.ps().wish, "3");
  });
}

TEST(tune_live, says_in_a_line_what_cannot_be) {
  hold_out(two_ps(), [](const victim& v) {
    const child_result unknown = tune(v.pid(), {.metric = "requests"});
    EXPECT_TRUE(unknown.exited(1)) << unknown;
    EXPECT_TRUE(unknown.err.starts_with("weft tune: the program has no counter 'requests'; it has ")) << unknown;
    const child_result plan = tune(v.pid(), {.more = {"--dry-run"}});
    EXPECT_TRUE(plan.exited(0)) << plan;
    EXPECT_TRUE(plan.out.starts_with("Begins with GOMAXPROCS=node")) << plan;
    attachment process(v.pid());
    EXPECT_EQ(process.ps().wish, "2");
  });
  const child_result stranger = tune(getpid());
  EXPECT_TRUE(stranger.exited(1)) << stranger;
  EXPECT_EQ(stranger.err, "weft tune: process " + std::to_string(getpid()) + " does not run weft\n");
}

}  // namespace
