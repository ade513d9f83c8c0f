// SPDX-License-Identifier: Apache-2.0
//
// What a call that blocks in the kernel costs the other goroutines, and what announcing it costs when it does not
// block.

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

#include "tests/bench/bench.h"
#include "tests/bench/in_weft.h"

namespace {

using bench::in_weft;
using bench::per_op;

// One goroutine blocks in read(2), another is runnable. How long until it runs?
void handoff(std::string_view name, const bench::options& o, void (*prepare)()) {
  int pipe_fds[2];
  if (pipe(pipe_fds) != 0) bench::die("pipe");
  std::atomic<std::int64_t> before_read{0};
  bench::latencies found(o.ops);
  const auto next = weft::make_chan<int>(1);
  weft::wait_group done;
  done.go([&] {
    for (std::int64_t i = 0; i < o.ops; ++i) {
      next.recv();
      if (const std::int64_t before = before_read.exchange(0); before != 0) found.add(bench::now_ns() - before);
      if (write(pipe_fds[1], "x", 1) != 1) bench::die("write");
    }
  });
  char byte;
  for (std::int64_t i = 0; i < o.ops; ++i) {
    prepare();
    next.send(1);
    before_read.store(bench::now_ns());
    while (weft::blocking([&] { return read(pipe_fds[0], &byte, 1); }) != 1) {
      if (errno != EINTR) bench::die("read");
    }
  }
  done.wait();
  found.report(name, o);
}

void handoff_read_hot(const bench::options& o) {
  handoff("handoff_read_hot", o, [] {});
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
    for (std::int64_t last = bench::now_ns(); blocked.load(std::memory_order_relaxed) != 0;) {
      weft::yield();
      const std::int64_t now = bench::now_ns();
      longest = std::max(longest, now - last);
      last = now;
    }
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

constexpr std::array kWorks{
    bench::work{"handoff_read_hot", 3'000, in_weft<handoff_read_hot>},
    bench::work{"handoff_read_idle", 20, in_weft<handoff_read_idle>},
    bench::work{"handoff_read_after_20ms", 40, in_weft<handoff_read_after_20ms>},
    bench::work{"nanosleep_64", 12'800, in_weft<nanosleep_64>},
    bench::work{"syscall_overhead", 20'000, in_weft<syscall_overhead>},
    bench::work{"two_blocked_stall", 20, in_weft<two_blocked_stall>},
};

}  // namespace

int main(int argc, char** argv) { return bench::run_main(argc, argv, kWorks); }
