// SPDX-License-Identifier: Apache-2.0
// How a process ends that cannot go on: deadlock (and what is none), uncaught exceptions, stack overflow, fatal errors,
// SIGQUIT's dump, thread exhaustion; and that ordinary signals do what they did. Each case runs in a child process.
#include <weft/task_group.h>
#include <weft/weft.h>

#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <regex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

#include "runtime/clock.h"
#include "runtime/sanitizer.h"
#include "runtime/stack.h"
#include "runtime/traceback.h"
#include "tests/child.h"
#include "tests/fixture.h"
#include "tests/unchecked_locks.h"

// After the call that matters: no tail call.
#define STAY_IN_FRAME() asm volatile("" ::: "memory")

// Names that the tests look for in stack traces.
namespace crash_sample {

[[gnu::noinline]] void receive_from(weft::chan<int> c) {
  c.recv();
  STAY_IN_FRAME();
}

[[noreturn, gnu::noinline]] void compute() {
  for (;;) STAY_IN_FRAME();
}

struct custom {
  int value;
};

struct shouting : std::exception {
  const char* what() const noexcept override { return "many\nlines"; }
};

template <class T>
[[gnu::noinline]] void throw_one(T value) {
  throw value;
}

[[gnu::noinline]] int recurse(int n) {
  volatile char frame[512];
  frame[0] = static_cast<char>(n);
  const int below = n == 0 ? 0 : recurse(n - 1);
  return below + frame[0];
}

[[gnu::noinline]] void overflow() {
  volatile int sum = recurse(1 << 30);
  (void)sum;
}

[[gnu::noinline]] void start_thrower() {
  weft::go({.name = "thrower"}, [] { throw_one(std::runtime_error("boom")); });
  STAY_IN_FRAME();
}

// Each in a way of its own.
[[gnu::noinline]] void start_by_go(weft::chan<int> c) {
  weft::go(receive_from, c);
  STAY_IN_FRAME();
}

[[gnu::noinline]] void start_by_wait_group(weft::chan<int> c) {
  static weft::wait_group group;
  group.go([c] { receive_from(c); });
  STAY_IN_FRAME();
}

[[gnu::noinline]] void start_by_task_group(weft::chan<int> c) {
  static auto& group = *new weft::task_group;
  group.go([c] { receive_from(c); });
  group.try_go([c] { receive_from(c); });
  STAY_IN_FRAME();
}

[[gnu::noinline]] void start_by_after_func(weft::chan<int> c) {
  weft::after_func(std::chrono::nanoseconds(1), [c] { receive_from(c); });
  STAY_IN_FRAME();
}

[[gnu::noinline]] void start_by_cancelled_context(weft::chan<int> c) {
  auto [ctx, cancel] = weft::with_cancel({});
  weft::after_func(ctx, [c] { receive_from(c); });
  cancel();
  STAY_IN_FRAME();
}

}  // namespace crash_sample

// A program's own namespace may begin as the runtime's does.
namespace weft::users {

[[gnu::noinline]] void start_in_a_namespace_below(chan<int> c) {
  go(crash_sample::receive_from, c);
  STAY_IN_FRAME();
}

}  // namespace weft::users

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

constexpr int kFatalStatus = 2;
constexpr const char* kAllAsleep = "fatal error: all goroutines are asleep - deadlock!";
constexpr const char* kNoGoroutines = "fatal error: no goroutines (main called runtime.Goexit) - deadlock!";

// A suite of cases that run main in a child.
class dying : public every_runtime {
 protected:
  // Reading debug information takes long, so it is done once and not in each child.
  static void SetUpTestSuite() { rt::symbolize_inlined(reinterpret_cast<std::uintptr_t>(&crash_sample::receive_from)); }

  template <class F>
  static child_result run_in_child(F main_fn, const variables& environment = {}) {
    return in_child(environment, [&main_fn] { return weft::run(options(), main_fn); });
  }
};

class deadlock : public dying {};
WEFT_ON_FEW_RUNTIMES(deadlock);
class no_deadlock : public dying {};
WEFT_ON_FEW_RUNTIMES(no_deadlock);
class panic : public dying {};
WEFT_ON_FEW_RUNTIMES(panic);
class stack_overflow : public dying {};
WEFT_ON_FEW_RUNTIMES(stack_overflow);
class quit_dump : public dying {
 protected:
  void SetUp() override {
    dying::SetUp();
    if (kThreadSanitizer)
      GTEST_SKIP() << "ThreadSanitizer keeps a signal back from a thread that sleeps on a raw futex";
  }
};
WEFT_ON_FEW_RUNTIMES(quit_dump);
class exhaustion : public dying {};
WEFT_ON_FEW_RUNTIMES(exhaustion);
class leaving : public dying {};
WEFT_ON_FEW_RUNTIMES(leaving);

// "chan receive, 2 seconds, locked to thread": without the time.
std::string without_wait_time(const std::string& state) {
  return std::regex_replace(state, std::regex(", [0-9]+ (second|minute)s?"), "");
}

// Nothing but the report is on stderr, and its dump shows goroutines in these states, each once.
void expect_fatal(const child_result& r, const std::string& first_line, std::vector<std::string> states) {
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  std::vector<dumped> goroutines = parse_dump(r.err);
  for (dumped& goroutine : goroutines) goroutine.state = without_wait_time(goroutine.state);
  std::sort(states.begin(), states.end());
  EXPECT_EQ(states_of(goroutines), states) << r;
  if (states.empty()) {
    EXPECT_EQ(r.err, first_line + "\n") << r;
  } else {
    EXPECT_TRUE(r.err.starts_with(first_line + "\n\ngoroutine ")) << r;
  }
  EXPECT_EQ(count_of("fatal error", r.err), 1) << r;
  EXPECT_EQ(r.out, "") << r;
}

// Until nothing runs and nothing is runnable, apart from the calling foreign thread.
void wait_until_all_is_quiet() {
  EXPECT_TRUE(eventually([] { return rt::sched.busy.now() == 0 && !rt::any_work(); }));
}

[[noreturn]] void wait_for_the_end() {
  for (;;) pause();
}

// -- Deadlock
// ----------------------------------------------------------------------------------------------------------

TEST_P(deadlock, receiving_from_a_channel) {
  const auto r = run_in_child([] { crash_sample::receive_from(make_chan<int>()); });
  expect_fatal(r, kAllAsleep, {"chan receive"});
  EXPECT_NE(r.err.find("crash_sample::receive_from(...)"), std::string::npos) << r;
  EXPECT_NE(r.err.find("crash_test.cpp:"), std::string::npos) << r;
}

TEST_P(deadlock, receiving_in_a_range_loop) {
  const auto r = run_in_child([] {
    auto c = make_chan<int>(4);
    c.send(1);
    for (int v : c) (void)v;
  });
  expect_fatal(r, kAllAsleep, {"chan receive"});
}

TEST_P(deadlock, sending_on_a_channel) {
  expect_fatal(run_in_child([] { make_chan<int>().send(1); }), kAllAsleep, {"chan send"});
}

TEST_P(deadlock, sending_on_a_full_channel) {
  const auto r = run_in_child([] {
    auto c = make_chan<int>(2);
    for (;;) c.send(1);
  });
  expect_fatal(r, kAllAsleep, {"chan send"});
}

TEST_P(deadlock, a_nil_channel) {
  expect_fatal(run_in_child([] { chan<int>{}.recv(); }), kAllAsleep, {"chan receive (nil chan)"});
  expect_fatal(run_in_child([] { chan<int>{}.send(1); }), kAllAsleep, {"chan send (nil chan)"});
}

