// SPDX-License-Identifier: Apache-2.0
#include "tools/heat_map.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace weft::tools {
namespace {

constexpr int kMargin = kCellsPerOctave / 2;          // cells left free above and below what was counted
constexpr int kLeastCells = 4 * kCellsPerOctave;      // that an axis has, lest a single duration fill it
constexpr double kEmptyFrom = 1e-7, kEmptyTo = 1e-2;  // seconds: an axis with nothing to show

using rgb = std::array<double, 3>;
constexpr std::array<rgb, 7> kHeat = {
    {{254, 194, 135}, {251, 135, 97}, {229, 80, 100}, {181, 54, 122}, {129, 37, 129}, {79, 18, 123}, {28, 16, 68}}};

double seconds_at(int cell) { return std::exp2(static_cast<double>(cell) / kCellsPerOctave) * 1e-9; }

}  // namespace

double cell_position(double seconds) { return std::log2(std::max(seconds * 1e9, 1.0)) * kCellsPerOctave; }

int cell_of(double seconds) { return std::min(static_cast<int>(cell_position(seconds)), kCells - 1); }

cell_counts cells_of(const metrics::histogram& counted) {
  cell_counts cells(kCells);
  for (const metrics::histogram::bucket& b : counted.buckets())
    cells[static_cast<std::size_t>(cell_of((b.lower + b.upper) / 2))] += static_cast<double>(b.count);
  return cells;
}

void heat_map::add(double seconds, const metrics::histogram& counted) {
  if (columns_.size() == kMostColumns) join_neighbours();
  columns_.push_back({seconds, counted});
  seconds_ += seconds;
}

void heat_map::join_neighbours() {
  for (std::size_t i = 0; i < columns_.size() / 2; ++i) {
    column joined = std::move(columns_[2 * i]);
    joined.seconds += columns_[2 * i + 1].seconds;
    joined.counted.merge(columns_[2 * i + 1].counted);
    columns_[i] = std::move(joined);
  }
  columns_.resize(columns_.size() / 2);
}

// A column that ends where the last strip does is too narrow to be seen, and becomes part of it.
std::vector<heat_map::strip> heat_map::strips(int width) const {
  std::vector<strip> all;
  double until = 0;
  for (const column& each : columns_) {
    until += each.seconds;
    const int end = std::max(1, static_cast<int>(std::lround(until / seconds_ * width)));
    if (all.empty() || end > all.back().end) all.push_back({.begin = all.empty() ? 0 : all.back().end, .end = end});
    all.back().seconds += each.seconds;
    all.back().counted.merge(each.counted);
  }
  for (strip& each : all) {
    each.cells = cells_of(each.counted);
    for (double& count : each.cells) count *= interval_ / each.seconds;
  }
  return all;
}

heat_map::range heat_map::range_of(const std::vector<strip>& strips) {
  range found;
  bool any = false;
  for (const strip& each : strips)
    for (int cell = 0; cell < kCells; ++cell) {
      const double count = each.cells[static_cast<std::size_t>(cell)];
      if (count == 0) continue;
      found.least = any ? std::min(found.least, count) : count;
      found.most = any ? std::max(found.most, count) : count;
      found.first_cell = any ? std::min(found.first_cell, cell) : cell;
      found.end_cell = std::max(found.end_cell, cell + 1);
      any = true;
    }
  // Once, in an interval that took a little longer.
  if (found.least > 0.5) found.least = std::max(found.least, 1.0);
  found.most = std::max(found.most, found.least);
  return found;
}

duration_axis::duration_axis(const heat_map::range& shown, int top, int height)
    : first_(shown.first_cell - kMargin), end_(shown.end_cell + kMargin), top_(top), height_(height) {
  if (shown.first_cell == shown.end_cell) {
    first_ = cell_of(kEmptyFrom);
    end_ = cell_of(kEmptyTo);
  }
  const int missing = std::max(0, kLeastCells - (end_ - first_));
  first_ = std::max(0, first_ - missing / 2);
  end_ = std::min(kCells, std::max(end_ + missing / 2, first_ + kLeastCells));
}

double duration_axis::least() const { return seconds_at(first_); }
double duration_axis::most() const { return seconds_at(end_); }

int duration_axis::row_at(double position) const {
  return top_ + height_ - static_cast<int>(std::lround((position - first_) / (end_ - first_) * height_));
}

double share_of(double count, const heat_map::range& counts) {
  if (counts.most <= counts.least) return 1;
  return std::clamp(std::log(count / counts.least) / std::log(counts.most / counts.least), 0.0, 1.0);
}

std::uint32_t heat_colour(double share) {
  const double at = std::clamp(share, 0.0, 1.0) * (kHeat.size() - 1);
  const std::size_t from = std::min(static_cast<std::size_t>(at), kHeat.size() - 2);
  std::uint32_t colour = 0;
  for (std::size_t i = 0; i < 3; ++i)
    colour = colour << 8 | static_cast<std::uint32_t>(std::lround(
                               std::lerp(kHeat[from][i], kHeat[from + 1][i], at - static_cast<double>(from))));
  return colour;
}

}  // namespace weft::tools
