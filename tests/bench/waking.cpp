// SPDX-License-Identifier: Apache-2.0
//
// How soon something that sleeps is awake, and what sleeping costs: idle Ps, timers, an idle process.

#include <weft/chan.h>
#include <weft/runtime.h>
#include <weft/sync.h>
#include <weft/time.h>

#include <array>
#include <atomic>
#include <chrono>

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
    bench::work{"idle_cpu", 3000, in_weft<idle_cpu>},
};

}  // namespace

int main(int argc, char** argv) { return bench::run_main(argc, argv, kWorks); }
