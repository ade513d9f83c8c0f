// SPDX-License-Identifier: Apache-2.0
// Sockets where the system has no more to give, and what ends a process that uses them. All run()s are in children.
#include <weft/net.h>
#include <weft/sync.h>

#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <ctime>

#include "tests/child.h"
#include "tests/fixture.h"
#include "tests/sockets.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

// The limit from now on: as many descriptors as are open, and `more`.
void allow_files(int more) {
  rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const int next = dup(0);
  close(next);
  files.rlim_cur = static_cast<rlim_t>(next + more);
  setrlimit(RLIMIT_NOFILE, &files);
}

TEST(net_limits, accept_pauses_while_there_is_no_descriptor_and_says_so_once) {
  const child_result r = in_child([] {
    weft::run([] {
      auto listener = tcp_listener::bind("127.0.0.1:0");
      {
        const auto warm_up = tcp_conn::connect(listener.local_addr());
        listener.accept().close();
        std::error_code error;
        listener.set_deadline(clock::now() + 1ms);
        listener.accept(error);
        listener.set_deadline(time_point::max());
      }
      allow_files(1);
      auto client = tcp_conn::connect(listener.local_addr());
      const std::clock_t cpu = std::clock();
      wait_group done;
      done.go([&] {
        auto server = listener.accept();
        server.write_all(bytes("late"));
      });
      sleep_for(100ms);
      EXPECT_LT(std::clock() - cpu, CLOCKS_PER_SEC / 20);
      allow_files(10);
      EXPECT_EQ(read_text(client, 4), "late");
      done.wait();
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(count_of("weft: accept: Too many open files; trying again until there is room (ulimit -n)\n", r.err), 1)
      << r;
}

TEST(net_limits, a_pause_ends_with_a_deadline_or_close) {
  const child_result r = in_child([] {
    weft::run([] {
      auto listener = tcp_listener::bind("127.0.0.1:0");
      auto client = tcp_conn::connect(listener.local_addr());
      allow_files(0);
      std::error_code error;
      listener.set_deadline(clock::now() + 3ms);
      listener.accept(error);
      EXPECT_EQ(error, std::errc::timed_out);
      listener.set_deadline(time_point::max());
      wait_group done;
      done.go([&] {
        std::error_code closed;
        listener.accept(closed);
        EXPECT_TRUE(closed == std::errc::bad_file_descriptor) << closed.message();
      });
      sleep_for(20ms);
      listener.close();
      done.wait();
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(net_limits, one_that_waits_for_a_file_is_no_deadlock_and_one_behind_it_is) {
  const child_result r = in_child([] {
    std::array<int, 2> ends;
    if (pipe(ends.data()) != 0) return 1;
    weft::run([&] {
      auto listener = tcp_listener::bind("127.0.0.1:0");
      wait_group waiting;
      waiting.go([&] { wait_readable(ends[0]); });
      // Nothing of this process can wake main now, but what is outside can: here, a child of its own.
      if (fork() == 0) {
        usleep(100'000);
        _exit(write(ends[1], "x", 1) == 1 ? 0 : 1);
      }
      waiting.wait();
      std::fputs("woken\n", stderr);
      make_chan<int>().recv();
    });
    return 0;
  });
  EXPECT_TRUE(r.exited(2)) << r;
  EXPECT_TRUE(r.err.starts_with("woken\nfatal error: all goroutines are asleep - deadlock!")) << r;
}

TEST(net_limits, a_child_of_a_program_with_sockets_has_a_poller_of_its_own) {
  if (kThreadSanitizer) GTEST_SKIP() << "it allows no threads in a child of a process that had some";
  const child_result r = in_child([] {
    const auto talk = [] {
      weft::run([] {
        auto [client, server] = connected();
        wait_group done;
        done.go([s = &server] { EXPECT_EQ(read_text(*s, 5), "hello"); });
        yield();
        client.write_all(bytes("hello"));
        done.wait();
      });
    };
    talk();
    const pid_t child = fork();
    talk();
    if (child == 0) _exit(testing::Test::HasFailure() ? 1 : 0);
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

}  // namespace
