// SPDX-License-Identifier: Apache-2.0
// WEFT_TRACE: what the Ps did of late is in a file, on SIGUSR2 or when it has become too slow.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <string>

#include <weft/weft.h>

#include "tests/child.h"
#include "tests/fixture.h"

namespace {

using namespace weft;
using weft::test::child_result;
using weft::test::in_child;
using weft::test::lines_of;

class flight_recorder : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(path_); }

  // A run() that works until the file is there.
  child_result fly(const std::string& more, void (*meanwhile)()) {
    return in_child({{"WEFT_TRACE", "file:" + path_ + more}}, [this, meanwhile] {
      run(run_options{.gomaxprocs = 2}, [this, meanwhile] {
        EXPECT_TRUE(weft::test::eventually([this, meanwhile] {
          go([] {});
          sleep_for(std::chrono::microseconds(100));
          meanwhile();
          return std::filesystem::exists(path_);
        }));
      });
    });
  }
  void expect_recording(const child_result& r) {
    ASSERT_TRUE(r.exited(0)) << r;
    const trace seen = read_recording(path_);
    EXPECT_EQ(seen.lanes.size(), 2u);
    std::size_t runs = 0;
    for (const trace::lane& lane : seen.lanes)
      for (const trace_event& e : lane.events) runs += e.what == trace_event::kind::run && e.goroutine != 0 ? 1u : 0u;
    EXPECT_GT(runs, 3u);
    EXPECT_GT(seen.end, seen.begin);
  }

  const std::string path_ = testing::TempDir() + "weft-recording-" + std::to_string(getpid());
};

TEST_F(flight_recorder, writes_what_happened_when_it_is_signalled) {
  const child_result r = fly("", [] {
    static int rounds = 0;
    if (++rounds == 50) raise(SIGUSR2);  // not kill(): under ThreadSanitizer a thread that waits does not take it
  });
  expect_recording(r);
  EXPECT_EQ(r.err, "weft: WEFT_TRACE: the last 5 s are in " + path_ + "\n");
}

// Goroutines that are woken up, by one that goes on meanwhile: on a quiet machine a timer's wake-up is no microsecond.
void wake_some_late() {
  const auto signal = make_chan<int>();
  wait_group all;
  for (int i = 0; i < 32; ++i) all.go([signal] { signal.recv(); });
  yield();  // all but those that another P has not begun are waiting now
  signal.close();
  const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
  while (std::chrono::steady_clock::now() < until) {
  }
  all.wait();
}

TEST_F(flight_recorder, writes_when_a_p99_is_too_high) {
  const child_result r = fly(",seconds=2,p99=wakeup_to_run:1us", wake_some_late);
  expect_recording(r);
  ASSERT_GE(lines_of(r.err).size(), 1u) << r;
  EXPECT_TRUE(r.err.starts_with("weft: WEFT_TRACE: p99 of wakeup_to_run ")) << r;
}

TEST_F(flight_recorder, says_once_that_it_cannot_write) {
  const child_result r = in_child({{"WEFT_TRACE", "file:/nowhere/at/all"}}, [] {
    run(run_options{.gomaxprocs = 1}, [] {
      for (int i = 0; i < 3; ++i) {
        raise(SIGUSR2);
        sleep_for(std::chrono::milliseconds(50));
      }
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "weft: WEFT_TRACE: cannot write /nowhere/at/all: No such file or directory\n");
}

TEST_F(flight_recorder, leaves_the_signal_to_a_program_that_has_a_use_for_it) {
  const child_result r = in_child({{"WEFT_TRACE", "file:" + path_}}, [] {
    signal(SIGUSR2, [](int) { _exit(7); });
    run(run_options{.gomaxprocs = 1}, [] { kill(getpid(), SIGUSR2); });
  });
  EXPECT_TRUE(r.exited(7)) << r;
  EXPECT_EQ(r.err, "weft: WEFT_TRACE: SIGUSR2 is the program's own and writes no recording\n");
}

TEST_F(flight_recorder, tells_a_file_that_is_none) {
  const auto said = [](const std::string& path) -> std::string {
    try {
      read_recording(path);
    } catch (const error& e) {
      return e.what();
    }
    return "nothing";
  };
  EXPECT_EQ(said("/nowhere"), "/nowhere: No such file or directory");
  EXPECT_EQ(said("/dev/null"), "/dev/null: is cut short");
  EXPECT_EQ(said("README.md"), "README.md: is no recording of weft's");
}

}  // namespace