TEST_P(deadlock, a_mutex_that_is_locked_already) {
  const auto r = run_in_child([] {
    mutex m;
    m.lock();
    m.lock();
  });
  expect_fatal(r, kAllAsleep, {"sync.Mutex.Lock"});
}

TEST_P(deadlock, a_wait_group_and_a_semaphore) {
  const auto r = run_in_child([] {
    wait_group group;
    group.go([] {
      semaphore none(0);
      none.acquire();
    });
    group.wait();
  });
  expect_fatal(r, kAllAsleep, {"sync.WaitGroup.Wait", "semacquire"});
}

TEST_P(deadlock, a_ring_of_goroutines_that_wait_for_each_other) {
  constexpr int kRing = 50;
  const auto r = run_in_child([] {
    std::vector<chan<int>> ring;
    for (int i = 0; i <= kRing; ++i) ring.push_back(make_chan<int>());
    for (int i = 0; i < kRing; ++i)
      go([in = ring[static_cast<std::size_t>(i)], out = ring[static_cast<std::size_t>(i) + 1]] {
        out.send(in.recv().value_or(0));
      });
    ring.front().send(ring.back().recv().value_or(0));
  });
  expect_fatal(r, kAllAsleep, std::vector<std::string>(kRing + 1, "chan receive"));
}

TEST_P(deadlock, names_each_goroutine_once_with_its_creator) {
  const auto r = run_in_child([] {
    auto c = make_chan<int>();
    for (int i = 0; i < 3; ++i) go({.name = "worker"}, crash_sample::receive_from, c);
    c.recv();
  });
  expect_fatal(r, kAllAsleep, std::vector<std::string>(4, "chan receive"));
  std::set<std::uint64_t> ids;
  for (const dumped& goroutine : parse_dump(r.err)) {
    ids.insert(goroutine.id);
    EXPECT_EQ(goroutine.name, goroutine.id == 1 ? "" : "worker");
    EXPECT_EQ(count_of(" in goroutine 1\n", goroutine.text), goroutine.id == 1 ? 0 : 1) << r;
    EXPECT_EQ(count_of("created by ", goroutine.text), goroutine.id == 1 ? 0 : 1) << r;
    EXPECT_EQ(count_of("crash_sample::receive_from", goroutine.text), goroutine.id == 1 ? 0 : 1) << r;
  }
  EXPECT_EQ(ids.size(), 4u);
  EXPECT_EQ(*ids.begin(), 1u);
}

TEST_P(deadlock, names_who_started_each_goroutine_however_it_did) {
  const auto r = run_in_child([] {
    auto c = make_chan<int>();
    crash_sample::start_by_go(c);
    crash_sample::start_by_wait_group(c);
    crash_sample::start_by_task_group(c);
    crash_sample::start_by_after_func(c);
    crash_sample::start_by_cancelled_context(c);
    weft::users::start_in_a_namespace_below(c);
    c.recv();
  });
  expect_fatal(r, kAllAsleep, std::vector<std::string>(8, "chan receive"));
  // Under sanitizers there is less debug information.
  if (rt::kAddressSanitizer || kThreadSanitizer) return;
  const auto created_by = [&r](const std::string& name) {
    return count_of("\ncreated by " + name + " in goroutine 1\n", r.err);
  };
  EXPECT_EQ(created_by("crash_sample::start_by_go"), 1) << r;
  EXPECT_EQ(created_by("crash_sample::start_by_wait_group"), 1) << r;
  EXPECT_EQ(created_by("crash_sample::start_by_task_group"), 2) << r;
  EXPECT_EQ(created_by("crash_sample::start_by_after_func"), 1) << r;
  EXPECT_EQ(created_by("crash_sample::start_by_cancelled_context"), 1) << r;
  EXPECT_EQ(created_by("weft::users::start_in_a_namespace_below"), 1) << r;
}

TEST_P(deadlock, main_is_locked_to_its_thread) {
  const auto r = run_in_child([] {
    lock_os_thread();
    make_chan<int>().recv();
  });
  expect_fatal(r, kAllAsleep, {"chan receive, locked to thread"});
}

TEST_P(deadlock, another_goroutine_is_locked_to_its_thread) {
  const auto r = run_in_child([] {
    go([] {
      lock_os_thread();
      make_chan<int>().send(1);
    });
    make_chan<int>().recv();
  });
  expect_fatal(r, kAllAsleep, {"chan receive", "chan send, locked to thread"});
}

TEST_P(deadlock, after_goexit_in_main_with_nobody_left) {
  expect_fatal(run_in_child([] { goexit(); }), kNoGoroutines, {});
}

TEST_P(deadlock, after_goexit_in_main_when_the_others_have_ended) {
  const auto r = run_in_child([] {
    for (int i = 0; i < 10; ++i)
      go([] {
        yield();
        sleep_for(1ms);
      });
    goexit();
  });
  expect_fatal(r, kNoGoroutines, {});
}

TEST_P(deadlock, after_goexit_in_main_when_another_is_asleep) {
  const auto r = run_in_child([] {
    go([] { make_chan<int>().recv(); });
    goexit();
  });
  expect_fatal(r, kAllAsleep, {"chan receive"});
}

TEST_P(deadlock, after_the_last_sleeper_has_woken_up) {
  const auto r = run_in_child([] {
    go([] { sleep_for(5ms); });
    make_chan<int>().recv();
  });
  expect_fatal(r, kAllAsleep, {"chan receive"});
}

TEST_P(deadlock, after_the_last_blocking_call_has_returned) {
  const auto r = run_in_child([] {
    for (int i = 0; i < 4; ++i) go([] { blocking([] { usleep(2000); }); });
    make_chan<int>().recv();
  });
  expect_fatal(r, kAllAsleep, {"chan receive"});
}

TEST_P(deadlock, a_foreign_thread_waits_in_the_same_queue) {
  const auto r = run_in_child([] {
    auto c = make_chan<int>();
    std::thread([c] { c.recv(); }).detach();
    c.recv();
  });
  expect_fatal(r, kAllAsleep, {"chan receive"});
}

TEST_P(deadlock, a_foreign_thread_has_ended_without_a_word) {
  const auto r = run_in_child([] {
    std::thread([] { wait_until_all_is_quiet(); }).detach();
    make_chan<int>().recv();
  });
  expect_fatal(r, kAllAsleep, {"chan receive"});
}

TEST_P(deadlock, in_the_second_run_of_a_process) {
  const auto r = in_child([] {
    weft::run(options(), [] {
      for (int i = 0; i < 5; ++i) go([] { make_chan<int>().recv(); });
      yield();
    });
    return weft::run(options(), [] { make_chan<int>().send(1); });
  });
  expect_fatal(r, kAllAsleep, {"chan send"});
}

TEST_P(deadlock, cannot_be_caught) {
  const auto r = run_in_child([] {
    try {
      make_chan<int>().recv();
    } catch (...) {
    }
  });
  expect_fatal(r, kAllAsleep, {"chan receive"});
}

TEST_P(deadlock, what_was_printed_before_is_not_lost) {
  const auto r = run_in_child([] {
    std::printf("half a line");
    make_chan<int>().recv();
  });
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_EQ(r.out, "half a line");
}

// -- No deadlock
// -------------------------------------------------------------------------------------------------------

void expect_quiet_end(const child_result& r) {
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "") << r;
}

