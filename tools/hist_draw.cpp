// SPDX-License-Identifier: Apache-2.0
// Rows, bars and labels.
#include "tools/hist_draw.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include <fmt/format.h>

namespace weft::tools {

namespace {

constexpr int kBarColumns = 40;
constexpr std::string_view kBold = "\033[1m", kBarColour = "\033[36m", kPlain = "\033[0m";
// From one eighth of a column to a whole one.
constexpr std::array<std::string_view, 8> kBlocks = {"▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};

// Row 0 is [0, 1), row n is [2^(n-1), 2^n).
std::uint64_t row_lower(int row) { return row == 0 ? 0 : std::uint64_t{1} << (row - 1); }

std::string paint(std::string_view text, std::string_view colour, const draw_style& style) {
  return style.colour ? fmt::format("{}{}{}", colour, text, kPlain) : std::string(text);
}

// fmt counts a "µ" as one column, so the padding is right.
std::string draw_row(const log2_row& row, std::uint64_t largest, const draw_style& style) {
  const std::string drawn = bar(row.count, largest, kBarColumns, style.utf8);
  const std::string padded = fmt::format("{:<{}}", drawn, kBarColumns);
  const std::string_view edge = style.utf8 ? "│" : "|";
  return fmt::format("{:>10} .. {:<8} : {:<10} {}{}{}\n", format_duration(row.lower_ns * 1e-9, style.utf8),
                     format_duration(row.upper_ns * 1e-9, style.utf8), row.count, edge,
                     paint(padded, kBarColour, style), edge);
}

}  // namespace

std::vector<log2_row> log2_rows(const std::vector<metrics::histogram::bucket>& buckets, std::uint64_t unit_ns) {
  std::array<std::uint64_t, 65> counts{};
  for (const metrics::histogram::bucket& b : buckets) {
    const auto units = static_cast<std::uint64_t>(std::llround(b.lower * 1e9)) / unit_ns;
    counts[static_cast<std::size_t>(std::bit_width(units))] += b.count;
  }
  const auto counted = [](std::uint64_t n) { return n != 0; };
  const auto first = std::find_if(counts.begin(), counts.end(), counted);
  const auto end = std::find_if(counts.rbegin(), counts.rend(), counted).base();
  std::vector<log2_row> rows;
  for (auto at = first; at < end; ++at) {
    const int row = static_cast<int>(at - counts.begin());
    rows.push_back({row_lower(row) * unit_ns, row_lower(row + 1) * unit_ns, *at});
  }
  return rows;
}

std::string format_duration(double seconds, bool utf8) {
  struct unit_of_time {
    double seconds;
    std::string_view name;
  };
  const std::array<unit_of_time, 4> units = {{{1, "s"}, {1e-3, "ms"}, {1e-6, utf8 ? "µs" : "us"}, {1e-9, "ns"}}};
  // What would be rounded to 1000 of a unit is 1 of the next.
  const auto fits = [seconds](const unit_of_time& u) { return seconds >= 0.9995 * u.seconds; };
  const auto found = std::find_if(units.begin(), units.end(), fits);
  const unit_of_time& unit = found == units.end() ? units.back() : *found;
  const double value = seconds / unit.seconds;
  const bool whole = &unit == &units.back();  // nothing is measured finer
  const int decimals = whole || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f} {}", value, decimals, unit.name);
}

std::string bar(std::uint64_t count, std::uint64_t largest, int columns, bool utf8) {
  if (count == 0 || largest == 0) return {};
  const double share = static_cast<double>(count) / static_cast<double>(largest) * columns;
  if (!utf8) return std::string(static_cast<std::size_t>(std::max(1L, std::lround(share))), '*');
  const long eighths = std::max(1L, std::lround(share * 8));
  std::string drawn;
  for (long i = 0; i < eighths / 8; ++i) drawn += kBlocks.back();
  if (eighths % 8 != 0) drawn += kBlocks[static_cast<std::size_t>(eighths % 8 - 1)];
  return drawn;
}

std::string draw_histogram(std::string_view name, std::string_view meaning, const metrics::histogram& values,
                           const draw_style& style) {
  std::string out = fmt::format("{} ({}): ", paint(name, kBold, style), meaning);
  if (values.count() == 0) return out + "none\n";
  const auto at = [&](double q) { return format_duration(values.quantile(q), style.utf8); };
  out += fmt::format("{} times, p50 {}, p90 {}, p99 {}, max {}\n", values.count(), at(0.50), at(0.90), at(0.99),
                     format_duration(values.max(), style.utf8));
  const std::vector<log2_row> rows = log2_rows(values.buckets(), style.milliseconds ? 1'000'000 : 1);
  const auto by_count = [](const log2_row& a, const log2_row& b) { return a.count < b.count; };
  const std::uint64_t largest = std::max_element(rows.begin(), rows.end(), by_count)->count;
  for (const log2_row& row : rows) out += draw_row(row, largest, style);
  return out;
}

}  // namespace weft::tools
