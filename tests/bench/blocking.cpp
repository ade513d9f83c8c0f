// SPDX-License-Identifier: Apache-2.0
//
// What a call that blocks in the kernel costs the other goroutines, and what announcing it costs when it does not
// block.

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
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
#include <cstring>
#include <deque>
#include <thread>

#include "tests/bench/bench.h"
#include "tests/bench/in_weft.h"

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

// Fresh pages whose faults take some time each, as those of a disk: a thread brings each in when its time has come. It
// uses whatever CPU there is, as a disk uses none of the program's.
class slow_pages {
 public:
  slow_pages(std::size_t count, std::int64_t delay) : count_(count), delay_(delay) {
    constexpr int kUserModeOnly = 1;
    fd_ = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | kUserModeOnly));
    uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
    if (fd_ < 0 || ioctl(fd_, UFFDIO_API, &api) != 0) not_here();
    void* const at =
        mmap(nullptr, count * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) bench::die("mmap");
    pages_ = static_cast<char*>(at);
    uffdio_register range{.range = {reinterpret_cast<std::uintptr_t>(at), count * kPage},
                          .mode = UFFDIO_REGISTER_MODE_MISSING,
                          .ioctls = 0};
    if (ioctl(fd_, UFFDIO_REGISTER, &range) != 0) not_here();
    disk_ = std::thread([this] { serve(); });
  }
  // All pages must have been touched.
  ~slow_pages() {
    disk_.join();
    munmap(pages_, count_ * kPage);
    close(fd_);
  }
  void touch(std::size_t page) { *static_cast<volatile char*>(pages_ + page * kPage) = 1; }

 private:
  static constexpr std::size_t kPage = 4096;

  [[noreturn]] static void not_here() {
    std::perror("userfaultfd");
    std::exit(bench::kNotHere);
  }
  struct request {
    std::uint64_t address;
    std::int64_t due;
  };

  void serve() {
    cpu_set_t all;
    std::memset(&all, 0xff, sizeof all);
    sched_setaffinity(0, sizeof all, &all);
    prctl(PR_SET_TIMERSLACK, 1);
    std::deque<request> waiting;
    for (std::size_t served = 0; served < count_;) {
      accept_requests(waiting);
      for (; !waiting.empty() && waiting.front().due <= bench::now_ns(); waiting.pop_front(), ++served) {
        uffdio_zeropage zero{.range = {waiting.front().address, kPage}, .mode = 0, .zeropage = 0};
        ioctl(fd_, UFFDIO_ZEROPAGE, &zero);
      }
    }
  }
  // Waits for the next one, or until the first that waits is due.
  void accept_requests(std::deque<request>& waiting) const {
    pollfd readable{.fd = fd_, .events = POLLIN, .revents = 0};
    timespec rest{};
    if (!waiting.empty())
      rest.tv_nsec = std::clamp<std::int64_t>(waiting.front().due - bench::now_ns(), 0, 999'999'999);
    if (ppoll(&readable, 1, waiting.empty() ? nullptr : &rest, nullptr) <= 0) return;
    std::array<uffd_msg, 64> faults;
    const ssize_t bytes = read(fd_, faults.data(), sizeof faults);
    if (bytes <= 0) return;
    for (std::size_t i = 0; i < static_cast<std::size_t>(bytes) / sizeof(uffd_msg); ++i)
      waiting.push_back({faults[i].arg.pagefault.address & ~(kPage - 1), bench::now_ns() + delay_});
  }

  std::size_t count_;
  std::int64_t delay_;
  int fd_;
  char* pages_;
  std::thread disk_;
};

// A page fault of 50 ms: how long until another goroutine runs?
void fault_50ms(const bench::options& o) {
  slow_pages pages(static_cast<std::size_t>(o.ops), 50 * bench::kMillisecond);
  delay_of_other(
      "fault_50ms", o, [] {}, [&](std::int64_t i) { pages.touch(static_cast<std::size_t>(i)); }, [] {});
}

// Page faults of 100 us by 64 goroutines, each with pages of its own.
void fault_64(const bench::options& o) {
  constexpr std::size_t kGoroutines = 64;
  const auto each = static_cast<std::size_t>(o.ops) / kGoroutines;
  slow_pages pages(kGoroutines * each, 100 * bench::kMicrosecond);
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
