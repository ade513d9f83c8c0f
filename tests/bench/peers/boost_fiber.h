// SPDX-License-Identifier: Apache-2.0
//
// Boost.Fiber, as its documentation advises: round_robin on one thread; on several, the algorithm that the program was
// built for (boost_fiber.cpp, boost_fiber_shared_work.cpp). The threads of the process form one group for its whole
// life, since Boost.Fiber knows no second group.
//
// Stacks are 16 KiB, as in the published figures for this library. pooled_fixedsize_stack is the cheapest allocator on
// one thread, and is not thread safe, so several threads use fixedsize_stack (malloc).

#pragma once

#include <array>
#include <atomic>
#include <barrier>
#include <boost/fiber/all.hpp>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/bench/bench.h"

namespace boost_fiber {

namespace fibers = boost::fibers;

constexpr std::size_t kStackSize = 16 * 1024;

inline fibers::pooled_fixedsize_stack& pooled_stacks() {
  static fibers::pooled_fixedsize_stack stacks(kStackSize);
  return stacks;
}

inline int procs = 1;

template <class F>
fibers::fiber spawn(F&& body) {
  if (procs == 1) return fibers::fiber(std::allocator_arg, pooled_stacks(), std::forward<F>(body));
  return fibers::fiber(std::allocator_arg, fibers::fixedsize_stack(kStackSize), std::forward<F>(body));
}

// The latch that Boost.Fiber lacks, in the form its manual shows ("when_all" with a barrier of waits).
class latch {
 public:
  explicit latch(std::int64_t count) : left_(count) {}

  void count_down() {
    if (left_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    const std::scoped_lock lock(mutex_);
    done_ = true;
    all_done_.notify_all();
  }

  void wait() {
    std::unique_lock lock(mutex_);
    all_done_.wait(lock, [&] { return done_; });
  }

 private:
  std::atomic<std::int64_t> left_;
  fibers::mutex mutex_;
  fibers::condition_variable all_done_;
  bool done_ = false;
};

inline double per_op(std::int64_t start, std::int64_t ops) {
  return static_cast<double>(bench::now_ns() - start) / static_cast<double>(ops);
}

inline void yield(const bench::options& o) {
  const auto body = [&] {
    for (std::int64_t i = 0; i < o.ops; ++i) boost::this_fiber::yield();
  };
  const std::int64_t start = bench::now_ns();
  fibers::fiber a = spawn(body), b = spawn(body);
  a.join();
  b.join();
  bench::report("yield", o, per_op(start, 2 * o.ops), "ns");
}

inline void chan_unbuffered(const bench::options& o) {
  fibers::unbuffered_channel<int> ping, pong;
  fibers::fiber echo = spawn([&] {
    for (const int value : ping) pong.push(value);
  });
  std::int64_t start = 0;
  double ns = 0;
  fibers::fiber caller = spawn([&] {
    start = bench::now_ns();
    for (std::int64_t i = 0; i < o.ops; ++i) {
      ping.push(1);
      pong.value_pop();
    }
    ns = per_op(start, o.ops);
    ping.close();
  });
  caller.join();
  echo.join();
  bench::report("chan_unbuffered", o, ns, "ns");
}

inline void chan_buffered(const bench::options& o) {
  fibers::buffered_channel<int> stream(128);  // one slot of the ring always stays empty
  const std::int64_t start = bench::now_ns();
  fibers::fiber producer = spawn([&] {
    for (std::int64_t i = 0; i < o.ops; ++i) stream.push(1);
    stream.close();
  });
  std::int64_t sum = 0;
  fibers::fiber consumer = spawn([&] {
    for (const int value : stream) sum += value;
  });
  producer.join();
  consumer.join();
  if (sum != o.ops) bench::die("chan_buffered: messages lost");
  bench::report("chan_buffered", o, per_op(start, o.ops), "ns");
}

inline void spawn_join_one(const bench::options& o) {
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < o.ops; ++i) spawn([] {}).join();
  bench::report("spawn_join_one", o, per_op(start, o.ops), "ns");
}

inline double spawn_batch_ns(std::int64_t count) {
  latch all(count);
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < count; ++i) spawn([&] { all.count_down(); }).detach();
  all.wait();
  return per_op(start, count);
}