TEST_P(no_deadlock, while_a_goroutine_sleeps) {
  expect_quiet_end(run_in_child([] {
    auto c = make_chan<int>();
    go([c] {
      sleep_for(20ms);
      c.send(1);
    });
    EXPECT_EQ(c.recv(), 1);
    sleep_for(5ms);
  }));
}

TEST_P(no_deadlock, while_a_goroutine_is_in_a_blocking_call) {
  expect_quiet_end(run_in_child([] {
    auto c = make_chan<int>();
    for (int i = 0; i < 10; ++i) {
      go([c] {
        blocking([] { usleep(3000); });
        c.send(1);
      });
      EXPECT_EQ(c.recv(), 1);
    }
  }));
}

TEST_P(no_deadlock, while_main_is_in_a_blocking_call_and_the_others_wait) {
  expect_quiet_end(run_in_child([] {
    auto c = make_chan<int>();
    wait_group all;
    for (int i = 0; i < 10; ++i) all.go([c] { c.recv(); });
    yield();
    blocking([] { usleep(20'000); });
    for (int i = 0; i < 10; ++i) c.send(i);
    all.wait();
  }));
}

TEST_P(no_deadlock, while_a_goroutine_computes) {
  expect_quiet_end(run_in_child([] {
    auto c = make_chan<int>();
    go([c] {
      const auto until = std::chrono::steady_clock::now() + 30ms;
      while (std::chrono::steady_clock::now() < until) {
      }
      c.send(1);
    });
    EXPECT_EQ(c.recv(), 1);
  }));
}

void receive_from_a_thread_that_takes_its_time() {
  const auto c = make_chan<int>();
  std::thread sender([c] {
    wait_until_all_is_quiet();
    usleep(20'000);
    c.send(5);
  });
  EXPECT_EQ(c.recv(), 5);
  blocking([&] { sender.join(); });
}

TEST_P(no_deadlock, while_a_thread_that_never_used_weft_may_send) {
  expect_quiet_end(run_in_child(receive_from_a_thread_that_takes_its_time));
}

TEST_P(no_deadlock, while_a_thread_that_used_weft_before_may_send_again) {
  expect_quiet_end(run_in_child([] {
    auto c = make_chan<int>();
    std::thread sender([c] {
      for (int i = 0; i < 5; ++i) {
        wait_until_all_is_quiet();
        c.send(i);
      }
    });
    for (int i = 0; i < 5; ++i) EXPECT_EQ(c.recv(), i);
    blocking([&] { sender.join(); });
  }));
}

TEST_P(no_deadlock, while_one_foreign_thread_waits_and_another_may_wake_it) {
  expect_quiet_end(run_in_child([] {
    auto first = make_chan<int>(), second = make_chan<int>();
    std::thread relay([=] { second.send(first.recv().value_or(-1)); });
    std::thread source([=] {
      wait_until_all_is_quiet();
      first.send(6);
    });
    EXPECT_EQ(second.recv(), 6);
    blocking([&] {
      relay.join();
      source.join();
    });
  }));
}

TEST_P(no_deadlock, while_a_foreign_thread_may_start_a_goroutine) {
  expect_quiet_end(run_in_child([] {
    auto c = make_chan<int>();
    std::thread starter([c] {
      wait_until_all_is_quiet();
      go([c] { c.send(7); });
    });
    EXPECT_EQ(c.recv(), 7);
    blocking([&] { starter.join(); });
  }));
}

TEST_P(no_deadlock, after_goexit_in_main_while_others_work) {
  const auto r = run_in_child([] {
    go([] {
      for (int i = 0; i < 100; ++i) yield();
      sleep_for(5ms);
      blocking([] { usleep(5000); });
      std::exit(5);
    });
    goexit();
  });
  EXPECT_TRUE(r.exited(5)) << r;
  EXPECT_EQ(r.err, "") << r;
}

TEST_P(no_deadlock, in_ten_thousand_moments_in_which_all_but_one_are_asleep) {
  expect_quiet_end(run_in_child([] {
    auto there = make_chan<int>(), back = make_chan<int>();
    std::thread partner([=] {
      for (int v : there) back.send(v);
    });
    for (int i = 0; i < scaled(10'000); ++i) {
      there.send(i);
      EXPECT_EQ(back.recv(), i);
    }
    there.close();
    blocking([&] { partner.join(); });
  }));
}

// The foreign thread is looked for once a second, so this one outlasts two looks.
TEST(no_deadlock_for_long, while_a_foreign_thread_takes_its_time) {
  if (quick()) GTEST_SKIP() << "takes seconds";
  expect_quiet_end(in_child([] {
    return weft::run([] {
      auto c = make_chan<int>();
      std::thread sender([c] {
        usleep(2'300'000);
        c.send(5);
      });
      EXPECT_EQ(c.recv(), 5);
      blocking([&] { sender.join(); });
    });
  }));
}

TEST(no_deadlock_for_long, without_proc_while_a_foreign_thread_may_send) {
  if (rt::kAddressSanitizer) GTEST_SKIP() << "AddressSanitizer reads /proc";
  const auto r = in_child([] {
    char folder[] = "/tmp/weft-crash-test-XXXXXX";
    if (!mkdtemp(folder)) skip_in_child("no temporary folder");
    const bool inside = chroot(folder) == 0 && chdir("/") == 0;
    if (!inside) {
      rmdir(folder);
      skip_in_child("may not call chroot()");
    }
    run_options options;
    options.kernel_assist = "sentinel";  // without /proc and /sys there are no probes
    return weft::run(options, receive_from_a_thread_that_takes_its_time);
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  expect_quiet_end(r);
}

// -- Uncaught exceptions
// -----------------------------------------------------------------------------------------------

void expect_panic(const child_result& r, const std::string& what, const std::string& header) {
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_TRUE(r.err.starts_with("panic: " + what + "\n\n" + header + "\n")) << r;
  EXPECT_EQ(count_of("panic: ", r.err), 1) << r;
  EXPECT_EQ(parse_dump(r.err).size(), 1u) << r;
}

TEST_P(panic, in_a_goroutine) {
  const auto r = run_in_child([] {
    crash_sample::start_thrower();
    make_chan<int>().recv();
  });
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  ASSERT_TRUE(std::regex_search(
      r.err, std::regex("^panic: std::runtime_error: boom\n\ngoroutine [0-9]+ \\[running\\] \"thrower\":\n")))
      << r;
  const dumped goroutine = parse_dump(r.err).front();
  EXPECT_NE(goroutine.id, 1u);
  EXPECT_TRUE(goroutine.text.starts_with("crash_sample::throw_one")) << r;
  EXPECT_TRUE(std::regex_search(goroutine.text, std::regex("\ncreated by .+ in goroutine 1\n"))) << r;
  EXPECT_GE(count_of("crash_test.cpp:", goroutine.text), 2) << r;
  // Under sanitizers there is less debug information, and less is inlined.
  if (rt::kAddressSanitizer || kThreadSanitizer) return;
  EXPECT_NE(goroutine.text.find("\ncreated by crash_sample::start_thrower in goroutine 1\n"), std::string::npos) << r;
  EXPECT_EQ(count_of("crash_test.cpp:", goroutine.text), static_cast<int>(lines_of(goroutine.text).size()) / 2) << r;
}

TEST_P(panic, in_main) {
  const auto r = run_in_child([] { crash_sample::throw_one(std::logic_error("main fails")); });
  expect_panic(r, "std::logic_error: main fails", "goroutine 1 [running]:");
  EXPECT_TRUE(parse_dump(r.err).front().text.starts_with("crash_sample::throw_one")) << r;
  EXPECT_EQ(r.err.find("created by"), std::string::npos) << r;
}

TEST_P(panic, of_any_type) {
  const std::string header = "goroutine 1 [running]:";
  expect_panic(run_in_child([] { throw 42; }), "int: 42", header);
  expect_panic(run_in_child([] { throw "text"; }), "char const*: text", header);
  expect_panic(run_in_child([] { throw crash_sample::custom{1}; }), "crash_sample::custom", header);
  expect_panic(run_in_child([] { throw crash_sample::shouting(); }), "crash_sample::shouting: many\nlines", header);
  expect_panic(run_in_child([] { throw std::make_unique<int>(3).get() != nullptr; }), "bool", header);
  const auto r = run_in_child([] { throw std::string("a string"); });
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_TRUE(std::regex_search(r.err, std::regex("^panic: std::.*string.*: a string\n\ngoroutine 1 "))) << r;
}

TEST_P(panic, of_the_runtime_itself_has_its_text) {
  expect_panic(run_in_child([] { chan<int>{}.close(); }), "weft::nil_channel: close of nil channel",
               "goroutine 1 [running]:");
  const auto twice = run_in_child([] {
    auto c = make_chan<int>();
    c.close();
    c.close();
  });
  expect_panic(twice, "weft::closed_channel: close of closed channel", "goroutine 1 [running]:");
}

TEST_P(panic, out_of_a_noexcept_function) {
  const auto r = run_in_child([] { []() noexcept { crash_sample::throw_one(std::runtime_error("no way")); }(); });
  expect_panic(r, "std::runtime_error: no way", "goroutine 1 [running]:");
}

TEST_P(panic, of_an_exception_thrown_again) {
  const auto r = run_in_child([] {
    try {
      crash_sample::throw_one(std::out_of_range("first"));
    } catch (const std::exception&) {
      yield();
      throw;
    }
  });
  expect_panic(r, "std::out_of_range: first", "goroutine 1 [running]:");
}

TEST_P(panic, while_another_exception_is_handled) {
  const auto r = run_in_child([] {
    try {
      crash_sample::throw_one(1);
    } catch (int) {
      yield();
      crash_sample::throw_one(std::runtime_error("second"));
    }
  });
  expect_panic(r, "std::runtime_error: second", "goroutine 1 [running]:");
}

TEST_P(panic, inside_of_a_blocking_call) {
  const auto r = run_in_child([] { blocking([] { crash_sample::throw_one(std::runtime_error("inside")); }); });
  expect_panic(r, "std::runtime_error: inside", "goroutine 1 [running]:");
}

TEST_P(panic, on_a_locked_thread) {
  const auto r = run_in_child([] {
    lock_os_thread();
    crash_sample::throw_one(std::runtime_error("locked"));
  });
  expect_panic(r, "std::runtime_error: locked", "goroutine 1 [running, locked to thread]:");
}

TEST_P(panic, of_terminate_without_an_exception) {
  expect_panic(run_in_child([] { std::terminate(); }), "std::terminate without an exception", "goroutine 1 [running]:");
}

TEST_P(panic, runs_no_destructors) {
  struct talker {
    ~talker() { std::printf("destroyed"); }
  };
  const auto r = run_in_child([] {
    talker t;
    crash_sample::throw_one(std::runtime_error("boom"));
  });
  expect_panic(r, "std::runtime_error: boom", "goroutine 1 [running]:");
  EXPECT_EQ(r.out, "");
}

TEST_P(panic, on_a_foreign_thread_is_the_program_s_own_affair) {
  const auto r = run_in_child([] {
    std::thread([] { crash_sample::throw_one(std::runtime_error("foreign")); }).detach();
    blocking(wait_for_the_end);
  });
  EXPECT_TRUE(r.killed_by(SIGABRT)) << r;
  EXPECT_EQ(r.err.find("goroutine"), std::string::npos) << r;
}

TEST_P(panic, before_and_after_a_run_is_the_program_s_own_affair) {
  const auto r = in_child([] {
    std::set_terminate([] { _exit(41); });
    weft::run(options(), [] { yield(); });
    std::terminate();
  });
  EXPECT_TRUE(r.exited(41)) << r;
  EXPECT_EQ(r.err, "") << r;
}

TEST_P(panic, that_is_caught_is_none) {
  expect_quiet_end(run_in_child([] {
    wait_group all;
    for (int i = 0; i < 50; ++i)
      all.go([i] {
        try {
          yield();
          crash_sample::throw_one(i);
        } catch (int n) {
          yield();
          EXPECT_EQ(n, i);
        }
      });
    all.wait();
  }));
}

std::atomic<bool> report_begun{false}, main_leaves{false};

// Its text is asked for in the middle of the report: main returns meanwhile.
struct slow_to_describe : std::exception {
  const char* what() const noexcept override {
    report_begun = true;
    while (!main_leaves) sched_yield();
    for (int i = 0; i < 1000; ++i) sched_yield();
    return "race";
  }
};

TEST_P(panic, of_two_at_once_while_main_returns_is_one_whole_report) {
  run_options wanted = options();
  wanted.gomaxprocs = 4;  // a goroutine that dies keeps its P, and main needs one
  for (int round = 0; round < (quick() ? 1 : 3); ++round) {
    const auto r = in_child([&wanted] {
      return weft::run(wanted, [] {
        for (int i = 0; i < 2; ++i) go([] { crash_sample::throw_one(slow_to_describe()); });
        while (!report_begun) yield();
        main_leaves = true;
        return 0;
      });
    });
    EXPECT_TRUE(r.exited(kFatalStatus)) << r;
    EXPECT_TRUE(r.err.starts_with("panic: (anonymous namespace)::slow_to_describe: race\n\ngoroutine ")) << r;
    EXPECT_EQ(count_of("panic: ", r.err), 1) << r;
    EXPECT_EQ(parse_dump(r.err).size(), 1u) << r;
    EXPECT_EQ(count_of("created by ", r.err), 1) << r;
    EXPECT_TRUE(r.err.ends_with("\n")) << r;
  }
}

// Its description does this first.
std::function<void()> before_describing;
struct describes_itself_at_leisure : std::exception {
  const char* what() const noexcept override {
    before_describing();
    return "at leisure";
  }
};
constexpr const char* kAtLeisure = "(anonymous namespace)::describes_itself_at_leisure: at leisure";

using action = std::function<void()>;
std::vector<action> what_a_description_may_do() {
  return {[] { yield(); },
          [] {
            for (int i = 0; i < 1000; ++i) yield();
          },
          [] { blocking([] { usleep(20'000); }); },
          [] { sleep_for(20ms); },
          [] {
            auto c = make_chan<int>();
            go([c] { c.send(1); });
            c.recv();
          },
          [] { after(1ms).recv(); }};
}

TEST_P(panic, whose_description_parks_is_reported_by_its_own_goroutine) {
  for (const action& act : what_a_description_may_do()) {
    before_describing = act;
    const auto r = run_in_child([] {
      go({.name = "thrower"}, [] { crash_sample::throw_one(describes_itself_at_leisure()); });
      for (;;) yield();
    });
    EXPECT_TRUE(r.exited(kFatalStatus)) << r;
    EXPECT_TRUE(r.err.starts_with(std::string("panic: ") + kAtLeisure + "\n\ngoroutine ")) << r;
    const std::vector<dumped> goroutines = parse_dump(r.err);
    ASSERT_EQ(goroutines.size(), 1u) << r;
    EXPECT_EQ(goroutines.front().name, "thrower") << r;
    EXPECT_EQ(goroutines.front().state, "running") << r;
    EXPECT_NE(goroutines.front().text.find("crash_sample::throw_one"), std::string::npos) << r;
  }
}

TEST_P(panic, whose_description_parks_is_reported_though_main_returns) {
  for (const action& act : what_a_description_may_do()) {
    before_describing = [&act] {
      report_begun = true;
      act();
    };
    const auto r = run_in_child([] {
      go([] { crash_sample::throw_one(describes_itself_at_leisure()); });
      while (!report_begun) yield();
    });
    EXPECT_TRUE(r.exited(kFatalStatus)) << r;
    EXPECT_TRUE(r.err.starts_with(std::string("panic: ") + kAtLeisure + "\n\ngoroutine ")) << r;
    EXPECT_EQ(parse_dump(r.err).size(), 1u) << r;
  }
}

TEST_P(panic, in_main_whose_description_needs_others) {
  before_describing = [] {
    wait_group all;
    for (int i = 0; i < 10; ++i) all.go([] { yield(); });
    all.wait();
  };
  expect_panic(run_in_child([] { crash_sample::throw_one(describes_itself_at_leisure()); }), kAtLeisure,
               "goroutine 1 [running]:");
}

// It has begun just when main returns, or has not: either the run() ends as usual, or there is a whole report.
TEST_P(panic, whose_description_parks_while_the_run_ends_never_hangs) {
  before_describing = [] { yield(); };
  for (int round = 0; round < scaled(20); ++round) {
    const auto r = run_in_child([] {
      for (int i = 0; i < 3; ++i) go([] { throw describes_itself_at_leisure(); });
      yield();
      return 5;
    });
    if (r.exited(5)) continue;
    EXPECT_TRUE(r.exited(kFatalStatus)) << r;
    EXPECT_TRUE(r.err.starts_with(std::string("panic: ") + kAtLeisure + "\n\ngoroutine ")) << r;
  }
}

TEST_P(panic, whose_description_waits_for_ever_is_a_deadlock) {
  before_describing = [] {
    report_begun = true;
    make_chan<int>().recv();
  };
  const auto in_main = run_in_child([] { throw describes_itself_at_leisure(); });
  expect_fatal(in_main, kAllAsleep, {"chan receive"});
  const auto in_goroutine = run_in_child([] {
    go([] { throw describes_itself_at_leisure(); });
    make_chan<int>().send(1);
  });
  expect_fatal(in_goroutine, kAllAsleep, {"chan receive", "chan send"});
  const auto after_main = run_in_child([] {
    go([] { throw describes_itself_at_leisure(); });
    while (!report_begun) yield();
  });
  expect_fatal(after_main, kAllAsleep, {"chan receive", "panicwait"});
}

TEST(panic_for_long, whose_description_waits_for_ever_while_others_work_ends_after_main) {
  if (quick()) GTEST_SKIP() << "takes seconds";
  before_describing = [] {
    report_begun = true;
    make_chan<int>().recv();
  };
  const auto r = in_child([] {
    return weft::run([] {
      go([] {
        for (;;) sleep_for(1ms);
      });
      go([] { throw describes_itself_at_leisure(); });
      while (!report_begun) yield();
    });
  });
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_TRUE(r.err.starts_with("fatal error: main has returned, but what() of an uncaught exception has not\n")) << r;
  EXPECT_EQ(parse_dump(r.err).size(), 3u) << r;
}

TEST_P(panic, whose_description_ends_the_process_otherwise) {
  before_describing = [] { mutex().unlock(); };
  expect_fatal(run_in_child([] { throw describes_itself_at_leisure(); }), "fatal error: sync: unlock of unlocked mutex",
               {"running"});
  before_describing = [] { std::exit(6); };
  EXPECT_TRUE(run_in_child([] { throw describes_itself_at_leisure(); }).exited(6));
}

TEST_P(panic, of_a_destructor_that_goexit_runs_may_park_too) {
  before_describing = [] { sleep_for(1ms); };
  struct throws_at_end {
    ~throws_at_end() noexcept(false) { crash_sample::throw_one(describes_itself_at_leisure()); }
  };
  const auto r = run_in_child([] {
    throws_at_end t;
    goexit();
  });
  expect_panic(r, kAtLeisure, "goroutine 1 [running]:");
}

TEST_P(panic, while_a_panic_is_reported_ends_with_a_word) {
  before_describing = [] { std::terminate(); };
  const std::string header = "panic: (anonymous namespace)::describes_itself_at_leisure\n";
  const std::string fatal = "fatal error: panic while reporting a panic";
  const auto ended = run_in_child([] { throw describes_itself_at_leisure(); });
  EXPECT_TRUE(ended.exited(kFatalStatus)) << ended;
  EXPECT_TRUE(ended.err.starts_with(header + fatal + "\n\ngoroutine 1 [running]:\n")) << ended;
  before_describing = [] { crash_sample::throw_one(std::logic_error("again")); };
  const auto thrown = run_in_child([] { throw describes_itself_at_leisure(); });
  EXPECT_TRUE(thrown.exited(kFatalStatus)) << thrown;
  EXPECT_TRUE(thrown.err.starts_with(header + fatal + ": std::logic_error\n\ngoroutine 1 [running]:\n")) << thrown;
}

// -- Fatal errors
// ------------------------------------------------------------------------------------------------------

TEST_P(panic, unlocking_an_unlocked_mutex_is_fatal_and_cannot_be_caught) {
  const auto r = run_in_child([] {
    try {
      mutex m;
      m.unlock();
    } catch (...) {
    }
  });
  expect_fatal(r, "fatal error: sync: unlock of unlocked mutex", {"running"});
  const auto twice = run_in_child([] {
    mutex m;
    m.lock();
    m.unlock();
    m.unlock();
  });
  expect_fatal(twice, "fatal error: sync: unlock of unlocked mutex", {"running"});
}

TEST_P(panic, a_foreign_thread_that_unlocks_an_unlocked_mutex_is_fatal_too) {
  const auto r = run_in_child([] {
    std::thread([] { mutex().unlock(); }).detach();
    make_chan<int>().recv();
  });
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_TRUE(r.err.starts_with("fatal error: sync: unlock of unlocked mutex\n")) << r;
}

// -- Stack overflow
// ----------------------------------------------------------------------------------------------------

std::string overflow_text(std::size_t size) {
  return "runtime: goroutine stack exceeds " + std::to_string(size) + "-byte limit ";
}

void expect_overflow(const child_result& r, std::size_t size, const std::string& name) {
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_TRUE(r.err.starts_with(overflow_text(size))) << r;
  EXPECT_EQ(count_of("\nfatal error: stack overflow\n\ngoroutine ", r.err), 1) << r;
  const std::vector<dumped> goroutines = parse_dump(r.err);
  ASSERT_EQ(goroutines.size(), 1u) << r;
  EXPECT_EQ(goroutines.front().name, name) << r;
  EXPECT_EQ(goroutines.front().state, "running") << r;
  EXPECT_TRUE(goroutines.front().text.starts_with("crash_sample::recurse(...)\n")) << r;
  EXPECT_EQ(name.empty(), goroutines.front().id == 1);
}

void overflow_in_a_goroutine(std::size_t stack_size) {
  go({.stack_size = stack_size, .name = "deep"}, [] { crash_sample::overflow(); });
  make_chan<int>().recv();
}

#define SKIP_WHERE_A_SANITIZER_OWNS_FAULTS() \
  if (rt::kAddressSanitizer || kThreadSanitizer) GTEST_SKIP() << "a sanitizer reports faults in its own way"

TEST_P(stack_overflow, on_a_stack_of_the_default_size) {
  SKIP_WHERE_A_SANITIZER_OWNS_FAULTS();
  const auto r = run_in_child([] { overflow_in_a_goroutine(0); });
  expect_overflow(r, rt::kDefaultStackSize, "deep");
  EXPECT_NE(r.err.find("created by "), std::string::npos) << r;
}

TEST_P(stack_overflow, on_a_stack_whose_size_the_environment_gives) {
  SKIP_WHERE_A_SANITIZER_OWNS_FAULTS();
  for (const auto& [text, size] : {std::pair("16k", 16u << 10), {"65536", 64u << 10}, {"1M", 1u << 20}}) {
    const auto r = run_in_child([] { overflow_in_a_goroutine(0); }, {{"WEFT_STACK_SIZE", text}});
    expect_overflow(r, size, "deep");
  }
}

TEST_P(stack_overflow, on_a_stack_whose_size_go_gives) {
  SKIP_WHERE_A_SANITIZER_OWNS_FAULTS();
  for (std::size_t size : {std::size_t{16} << 10, std::size_t{256} << 10, std::size_t{4} << 20})
    expect_overflow(run_in_child([size] { overflow_in_a_goroutine(size); }), size, "deep");
}

TEST_P(stack_overflow, in_main) {
  SKIP_WHERE_A_SANITIZER_OWNS_FAULTS();
  expect_overflow(run_in_child(crash_sample::overflow), rt::kMainStackSize, "");
  expect_overflow(run_in_child(crash_sample::overflow, {{"WEFT_STACK_SIZE", "16k"}}), 16 << 10, "");
}

TEST_P(stack_overflow, in_a_blocking_call) {
  SKIP_WHERE_A_SANITIZER_OWNS_FAULTS();
  const auto r = run_in_child([] {
    go({.name = "deep"}, [] { blocking(crash_sample::overflow); });
    make_chan<int>().recv();
  });
  expect_overflow(r, rt::kDefaultStackSize, "deep");
}

TEST_P(stack_overflow, on_a_stack_that_was_used_before) {
  SKIP_WHERE_A_SANITIZER_OWNS_FAULTS();
  const auto r = run_in_child([] {
    wait_group all;
    for (int i = 0; i < 300; ++i) all.go([] { yield(); });
    all.wait();
    overflow_in_a_goroutine(0);
  });
  expect_overflow(r, rt::kDefaultStackSize, "deep");
}

TEST_P(stack_overflow, in_two_goroutines_at_once_is_one_report) {
  SKIP_WHERE_A_SANITIZER_OWNS_FAULTS();
  const auto r = run_in_child([] {
    for (int i = 0; i < 2; ++i) go({.name = "deep"}, crash_sample::overflow);
    make_chan<int>().recv();
  });
  expect_overflow(r, rt::kDefaultStackSize, "deep");
}

TEST_P(stack_overflow, is_not_reported_for_deep_recursion_that_fits) {
  constexpr int kFrame = rt::kAddressSanitizer || kThreadSanitizer ? 1024 : 600;
  expect_quiet_end(run_in_child([] {
    wait_group all;
    all.go([] { crash_sample::recurse(static_cast<int>(rt::kDefaultStackSize) / 2 / kFrame); });
    all.wait();
    crash_sample::recurse(static_cast<int>(rt::kMainStackSize) / 2 / kFrame);
  }));
}

// -- Ordinary signals
// --------------------------------------------------------------------------------------------------

[[gnu::noinline]] void write_through_null() {
  int* volatile nowhere = nullptr;
  *nowhere = 1;
  STAY_IN_FRAME();
}

TEST_P(leaving, an_ordinary_fault_kills_as_it_always_did) {
  SKIP_WHERE_A_SANITIZER_OWNS_FAULTS();
  const auto in_main = run_in_child(write_through_null);
  EXPECT_TRUE(in_main.killed_by(SIGSEGV)) << in_main;
  EXPECT_EQ(in_main.err, "") << in_main;
  const auto in_goroutine = run_in_child([] {
    go(write_through_null);
    make_chan<int>().recv();
  });
  EXPECT_TRUE(in_goroutine.killed_by(SIGSEGV)) << in_goroutine;
  const auto in_foreign_thread = run_in_child([] {
    std::thread(write_through_null).detach();
    make_chan<int>().recv();
  });
  EXPECT_TRUE(in_foreign_thread.killed_by(SIGSEGV)) << in_foreign_thread;
}

TEST_P(leaving, a_bus_error_kills_as_it_always_did) {
  SKIP_WHERE_A_SANITIZER_OWNS_FAULTS();
  const auto r = run_in_child([] {
    const int fd = memfd_create("empty", 0);
    auto* page = static_cast<volatile char*>(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0));
    std::exit(page[0]);
  });
  EXPECT_TRUE(r.killed_by(SIGBUS)) << r;
}

TEST_P(leaving, a_segv_that_somebody_sent_kills_too) {
  SKIP_WHERE_A_SANITIZER_OWNS_FAULTS();
  const auto r = run_in_child([] {
    kill(getpid(), SIGSEGV);
    for (int i = 0; i < 1000; ++i) yield();
  });
  EXPECT_TRUE(r.killed_by(SIGSEGV)) << r;
}

TEST_P(leaving, a_segv_that_somebody_sent_is_ignored_where_the_program_ignores_it) {
  expect_quiet_end(run_in_child([] { yield(); }));
  const auto r = in_child([] {
    signal(SIGSEGV, SIG_IGN);
    return weft::run(options(), [] {
      for (int i = 0; i < 3; ++i) kill(getpid(), SIGSEGV);
      for (int i = 0; i < 1000; ++i) yield();
      return 4;
    });
  });
  EXPECT_TRUE(r.exited(4)) << r;
}

TEST_P(leaving, a_handler_of_the_program_gets_its_fault) {
  SKIP_WHERE_A_SANITIZER_OWNS_FAULTS();
  const auto with_info = in_child([] {
    struct sigaction own {};
    own.sa_flags = SA_SIGINFO;
    own.sa_sigaction = [](int, siginfo_t* info, void* context) {
      _exit(info->si_addr == nullptr && context != nullptr ? 31 : 32);
    };
    sigaction(SIGSEGV, &own, nullptr);
    return weft::run(options(), [] {
      go(write_through_null);
      make_chan<int>().recv();
    });
  });
  EXPECT_TRUE(with_info.exited(31)) << with_info;
  const auto plain = in_child([] {
    signal(SIGSEGV, [](int number) { _exit(number); });
    return weft::run(options(), write_through_null);
  });
  EXPECT_TRUE(plain.exited(SIGSEGV)) << plain;
}

TEST_P(leaving, handlers_are_as_before_after_a_run) {
  const auto r = in_child([] {
    constexpr int kRestorer = 0x04000000;  // SA_RESTORER: the C library adds it
    const auto handler = [](int number) {
      struct sigaction now {};
      sigaction(number, nullptr, &now);
      return std::pair(reinterpret_cast<std::uintptr_t>(now.sa_handler), now.sa_flags & ~kRestorer);
    };
    signal(SIGBUS, [](int) {});
    const std::pair<std::uintptr_t, int> before[] = {handler(SIGSEGV), handler(SIGBUS), handler(SIGQUIT)};
    stack_t stack_before{}, stack_after{};
    sigaltstack(nullptr, &stack_before);
    weft::run(options(), [] { yield(); });
    sigaltstack(nullptr, &stack_after);
    EXPECT_EQ(stack_before.ss_sp, stack_after.ss_sp);
    EXPECT_EQ(stack_before.ss_flags, stack_after.ss_flags);
    EXPECT_EQ(handler(SIGSEGV), before[0]);
    EXPECT_EQ(handler(SIGBUS), before[1]);
    EXPECT_EQ(handler(SIGQUIT), before[2]);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

// -- SIGQUIT
// -----------------------------------------------------------------------------------------------------------

TEST_P(quit_dump, shows_each_of_a_hundred_goroutines_once) {
  constexpr int kKinds = 5, kEach = 20;
  const auto r = run_in_child([] {
    auto c = make_chan<int>();
    mutex held;
    held.lock();
    wait_group group;
    group.add(1);
    semaphore none(0);
    for (int i = 0; i < kEach; ++i) {
      go({.name = "receiver"}, crash_sample::receive_from, c);
      go({.name = "locker"}, [&] { held.lock(); });
      go({.name = "waiter"}, [&] { group.wait(); });
      go({.name = "acquirer"}, [&] { none.acquire(); });
      go({.name = "sleeper"}, [] { sleep_for(1h); });
    }
    EXPECT_TRUE(eventually([] {
      return parked(wait_reason::chan_receive) == kEach && parked(wait_reason::mutex_lock) == kEach &&
             parked(wait_reason::wait_group_wait) == kEach && parked(wait_reason::semaphore_acquire) == kEach &&
             parked(wait_reason::sleep) == kEach;
    }));
    std::thread([] {
      wait_until_all_is_quiet();
      kill(getpid(), SIGQUIT);
    }).detach();
    make_chan<int>().send(1);
  });
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_TRUE(r.err.starts_with("SIGQUIT: quit\n\ngoroutine 1 [chan send]:\n")) << r;
  std::map<std::string, int> seen;
  std::set<std::uint64_t> ids;
  for (const dumped& goroutine : parse_dump(r.err)) {
    ids.insert(goroutine.id);
    const std::string reason = goroutine.state.substr(0, goroutine.state.find(','));
    ++seen[goroutine.name + "/" + reason];
    EXPECT_EQ(count_of("crash_test.cpp:", goroutine.text) > 0, true) << goroutine.text;
    EXPECT_EQ(count_of("created by ", goroutine.text), goroutine.id == 1 ? 0 : 1) << goroutine.text;
  }
  const std::map<std::string, int> wanted{{"/chan send", 1},
                                          {"receiver/chan receive", kEach},
                                          {"locker/sync.Mutex.Lock", kEach},
                                          {"waiter/sync.WaitGroup.Wait", kEach},
                                          {"acquirer/semacquire", kEach},
                                          {"sleeper/sleep", kEach}};
  EXPECT_EQ(seen, wanted) << r;
  EXPECT_EQ(ids.size(), static_cast<std::size_t>(kKinds * kEach + 1));
  EXPECT_EQ(count_of("crash_sample::receive_from(...)", r.err), kEach) << r;
}

TEST_P(quit_dump, shows_who_is_locked_who_is_in_a_call_and_who_computes) {
  const auto r = run_in_child([] {
    lock_os_thread();
    std::atomic<int> there{0};
    go({.name = "caller"}, [&] {
      blocking([&] {
        ++there;
        wait_for_the_end();
      });
    });
    if (ps() > 1)
      go({.name = "computer"}, [&] {
        for (++there;;) STAY_IN_FRAME();
      });
    EXPECT_TRUE(eventually([&] { return there == (ps() > 1 ? 2 : 1); }));
    std::thread([] {
      eventually([] { return parked(wait_reason::chan_receive) == 1; });
      kill(getpid(), SIGQUIT);
    }).detach();
    make_chan<int>().recv();
  });
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  std::map<std::string, std::string> seen;
  for (const dumped& goroutine : parse_dump(r.err)) seen[goroutine.name] = goroutine.state;
  std::map<std::string, std::string> wanted{{"", "chan receive, locked to thread"}, {"caller", "syscall"}};
  if (ps() > 1) wanted["computer"] = "running";
  EXPECT_EQ(seen, wanted) << r;
}

TEST_P(quit_dump, shows_where_goroutines_were_preempted_in_mid_code) {
  const auto r = run_in_child([] {
    for (int i = 0; i < 2 * ps(); ++i) go({.name = "computer"}, crash_sample::compute);
    std::thread([] {
      EXPECT_TRUE(eventually([] { return count_of("crash_sample::compute(...)", rt::format_all_goroutines()) > 0; }));
      std::_Exit(child_detail::failures());
    }).detach();
    make_chan<int>().recv();
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST_P(quit_dump, tells_how_long_each_has_waited) {
  struct waited {
    std::int64_t seconds;
    const char* text;
  };
  static constexpr waited kTimes[] = {
      {0, ""}, {1, ", 1 second"}, {59, ", 59 seconds"}, {60, ", 1 minute"}, {3599, ", 59 minutes"}};
  const auto r = run_in_child([] {
    auto c = make_chan<int>();
    static const char* const names[] = {"0", "1", "2", "3", "4"};
    for (const char* name : names) go({.name = name}, crash_sample::receive_from, c);
    EXPECT_TRUE(eventually([] { return parked(wait_reason::chan_receive) == 5; }));
    rt::for_each_g(
        [](rt::g* gp, void*) {
          if (const char* name = gp->name.load())
            gp->wait_since = rt::nanotime() - kTimes[name[0] - '0'].seconds * 1'000'000'000 - 200'000'000;
        },
        nullptr);
    kill(getpid(), SIGQUIT);
    sleep_for(1h);
  });
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  std::map<std::string, std::string> seen;
  for (const dumped& goroutine : parse_dump(r.err)) seen[goroutine.name] = goroutine.state;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(seen[std::to_string(i)], std::string("chan receive") + kTimes[i].text) << r;
}

TEST_P(quit_dump, leaves_out_who_has_ended_and_who_was_left_behind_by_an_earlier_run) {
  const auto r = in_child([] {
    weft::run(options(), [] {
      for (int i = 0; i < 20; ++i) go({.name = "left behind"}, [] { make_chan<int>().recv(); });
      for (int i = 0; i < 20; ++i) yield();
    });
    return weft::run(options(), [] {
      wait_group all;
      for (int i = 0; i < 100; ++i) all.go([] {});
      all.wait();
      kill(getpid(), SIGQUIT);
      sleep_for(1h);
    });
  });
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  const std::vector<dumped> goroutines = parse_dump(r.err);
  ASSERT_EQ(goroutines.size(), 1u) << r;
  EXPECT_EQ(goroutines.front().id, 1u);
}

TEST_P(quit_dump, is_not_made_where_the_program_has_a_handler) {
  const auto r = in_child([] {
    static std::atomic<int> caught{0};
    signal(SIGQUIT, [](int) { ++caught; });
    return weft::run(options(), [] {
      for (int i = 1; i <= 3; ++i) {
        kill(getpid(), SIGQUIT);
        EXPECT_TRUE(eventually([i] { return caught == i; }));
      }
      return 6;
    });
  });
  EXPECT_TRUE(r.exited(6)) << r;
  EXPECT_EQ(r.err, "") << r;
  const auto ignored = in_child([] {
    signal(SIGQUIT, SIG_IGN);
    return weft::run(options(), [] {
      kill(getpid(), SIGQUIT);
      sleep_for(5ms);
      return 6;
    });
  });
  EXPECT_TRUE(ignored.exited(6)) << ignored;
}

TEST_P(quit_dump, is_not_made_after_a_run) {
  const auto r = in_child([] {
    weft::run(options(), [] { yield(); });
    kill(getpid(), SIGQUIT);
  });
  EXPECT_TRUE(r.killed_by(SIGQUIT)) << r;
  EXPECT_EQ(r.err, "") << r;
}

// -- Threads
// -----------------------------------------------------------------------------------------------------------

TEST_P(exhaustion, of_threads_is_fatal_and_shows_all_goroutines) {
  const auto r = run_in_child(
      [] {
        for (int i = 0; i < 100; ++i)
          go({.name = "locker"}, [] {
            lock_os_thread();
            blocking(wait_for_the_end);
          });
        sleep_for(1h);
      },
      {{"WEFT_DEBUG", "maxthreads=10"}});
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_TRUE(r.err.starts_with("runtime: program exceeds 10-thread limit\nfatal error: thread exhaustion\n")) << r;
  EXPECT_EQ(count_of("fatal error", r.err), 1) << r;
  const std::vector<dumped> goroutines = parse_dump(r.err);
  const auto is_locker = [](const dumped& goroutine) {
    return goroutine.name == "locker" && goroutine.state == "syscall, locked to thread";
  };
  EXPECT_GE(std::count_if(goroutines.begin(), goroutines.end(), is_locker), 5) << r;
}

TEST_P(exhaustion, does_not_come_below_the_limit) {
  expect_quiet_end(run_in_child(
      [] {
        wait_group all;
        for (int round = 0; round < 5; ++round) {
          for (int i = 0; i < 100; ++i) all.go([] { yield(); });
          for (int i = 0; i < 5; ++i)
            all.go([] {
              lock_os_thread();
              blocking([] { usleep(1000); });
            });
          all.wait();
        }
      },
      {{"WEFT_DEBUG", "maxthreads=40"}}));
}

// -- Leaving
// -----------------------------------------------------------------------------------------------------------

TEST_P(leaving, the_status_is_what_main_returned) {
  for (int status : {0, 1, 2, 77, 255}) {
    const auto r = run_in_child([status] { return status; });
    EXPECT_TRUE(r.exited(status)) << r;
    EXPECT_EQ(r.err, "") << r;
  }
}

TEST_P(leaving, nobody_is_waited_for) {
  const auto r = run_in_child([] {
    for (int i = 0; i < 3; ++i)
      go([] {
        for (;;) yield();
      });
    // It keeps its P, and who waits in that P's queue: somebody else must be free to come for them.
    if (ps() > 2)
      go([] {
        for (;;) STAY_IN_FRAME();
      });
    go([] { blocking(wait_for_the_end); });
    go([] { make_chan<int>().recv(); });
    go([] { sleep_for(1h); });
    for (int i = 0; i < 100; ++i) yield();
    return 3;
  });
  EXPECT_TRUE(r.exited(3)) << r;
  EXPECT_EQ(r.err, "") << r;
}

TEST_P(leaving, exit_may_be_called_anywhere) {
  expect_quiet_end(run_in_child([] { std::exit(0); }));
  const auto in_goroutine = run_in_child([] {
    std::atexit([] { std::printf("left in order"); });
    go([] { std::exit(9); });
    make_chan<int>().recv();
  });
  EXPECT_TRUE(in_goroutine.exited(9)) << in_goroutine;
  EXPECT_EQ(in_goroutine.out, "left in order");
}

TEST_P(leaving, a_malformed_variable_is_one_line_and_status_2) {
  const auto r = in_child({{"GOMAXPROCS", "many"}}, [] { return weft::run([] { std::printf("main ran"); }); });
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_EQ(r.out, "");
  const std::vector<std::string> lines = lines_of(r.err);
  ASSERT_EQ(lines.size(), 1u) << r;
  EXPECT_TRUE(lines.front().starts_with("weft: GOMAXPROCS=many: expected ")) << r;
}

// -- schedtrace
// --------------------------------------------------------------------------------------------------------

// As Go 1.26 prints it.
const std::regex kTraceLine(
    R"(SCHED (\d+)ms: gomaxprocs=(\d+) idleprocs=(\d+) threads=(\d+) spinningthreads=(\d+) needspinning=(\d+) )"
    R"(idlethreads=(\d+) runqueue=(\d+) \[((?: \d+)+) \] schedticks=\[((?: \d+)+) \])");

TEST_P(leaving, schedtrace_prints_lines_of_go_s_form) {
  constexpr int kPeriodMs = 10;
  long long elapsed_ms = 0;
  const auto r = run_in_child(
      [] {
        const auto start = std::chrono::steady_clock::now();
        wait_group all;
        all.go([start] {
          while (std::chrono::steady_clock::now() < start + 60ms) yield();
        });
        all.wait();
        sleep_for(60ms);
        const auto spent = std::chrono::steady_clock::now() - start;
        std::printf("%lld",
                    static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(spent).count()));
        std::fflush(stdout);
      },
      {{"WEFT_DEBUG", "schedtrace=" + std::to_string(kPeriodMs)}});
  EXPECT_TRUE(r.exited(0)) << r;
  elapsed_ms = std::atoll(r.out.c_str());
  long long before = -1;
  const std::vector<std::string> lines = lines_of(r.err);
  for (const std::string& line : lines) {
    std::smatch parts;
    ASSERT_TRUE(std::regex_match(line, parts, kTraceLine)) << line;
    const long long at = std::stoll(parts[1]);
    EXPECT_GT(at, before) << r;
    before = at;
    EXPECT_EQ(std::stoi(parts[2]), ps()) << line;
    EXPECT_LE(std::stoi(parts[3]), ps()) << line;
    EXPECT_GE(std::stoi(parts[4]), 2) << line;
    EXPECT_LE(std::stoi(parts[7]), std::stoi(parts[4])) << line;
    EXPECT_EQ(count_of(" ", parts[9].str()), ps()) << line;
    EXPECT_EQ(count_of(" ", parts[10].str()), ps()) << line;
  }
  EXPECT_GE(lines.size(), 2u) << r;
  EXPECT_LE(static_cast<long long>(lines.size()), elapsed_ms / kPeriodMs + 1) << r;
}

TEST_P(leaving, schedtrace_of_an_idle_process_shows_all_ps_idle) {
  const auto r = run_in_child([] { sleep_for(500ms); }, {{"WEFT_DEBUG", "schedtrace=20"}});  // busy at first
  EXPECT_TRUE(r.exited(0)) << r;
  const std::vector<std::string> lines = lines_of(r.err);
  ASSERT_FALSE(lines.empty()) << r;
  int all_idle = 0;
  for (const std::string& line : lines) all_idle += count_of("idleprocs=" + std::to_string(ps()) + " ", line);
  EXPECT_GE(all_idle, 1) << r;
}

TEST_P(leaving, schedtrace_with_the_longest_period_never_prints) {
  const auto r = run_in_child([] { sleep_for(20ms); }, {{"WEFT_DEBUG", "schedtrace=9223372036854775807"}});
  EXPECT_TRUE(r.exited(0) || r.exited(kFatalStatus)) << r;
  EXPECT_EQ(count_of("SCHED ", r.err), 0) << r;
}

}  // namespace
