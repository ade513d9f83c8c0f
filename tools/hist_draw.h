// SPDX-License-Identifier: Apache-2.0
// Latency histograms as text: one bar for each power of two of nanoseconds.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <weft/metrics.h>

namespace weft::tools {

struct draw_style {
  bool utf8 = false;          ///< block characters and µs, instead of '*' and us
  bool colour = false;        ///< ANSI colours
  bool milliseconds = false;  ///< powers of two of milliseconds, not of nanoseconds
};

/// How many durations lay in [lower_ns, upper_ns), a power of two of the unit (the first row: below one).
struct log2_row {
  std::uint64_t lower_ns, upper_ns;
  std::uint64_t count;
};

/// The rows from the first to the last that counted something, empty ones between them included.
std::vector<log2_row> log2_rows(const std::vector<metrics::histogram::bucket>& buckets, std::uint64_t unit_ns = 1);

/// "512 ns", "1.02 µs", "65.5 ms", "12 s": three digits.
std::string format_duration(double seconds, bool utf8);
/// `columns` wide when count is the largest of all; some mark for every count above zero.
std::string bar(std::uint64_t count, std::uint64_t largest, int columns, bool utf8);
/// The name, a summary line (count, p50, p90, p99, max), and the bars.
std::string draw_histogram(std::string_view name, std::string_view meaning, const metrics::histogram& values,
                           const draw_style& style);

}  // namespace weft::tools
