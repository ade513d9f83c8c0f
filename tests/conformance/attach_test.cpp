// SPDX-License-Identifier: Apache-2.0
// A process looked at from outside while it works, and one that cannot be looked at.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <weft/attach.h>
#include <weft/weft.h>

#include "tests/child.h"
#include "tests/unprivileged.h"
#include "tests/victim.h"

namespace {

using namespace weft;
using weft::test::child_result;
using weft::test::hold_out;
using weft::test::in_child;
using weft::test::victim;

class attaching : public weft::test::on_each_tier {};
WEFT_ON_EACH_TIER(attaching);

std::uint64_t sum_of(const std::map<std::string, std::uint64_t>& states) {
  std::uint64_t sum = 0;
  for (const auto& [state, n] : states) sum += n;
  return sum;
}

TEST_P(attaching, reads_metrics_that_go_on) {
  hold_out(options(), [](const victim& v) {
    attachment to(v.pid());
    const metrics::snapshot first = to.read();
    EXPECT_EQ(first.counters.at("gomaxprocs"), 2u);
    EXPECT_EQ(first.ps.size(), 2u);
    EXPECT_GE(first.nodes.size(), 1u);
    EXPECT_GE(sum_of(first.goroutines), 7u);
    EXPECT_GE(sum_of(first.threads), 1u);
    EXPECT_TRUE(v.goes_on());
    metrics::snapshot second;
    EXPECT_TRUE(weft::test::eventually([&] {  // waits are sampled
      second = to.read();
      return second.histograms.at("runq_wait").count() > first.histograms.at("runq_wait").count();
    }));
    EXPECT_GT(second.counters.at("schedticks"), first.counters.at("schedticks"));
    EXPECT_GT(second.histograms.at("runq_wait").quantile(0.5), 0);
    EXPECT_FALSE(to.costs().empty());
  });
}

TEST_P(attaching, sees_every_goroutine_with_its_stack) {
  hold_out(options(), [](const victim& v) {
    attachment to(v.pid());
    bool main_seen = false, frames_seen = false;
    for (int i = 0; i < 20; ++i) {
      std::size_t n = 0;
      for (const goroutine_group& group : to.goroutines()) {
        n += group.members.size();
        EXPECT_FALSE(group.state.empty());
        const bool is_main = group.members.front().id == 1;
        main_seen |= is_main && group.state == "sync.WaitGroup.Wait" && group.stack.find("victim") != std::string::npos;
        frames_seen |= !is_main && group.stack.find("(...)\n\t") != std::string::npos;
        EXPECT_TRUE(is_main || group.creator.starts_with("created by ")) << group.creator;
      }
      EXPECT_GE(n, 6u);
    }
    EXPECT_TRUE(main_seen);
    EXPECT_TRUE(frames_seen);
  });
}

TEST_P(attaching, several_may_look_at_once) {
  hold_out(options(), [](const victim& v) {
    std::vector<std::thread> readers;
    for (int i = 0; i < 3; ++i)
      readers.emplace_back([&v, i] {
        for (int n = 0; n < 5; ++n) {
          attachment to(v.pid());
          if (i == 0)
            EXPECT_GE(to.goroutines().size(), 2u);
          else
            EXPECT_EQ(to.read().counters.at("gomaxprocs"), 2u);
        }
      });
    for (std::thread& reader : readers) reader.join();
  });
}

TEST_P(attaching, gets_an_answer_where_all_is_idle) {
  const child_result r = in_child([] {
    int ready[2];
    EXPECT_EQ(pipe(ready), 0);
    const pid_t idle = fork();
    if (idle == 0) {
      run(options(), [&] {
        EXPECT_EQ(write(ready[1], "x", 1), 1);
        sleep_for(std::chrono::seconds(60));
      });
      _exit(0);
    }
    char byte;
    EXPECT_EQ(read(ready[0], &byte, 1), 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    attachment to(idle);
    const auto start = std::chrono::steady_clock::now();
    const metrics::snapshot all = to.read();
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
    EXPECT_EQ(all.goroutines.at("sleep"), 1u);
    const std::vector<goroutine_group> groups = to.goroutines();
    EXPECT_EQ(groups.size(), 1u);
    EXPECT_EQ(groups.at(0).state, "sleep");
    kill(idle, SIGKILL);
    waitpid(idle, nullptr, 0);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(attachment, groups_what_is_equal) {
  const child_result r = in_child([] {
    int ready[2];
    EXPECT_EQ(pipe(ready), 0);
    const pid_t other = fork();
    if (other == 0) {
      run(run_options{.gomaxprocs = 1}, [&] {
        const auto never = make_chan<unit>();
        for (int i = 0; i < 100; ++i) go([=] { never.recv(); });
        go({.name = "alone"}, [=] { never.recv(); });
        yield();
        EXPECT_EQ(write(ready[1], "x", 1), 1);
        sleep_for(std::chrono::seconds(60));
      });
      _exit(0);
    }
    char byte;
    EXPECT_EQ(read(ready[0], &byte, 1), 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(1200));
    const std::vector<goroutine_group> groups = attachment(other).goroutines();
    EXPECT_EQ(groups.size(), 3u);
    EXPECT_EQ(groups.at(0).members.size(), 100u);
    EXPECT_EQ(groups.at(0).state, "chan receive");
    EXPECT_GT(groups.at(0).members.front().since, 1'000'000'000u);
    EXPECT_LT(groups.at(0).members.front().id, groups.at(0).members.back().id);
    EXPECT_TRUE(
        std::any_of(groups.begin(), groups.end(), [](const auto& g) { return g.members.front().name == "alone"; }));
    kill(other, SIGKILL);
    waitpid(other, nullptr, 0);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

// What it says, without the number of the process.
std::string refusal(
    pid_t pid, const std::function<void(attachment&)>& then = [](attachment&) {}) {
  try {
    attachment to(pid);
    then(to);
  } catch (const error& e) {
    std::string text = e.what();
    const std::string number = std::to_string(pid);
    if (const auto at = text.find(number); at != text.npos) text.replace(at, number.size(), "N");
    return text;
  }
  return "nothing";
}

TEST(attachment, says_what_cannot_be_looked_at) {
  const child_result r = in_child([] {
    const pid_t gone = fork();
    if (gone == 0) _exit(0);
    waitpid(gone, nullptr, 0);
    EXPECT_EQ(refusal(gone), "there is no process N");
    EXPECT_EQ(refusal(-1), "there is no process N");
    EXPECT_EQ(refusal(getpid()), "process N does not run weft");
    run([] {});
    EXPECT_EQ(refusal(getpid()), "process N has no run() active");
    const pid_t child = fork();  // with the page of its parent
    if (child == 0) {
      pause();
      _exit(0);
    }
    EXPECT_EQ(refusal(child), "process N does not run weft");
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(attachment, tells_one_that_ends_or_is_stopped_from_one_that_is_slow) {
  run_options wanted;
  wanted.gomaxprocs = 1;
  const child_result r = in_child([&] {
    const victim v(wanted);
    EXPECT_TRUE(v.goes_on());
    EXPECT_EQ(refusal(v.pid(),
                      [&](attachment& to) {
                        v.stop();
                        to.read();
                      }),
              "process N is stopped, and does not answer");
    kill(v.pid(), SIGCONT);
    attachment(v.pid()).read();
    EXPECT_EQ(refusal(v.pid(),
                      [&](attachment& to) {
                        kill(v.pid(), SIGKILL);
                        for (;;) to.read();
                      }),
              "process N has ended");
    v.rest();
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(attachment, is_for_the_same_user_only) {
  if (getuid() != 0) GTEST_SKIP() << "needs root";
  run_options wanted;
  wanted.gomaxprocs = 1;
  hold_out(wanted, [](const victim& v) {
    const pid_t stranger = fork();
    if (stranger == 0) {
      weft::test::become_nobody();
      const std::string said = refusal(v.pid());
      _exit(said == "process N is another user's, or has privileges: only root may look at it" ? 0 : 1);
    }
    int status = 0;
    waitpid(stranger, &status, 0);
    EXPECT_EQ(status, 0);
  });
}

TEST(attachment, works_again_in_a_later_run) {
  const child_result r = in_child([] {
    for (int i = 0; i < 2; ++i)
      run(run_options{.gomaxprocs = 1},
          [] { std::thread([] { EXPECT_EQ(attachment(getpid()).read().counters.at("gomaxprocs"), 1u); }).join(); });
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(attachment, costs_a_descriptor) {
  const child_result r = in_child([] {
    const auto descriptors = [] {
      return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
    };
    run([] {});
    const auto before = descriptors();
    for (int i = 0; i < 5; ++i) run([] {});
    EXPECT_EQ(descriptors(), before);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

}  // namespace
