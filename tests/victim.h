// SPDX-License-Identifier: Apache-2.0
// A process full of goroutines that do everything at once, and something that is done to it from outside meanwhile.
//
// hold_out() runs both in a child: the victim is a child of that child, which is so its parent, and may trace it. What
// the goroutines have done is counted in memory that both see; each of them checks its own work.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <functional>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "tests/child.h"
#include "tests/fixture.h"

namespace weft::test {

inline void nap() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

class victim {
 public:
  /// Works on a runtime of this kind until rest() is called.
  explicit victim(const run_options& options) {
    pid_ = fork();
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int before = child_detail::failures();
    work(options);
    _exit(child_detail::failures() > before ? kExpectationFailed : 0);
  }
  victim(const victim&) = delete;
  victim& operator=(const victim&) = delete;

  pid_t pid() const { return pid_; }
  std::vector<pid_t> threads() const { return threads_of(pid_); }

  /// Waits until goroutines of every kind have done some more work. Failure: it has ended, or does not get on.
  testing::AssertionResult goes_on() const {
    return goes_on([] {});
  }
  /// The same; meanwhile() is called again and again.
  template <class F>
  testing::AssertionResult goes_on(F meanwhile) const {
    const counts before = done();
    const auto until = std::chrono::steady_clock::now() + kGoingOn;
    while (const char* const late = late_since(before)) {
      meanwhile();
      if (kill(pid_, 0) != 0) return testing::AssertionFailure() << "it has ended";
      if (std::chrono::steady_clock::now() > until) return testing::AssertionFailure() << "no more " << late;
      nap();
    }
    return testing::AssertionSuccess();
  }

  /// Stops all of its threads, until SIGCONT.
  void stop() const {
    kill(pid_, SIGSTOP);
    waitpid(pid_, nullptr, WUNTRACED);
  }

  /// What all of its goroutines have done together.
  long work_done() const {
    long sum = 0;
    for (const long n : done()) sum += n;
    return sum;
  }

  /// Has it end, and returns its status as waitpid() tells it.
  int rest() const {
    shared_->over = true;
    int status = 0;
    while (waitpid(pid_, &status, 0) == pid_ && !WIFEXITED(status) && !WIFSIGNALED(status)) {
    }
    return status;
  }

 private:
  enum kind : std::size_t { kMessages, kSleeps, kCalls, kReads, kTurns, kKinds };
  static constexpr std::array<const char*, kKinds> kNames = {"messages", "sleeps", "calls", "reads", "turns of a loop"};
  using counts = std::array<long, kKinds>;

  static constexpr long kSome = 3;
  static constexpr std::chrono::seconds kGoingOn{20};  // less than a child may take

  struct shared {
    std::array<std::atomic<long>, kKinds> done{};
    std::atomic<bool> over{false};
  };

  // ThreadSanitizer delivers signals only at calls, so that nothing would stop a loop that makes none.
  static bool counted(std::size_t k) { return k != kTurns || !kThreadSanitizer; }

  counts done() const {
    counts now;
    for (std::size_t i = 0; i < kKinds; ++i) now[i] = shared_->done[i].load();
    return now;
  }

  // Of what there is not some more yet; null: of nothing.
  const char* late_since(const counts& before) const {
    const counts now = done();
    for (std::size_t i = 0; i < kKinds; ++i)
      if (counted(i) && now[i] < before[i] + kSome) return kNames[i];
    return nullptr;
  }

  void work(const run_options& options) {
    weft::run(options, [this] {
      const std::uint64_t tier = metrics::read().counters["kernel_assist"];
      wait_group all;
      pass_messages(all);
      all.go([this] { repeat(kSleeps, [] { sleep_for(std::chrono::microseconds(200)); }); });
      all.go([this] { repeat(kCalls, [] { blocking([] { usleep(200); }); }); });
      echo(all);
      if (counted(kTurns)) all.go([this] { repeat(kTurns, [] {}); });
      all.wait();
      EXPECT_EQ(metrics::read().counters["kernel_assist"], tier);
    });
  }

  template <class F>
  void repeat(kind k, F step) {
    while (!shared_->over.load(std::memory_order_relaxed)) {
      step();
      shared_->done[k].fetch_add(1, std::memory_order_relaxed);
    }
  }

  // In order, none twice, none lost.
  void pass_messages(wait_group& all) {
    const auto numbers = make_chan<long>(4);
    all.go([=, this] {
      for (long n = 0; !shared_->over; ++n) numbers.send(n);
      numbers.close();
    });
    all.go([=, this] {
      long expected = 0;
      for (const long n : numbers) {
        EXPECT_EQ(n, expected++);
        shared_->done[kMessages].fetch_add(1, std::memory_order_relaxed);
      }
    });
  }

  // Blocks without a word.
  void echo(wait_group& all) {
    std::array<int, 2> there, back;
    ASSERT_EQ(pipe(there.data()), 0);
    ASSERT_EQ(pipe(back.data()), 0);
    all.go([=, this] {
      repeat(kReads, [=] {
        char byte = 'x';
        EXPECT_EQ(write(there[1], &byte, 1), 1) << std::strerror(errno);
        EXPECT_EQ(read(back[0], &byte, 1), 1) << std::strerror(errno);
      });
      close(there[1]);
    });
    all.go([=] {
      for (char byte; read(there[0], &byte, 1) == 1;) EXPECT_EQ(write(back[1], &byte, 1), 1);
    });
  }

  shared* const shared_ =
      new (mmap(nullptr, sizeof(shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) shared;
  pid_t pid_;
};

/// A victim works while torment(victim) goes on, and a little longer. It must end well, and without a word.
inline void hold_out(const run_options& options, const std::function<void(const victim&)>& torment) {
  const child_result r = in_child([&] {
    const victim v(options);
    EXPECT_TRUE(v.goes_on()) << "at first";
    torment(v);
    EXPECT_TRUE(v.goes_on()) << "in the end";
    const int status = v.rest();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "") << r;
}

/// What looks at a run() from outside, with the run() on each tier in turn. The suites: WEFT_ON_EACH_TIER.
class on_each_tier : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::string(GetParam()) == "bpf" && !has_probes()) GTEST_SKIP() << "no probes here";
  }
  static run_options options() {
    run_options wanted;
    wanted.gomaxprocs = 2;
    wanted.kernel_assist = GetParam();
    return wanted;
  }
};

#define WEFT_ON_EACH_TIER(suite)                                                 \
  INSTANTIATE_TEST_SUITE_P(on, suite, testing::Values("off", "sentinel", "bpf"), \
                           [](const auto& info) { return std::string(info.param); })

}  // namespace weft::test
