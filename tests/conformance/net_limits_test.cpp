// SPDX-License-Identifier: Apache-2.0
// Sockets where the system has no more to give, and what ends a process that uses them. All run()s but one
// are in children.
#include <weft/net.h>
#include <weft/sync.h>

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <vector>

#include "runtime/sanitizer.h"
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
      allow_files(10);  // UBSan needs some to look at an object's type
      EXPECT_EQ(error, std::errc::timed_out);
      allow_files(0);
      listener.set_deadline(time_point::max());
      wait_group done;
      done.go([&] {
        std::error_code closed;
        listener.accept(closed);
        allow_files(10);
        EXPECT_TRUE(closed == std::errc::bad_file_descriptor) << closed.message();
      });
      sleep_for(20ms);
      listener.close();
      done.wait();
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(net_limits, a_thread_without_a_p_pauses_too) {
  const child_result r = in_child([] {
    auto listener = tcp_listener::bind("127.0.0.1:0");
    std::error_code error;
    listener.set_deadline(clock::now() + 1ms);
    listener.accept(error);  // what it needs to wait is open then
    auto client = tcp_conn::connect(listener.local_addr());
    allow_files(0);
    const std::clock_t cpu = std::clock();
    listener.set_deadline(clock::now() + 200ms);
    listener.accept(error);
    EXPECT_LT(std::clock() - cpu, CLOCKS_PER_SEC / 20);
    allow_files(10);
    EXPECT_EQ(error, std::errc::timed_out);
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
  if (rt::kSanitized) GTEST_SKIP() << "another thread may hold the sanitizer's own locks at the fork, for ever";
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
    return status == 0 ? 0 : 1;
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(net_limits, a_child_that_closes_its_copy_of_a_socket_takes_nothing_from_its_parent) {
  if (rt::kSanitized) GTEST_SKIP() << "another thread may hold the sanitizer's own locks at the fork, for ever";
  const child_result r = in_child([] {
    tcp_pair pair;
    const auto talk = [&pair] {
      weft::run([&pair] {
        if (!pair.client) pair = connected();
        pair.server.set_read_deadline(clock::now() + kPatience);
        wait_group done;
        const int before = parked(rt::wait_reason::io_wait);
        done.go([&pair] { EXPECT_EQ(read_text(pair.server, 5), "hello"); });
        EXPECT_TRUE(eventually_parked(rt::wait_reason::io_wait, before, 1));
        pair.client.write_all(bytes("hello"));
        done.wait();
      });
    };
    talk();
    const pid_t child = fork();
    if (child == 0) {
      pair.server.close();
      _exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    talk();
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

// Of this process, in bytes.
std::size_t resident() {
  std::ifstream statm("/proc/self/statm");
  std::size_t all = 0, pages = 0;
  statm >> all >> pages;
  return pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

std::size_t open_files() {
  std::size_t n = 0;
  for ([[maybe_unused]] const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) ++n;
  return n;
}

bool comes_back(tcp_conn& conn, const std::string& text) {
  std::error_code error;
  conn.write_all(bytes(text), error);
  return read_text(conn, text.size(), error) == text;
}

// All are open at the same time, and each asks twice.
int be_many_clients(const std::string& address, int n) {
  return weft::run([&] {
    std::vector<tcp_conn> conns(static_cast<std::size_t>(n));
    std::atomic<int> answers{0};
    for (int round = 0; round < 2; ++round) {
      semaphore at_once(100);  // the listener's queue is finite
      wait_group asking;
      for (tcp_conn& conn : conns) {
        at_once.acquire();
        asking.go([&] {
          std::error_code error;
          if (!conn) conn = tcp_conn::connect(address, error);
          answers += comes_back(conn, "a question of no great length") ? 1 : 0;
          at_once.release();
        });
      }
      asking.wait();
    }
    return answers == 2 * n ? 0 : 1;
  });
}

TEST(net_limits, ten_thousand_connections_huge) {
  rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  const int n = kThreadSanitizer ? 1000 : 10'000;
  if (files.rlim_max < static_cast<rlim_t>(n) + 100) GTEST_SKIP() << "ulimit -Hn is " << files.rlim_max;
  const child_result r = in_child([n] {
    allow_files(n + 50);
    std::array<int, 2> pipe_ends;
    if (pipe(pipe_ends.data()) != 0) return 1;
    const pid_t clients = fork();
    if (clients == 0) {
      std::array<char, 64> address{};
      _exit(read(pipe_ends[0], address.data(), address.size() - 1) > 0 ? be_many_clients(address.data(), n) : 1);
    }
    std::size_t files_before = 0, grown = 0, grown_by_last = 0;
    int threads = 0;
    const int part = n / 10;
    weft::run([&] {
      auto listener = tcp_listener::bind("127.0.0.1:0");
      const std::string address = listener.local_addr();
      EXPECT_EQ(write(pipe_ends[1], address.data(), address.size()), static_cast<ssize_t>(address.size()));
      files_before = open_files();
      const std::size_t before = resident();
      std::size_t without_last = before;
      wait_group serving;
      for (int i = 0; i < n; ++i) {
        if (i == n - part) without_last = resident();
        serving.go([conn = listener.accept()]() mutable {
          std::array<std::byte, 64> buffer;
          std::error_code error;
          while (const std::size_t size = conn.read_some(buffer, error)) conn.write_all({buffer.data(), size}, error);
        });
      }
      grown = resident() - before;
      grown_by_last = resident() - without_last;
      threads = runtime_threads();
      serving.wait();
      EXPECT_LE(open_files(), files_before + 5);  // the poller's own
    });
    int status = 1;
    waitpid(clients, &status, 0);
    EXPECT_EQ(status, 0);
    EXPECT_LT(threads, 64);
    if (!rt::kSanitized) {
      EXPECT_LT(grown / static_cast<std::size_t>(n), 8192u) << "bytes a connection";
    }
    std::printf("%zu bytes a connection, %zu each of the last tenth, %d threads\n", grown / static_cast<std::size_t>(n),
                grown_by_last / static_cast<std::size_t>(part), threads);
    return 0;
  });
  EXPECT_TRUE(r.exited(0)) << r;
  std::fputs(r.out.c_str(), stdout);
}

// WEFT_TEST_CONNECTIONS=1000000 for the whole million.
int connections_to_make() {
  const char* const wanted = std::getenv("WEFT_TEST_CONNECTIONS");
  return wanted ? std::atoi(wanted) : scaled(100'000);
}

// Each asks once, and is closed by the one or the other side. One address has not as many ports as come and go.
void come_and_go(const std::string& port, int n) {
  constexpr int kClients = 16, kAddresses = 200;
  std::atomic<int> left{n}, answers{0};
  wait_group clients;
  for (int i = 0; i < kClients; ++i)
    clients.go([&] {
      for (int k; (k = left.fetch_sub(1)) > 0;) {
        auto conn = tcp_conn::connect("127.0.0." + std::to_string(1 + k % kAddresses) + port);
        answers += comes_back(conn, "hello") ? 1 : 0;
      }
    });
  clients.wait();
  EXPECT_EQ(answers, n);
}

// The same few pages again and again, so that a gibibyte takes no memory.
std::span<const std::byte> a_gibibyte(std::span<const std::byte> part) {
  constexpr std::size_t kSize = std::size_t{1} << 30;
  const int memory = memfd_create("part", MFD_CLOEXEC);
  EXPECT_EQ(write(memory, part.data(), part.size()), static_cast<ssize_t>(part.size()));
  auto* const all = static_cast<std::byte*>(mmap(nullptr, kSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (std::size_t at = 0; at < kSize; at += part.size())
    EXPECT_EQ(mmap(all + at, part.size(), PROT_READ, MAP_SHARED | MAP_FIXED, memory, 0), all + at);
  close(memory);
  return {all, kSize};
}

TEST(net_limits, a_gibibyte_written_at_once_arrives_in_parts_of_any_size_huge) {
  const child_result r = in_child([] {
    std::vector<std::byte> part(std::size_t{16} << 20);
    for (std::size_t i = 0; i < part.size(); ++i) part[i] = static_cast<std::byte>(i * 2654435761u >> 24);
    const auto all = a_gibibyte(part);
    weft::run([&] {
      auto [client, server] = connected();
      wait_group writing;
      writing.go([all, to = &server] {
        to->write_all(all);
        to->shutdown_write();
      });
      std::vector<std::byte> got(std::size_t{1} << 20);
      std::size_t at = 0, size = 0, asked = 1;
      while ((size = client.read_some({got.data(), asked})) > 0) {
        for (std::size_t done = 0; done < size;) {
          const std::size_t from = (at + done) % part.size(), n = std::min(size - done, part.size() - from);
          if (std::memcmp(got.data() + done, part.data() + from, n) != 0) return ADD_FAILURE() << "after " << at;
          done += n;
        }
        at += size;
        asked = 1 + (asked * 7919) % got.size();
        if (at % 64 == 0) sleep_for(1us);  // the writer's buffer fills
      }
      EXPECT_EQ(at, all.size());
      writing.wait();
    });
    return 0;
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

// In no child, which would have to be done after half a minute; and the last: ThreadSanitizer takes what threads have
// done before a fork() for a race with those of the child.
TEST(net_limits, connections_that_come_and_go_leave_nothing_huge) {
  const int n = connections_to_make();
  weft::run([n] {
    auto listener = tcp_listener::bind("0.0.0.0:0");
    const std::string address = listener.local_addr(), port = address.substr(address.rfind(':'));
    wait_group serving;
    serving.go([&] {
      std::error_code error;
      for (int i = 0;; ++i) {
        tcp_conn accepted = listener.accept(error);
        if (error) return;
        serving.go([conn = std::move(accepted), first_to_close = i % 2 == 0]() mutable {
          std::error_code failed;
          std::array<std::byte, 64> buffer;
          while (const std::size_t size = conn.read_some(buffer, failed)) {
            conn.write_all({buffer.data(), size}, failed);
            if (first_to_close) return;
          }
        });
      }
    });
    come_and_go(port, n / 10);
    const std::size_t files = open_files(), memory = resident();
    const int goroutines = num_goroutine();
    come_and_go(port, n - n / 10);
    EXPECT_TRUE(eventually([&] { return num_goroutine() <= goroutines && open_files() <= files; }));
    const auto grown = static_cast<std::ptrdiff_t>(resident() - memory);
    if (!rt::kSanitized) {
      EXPECT_LT(grown, 4 << 20) << "bytes, by " << n - n / 10 << " connections";
    }
    std::printf("%td bytes more after %d connections\n", grown, n - n / 10);
    listener.close();
    serving.wait();
  });
}

}  // namespace
