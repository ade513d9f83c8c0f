// SPDX-License-Identifier: Apache-2.0
// What `weft top`, `weft hist` and `weft dump` have in common: the process that they look at, and what it did between
// two looks.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <weft/attach.h>
#include <weft/metrics.h>

namespace weft::tools {

/// What the process did from the one look to the other: histograms and counters are differences; what is a state is
/// that of `now`. A process that has begun a new run() since is shown as it is.
metrics::snapshot between(const metrics::snapshot& before, const metrics::snapshot& now);

/// {"count": ..., "sum": ..., "p50": ..., "p90": ..., "p99": ..., "max": ..., "buckets": [{"lower", "upper", "count"}]}
nlohmann::ordered_json json_of(const metrics::histogram& values);

/// The option that all of them have.
void add_pid_option(CLI::App& app, int& pid);

/// --for: after how many seconds a recording ends.
void add_duration_option(CLI::App& app, double& seconds);

/// The name of the program that a process runs.
std::string program_of(int pid);

/// What is said of a histogram that a process does not have.
std::string no_histogram(int pid, const std::string& name);

/// Runs work(); what it throws is one line on standard error, and the exit status.
int reporting(std::string_view command, const std::function<int()>& work);

/// Sleeps for that many seconds.
void wait_seconds(double seconds);

}  // namespace weft::tools
