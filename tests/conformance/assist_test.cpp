// SPDX-License-Identifier: Apache-2.0
// Tiers of kernel assist: which one a run() gets, what it says about that, and what it does when the probes go away
// under it.
#include <dirent.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <optional>
#include <thread>

#include "bpf/capabilities.h"
#include "tests/child.h"
#include "tests/fixture.h"
#include "tests/unprivileged.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

enum : std::uint64_t { kOff, kSentinel, kBpf };

std::uint64_t tier() { return metrics::read().counters["kernel_assist"]; }

// Goroutines that block without a word, others that must run meanwhile.
void block_and_compute() {
  wait_group done;
  for (int i = 0; i < 4; ++i)
    done.go([] {
      for (int n = 0; n < 10; ++n) std::this_thread::sleep_for(100us);
    });
  done.go([] {
    for (int n = 0; n < 1000; ++n) yield();
  });
  done.wait();
}

int report_tier() {
  return weft::run([] {
    block_and_compute();
    return static_cast<int>(tier());
  });
}

// In children: this process must stay without threads and without probes.
class assist : public testing::TestWithParam<user> {
 protected:
  template <class F>
  static child_result as_this_user(F body) {
    return as_this_user({}, body);
  }
  template <class F>
  static child_result as_this_user(const variables& environment, F body) {
    return in_child(environment, [body] {
      become(GetParam());
      return body();
    });
  }
  static bool can_load() {
    return as_this_user([] { return has_probes() ? 0 : 1; }).exited(0);
  }
};
INSTANTIATE_TEST_SUITE_P(chosen, assist, testing::Values(user::root, user::with_two_capabilities, user::ordinary),
                         name_of_user);

class assist_by_probes : public assist {};
INSTANTIATE_TEST_SUITE_P(loaded, assist_by_probes, testing::Values(user::root, user::with_two_capabilities),
                         name_of_user);

#define WEFT_NEEDS_PROBES() \
  if (!can_load()) GTEST_SKIP() << "no probes here (probes_test says why)"

// Who is refused the probes outright is not told of them.
TEST_P(assist, is_the_best_there_is_without_a_word) {
  const auto r = as_this_user(report_tier);
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(can_load() ? kBpf : kSentinel)) << r;
  if (can_load() || GetParam() == user::ordinary) {
    EXPECT_EQ(r.err, "");
  }
}

TEST_P(assist_by_probes, is_what_was_asked_for) {
  WEFT_NEEDS_PROBES();
  const std::array<std::pair<const char*, int>, 3> tiers{{{"off", kOff}, {"sentinel", kSentinel}, {"bpf", kBpf}}};
  for (const auto& [name, code] : tiers) {
    const child_result r = as_this_user({{"WEFT_KERNEL_ASSIST", name}}, report_tier);
    EXPECT_TRUE(r.exited(code)) << name << ": " << r;
  }
}

// Of the whole process: for which threads does the kernel know of a capability that loading took?
int threads_that_may_load() {
  constexpr std::uint64_t kTaken = 1ull << CAP_BPF | 1ull << CAP_PERFMON;
  int n = 0;
  for (const pid_t tid : threads_of(getpid())) {
    std::ifstream status("/proc/self/task/" + std::to_string(tid) + "/status");
    for (std::string line; std::getline(status, line);)
      if (line.starts_with("CapPrm:") && (std::stoull(line.substr(7), nullptr, 16) & kTaken) != 0) ++n;
  }
  return n;
}