inline void spawn_batch_1000(const bench::options& o) {
  constexpr std::int64_t kBatch = 1000;
  spawn_batch_ns(kBatch);
  double total = 0;
  for (std::int64_t i = 0; i < o.ops / kBatch; ++i) total += spawn_batch_ns(kBatch);
  bench::report("spawn_batch_1000", o, total / static_cast<double>(o.ops / kBatch), "ns");
}

inline void spawn_batch_1m(const bench::options& o) {
  bench::report("spawn_batch_1m_cold", o, spawn_batch_ns(o.ops), "ns");
  bench::report("spawn_batch_1m", o, spawn_batch_ns(o.ops), "ns");
}

using skynet_channel = fibers::unbuffered_channel<std::int64_t>;

inline void skynet(skynet_channel& result, std::int64_t first, std::int64_t size) {
  if (size == 1) {
    result.push(first);
    return;
  }
  constexpr std::int64_t kChildren = 10;
  skynet_channel parts;
  for (std::int64_t i = 0; i < kChildren; ++i) {
    const std::int64_t part = size / kChildren;
    spawn([&parts, first, part, i] { skynet(parts, first + i * part, part); }).detach();
  }
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < kChildren; ++i) sum += parts.value_pop();
  result.push(sum);
}

inline void skynet_1m(const bench::options& o) {
  skynet_channel result;
  const std::int64_t start = bench::now_ns();
  fibers::fiber root = spawn([&] { skynet(result, 0, o.ops); });
  const std::int64_t sum = result.value_pop();
  const double ms = static_cast<double>(bench::now_ns() - start) / 1e6;
  root.join();
  if (sum != o.ops * (o.ops - 1) / 2) bench::die("skynet_1m: wrong sum");
  bench::report("skynet_1m", o, ms, "ms");
  bench::report("skynet_1m_peak", o, bench::status_bytes("VmHWM") / 1e9, "GB");
}

inline void parked_1m(const bench::options& o) {
  fibers::buffered_channel<int> never(2);
  std::atomic<std::int64_t> started{0};
  const double rss = bench::status_bytes("VmRSS");
  const double page_tables = bench::status_bytes("VmPTE");
  std::vector<fibers::fiber> parked;
  parked.reserve(static_cast<std::size_t>(o.ops));
  for (std::int64_t i = 0; i < o.ops; ++i) {
    parked.push_back(spawn([&] {
      started.fetch_add(1, std::memory_order_relaxed);
      int ignored;
      never.pop(ignored);
    }));
  }
  while (started.load(std::memory_order_relaxed) != o.ops) boost::this_fiber::yield();
  const auto per_fiber = [&](double before, const char* key) {
    return (bench::status_bytes(key) - before) / static_cast<double>(o.ops);
  };
  bench::report("parked_1m", o, per_fiber(rss, "VmRSS"), "B");
  bench::report("parked_1m_pte", o, per_fiber(page_tables, "VmPTE"), "B");
  never.close();
  for (fibers::fiber& f : parked) f.join();
}

inline void mutex_4(const bench::options& o) {
  constexpr int kFibers = 4;
  fibers::mutex mutex;
  std::int64_t counter = 0;
  std::vector<fibers::fiber> workers;
  const std::int64_t start = bench::now_ns();
  for (int f = 0; f < kFibers; ++f) {
    workers.push_back(spawn([&] {
      for (std::int64_t i = 0; i < o.ops / kFibers; ++i) {
        const std::scoped_lock lock(mutex);
        ++counter;
      }
    }));
  }
  for (fibers::fiber& f : workers) f.join();
  bench::report("mutex_4", o, 1e3 / per_op(start, counter), "M/s");
}

inline void mutex_uncontended(const bench::options& o) {
  fibers::mutex mutex;
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < o.ops; ++i) {
    mutex.lock();
    mutex.unlock();
  }
  bench::report("mutex_uncontended", o, per_op(start, o.ops), "ns");
}

