// SPDX-License-Identifier: Apache-2.0
//
// What a goroutine costs: starting and joining one or many, and the memory that it holds while it waits.

#include <weft/chan.h>
#include <weft/runtime.h>
#include <weft/sync.h>

#include <array>
#include <atomic>

#include "tests/bench/bench.h"
#include "tests/bench/in_weft.h"

namespace {

using bench::in_weft;
using bench::per_op;

void spawn_join_one(const bench::options& o) {
  weft::wait_group one;
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < o.ops; ++i) {
    one.add(1);
    weft::go([&] { one.done(); });
    one.wait();
  }
  bench::report("spawn_join_one", o, per_op(start, o.ops), "ns");
}

std::int64_t spawn_batch_ns(int count) {
  weft::wait_group all;
  all.add(count);
  const std::int64_t start = bench::now_ns();
  for (int i = 0; i < count; ++i) weft::go([&] { all.done(); });
  all.wait();
  return bench::now_ns() - start;
}

void spawn_batch_1000(const bench::options& o) {
  constexpr int kBatch = 1000;
  const std::int64_t batches = o.ops / kBatch;
  spawn_batch_ns(kBatch);
  std::int64_t total = 0;
  for (std::int64_t i = 0; i < batches; ++i) total += spawn_batch_ns(kBatch);
  bench::report("spawn_batch_1000", o, static_cast<double>(total) / static_cast<double>(batches * kBatch), "ns");
}

void spawn_batch_1m(const bench::options& o) {
  const auto batch = [&] { return static_cast<double>(spawn_batch_ns(static_cast<int>(o.ops))); };
  bench::report("spawn_batch_1m_cold", o, batch() / static_cast<double>(o.ops), "ns");
  bench::report("spawn_batch_1m", o, batch() / static_cast<double>(o.ops), "ns");
}

std::int64_t fib(std::int64_t n) {
  if (n < 2) return n;
  std::int64_t left = 0;
  weft::wait_group done;
  done.add(1);
  weft::go([&] {
    left = fib(n - 1);
    done.done();
  });
  const std::int64_t right = fib(n - 2);
  done.wait();
  return left + right;
}

void fib_27(const bench::options& o) {
  const std::int64_t start = bench::now_ns();
  fib(o.ops);
  bench::report("fib_27", o, static_cast<double>(bench::now_ns() - start) / 1e6, "ms");
}

void skynet(const weft::chan<std::int64_t>& result, std::int64_t first, std::int64_t size) {
  if (size == 1) return result.send(first);
  constexpr std::int64_t kChildren = 10;
  const std::int64_t part = size / kChildren;
  const auto parts = weft::make_chan<std::int64_t>();
  for (std::int64_t i = 0; i < kChildren; ++i) weft::go(skynet, parts, first + i * part, part);
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < kChildren; ++i) sum += *parts.recv();
  result.send(sum);
}

void skynet_1m(const bench::options& o) {
  const auto result = weft::make_chan<std::int64_t>();
  const std::int64_t start = bench::now_ns();
  weft::go(skynet, result, std::int64_t{0}, o.ops);
  if (*result.recv() != o.ops * (o.ops - 1) / 2) bench::die("skynet_1m: wrong sum");
  bench::report("skynet_1m", o, static_cast<double>(bench::now_ns() - start) / 1e6, "ms");
  bench::report("skynet_1m_peak", o, bench::status_bytes("VmHWM") / 1e9, "GB");
}

void parked_1m(const bench::options& o) {
  const auto never = weft::make_chan<weft::unit>();
  std::atomic<std::int64_t> started{0};
  const double rss = bench::status_bytes("VmRSS");
  const double page_tables = bench::status_bytes("VmPTE");
  for (std::int64_t i = 0; i < o.ops; ++i) {
    weft::go([&] {
      started.fetch_add(1, std::memory_order_relaxed);
      never.recv();
    });
  }
  while (started.load(std::memory_order_relaxed) != o.ops) weft::yield();
  const auto per_goroutine = [&](double before, const char* key) {
    return (bench::status_bytes(key) - before) / static_cast<double>(o.ops);
  };
  bench::report("parked_1m", o, per_goroutine(rss, "VmRSS"), "B");
  bench::report("parked_1m_pte", o, per_goroutine(page_tables, "VmPTE"), "B");
  std::_Exit(0);  // the goroutines still refer to this frame
}

constexpr std::array kWorks{
    bench::work{"spawn_join_one", 2'000'000, in_weft<spawn_join_one>},
    bench::work{"spawn_batch_1000", 2'000'000, in_weft<spawn_batch_1000>},
    bench::work{"spawn_batch_1m", 1'000'000, in_weft<spawn_batch_1m>},
    bench::work{"fib_27", 27, in_weft<fib_27>},
    bench::work{"skynet_1m", 1'000'000, in_weft<skynet_1m>},
    bench::work{"parked_1m", 1'000'000, in_weft<parked_1m>},
};

}  // namespace

int main(int argc, char** argv) { return bench::run_main(argc, argv, kWorks); }
