// SPDX-License-Identifier: Apache-2.0
// What the conformance suites share: each of their tests runs on every kind of runtime, and must leave nothing behind.
//
// A test derives its suite from every_runtime, instantiates it with WEFT_ON_EVERY_RUNTIME, and gives its body to
// in_main(). The parameter is a number of Ps, a tier and a seed for chaos mode (WEFT_DEBUG=chaos=SEED); all three stand
// in the test's name, so a failure is repeated by the name alone.
//
// WEFT_TEST_QUICK=1  a tenth of the rounds and fewer runtimes: what a sanitizer can do in a short time
// WEFT_TEST_SEED=N   chaos mode with this seed
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <weft/weft.h>

#include "runtime/proc.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__)
#define __SANITIZE_THREAD__ 1
#endif
#endif

namespace weft::test {

using rt::wait_reason;

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

/// How long a test waits for what must happen sooner or later. Never reached unless something is broken.
inline constexpr std::chrono::seconds kPatience{30};

/// What context::err() tells of one that was cancelled.
inline const std::error_code kCanceled = std::make_error_code(std::errc::operation_canceled);

inline bool quick() {
  static const bool wanted = std::getenv("WEFT_TEST_QUICK") != nullptr;
  return wanted;
}

/// A number of rounds: n, or a tenth of it in a quick run.
inline int scaled(int n) { return quick() ? std::max(n / 10, 1) : n; }

/// How many goroutines may be alive at once: each is a thread to ThreadSanitizer, which can tell about 8000 apart.
inline int max_goroutines() { return kThreadSanitizer ? 4000 : 1'000'000; }

/// Yields until done() is true. False: it did not come true within kPatience.
template <class F>
bool eventually(F done) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (!done()) {
    if (std::chrono::steady_clock::now() > until) return false;
    weft::yield();
    sched_yield();
  }
  return true;
}

inline bool eventually(const std::atomic<bool>& flag) {
  return eventually([&] { return flag.load(); });
}

/// How many goroutines wait for this reason now. Who is counted has its place in the queue of what it waits for.
inline int parked(wait_reason reason) {
  struct count {
    wait_reason reason;
    int n;
  } counted{reason, 0};
  rt::for_each_g(
      [](rt::g* gp, void* argument) {
        auto* c = static_cast<count*>(argument);
        if (gp->status.load() == rt::g_status::waiting && gp->reason.load() == c->reason) ++c->n;
      },
      &counted);
  return counted.n;
}

/// Waits until n goroutines more than the `before` that parked() told wait for this reason.
inline bool eventually_parked(wait_reason reason, int before, int n) {
  return eventually([&] { return parked(reason) >= before + n; });
}

/// The threads of a process as they are now.
inline std::vector<pid_t> threads_of(pid_t process) {
  std::vector<pid_t> all;
  std::error_code gone;
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(process) + "/task", gone))
    all.push_back(std::stoi(task.path().filename()));
  return all;
}

/// Empty: there is none (any more).
inline std::string name_of_thread(pid_t process, pid_t tid) {
  std::string name;
  std::ifstream comm("/proc/" + std::to_string(process) + "/task/" + std::to_string(tid) + "/comm");
  std::getline(comm, name);
  return name;
}

/// The names of this process's threads.
inline std::vector<std::string> thread_names() {
  std::vector<std::string> names;
  for (const pid_t tid : threads_of(getpid())) names.push_back(name_of_thread(getpid(), tid));
  return names;
}

/// How many threads of the runtime's own there are.
inline int runtime_threads() {
  const std::vector<std::string> names = thread_names();
  return static_cast<int>(
      std::count_if(names.begin(), names.end(), [](const std::string& name) { return name.starts_with("weft-"); }));
}

/// A kind of runtime.
struct setup {
  int ps;
  const char* tier;
  std::uint64_t chaos;  // seed; 0: none
};

inline std::string name_of(const testing::TestParamInfo<setup>& info) {
  std::string name = "p" + std::to_string(info.param.ps) + "_" + info.param.tier;
  if (info.param.chaos != 0) name += "_chaos" + std::to_string(info.param.chaos);
  return name;
}

inline std::ostream& operator<<(std::ostream& out, const setup& s) {
  return out << s.ps << " Ps, tier " << s.tier << ", chaos seed " << s.chaos;
}

