// SPDX-License-Identifier: Apache-2.0
// WEFT_METRICS=file:PATH: the metrics in a file, for node_exporter's textfile collector.
//
// sysmon wakes the template thread once a second at least, so it is never written much later than due.
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "runtime/clock.h"
#include "runtime/metrics.h"
#include "runtime/openmetrics.h"
#include "runtime/replace_file.h"

namespace weft::rt {
namespace {

constexpr std::int64_t kPeriod = 15'000'000'000;  // no collector asks more often

struct metrics_file {
  std::string path;
  std::int64_t next = 0;
  bool reported = false;
};
auto& file = *new metrics_file;  // the template thread's, but before it starts and after it has ended

void write_metrics() {
  if (replace_file(file.path, format_metrics(read_metrics(), exposition::prometheus)) || file.reported) return;
  file.reported = true;
  std::fprintf(stderr, "weft: WEFT_METRICS: cannot write %s: %s\n", file.path.c_str(), std::strerror(errno));
}

}  // namespace

void write_metrics_to(std::string path) { file = {std::move(path), 0, false}; }

void write_metrics_if_due() {
  const std::int64_t now = nanotime();
  if (file.path.empty() || now < file.next) return;
  file.next = now + kPeriod;
  write_metrics();
}

void write_last_metrics() {
  if (!file.path.empty()) write_metrics();
}

}  // namespace weft::rt
