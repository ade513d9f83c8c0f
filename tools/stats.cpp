// SPDX-License-Identifier: Apache-2.0
// Throughput, histograms, counters.
#include "tools/stats.h"

#include <array>
#include <string_view>

#include <fmt/format.h>

#include <weft/metrics.h>

namespace weft::tools {

namespace {

struct shown_histogram {
  const char* name;
  std::string_view meaning;
};

// The first ones stand in the report.
constexpr std::array<shown_histogram, 6> kHistograms = {{{"runq_wait", "runnable to running"},
                                                         {"wakeup_to_run", "woken up to running"},
                                                         {"handoff", "blocked thread's P to its next goroutine"},
                                                         {"blocked", "calls that blocked so long that the P went"},
                                                         {"kernel_blocked", "threads asleep in the kernel"},
                                                         {"kernel_runq_wait", "threads runnable to running"}}};
constexpr std::size_t kReported = 4;
constexpr std::array<const char*, 4> kCounters = {"handoffs", "steals", "threads", "gomaxprocs"};

std::string throughput(const progress& counted) {
  const double seconds = counted.seconds();
  const double files = static_cast<double>(counted.files()), megabytes = static_cast<double>(counted.bytes()) * 1e-6;
  return fmt::format("{} file{}, {:.1f} MB in {:.3f} s: {:.0f} files/s, {:.1f} MB/s\n", counted.files(),
                     counted.files() == 1 ? "" : "s", megabytes, seconds, files / seconds, megabytes / seconds);
}

}  // namespace

std::string_view meaning_of(std::string_view histogram) {
  for (const shown_histogram& shown : kHistograms)
    if (histogram == shown.name) return shown.meaning;
  return "";
}

std::string stats_report(const progress& counted, const draw_style& style) {
  std::string report = throughput(counted);
  metrics::snapshot now = metrics::read();
  for (std::size_t i = 0; i < kReported; ++i) {
    const shown_histogram& shown = kHistograms[i];
    report += '\n';
    report += draw_histogram(shown.name, shown.meaning, now.histograms[shown.name], style);
  }
  report += '\n';
  std::string_view separator;
  for (const char* const name : kCounters) {
    report += fmt::format("{}{} {}", separator, name, now.counters[name]);
    separator = ", ";
  }
  return report + '\n';
}

}  // namespace weft::tools
