// SPDX-License-Identifier: Apache-2.0
//
// How soon something that sleeps is awake, and what sleeping costs: idle Ps, timers, an idle process.

#include <weft/chan.h>
#include <weft/runtime.h>
#include <weft/sync.h>
#include <weft/time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <vector>

#include "tests/bench/bench.h"
#include "tests/bench/in_weft.h"

namespace {

using bench::in_weft;

// The waker computes for gap_ns, hands over a message and computes on until the receiver has answered.
void wake_parked(std::string_view name, const bench::options& o, std::int64_t gap_ns) {
  std::atomic<std::int64_t> arrived{0};
  bench::latencies found(o.ops);
  const auto start = weft::make_chan<int>(1);
  weft::wait_group done;
  done.go([&] {
    for ([[maybe_unused]] const int message : start) arrived.store(bench::now_ns());
  });
  for (std::int64_t i = 0; i < o.ops; ++i) {
    bench::compute_for(gap_ns);
    const std::int64_t before = bench::now_ns();
    start.send(1);
    std::int64_t after = 0;
    while ((after = arrived.exchange(0)) == 0) {
    }
    found.add(after - before);
  }
  start.close();
  done.wait();
  found.report(name, o);
}

void wake_idle_p(const bench::options& o) { wake_parked("wake_idle_p", o, 2 * bench::kMillisecond); }

void wake_spinning_p(const bench::options& o) { wake_parked("wake_spinning_p", o, 2 * bench::kMicrosecond); }

void sleep_50us(const bench::options& o) {
  constexpr std::chrono::microseconds kDelay(50);
  bench::latencies overshoot(o.ops);
  for (std::int64_t i = 0; i < o.ops; ++i) {
    const std::int64_t due = bench::now_ns() + 50 * bench::kMicrosecond;
    weft::sleep_for(kDelay);
    overshoot.add(bench::now_ns() - due);
  }
  overshoot.report("sleep_50us", o);
}

// Four goroutines a P wait for their times while two a P compute and let others run every 10 us. Go:
// BenchmarkParallelTimerLatency, BenchmarkStaggeredTickerLatency. wait(i, rounds, late) adds its latenesses to `late`.
template <class Wait>
void under_load(std::string_view name, const bench::options& o, Wait wait) {
  const int waiters = 4 * o.procs;
  const std::int64_t rounds = std::max<std::int64_t>(o.ops / waiters, 1);
  std::vector<std::vector<std::int64_t>> late(static_cast<std::size_t>(waiters));
  std::atomic<bool> stop{false};
  weft::wait_group busy, waiting;
  for (int i = 0; i < 2 * o.procs; ++i) {
    busy.go([&] {
      while (!stop) {
        bench::compute_for(10 * bench::kMicrosecond);
        weft::yield();
      }
    });
  }
  for (int i = 0; i < waiters; ++i) {
    waiting.go([&, i] {
      auto& mine = late[static_cast<std::size_t>(i)];
      mine.reserve(static_cast<std::size_t>(rounds));
      wait(i, rounds, mine);
    });
  }
  waiting.wait();
  stop = true;
  busy.wait();
  bench::latencies found(waiters * rounds);
  for (const auto& each : late) {
    for (const std::int64_t ns : each) found.add(ns);
  }
  found.report(name, o);
}

// All are due at the same moments.
void timer_busy(const bench::options& o) {
  const std::int64_t start = bench::now_ns();
  under_load("timer_busy", o, [start](int, std::int64_t rounds, std::vector<std::int64_t>& late) {
    for (std::int64_t k = 1; k <= rounds; ++k) {
      const std::int64_t due = start + k * 2 * bench::kMillisecond;
      weft::sleep_until(weft::time_point(std::chrono::nanoseconds(due)));
      late.push_back(bench::now_ns() - due);
    }
  });
}

// No two tick at the same moment.
void ticker_busy(const bench::options& o) {
  under_load("ticker_busy", o, [](int i, std::int64_t rounds, std::vector<std::int64_t>& late) {
    weft::sleep_for(std::chrono::microseconds(70 * i));
    const weft::ticker beats(std::chrono::milliseconds(2));
    for (std::int64_t k = 0; k < rounds; ++k) {
      const weft::time_point due = *beats.c().recv();
      late.push_back(bench::now_ns() - due.time_since_epoch().count());
    }
  });
}

// One goroutine a P calls nothing, ever. How late is a sleeper of 1 ms?
void sleep_beside_loops(const bench::options& o) {
  std::atomic<bool> stop{false};
  weft::wait_group loops;
  bench::latencies found(o.ops);
  for (int i = 0; i < o.procs; ++i) {
    loops.go([&] {
      while (!stop.load(std::memory_order_relaxed)) {
      }
    });
  }
  for (std::int64_t i = 0; i < o.ops; ++i) {
    const std::int64_t start = bench::now_ns();
    weft::sleep_for(std::chrono::milliseconds(1));
    found.add(bench::now_ns() - start - bench::kMillisecond);
  }
  stop = true;
  loops.wait();
  found.report("sleep_beside_loops", o);
}

void idle_cpu(const bench::options& o) {
  const double before = bench::cpu_seconds();
  const std::int64_t start = bench::now_ns();
  weft::sleep_for(std::chrono::milliseconds(o.ops));
  const double seconds = static_cast<double>(bench::now_ns() - start) / 1e9;
  bench::report("idle_cpu", o, 100 * (bench::cpu_seconds() - before) / seconds, "%");
}

constexpr std::array kWorks{
    bench::work{"wake_idle_p", 200, in_weft<wake_idle_p>},
    bench::work{"wake_spinning_p", 5'000, in_weft<wake_spinning_p>},
    bench::work{"sleep_50us", 300, in_weft<sleep_50us>},
    bench::work{"timer_busy", 4000, in_weft<timer_busy>},
    bench::work{"ticker_busy", 4000, in_weft<ticker_busy>},
    bench::work{"sleep_beside_loops", 200, in_weft<sleep_beside_loops>},
    bench::work{"idle_cpu", 3000, in_weft<idle_cpu>},
};

}  // namespace

int main(int argc, char** argv) { return bench::run_main(argc, argv, kWorks); }