inline void two_blocked_stall(const bench::options& o) {
  std::atomic<int> blocked{2};
  const auto block = [&] {
    for (std::int64_t i = 0; i < o.ops; ++i) bench::kernel_sleep(50 * bench::kMillisecond);
    blocked.fetch_sub(1, std::memory_order_release);
  };
  std::int64_t longest = 0;
  fibers::fiber ticker = spawn([&] {
    for (std::int64_t last = bench::now_ns(); blocked.load(std::memory_order_acquire) != 0;) {
      boost::this_fiber::yield();
      const std::int64_t now = bench::now_ns();
      longest = std::max(longest, now - last);
      last = now;
    }
  });
  fibers::fiber a = spawn(block), b = spawn(block);
  a.join();
  b.join();
  ticker.join();
  bench::report("two_blocked_stall", o, static_cast<double>(longest) / 1e3, "us");
}

inline void sleep_50us(const bench::options& o) {
  bench::latencies overshoot(o.ops);
  for (std::int64_t i = 0; i < o.ops; ++i) {
    const std::int64_t due = bench::now_ns() + 50 * bench::kMicrosecond;
    boost::this_fiber::sleep_for(std::chrono::microseconds(50));
    overshoot.add(bench::now_ns() - due);
  }
  overshoot.report("sleep_50us", o);
}

// Makes the calling thread and procs - 1 others one group. The others idle in it until the process ends.
template <class Algorithm>
void form_group() {
  if (procs == 1) {
    fibers::use_scheduling_algorithm<fibers::algo::round_robin>();
    return;
  }
  // A thief looks into every thread's queue, so none may begin before the last has joined.
  static std::barrier all_joined(procs);
  const auto join_group = [] {
    if constexpr (std::is_constructible_v<Algorithm, std::uint32_t, bool>) {
      fibers::use_scheduling_algorithm<Algorithm>(static_cast<std::uint32_t>(procs));
    } else {
      fibers::use_scheduling_algorithm<Algorithm>();
    }
    all_joined.arrive_and_wait();
  };
  for (int i = 1; i < procs; ++i) {
    std::thread([join_group] {
      join_group();
      fibers::mutex mutex;
      fibers::condition_variable never;
      std::unique_lock lock(mutex);
      never.wait(lock, [] { return false; });
    }).detach();
  }
  join_group();
}

template <class Algorithm, void (*Work)(const bench::options&)>
void in_group(const bench::options& o) {
  procs = o.procs;
  form_group<Algorithm>();
  Work(o);
  std::fflush(stdout);
  std::_Exit(0);  // the group cannot be dissolved while its other threads idle
}

template <class Algorithm>
int run_main(int argc, char** argv) {
  static constexpr std::array kWorks{
      bench::work{"yield", 1'000'000, in_group<Algorithm, yield>},
      bench::work{"chan_unbuffered", 30'000, in_group<Algorithm, chan_unbuffered>},
      bench::work{"chan_buffered", 100'000, in_group<Algorithm, chan_buffered>},
      bench::work{"spawn_join_one", 100'000, in_group<Algorithm, spawn_join_one>},
      bench::work{"spawn_batch_1000", 50'000, in_group<Algorithm, spawn_batch_1000>},
      bench::work{"spawn_batch_1m", 1'000'000, in_group<Algorithm, spawn_batch_1m>},
      bench::work{"skynet_1m", 1'000'000, in_group<Algorithm, skynet_1m>},
      bench::work{"parked_1m", 100'000, in_group<Algorithm, parked_1m>},
      bench::work{"mutex_4", 4'000'000, in_group<Algorithm, mutex_4>},
      bench::work{"mutex_uncontended", 5'000'000, in_group<Algorithm, mutex_uncontended>},
      bench::work{"two_blocked_stall", 20, in_group<Algorithm, two_blocked_stall>},
      bench::work{"sleep_50us", 300, in_group<Algorithm, sleep_50us>},
  };
  return bench::run_main(argc, argv, kWorks);
}

}  // namespace boost_fiber
