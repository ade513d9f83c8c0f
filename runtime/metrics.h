// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "weft/metrics.h"

namespace weft::rt {

/// The Ps go (see delete_ps()); what they measured stays readable until the next run().
void delete_ps_keeping_metrics();

/// count_goroutines(), for threads that may call it while a run() ends.
int read_goroutine_count();

/// metrics::read().
metrics::snapshot read_metrics();

/// Whether the Ps have a histogram of that name, and what is in it. During a run().
bool is_histogram(std::string_view name);
metrics::histogram read_histogram(std::string_view name);

// metrics_file.cpp
/// Before a run(): from now on the metrics are written to that file every 15 s; "": not any more.
void write_metrics_to(std::string path);
/// Writes them if it is time to. By the template thread.
void write_metrics_if_due();
/// Writes them as they were in the end.
void write_last_metrics();

// metrics_server.cpp
/// metrics::serve(), where that it cannot be is one line; "": nothing. By main, as the next.
void serve_metrics_at(const std::string& address);
void stop_serving_metrics();

}  // namespace weft::rt