/// Whether this process can have the tier bpf; loads the probes.
inline bool has_probes() {
  static const bool loaded = [] {
    std::string why_not;
    return rt::open_state_page(false, why_not);
  }();
  return loaded;
}

/// Without probes (probes_test says why) the tier bpf is left out.
inline std::vector<setup> setups() {
  const char* const wanted = std::getenv("WEFT_TEST_SEED");
  const std::uint64_t given = wanted ? std::strtoull(wanted, nullptr, 10) : 0;
  const auto seed = [given](std::uint64_t n) { return given != 0 ? given : n; };
  const char* const best = has_probes() ? "bpf" : "sentinel";
  if (quick()) return {{1, "off", 0}, {2, "sentinel", 0}, {8, best, seed(1)}};
  // ThreadSanitizer has room for 8128 stacks in a process, and some tests leave theirs behind.
  const bool both = has_probes() && !kThreadSanitizer;
  const char* const second = both ? "sentinel" : best;
  std::vector<setup> all{{1, second, 0},           {1, "off", 0},     {2, second, 0},     {2, "off", 0},
                         {8, second, 0},           {8, "off", 0},     {1, best, seed(1)}, {2, "off", seed(3)},
                         {2, "sentinel", seed(2)}, {8, best, seed(4)}};
  if (both) all.insert(all.end(), {{1, best, 0}, {2, best, 0}, {8, best, 0}});
  return all;
}

#define WEFT_ON_EVERY_RUNTIME(suite) \
  INSTANTIATE_TEST_SUITE_P(on, suite, testing::ValuesIn(weft::test::setups()), weft::test::name_of)

/// For suites whose run()s are in children, each of which takes its time.
inline std::vector<setup> few_setups() {
  if (quick()) return {{2, "sentinel", 0}};
  return {{1, "sentinel", 0}, {2, "off", 0}, {8, "off", 7}};
}

#define WEFT_ON_FEW_RUNTIMES(suite) \
  INSTANTIATE_TEST_SUITE_P(on, suite, testing::ValuesIn(weft::test::few_setups()), weft::test::name_of)

/// Sets an environment variable for a scope.
class environment {
 public:
  environment(const char* name, const std::string& value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    setenv(name, value.c_str(), 1);
  }
  ~environment() {
    if (before_)
      setenv(name_, before_->c_str(), 1);
    else
      unsetenv(name_);
  }
  environment(const environment&) = delete;
  environment& operator=(const environment&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

class every_runtime : public testing::TestWithParam<setup> {
 protected:
  static int ps() { return GetParam().ps; }
  static bool chaos() { return GetParam().chaos != 0; }

  static run_options options() {
    run_options wanted;
    wanted.gomaxprocs = ps();
    wanted.kernel_assist = GetParam().tier;
    return wanted;
  }

  /// Runs body() in the main goroutine. All goroutines must have ended, and no exception be left, before main returns.
  template <class F>
  static void in_main(F body) {
    leaving_goroutines([&body] {
      body();
      EXPECT_TRUE(eventually([] { return num_goroutine() == 1; })) << num_goroutine() - 1 << " goroutines are left";
    });
  }

  /// The same for a body that leaves goroutines behind.
  template <class F>
  static void leaving_goroutines(F body) {
    weft::run(options(), [&body] {
      try {
        body();
      } catch (const std::exception& e) {
        ADD_FAILURE() << "the test's body threw: " << e.what();
      }
      expect_no_exception();
    });
    expect_no_exception();
  }

  void SetUp() override {
    if (!chaos()) return;
    const char* const others = std::getenv("WEFT_DEBUG");
    debug_.emplace("WEFT_DEBUG",
                   (others ? std::string(others) + "," : "") + "chaos=" + std::to_string(GetParam().chaos));
  }

  void TearDown() override {
    debug_.reset();
    EXPECT_TRUE(eventually([] { return runtime_threads() == 0; })) << runtime_threads() << " threads are left";
  }

 private:
  static void expect_no_exception() {
    EXPECT_EQ(std::uncaught_exceptions(), 0);
    EXPECT_EQ(std::current_exception(), nullptr);
  }

  std::optional<environment> debug_;
};

}  // namespace weft::test
