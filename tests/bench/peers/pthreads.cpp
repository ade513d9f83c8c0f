// SPDX-License-Identifier: Apache-2.0
//
// The kernel's own threads: what each work costs without a user-level scheduler. With --procs 1 both sides of a work
// are pinned to one CPU, with --procs 2 to one CPU each, so that the figures say which of the two they are.

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "tests/bench/bench.h"
#include "tests/bench/slow_pages.h"

namespace {

void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}

void futex_wake(std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

// A binary semaphore straight on the futex: the cheapest way that a thread can hand control to another.
class baton {
 public:
  void pass() {
    word_.store(1, std::memory_order_release);
    futex_wake(word_);
  }

  void take() {
    while (word_.exchange(0, std::memory_order_acquire) == 0) futex_wait(word_, 0);
  }

 private:
  std::atomic<std::uint32_t> word_{0};
};

// Pins the calling thread to the index-th CPU (modulo their number) of those that the process was started with.
void pin_to(int index) {
  static const cpu_set_t allowed = [] {
    cpu_set_t set;
    sched_getaffinity(getpid(), sizeof set, &set);
    return set;
  }();
  index %= CPU_COUNT(&allowed);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || index-- != 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    return;
  }
}

double per_op(std::int64_t start, std::int64_t ops) {
  return static_cast<double>(bench::now_ns() - start) / static_cast<double>(ops);
}

void yield(const bench::options& o) {
  pin_to(0);
  const std::int64_t start = bench::now_ns();
  const auto body = [&] {
    for (std::int64_t i = 0; i < o.ops; ++i) sched_yield();
  };
  std::thread a(body), b(body);
  a.join();
  b.join();
  bench::report("yield", o, per_op(start, 2 * o.ops), "ns");
}

double ping_pong_ns(const bench::options& o) {
  pin_to(0);
  baton ping, pong;
  std::thread other([&] {
    pin_to(o.procs - 1);
    for (std::int64_t i = 0; i < o.ops; ++i) {
      ping.take();
      pong.pass();
    }
  });
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < o.ops; ++i) {
    ping.pass();
    pong.take();
  }
  const double ns = per_op(start, o.ops);
  other.join();
  return ns;
}

void chan_unbuffered(const bench::options& o) { bench::report("chan_unbuffered", o, ping_pong_ns(o), "ns"); }

void locked_pingpong(const bench::options& o) { bench::report("locked_pingpong", o, ping_pong_ns(o) / 1e3, "us"); }

void spawn_join_one(const bench::options& o) {
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < o.ops; ++i) std::thread([] {}).join();
  bench::report("spawn_join_one", o, per_op(start, o.ops), "ns");
}

void mutex_4(const bench::options& o) {
  constexpr int kThreads = 4;
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  std::int64_t counter = 0;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  const std::int64_t start = bench::now_ns();
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (std::int64_t i = 0; i < o.ops / kThreads; ++i) {
        pthread_mutex_lock(&mutex);
        ++counter;
        pthread_mutex_unlock(&mutex);
      }
    });
  }
  for (std::thread& t : threads) t.join();
  bench::report("mutex_4", o, 1e3 / per_op(start, counter), "M/s");
}

void mutex_uncontended(const bench::options& o) {
  // glibc skips the locked instructions while the process has one thread; a runtime never has one alone.
  baton finish;
  std::thread other([&] { finish.take(); });
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < o.ops; ++i) {
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
  }
  bench::report("mutex_uncontended", o, per_op(start, o.ops), "ns");
  finish.pass();
  other.join();
}

// How long after main has blocked in block(i) another thread runs, which then calls `release`. That one is SCHED_IDLE:
// always runnable, yet it never pushes in between the time stamp and the block.
template <class Block, class Release>
void delay_of_other(std::string_view name, const bench::options& o, void (*prepare)(), Block block, Release release) {
  pin_to(0);
  std::atomic<std::int64_t> before_block{0};
  bench::latencies found(o.ops);
  std::thread other([&] {
    const sched_param none{};
    if (sched_setscheduler(0, SCHED_IDLE, &none) != 0) bench::die("sched_setscheduler");
    for (std::int64_t i = 0; i < o.ops; ++i) {
      std::int64_t before = 0;
      while ((before = before_block.exchange(0, std::memory_order_acquire)) == 0) sched_yield();
      found.add(bench::now_ns() - before);
      release();
    }
  });
  for (std::int64_t i = 0; i < o.ops; ++i) {
    prepare();
    before_block.store(bench::now_ns(), std::memory_order_release);
    block(i);
  }
  other.join();
  found.report(name, o);
}

void handoff(std::string_view name, const bench::options& o, void (*prepare)()) {
  int pipe_fds[2];
  if (pipe(pipe_fds) != 0) bench::die("pipe");
  const auto block = [&](std::int64_t) {
    char byte;
    if (read(pipe_fds[0], &byte, 1) != 1) bench::die("read");
  };
  const auto release = [&] {
    if (write(pipe_fds[1], "x", 1) != 1) bench::die("write");
  };
  delay_of_other(name, o, prepare, block, release);
}

