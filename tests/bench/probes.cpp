// SPDX-License-Identifier: Apache-2.0
//
// What the always-on probes add to a context switch: of a registered thread, and of a process that has nothing to do
// with them. Two threads pinned to one CPU pass a byte to and fro through pipes, so each round trip is two switches;
// the difference of CPU time with the probes attached and without, in turn.
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <thread>

#include "bpf/probes.h"
#include "tests/bench/bench.h"

namespace {

using weft::bpf::probes;

constexpr std::size_t kRounds = 21;
constexpr std::size_t kSlots = 64;
constexpr int kSwitchesPerRoundTrip = 2;

std::unique_ptr<probes> load() {
  std::string why_not;
  auto loaded = probes::load(kSlots, why_not);
  if (!loaded) {
    std::fprintf(stderr, "no probes: %s\n", why_not.c_str());
    std::exit(bench::kNotHere);
  }
  return loaded;
}

void register_in(probes* all, std::size_t slot) {
  if (!all) return;
  std::string why_not;
  if (!all->register_current_thread(slot, why_not)) {
    std::fprintf(stderr, "%s\n", why_not.c_str());
    std::exit(1);
  }
  announce(all->at(slot), weft::bpf::doing::user_code);
}

void pin_to_first_cpu() {
  cpu_set_t allowed, one;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) bench::die("sched_getaffinity");
  int first = 0;
  while (!CPU_ISSET(first, &allowed)) ++first;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  if (sched_setaffinity(0, sizeof one, &one) != 0) bench::die("sched_setaffinity");
}

void pass_byte(int from, int to) {
  char byte;
  if (read(from, &byte, 1) != 1 || write(to, &byte, 1) != 1) bench::die("pipe");
}

double process_ns() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

// ns a switch; the two threads are registered if there are probes.
double switch_cost(std::int64_t round_trips, probes* all) {
  int there[2], back[2];
  if (pipe(there) != 0 || pipe(back) != 0) bench::die("pipe");
  std::thread partner([&] {
    register_in(all, 2);
    for (std::int64_t i = 0; i < round_trips; ++i) pass_byte(there[0], back[1]);
  });
  double cost = 0;
  std::thread starter([&] {
    register_in(all, 1);
    const double start = process_ns();
    for (std::int64_t i = 0; i < round_trips; ++i) {
      if (write(there[1], "x", 1) != 1) bench::die("write");
      char byte;
      if (read(back[0], &byte, 1) != 1) bench::die("read");
    }
    cost = (process_ns() - start) / static_cast<double>(round_trips * kSwitchesPerRoundTrip);
  });
  starter.join();
  partner.join();
  for (const int fd : {there[0], there[1], back[0], back[1]}) close(fd);
  return cost;
}

// The same in a process of its own, of which nobody has registered.
double switch_cost_elsewhere(std::int64_t round_trips) {
  int result[2];
  if (pipe(result) != 0) bench::die("pipe");
  const pid_t child = fork();
  if (child == 0) {
    const double cost = switch_cost(round_trips, nullptr);
    _exit(write(result[1], &cost, sizeof cost) == sizeof cost ? 0 : 1);
  }
  double cost = 0;
  if (read(result[0], &cost, sizeof cost) != sizeof cost) bench::die("the child");
  waitpid(child, nullptr, 0);
  close(result[0]);
  close(result[1]);
  return cost;
}

template <class Measure>
void compare(std::string_view name, const bench::options& o, Measure measure) {
  pin_to_first_cpu();
  std::array<double, kRounds> added;
  for (double& one : added) {
    const double without = measure(nullptr);
    const auto all = load();
    one = measure(all.get()) - without;
  }
  std::sort(added.begin(), added.end());
  bench::report(name, o, added[kRounds / 2], "ns");
}

void probes_switch_ours(const bench::options& o) {
  compare("probes_switch_ours", o, [&](probes* all) { return switch_cost(o.ops, all); });
}

void probes_switch_other(const bench::options& o) {
  compare("probes_switch_other", o, [&](probes*) { return switch_cost_elsewhere(o.ops); });
}

constexpr std::array kWorks{
    bench::work{"probes_switch_ours", 10'000, probes_switch_ours},
    bench::work{"probes_switch_other", 10'000, probes_switch_other},
};

}  // namespace

int main(int argc, char** argv) { return bench::run_main(argc, argv, kWorks); }
