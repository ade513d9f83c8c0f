// SPDX-License-Identifier: Apache-2.0
//
// What a call that blocks in the kernel costs the other goroutines, and what announcing it costs when it does not
// block.

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <weft/chan.h>
#include <weft/runtime.h>
#include <weft/sync.h>
#include <weft/time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "tests/bench/bench.h"
#include "tests/bench/in_weft.h"
#include "tests/bench/slow_pages.h"

namespace {

using bench::in_weft;
using bench::per_op;

// One goroutine blocks in block(i), another is runnable, and calls `release`. How long until it runs?
template <class Block, class Release>
void delay_of_other(std::string_view name, const bench::options& o, void (*prepare)(), Block block, Release release) {
  std::atomic<std::int64_t> before_block{0};
  bench::latencies found(o.ops);
  const auto next = weft::make_chan<int>(1);
  weft::wait_group done;
  done.go([&] {
    for (std::int64_t i = 0; i < o.ops; ++i) {
      next.recv();
      if (const std::int64_t before = before_block.exchange(0); before != 0) found.add(bench::now_ns() - before);
      release();
    }
  });
  for (std::int64_t i = 0; i < o.ops; ++i) {
    prepare();
    next.send(1);
    before_block.store(bench::now_ns());
    block(i);
  }
  done.wait();
  found.report(name, o);
}

ssize_t read_announced(int fd, char* byte) {
  return weft::blocking([&] { return read(fd, byte, 1); });
}
ssize_t read_plainly(int fd, char* byte) { return read(fd, byte, 1); }

// In read(2), until the other writes.
void handoff(std::string_view name, const bench::options& o, void (*prepare)(),
             ssize_t (*read_byte)(int, char*) = read_announced) {
  int pipe_fds[2];
  if (pipe(pipe_fds) != 0) bench::die("pipe");
  const auto block = [&](std::int64_t) {
    char byte;
    while (read_byte(pipe_fds[0], &byte) != 1) {
      if (errno != EINTR) bench::die("read");
    }
  };
  const auto release = [&] {
    if (write(pipe_fds[1], "x", 1) != 1) bench::die("write");
  };
  delay_of_other(name, o, prepare, block, release);
}

void handoff_read_hot(const bench::options& o) {
  handoff("handoff_read_hot", o, [] {});
}

void handoff_read_unannounced(const bench::options& o) {
  handoff(
      "handoff_read_unannounced", o, [] {}, read_plainly);
}

void handoff_read_idle(const bench::options& o) {
  handoff("handoff_read_idle", o, [] { weft::sleep_for(std::chrono::milliseconds(50)); });
}

void handoff_read_after_20ms(const bench::options& o) {
  handoff("handoff_read_after_20ms", o, [] { bench::compute_for(20 * bench::kMillisecond); });
}

void nanosleep_64(const bench::options& o) {
  constexpr int kGoroutines = 64;
  weft::wait_group all;
  const std::int64_t start = bench::now_ns();
  for (int g = 0; g < kGoroutines; ++g) {
    all.go([&] {
      for (std::int64_t i = 0; i < o.ops / kGoroutines; ++i) {
        weft::blocking([] { bench::kernel_sleep(100 * bench::kMicrosecond); });
      }
    });
  }
  all.wait();
  bench::report("nanosleep_64", o, 1e9 / per_op(start, o.ops), "calls/s");
}

// The median over short interleaved batches, so that a disturbance hits both sides alike.
void syscall_overhead(const bench::options& o) {
  constexpr std::size_t kBatches = 31;
  const auto per_call = [&](auto call) {
    const std::int64_t start = bench::now_ns();
    for (std::int64_t i = 0; i < o.ops; ++i) call();
    return per_op(start, o.ops);
  };
  const auto get_parent = [] { return syscall(SYS_getppid); };
  std::array<double, kBatches> differences;
  for (double& d : differences) {
    const double raw = per_call(get_parent);
    d = per_call([&] { return weft::blocking(get_parent); }) - raw;
  }
  std::sort(differences.begin(), differences.end());
  bench::report("syscall_overhead", o, differences[kBatches / 2], "ns");
}

// Two goroutines, one for each P, block in turn after turn: the longest time for which a third stood still.
void two_blocked_stall(const bench::options& o) {
  std::atomic<int> blocked{2};
  std::int64_t longest = 0;
  weft::wait_group all;
  all.go([&] {
    longest = bench::longest_gap_ns([&] {
      weft::yield();
      return blocked.load(std::memory_order_relaxed) != 0;
    });
  });
  for (int w = 0; w < 2; ++w) {
    all.go([&] {
      for (std::int64_t i = 0; i < o.ops; ++i) {
        weft::blocking([] { bench::kernel_sleep(50 * bench::kMillisecond); });
      }
      blocked.fetch_sub(1, std::memory_order_relaxed);
    });
  }
  all.wait();
  bench::report("two_blocked_stall", o, static_cast<double>(longest) / 1e3, "us");
}

// A page fault of 50 ms: how long until another goroutine runs?
void fault_50ms(const bench::options& o) {
  bench::slow_pages pages(static_cast<std::size_t>(o.ops), 50 * bench::kMillisecond);
  delay_of_other(
      "fault_50ms", o, [] {}, [&](std::int64_t i) { pages.touch(static_cast<std::size_t>(i)); }, [] {});
}

// Page faults of 100 us by 64 goroutines, each with pages of its own.
void fault_64(const bench::options& o) {
  constexpr std::size_t kGoroutines = 64;
  const auto each = static_cast<std::size_t>(o.ops) / kGoroutines;
  bench::slow_pages pages(kGoroutines * each, 100 * bench::kMicrosecond);
  weft::wait_group all;
  const std::int64_t start = bench::now_ns();
  for (std::size_t g = 0; g < kGoroutines; ++g) {
    all.go([&, g] {
      for (std::size_t i = 0; i < each; ++i) pages.touch(g * each + i);
    });
  }
  all.wait();
  bench::report("fault_64", o, 1e9 / per_op(start, o.ops), "calls/s");
}

// What the threads that watch over a P take from a goroutine that computes.
void compute_bound(const bench::options& o) {
  const std::int64_t start = bench::now_ns();
  volatile std::int64_t sum = 0;
  for (std::int64_t i = 0; i < o.ops; ++i) sum = sum + i;
  bench::report("compute_bound", o, per_op(start, o.ops), "ns");
}

constexpr std::array kWorks{
    bench::work{"handoff_read_hot", 3'000, in_weft<handoff_read_hot>},
    bench::work{"handoff_read_unannounced", 3'000, in_weft<handoff_read_unannounced>},
    bench::work{"fault_50ms", 20, in_weft<fault_50ms>},
    bench::work{"fault_64", 6'400, in_weft<fault_64>},
    bench::work{"compute_bound", 300'000'000, in_weft<compute_bound>},
    bench::work{"handoff_read_idle", 20, in_weft<handoff_read_idle>},
    bench::work{"handoff_read_after_20ms", 40, in_weft<handoff_read_after_20ms>},
    bench::work{"nanosleep_64", 12'800, in_weft<nanosleep_64>},
    bench::work{"syscall_overhead", 20'000, in_weft<syscall_overhead>},
    bench::work{"two_blocked_stall", 20, in_weft<two_blocked_stall>},
};

}  // namespace

int main(int argc, char** argv) { return bench::run_main(argc, argv, kWorks); }
