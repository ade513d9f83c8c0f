// SPDX-License-Identifier: Apache-2.0
// A latency histogram over time: what a heat map shows, before it is drawn.
//
// A column is what was counted in an interval, or in a longer time when the process took long to answer. Durations are
// put into cells, four to an octave: sixteen buckets of a histogram make four cells that are almost equally high on a
// logarithmic axis, so that an even distribution looks even.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <weft/metrics.h>

namespace weft::tools {

inline constexpr int kCellsPerOctave = 4;
inline constexpr int kCells = metrics::histogram::kMaxBits * kCellsPerOctave;  ///< cell 0 begins at 1 ns

/// The cell of a duration, or the first or the last.
int cell_of(double seconds);
/// Where a duration lies on an axis whose unit is the cell: cell_of() with its fraction.
double cell_position(double seconds);

/// How often a duration of each cell was seen.
using cell_counts = std::vector<double>;
cell_counts cells_of(const metrics::histogram& counted);

class heat_map {
 public:
  struct column {
    double seconds;  // that it lasted
    metrics::histogram counted;
  };
  /// One or more columns as they appear in a picture.
  struct strip {
    int begin = 0, end = 0;  // pixels
    double seconds = 0;      // that it lasted
    metrics::histogram counted{};
    cell_counts cells{};  // how often in an interval, on average
  };
  /// The least and the most of what is counted in a cell, and the cells from the first to the last, that have any.
  struct range {
    double least = 1, most = 1;
    int first_cell = 0, end_cell = 0;  // equal: nothing was counted
  };

  /// Memory stays as it is from this many columns on: neighbours are then joined, two by two.
  static constexpr std::size_t kMostColumns = 4096;

  explicit heat_map(double interval) : interval_(interval) {}

  void add(double seconds, const metrics::histogram& counted);

  bool empty() const { return columns_.empty(); }
  double interval() const { return interval_; }
  double seconds() const { return seconds_; }  ///< all columns together
  const std::vector<column>& columns() const { return columns_; }

  /// So that they fill a width, each at least a pixel.
  std::vector<strip> strips(int width) const;
  static range range_of(const std::vector<strip>& strips);

 private:
  void join_neighbours();

  const double interval_;
  double seconds_ = 0;
  std::vector<column> columns_;
};

/// Which pixel rows of a picture cells are drawn in: those that have any, and some around them.
class duration_axis {
 public:
  duration_axis(const heat_map::range& shown, int top, int height);

  /// The row where a cell ends below, which is where the one under it ends above.
  int foot_of(int cell) const { return row_at(cell); }
  int row_of(double seconds) const { return row_at(cell_position(seconds)); }
  double least() const;  ///< seconds: where it begins
  double most() const;   ///< seconds: where it ends

 private:
  int row_at(double position) const;

  int first_, end_;  // cells
  const int top_, height_;
};

/// Where a count stands between the least (0) and the most (1), by its logarithm.
double share_of(double count, const heat_map::range& counts);
/// 0xRRGGBB from light to dark, evenly to the eye (matplotlib's magma, reversed, without its ends: the lightest is
/// still seen on white).
std::uint32_t heat_colour(double share);

}  // namespace weft::tools