void handoff_read_hot(const bench::options& o) {
  handoff("handoff_read_hot", o, [] {});
}

void handoff_read_idle(const bench::options& o) {
  handoff("handoff_read_idle", o, [] { bench::kernel_sleep(50 * bench::kMillisecond); });
}

void handoff_read_after_20ms(const bench::options& o) {
  handoff("handoff_read_after_20ms", o, [] { bench::compute_for(20 * bench::kMillisecond); });
}

void fault_50ms(const bench::options& o) {
  bench::slow_pages pages(static_cast<std::size_t>(o.ops), 50 * bench::kMillisecond);
  delay_of_other(
      "fault_50ms", o, [] {}, [&](std::int64_t i) { pages.touch(static_cast<std::size_t>(i)); }, [] {});
}

void fault_64(const bench::options& o) {
  constexpr std::size_t kThreads = 64;
  const auto each = static_cast<std::size_t>(o.ops) / kThreads;
  bench::slow_pages pages(kThreads * each, 100 * bench::kMicrosecond);
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  const std::int64_t start = bench::now_ns();
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < each; ++i) pages.touch(t * each + i);
    });
  }
  for (std::thread& t : threads) t.join();
  bench::report("fault_64", o, 1e9 / per_op(start, o.ops), "calls/s");
}

// What the machine alone makes a thread stand still for, while two others sleep.
void two_blocked_stall(const bench::options& o) {
  std::atomic<int> blocked{2};
  std::array<std::thread, 2> sleepers;
  for (std::thread& t : sleepers)
    t = std::thread([&] {
      for (std::int64_t i = 0; i < o.ops; ++i) bench::kernel_sleep(50 * bench::kMillisecond);
      blocked.fetch_sub(1, std::memory_order_relaxed);
    });
  const std::int64_t longest = bench::longest_gap_ns([&] { return blocked.load(std::memory_order_relaxed) != 0; });
  for (std::thread& t : sleepers) t.join();
  bench::report("two_blocked_stall", o, static_cast<double>(longest) / 1e3, "us");
}

void nanosleep_64(const bench::options& o) {
  constexpr int kThreads = 64;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  const std::int64_t start = bench::now_ns();
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (std::int64_t i = 0; i < o.ops / kThreads; ++i) bench::kernel_sleep(100 * bench::kMicrosecond);
    });
  }
  for (std::thread& t : threads) t.join();
  bench::report("nanosleep_64", o, 1e9 / per_op(start, o.ops), "calls/s");
}

void wake_parked(std::string_view name, const bench::options& o, std::int64_t gap_ns) {
  pin_to(0);
  baton start;
  std::atomic<std::int64_t> arrived{0};
  bench::latencies found(o.ops);
  std::thread other([&] {
    pin_to(o.procs - 1);
    for (std::int64_t i = 0; i < o.ops; ++i) {
      start.take();
      arrived.store(bench::now_ns(), std::memory_order_release);
    }
  });
  for (std::int64_t i = 0; i < o.ops; ++i) {
    bench::compute_for(gap_ns);
    const std::int64_t before = bench::now_ns();
    start.pass();
    std::int64_t after = 0;
    while ((after = arrived.exchange(0, std::memory_order_acquire)) == 0) {
    }
    found.add(after - before);
  }
  other.join();
  found.report(name, o);
}

void wake_idle_p(const bench::options& o) { wake_parked("wake_idle_p", o, 2 * bench::kMillisecond); }

void sleep_50us(const bench::options& o) {
  bench::latencies overshoot(o.ops);
  for (std::int64_t i = 0; i < o.ops; ++i) {
    const std::int64_t due = bench::now_ns() + 50 * bench::kMicrosecond;
    bench::kernel_sleep(50 * bench::kMicrosecond);
    overshoot.add(bench::now_ns() - due);
  }
  overshoot.report("sleep_50us", o);
}

constexpr std::array kWorks{
    bench::work{"yield", 100'000, yield},
    bench::work{"chan_unbuffered", 10'000, chan_unbuffered},
    bench::work{"spawn_join_one", 5'000, spawn_join_one},
    bench::work{"mutex_4", 4'000'000, mutex_4},
    bench::work{"mutex_uncontended", 10'000'000, mutex_uncontended},
    bench::work{"handoff_read_hot", 3'000, handoff_read_hot},
    bench::work{"handoff_read_idle", 20, handoff_read_idle},
    bench::work{"handoff_read_after_20ms", 40, handoff_read_after_20ms},
    bench::work{"fault_50ms", 20, fault_50ms},
    bench::work{"fault_64", 6'400, fault_64},
    bench::work{"two_blocked_stall", 20, two_blocked_stall},
    bench::work{"nanosleep_64", 12'800, nanosleep_64},
    bench::work{"wake_idle_p", 200, wake_idle_p},
    bench::work{"locked_pingpong", 10'000, locked_pingpong},
    bench::work{"sleep_50us", 500, sleep_50us},
};

}  // namespace

int main(int argc, char** argv) { return bench::run_main(argc, argv, kWorks); }
