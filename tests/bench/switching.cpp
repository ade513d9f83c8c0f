// SPDX-License-Identifier: Apache-2.0
//
// What it costs that control or a value goes from one goroutine to another: yield, channels, mutexes.

#include <weft/chan.h>
#include <weft/runtime.h>
#include <weft/select.h>
#include <weft/sync.h>

#include <array>
#include <mutex>
#include <optional>

#include "tests/bench/bench.h"
#include "tests/bench/in_weft.h"

namespace {

using bench::in_weft;
using bench::per_op;

void yield(const bench::options& o) {
  weft::wait_group both;
  const std::int64_t start = bench::now_ns();
  for (int g = 0; g < 2; ++g) {
    both.go([&] {
      for (std::int64_t i = 0; i < o.ops; ++i) weft::yield();
    });
  }
  both.wait();
  bench::report("yield", o, per_op(start, 2 * o.ops), "ns");
}

double ping_pong_ns(const bench::options& o) {
  const auto ping = weft::make_chan<int>(), pong = weft::make_chan<int>();
  weft::go([=] {
    for (const int value : ping) pong.send(value);
  });
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < o.ops; ++i) {
    ping.send(1);
    pong.recv();
  }
  const double ns = per_op(start, o.ops);
  ping.close();
  return ns;
}

void chan_unbuffered(const bench::options& o) { bench::report("chan_unbuffered", o, ping_pong_ns(o), "ns"); }

void locked_pingpong(const bench::options& o) {
  weft::lock_os_thread();
  const double ns = ping_pong_ns(o);
  weft::unlock_os_thread();
  bench::report("locked_pingpong", o, ns / 1e3, "us");
}

void chan_buffered(const bench::options& o) {
  const auto stream = weft::make_chan<int>(128);
  const std::int64_t start = bench::now_ns();
  weft::go([stream, ops = o.ops] {
    for (std::int64_t i = 0; i < ops; ++i) stream.send(1);
    stream.close();
  });
  std::int64_t sum = 0;
  for (const int value : stream) sum += value;
  if (sum != o.ops) bench::die("chan_buffered: messages lost");
  bench::report("chan_buffered", o, per_op(start, o.ops), "ns");
}

// Both channels always have a value: what a select that need not wait costs, with the send that refills.
void select_2_ready(const bench::options& o) {
  const std::array channels{weft::make_chan<int>(1), weft::make_chan<int>(1)};
  std::int64_t received = 0;
  for (const auto& c : channels) c.send(1);
  const auto count = [&](std::optional<int>) { ++received; };
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < o.ops; ++i) {
    const std::size_t chosen = weft::select(weft::on_recv(channels[0], count), weft::on_recv(channels[1], count));
    channels[chosen].send(1);
  }
  if (received != o.ops) bench::die("select_2_ready: messages lost");
  bench::report("select_2_ready", o, per_op(start, o.ops), "ns");
}

// The ping-pong above, where each side waits for a stop signal too.
void select_pingpong(const bench::options& o) {
  const auto ping = weft::make_chan<int>(), pong = weft::make_chan<int>();
  const auto stop = weft::make_chan<weft::unit>();
  weft::go([=] {
    while (weft::select(weft::on_recv(ping), weft::on_recv(stop)) == 0) pong.send(1);
  });
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < o.ops; ++i) {
    ping.send(1);
    weft::select(weft::on_recv(pong), weft::on_recv(stop));
  }
  bench::report("select_pingpong", o, per_op(start, o.ops), "ns");
  stop.close();
}

void mutex_4(const bench::options& o) {
  constexpr int kGoroutines = 4;
  weft::mutex mutex;
  weft::wait_group all;
  std::int64_t counter = 0;
  const std::int64_t start = bench::now_ns();
  for (int g = 0; g < kGoroutines; ++g) {
    all.go([&] {
      for (std::int64_t i = 0; i < o.ops / kGoroutines; ++i) {
        const std::lock_guard lock(mutex);
        ++counter;
      }
    });
  }
  all.wait();
  bench::report("mutex_4", o, 1e3 / per_op(start, counter), "M/s");
}

void mutex_uncontended(const bench::options& o) {
  weft::mutex mutex;
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < o.ops; ++i) {
    mutex.lock();
    mutex.unlock();
  }
  bench::report("mutex_uncontended", o, per_op(start, o.ops), "ns");
}

constexpr std::array kWorks{
    bench::work{"yield", 5'000'000, in_weft<yield>},
    bench::work{"chan_unbuffered", 2'000'000, in_weft<chan_unbuffered>},
    bench::work{"chan_buffered", 10'000'000, in_weft<chan_buffered>},
    bench::work{"select_2_ready", 5'000'000, in_weft<select_2_ready>},
    bench::work{"select_pingpong", 2'000'000, in_weft<select_pingpong>},
    bench::work{"mutex_4", 8'000'000, in_weft<mutex_4>},
    bench::work{"mutex_uncontended", 20'000'000, in_weft<mutex_uncontended>},
    bench::work{"locked_pingpong", 10'000, in_weft<locked_pingpong>},
};

}  // namespace

int main(int argc, char** argv) { return bench::run_main(argc, argv, kWorks); }
