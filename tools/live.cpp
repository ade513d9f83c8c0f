// SPDX-License-Identifier: Apache-2.0
#include "tools/live.h"

#include <algorithm>
#include <chrono>
#include <ctime>

#include <fmt/format.h>

#include <weft/error.h>
#include "tools/observe.h"

namespace weft::tools {
namespace {

using std::chrono::steady_clock;

constexpr double kSettleSeconds = 0.5;  // before it is watched: queues that the change before has made are worked off
constexpr double kLookEverySeconds = 1;
constexpr std::chrono::seconds kGrace{10};  // after which a trial ends that nobody is there to end

double seconds_between(steady_clock::time_point a, steady_clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

// CPU time that the process has used; -1: it is gone.
double cpu_seconds_of(int pid) {
  clockid_t clock;
  timespec used;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0) return -1;
  return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
}

report report_of(const metrics::snapshot& all, double seconds) {
  report told{.seconds = seconds, .counters = {}, .histograms = {}};
  for (const auto& [name, value] : all.counters) told.counters[name] = static_cast<double>(value);
  for (const auto& [name, h] : all.histograms)
    told.histograms[name] = {static_cast<double>(h.count()), h.sum(), h.quantile(0.5), h.quantile(0.99)};
  return told;
}

}  // namespace

live_program::live_program(int pid, double seconds) : process_(pid), seconds_(seconds), first_(process_.ps()) {}

live_program::~live_program() {
  if (!changed_) return;
  try {
    process_.place_ps(first_.wish);
  } catch (const error&) {  // it has ended, or its trial will
  }
}

report live_program::now() { return report_of(process_.read(), 0); }

// A signal must not wait for the end of a long measurement, and neither must a change by others.
void live_program::watch(const std::string& gomaxprocs, double seconds) {
  const auto begin = steady_clock::now();
  for (;;) {
    const double left = seconds - seconds_between(begin, steady_clock::now());
    if (left <= 0) return;
    const auto ns = static_cast<std::int64_t>(1e9 * std::min(left, kLookEverySeconds));
    if (const int signal = stop_.comes_within(ns)) throw interrupted{signal};
    if (const process_ps seen = process_.ps(); seen.wish == gomaxprocs) continue;
    changed_ = false;
    throw error(fmt::format("process {}: somebody else has changed its GOMAXPROCS meanwhile", process_.pid()));
  }
}

program_run live_program::run(const std::string& gomaxprocs) {
  const auto needed = std::chrono::duration<double>(kSettleSeconds + seconds_);
  changed_ = true;
  process_.place_ps(gomaxprocs, std::chrono::duration_cast<std::chrono::milliseconds>(needed) + kGrace);
  watch(gomaxprocs, kSettleSeconds);
  const metrics::snapshot before = process_.read();
  const auto begin = steady_clock::now();
  const double used = cpu_seconds_of(process_.pid());
  watch(gomaxprocs, seconds_);
  const metrics::snapshot after = process_.read();
  program_run run;
  run.by_limit = true;
  run.seconds = seconds_between(begin, steady_clock::now());
  run.cpu_seconds = cpu_seconds_of(process_.pid()) - used;
  run.first = report{};
  run.latest = report_of(between(before, after), run.seconds);
  return run;
}

void live_program::keep(const std::string& gomaxprocs) {
  process_.place_ps(gomaxprocs);
  changed_ = false;
}

}  // namespace weft::tools
