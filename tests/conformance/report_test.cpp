// SPDX-License-Identifier: Apache-2.0
// Counters of the program's own, and what a program reports to whoever has started it (WEFT_METRICS_FD).
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <weft/weft.h>
#include "tests/child.h"

namespace {

using namespace weft;
using weft::test::child_result;
using weft::test::in_child;

std::uint64_t value_of(const char* name) { return metrics::read().counters[name]; }

TEST(own_counter, is_read_by_its_name) {
  const child_result r = in_child([] {
    metrics::counter requests("requests");
    requests.add();
    EXPECT_EQ(value_of("requests"), 1u);  // also without a run()
    run([&] {
      wait_group done;
      for (int i = 0; i < 100; ++i) done.go([&] { requests.add(2); });
      done.wait();
      std::thread([&] { requests.add(); }).join();
      EXPECT_EQ(value_of("requests"), 202u);
    });
    metrics::counter("requests").add();
    EXPECT_EQ(value_of("requests"), 203u);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

// The reading end; the writing end is left to the program as weft tune leaves it.
int start_reporting() {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) abort();
  setenv("WEFT_METRICS_FD", std::to_string(pair[1]).c_str(), 1);
  return pair[0];
}

std::vector<std::string> packets(int fd) {
  std::vector<std::string> all;
  std::string text(1 << 18, '\0');
  for (ssize_t n; (n = recv(fd, text.data(), text.size(), MSG_DONTWAIT)) > 0;)
    all.push_back(text.substr(0, static_cast<std::size_t>(n)));
  return all;
}

TEST(report, comes_at_the_end_of_a_run) {
  const child_result r = in_child([] {
    const int reader = start_reporting();
    metrics::counter("answers").add(42);
    run([] {
      wait_group done;
      done.go([] {});
      done.wait();
    });
    const auto got = packets(reader);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_TRUE(got[0].starts_with("weft 1\nseconds ")) << got[0];
    EXPECT_NE(got[0].find("\ncounter answers 42\n"), std::string::npos) << got[0];
    EXPECT_NE(got[0].find("\nhistogram runq_wait "), std::string::npos) << got[0];
    EXPECT_EQ(std::getenv("WEFT_METRICS_FD"), nullptr);
    run([] {});
    EXPECT_EQ(packets(reader).size(), 1u);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(report, comes_every_second) {
  const child_result r = in_child([] {
    const int reader = start_reporting();
    run([&] {
      for (int i = 0; i < 250; ++i) sleep_for(std::chrono::milliseconds(10));
      EXPECT_GE(packets(reader).size(), 1u);
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(report, goes_nowhere_without_an_open_socket) {
  for (const char* const value : {"", "x", "-1", "0x3", "999", "99999999999"}) {
    const child_result r = in_child({{"WEFT_METRICS_FD", value}}, [] { run([] {}); });
    EXPECT_TRUE(r.exited(0)) << value << r;
    EXPECT_EQ(r.err, "");
  }
}

TEST(report, is_not_written_into_what_is_no_such_socket) {
  const child_result r = in_child([] {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    setenv("WEFT_METRICS_FD", std::to_string(ends[1]).c_str(), 1);
    run([] {});
    char byte;
    EXPECT_EQ(read(ends[0], &byte, 1), -1);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(report, to_a_reader_that_is_gone_or_asleep_holds_nobody_up) {
  const child_result r = in_child([] {
    const int reader = start_reporting();
    for (int i = 0; i < 300; ++i) run([] {});  // more than a socket takes
    close(reader);
    run([] {});
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

}  // namespace
