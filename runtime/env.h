// SPDX-License-Identifier: Apache-2.0
// What run_options and the environment say. A malformed value ends the process: one line on stderr that names the
// variable, the value and the form it must have, and exit status 2.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "numa/wish.h"
#include "runtime/flight_recorder.h"
#include "runtime/scheduler.h"
#include "weft/runtime.h"

namespace weft::rt {

struct settings {
  numa::ps_wish ps;
  std::size_t stack_size = 0;  // 0: the defaults
  assist tier = assist::bpf;   // the most that is wanted
  bool tier_by_name = false;   // and not just "auto"
  bool pin = true;
  std::string metrics_file;     // where the metrics are written to; "": nowhere
  std::string metrics_address;  // where they are served; the same
  recorder_settings recorder;
  debug_settings debug;
};

/// run_options go before the environment. Where no sentinel can work (not pinned), the tier is off; if one was asked
/// for by name, one line on stderr says so.
settings read_settings(const run_options& options);

/// The tier bpf was asked for by name, and cannot be: one line on stderr, exit status 2.
[[noreturn]] void insist(const std::string& why_not);

/// "64k", "1M", "65536": bytes; 0 if malformed or out of the limits of stack.h.
std::size_t parse_stack_size(const std::string& text);

/// Where metrics are to go: one of the two.
struct metrics_wish {
  std::string file, address;
};

inline constexpr const char* kMetricsForm = "HOST:PORT, or file:/PATH.prom";

/// What WEFT_METRICS says; nothing: malformed (see kMetricsForm).
std::optional<metrics_wish> parse_metrics(std::string_view text);

}  // namespace weft::rt