// (Root could do without them.)
TEST_P(assist_by_probes, keeps_no_capability_once_the_probes_are_there) {
  WEFT_NEEDS_PROBES();
  const bool drops = GetParam() != user::root;
  const auto r = as_this_user([drops] {
    EXPECT_TRUE(bpf::may_load());
    for (int runs = 0; runs < 2; ++runs)  // the second has the probes of the first
      weft::run([drops] {
        block_and_compute();
        EXPECT_EQ(tier(), kBpf);
        EXPECT_EQ(threads_that_may_load() == 0, drops);
      });
    EXPECT_EQ(bpf::may_load(), !drops);
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "");
}

TEST(assist_by_probes_that_cannot_be, is_insisted_on) {
  const auto r = in_child({{"WEFT_KERNEL_ASSIST", "bpf"}}, [] {
    become_nobody();
    return report_tier();
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(2)) << r;
  EXPECT_EQ(lines_of(r.err).size(), 1u) << r;
  EXPECT_TRUE(r.err.starts_with("weft: kernel assist bpf is not possible: ")) << r;
}

TEST_P(assist_by_probes, says_in_one_line_that_a_filter_takes_the_probes_away) {
  WEFT_NEEDS_PROBES();
  for (const int error : {EPERM, ENOSYS, EACCES}) {
    const auto r = as_this_user([error] {
      refuse_bpf(error);
      return report_tier();
    });
    WEFT_SKIP_IF_CHILD_DID(r);
    EXPECT_TRUE(r.exited(kSentinel)) << r;
    EXPECT_EQ(lines_of(r.err).size(), 1u) << r;
    EXPECT_TRUE(r.err.starts_with("weft: kernel assist: no probes, going on with sentinels alone: bpf() refused: "))
        << r;
  }
}

// The descriptor whose last copy keeps the program attached.
int link_of_probes() {
  DIR* const folder = opendir("/proc/self/fdinfo");
  int found = -1;
  while (const dirent* entry = folder ? readdir(folder) : nullptr) {
    std::ifstream file(std::string("/proc/self/fdinfo/") + entry->d_name);
    for (std::string line; std::getline(file, line);)
      if (line.starts_with("link_type:")) found = std::atoi(entry->d_name);
  }
  if (folder) closedir(folder);
  return found;
}

TEST_P(assist_by_probes, goes_on_with_sentinels_when_the_probes_are_detached) {
  WEFT_NEEDS_PROBES();
  const auto r = as_this_user([] {
    return weft::run([] {
      block_and_compute();
      EXPECT_EQ(tier(), kBpf);
      const int link = link_of_probes();
      if (link < 0) skip_in_child("no link in /proc/self/fdinfo");
      close(link);
      EXPECT_TRUE(eventually([] {
        block_and_compute();
        return tier() == kSentinel;
      }));
      block_and_compute();
    });
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "weft: kernel assist: the probes have stopped, going on with sentinels alone\n") << r;
}

// Threads beyond the state page's slots are judged through /proc.
TEST_P(assist_by_probes, has_room_for_fewer_threads_than_there_may_be_slow) {
  WEFT_NEEDS_PROBES();
  const auto r = as_this_user([] {
    return weft::run([] {
      constexpr int kThreads = 1100;
      std::atomic<int> there{0};
      wait_group done;
      const auto stop = make_chan<unit>();
      for (int i = 0; i < kThreads; ++i)
        done.go([&] {
          lock_os_thread();
          ++there;
          stop.recv();
        });
      EXPECT_TRUE(eventually([&] { return there == kThreads; }));
      block_and_compute();
      EXPECT_EQ(tier(), kBpf);
      stop.close();
      done.wait();
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "");
}

std::optional<metrics::block_costs> costs_of_sleeps() {
  for (const metrics::node_costs& node : metrics::costs())
    for (const metrics::block_costs& kind : node.blocks)
      if (kind.syscall == SYS_clock_nanosleep || kind.syscall == SYS_nanosleep) return kind;
  return {};
}

TEST_P(assist_by_probes, counts_what_the_kernel_saw) {
  WEFT_NEEDS_PROBES();
  const auto r = as_this_user([] {
    return weft::run([] {
      block_and_compute();  // there are threads and sentinels from here on
      for (int n = 0; n < 50; ++n) std::this_thread::sleep_for(100us);
      metrics::snapshot now = metrics::read();
      EXPECT_GE(now.counters["kernel_blocks"], 40u);  // not every kernel shows every switch
      EXPECT_GE(now.histograms["kernel_blocked"].count(), 40u);
      EXPECT_GE(now.histograms["kernel_runq_wait"].count(), 40u);
      EXPECT_GE(now.histograms["kernel_blocked"].quantile(0.5), 100e-6);
      std::optional<metrics::block_costs> sleeps;
      EXPECT_TRUE(eventually([&] {  // where others keep the CPU busy, the sentinel seldom comes to judge a block
        std::this_thread::sleep_for(100us);
        return (sleeps = costs_of_sleeps()).has_value();
      }));
      EXPECT_EQ(sleeps.value_or(metrics::block_costs{}).wait, 0);  // one of 100 us is not waited for
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST_P(assist_by_probes, counts_in_which_calls_threads_lose_their_p) {
  WEFT_NEEDS_PROBES();
  const auto r = as_this_user([] {
    return weft::run({.gomaxprocs = 1}, [] {
      int ends[2];
      EXPECT_EQ(pipe(ends), 0);
      const auto counted = [] { return metrics::read().counters; };
      EXPECT_TRUE(eventually([&] {  // the sentinel may be late
        wait_group writer;
        writer.go([&] { EXPECT_EQ(write(ends[1], "x", 1), 1); });
        char byte;
        EXPECT_EQ(read(ends[0], &byte, 1), 1);
        writer.wait();
        return counted()["blocked_times_in_read"] > 0;
      }));
      EXPECT_GT(counted()["blocked_ns_in_read"], 0u);
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

// A later run() of the same process begins anew.
TEST_P(assist_by_probes, counts_each_run_by_itself) {
  WEFT_NEEDS_PROBES();
  const auto r = as_this_user([] {
    const auto blocks_of_a_run = [](int sleeps) {
      return weft::run([sleeps] {
        for (int n = 0; n < sleeps; ++n) std::this_thread::sleep_for(100us);
        return static_cast<int>(metrics::read().counters["kernel_blocks"]);
      });
    };
    EXPECT_GE(blocks_of_a_run(200), 100);
    EXPECT_LT(blocks_of_a_run(0), 100);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

std::uint64_t wakes_measured() {
  std::uint64_t sum = 0;
  for (metrics::node_costs& node : metrics::costs())
    sum += node.costs["wake_same_cpu"].samples + node.costs["wake_cross_cpu"].samples;
  return sum;
}

void sleep_often() {
  for (int n = 0; n < 50; ++n) std::this_thread::sleep_for(100us);
}

void touch_pages() {
  std::vector<char> pages(8 << 20);
  for (std::size_t i = 0; i < pages.size(); i += 4096) static_cast<volatile char&>(pages[i]) = 1;
}

TEST_P(assist_by_probes, measures_what_the_kernel_charges) {
  WEFT_NEEDS_PROBES();
  const auto r = as_this_user({{"WEFT_DEBUG", "kernelcosts=1"}}, [] {
    return weft::run([] {
      EXPECT_TRUE(eventually([] {  // not every kernel shows every switch
        sleep_often();
        return wakes_measured() >= 20;
      }));
      touch_pages();
      EXPECT_GT(metrics::read().counters["page_faults_write"], 0u);
      EXPECT_EQ(metrics::measure_kernel(false), "");
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "");
}

// Who has given the capabilities up may not.
TEST_P(assist_by_probes, switches_while_it_runs_what_measures_the_kernel) {
  WEFT_NEEDS_PROBES();
  const auto r = as_this_user([] {
    return weft::run([] {
      sleep_often();
      EXPECT_EQ(wakes_measured(), 0u);
      if (GetParam() != user::root) {
        EXPECT_TRUE(metrics::measure_kernel(true).ends_with("(needs CAP_BPF and CAP_PERFMON)"));
        return;
      }
      EXPECT_EQ(metrics::measure_kernel(true), "");
      EXPECT_TRUE(eventually([] {
        sleep_often();
        return wakes_measured() >= 20;
      }));
      EXPECT_EQ(metrics::measure_kernel(false), "");
      const std::uint64_t measured = wakes_measured();
      sleep_often();
      EXPECT_EQ(wakes_measured(), measured);
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(assist_by_probes_that_cannot_be, says_why_the_kernel_cannot_be_measured) {
  const auto r = in_child({{"WEFT_KERNEL_ASSIST", "off"}}, [] {
    return weft::run([] { EXPECT_EQ(metrics::measure_kernel(true), "there are no probes"); });
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

}  // namespace
