// SPDX-License-Identifier: Apache-2.0
//
// What being traced costs: the channel works of switching.cpp in rounds, first unobserved and then with a tracer
// attached, which fetches what is recorded as `weft trace` does. Compared is the CPU time that a round took, without
// the tracer's, which is another process's as a rule: of all rounds the lower quartile, for what disturbs them makes
// them longer. Beside it stands the share of the events that was recorded: on a P that does nothing but switch, most
// are in the gaps (runtime/trace.h).

#include <weft/chan.h>
#include <weft/runtime.h>
#include <weft/trace.h>

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/bench.h"
#include "tests/bench/in_weft.h"

namespace {

using bench::in_weft;

constexpr int kRounds = 81;

std::int64_t ns_of(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * bench::kSecond + t.tv_nsec;
}

// For as long as it lives, somebody traces this process.
class observer {
 public:
  observer() {
    while (!attached_) bench::kernel_sleep(bench::kMillisecond);
  }
  ~observer() {
    over_ = true;
    fetcher_.join();
  }
  observer(const observer&) = delete;
  observer& operator=(const observer&) = delete;

  std::uint64_t events() const { return events_; }
  /// Its own CPU time so far.
  std::int64_t cpu_ns() {
    clockid_t clock;
    if (pthread_getcpuclockid(fetcher_.native_handle(), &clock) != 0) bench::die("pthread_getcpuclockid");
    return ns_of(clock);
  }

 private:
  void trace() {
    weft::tracer self(getpid());
    attached_ = true;
    while (!over_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      self.fetch();
      events_ = self.events();
    }
  }

  std::atomic<bool> attached_{false}, over_{false};
  std::atomic<std::uint64_t> events_{0};
  std::thread fetcher_{[this] { trace(); }};
};

// Null: there is none.
std::int64_t cpu_ns(observer* without) { return ns_of(CLOCK_PROCESS_CPUTIME_ID) - (without ? without->cpu_ns() : 0); }

template <class F>
double quartile_ns(observer* tracer, F round) {
  std::vector<std::int64_t> all;
  for (int i = 0; i < kRounds; ++i) {
    const std::int64_t start = cpu_ns(tracer);
    round();
    all.push_back(cpu_ns(tracer) - start);
  }
  std::nth_element(all.begin(), all.begin() + kRounds / 4, all.end());
  return static_cast<double>(all[kRounds / 4]);
}

// events_of_a_round: how many there would be to record.
template <class F>
void compare(const char* name, const bench::options& o, double events_of_a_round, F round) {
  const double alone = quartile_ns(nullptr, round);
  observer traced;
  const double with = quartile_ns(&traced, round);
  const double recorded = static_cast<double>(traced.events()) / (events_of_a_round * kRounds);
  bench::report(name, o, (with / alone - 1) * 100, "%");
  bench::report(std::string(name) + "_recorded", o, std::min(recorded, 1.0) * 100, "%");
}

void trace_chan_unbuffered(const bench::options& o) {
  const auto ping = weft::make_chan<int>(), pong = weft::make_chan<int>();
  weft::go([=] {
    for (const int value : ping) pong.send(value);
  });
  const std::int64_t ops = o.ops / kRounds;
  compare("trace_chan_unbuffered", o, 4.0 * static_cast<double>(ops), [&] {
    for (std::int64_t i = 0; i < ops; ++i) {
      ping.send(1);
      pong.recv();
    }
  });
  ping.close();
}

void trace_chan_buffered(const bench::options& o) {
  const auto stream = weft::make_chan<int>(128);
  const std::int64_t ops = o.ops / kRounds;
  compare("trace_chan_buffered", o, static_cast<double>(ops) / 32, [&] {
    weft::go([stream, ops] {
      for (std::int64_t i = 0; i < ops; ++i) stream.send(1);
    });
    for (std::int64_t i = 0; i < ops; ++i) stream.recv();
  });
}

constexpr std::array kWorks{
    bench::work{"trace_chan_unbuffered", 10'000'000, in_weft<trace_chan_unbuffered>},
    bench::work{"trace_chan_buffered", 40'000'000, in_weft<trace_chan_buffered>},
};

}  // namespace

int main(int argc, char** argv) { return bench::run_main(argc, argv, kWorks); }
