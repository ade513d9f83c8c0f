// SPDX-License-Identifier: Apache-2.0
//
// How costs grow: with the number of goroutines, of timers, and (by --procs) of Ps.

#include <weft/chan.h>
#include <weft/runtime.h>
#include <weft/sync.h>
#include <weft/time.h>

#include <array>
#include <chrono>
#include <vector>

#include "tests/bench/bench.h"
#include "tests/bench/in_weft.h"

namespace {

using bench::in_weft;
using bench::per_op;

// A value goes round a ring of n goroutines; the price of a hop.
template <int N>
void ring(const bench::options& o) {
  const std::int64_t rounds = std::max<std::int64_t>(o.ops / N, 1);
  std::vector<weft::chan<int>> links;
  for (int i = 0; i < N; ++i) links.push_back(weft::make_chan<int>());
  weft::wait_group all;
  for (int i = 1; i < N; ++i) {
    all.go([from = links[static_cast<std::size_t>(i - 1)], to = links[static_cast<std::size_t>(i)]] {
      for (const int value : from) to.send(value);
      to.close();
    });
  }
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < rounds; ++i) {
    links.front().send(1);
    links.back().recv();
  }
  const double ns = per_op(start, rounds * N);
  links.front().close();
  links.back().recv();
  all.wait();
  bench::report("ring_" + std::to_string(N), o, ns, "ns");
}

// n timers are pending; one more is started and stopped again and again, as an I/O deadline is.
template <int N>
void timer_beside(const bench::options& o) {
  std::vector<weft::timer> pending;
  for (int i = 0; i < N; ++i) pending.push_back(weft::after_func(std::chrono::hours(1 + i % 100), [] {}));
  weft::timer one = weft::after_func(std::chrono::hours(1), [] {});
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < o.ops; ++i) {
    one.reset(std::chrono::minutes(1 + i % 100));
    one.stop();
  }
  bench::report("timer_beside_" + std::to_string(N), o, per_op(start, o.ops), "ns");
  for (weft::timer& t : pending) t.stop();
}

// n goroutines sleep again and again, 1 to 10 ms each; the CPU time that a sleep costs.
template <int N>
void sleepers(const bench::options& o) {
  const std::int64_t rounds = std::max<std::int64_t>(o.ops / N, 1);
  weft::wait_group all;
  const double before = bench::cpu_seconds();
  for (int i = 0; i < N; ++i) {
    all.go([=] {
      for (std::int64_t k = 0; k < rounds; ++k) weft::sleep_for(std::chrono::microseconds(1000 + (i * 7919L) % 9000));
    });
  }
  all.wait();
  const double ns = 1e9 * (bench::cpu_seconds() - before) / static_cast<double>(rounds * N);
  bench::report("sleepers_" + std::to_string(N), o, ns, "ns");
}

// All sleep for half a second, begun as fast as they can be; how late each wakes up.
void sleep_500ms(const bench::options& o) {
  std::vector<std::int64_t> late(static_cast<std::size_t>(o.ops));
  weft::wait_group all;
  for (std::int64_t& mine : late) {
    all.go([&mine] {
      const std::int64_t due = bench::now_ns() + 500 * bench::kMillisecond;
      weft::sleep_for(std::chrono::milliseconds(500));
      mine = bench::now_ns() - due;
    });
  }
  all.wait();
  bench::latencies found(o.ops);
  for (const std::int64_t ns : late) found.add(ns);
  found.report("sleep_500ms", o);
}

// n goroutines wait to receive from a channel, which is closed; the price of each.
template <int N>
void close_waking(const bench::options& o) {
  const std::int64_t rounds = std::max<std::int64_t>(o.ops / N, 1);
  std::int64_t ns = 0;
  for (std::int64_t i = 0; i < rounds; ++i) {
    const auto c = weft::make_chan<int>();
    weft::wait_group started, all;
    started.add(N);
    for (int k = 0; k < N; ++k) {
      all.go([&] {
        started.done();
        c.recv();
      });
    }
    started.wait();
    weft::sleep_for(std::chrono::milliseconds(1));
    const std::int64_t start = bench::now_ns();
    c.close();
    ns += bench::now_ns() - start;
    all.wait();
  }
  bench::report("close_" + std::to_string(N), o, static_cast<double>(ns) / static_cast<double>(rounds * N), "ns");
}

// As many pairs as Ps exchange messages, each pair by itself; the price of a message over all.
void pairs(const bench::options& o) {
  const std::int64_t each = o.ops / o.procs;
  weft::wait_group all;
  const std::int64_t start = bench::now_ns();
  for (int p = 0; p < o.procs; ++p) {
    const auto there = weft::make_chan<int>(), back = weft::make_chan<int>();
    all.go([=] {
      for (const int value : there) back.send(value);
    });
    all.go([=] {
      for (std::int64_t i = 0; i < each; ++i) {
        there.send(1);
        back.recv();
      }
      there.close();
    });
  }
  all.wait();
  bench::report("pairs", o, per_op(start, each * o.procs), "ns");
}

constexpr std::array kWorks{
    bench::work{"ring_10", 2'000'000, in_weft<ring<10>>},
    bench::work{"ring_1000", 2'000'000, in_weft<ring<1000>>},
    bench::work{"ring_1000000", 2'000'000, in_weft<ring<1'000'000>>},
    bench::work{"timer_beside_10", 1'000'000, in_weft<timer_beside<10>>},
    bench::work{"timer_beside_1000", 1'000'000, in_weft<timer_beside<1000>>},
    bench::work{"timer_beside_100000", 1'000'000, in_weft<timer_beside<100'000>>},
    bench::work{"sleepers_10", 1'000, in_weft<sleepers<10>>},
    bench::work{"sleepers_1000", 50'000, in_weft<sleepers<1000>>},
    bench::work{"sleepers_100000", 500'000, in_weft<sleepers<100'000>>},
    bench::work{"sleep_500ms", 100'000, in_weft<sleep_500ms>},
    bench::work{"close_1000", 100'000, in_weft<close_waking<1000>>},
    bench::work{"close_100000", 300'000, in_weft<close_waking<100'000>>},
    bench::work{"pairs", 2'000'000, in_weft<pairs>},
};

}  // namespace

int main(int argc, char** argv) { return bench::run_main(argc, argv, kWorks); }
