// SPDX-License-Identifier: Apache-2.0
// From histograms over time to a picture: where each count goes, in which colour, and what is drawn of very little and
// of very much.
#include "tools/heat_map.h"

#include <gtest/gtest.h>
#ifndef NO_GD
#include <gd.h>
#endif

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tools/heat_picture.h"

namespace {

using namespace weft::tools;
using weft::metrics::histogram;

histogram of(std::uint64_t ns, std::uint64_t times) {
  histogram values;
  values.add(histogram::bucket_of(ns), times, ns * times);
  values.add_max(ns);
  return values;
}

double count_in(const heat_map::strip& strip) {
  double sum = 0;
  for (const double count : strip.cells) sum += count;
  return sum;
}

// That they are as wide as they have to be, side by side.
void expect_to_fill(const std::vector<heat_map::strip>& strips, int width) {
  ASSERT_FALSE(strips.empty());
  EXPECT_EQ(strips.back().end, width);
  for (std::size_t i = 0; i < strips.size(); ++i) {
    EXPECT_LT(strips[i].begin, strips[i].end);
    EXPECT_EQ(strips[i].begin, i == 0 ? 0 : strips[i - 1].end);
  }
}

TEST(heat_cells, are_four_to_an_octave) {
  EXPECT_EQ(cell_of(1e-9), 0);
  EXPECT_EQ(cell_of(1024.5e-9), 10 * kCellsPerOctave);
  EXPECT_EQ(cell_of(2048.5e-9), 11 * kCellsPerOctave);
  EXPECT_EQ(cell_of(0), 0);
  EXPECT_EQ(cell_of(1e9), kCells - 1);
}

TEST(heat_cells, of_an_even_distribution_look_even) {
  histogram values;
  const int first = histogram::bucket_of(1024), end = histogram::bucket_of(2048);
  for (int bucket = first; bucket < end; ++bucket) values.add(bucket, 1, 0);
  const cell_counts cells = cells_of(values);
  for (int cell = 10 * kCellsPerOctave; cell < 11 * kCellsPerOctave; ++cell)
    EXPECT_NEAR(cells[static_cast<std::size_t>(cell)], 4, 1);
}

TEST(heat_cells, hold_the_longest_duration) {
  EXPECT_EQ(cells_of(of(UINT64_MAX / 2, 3))[kCells - 1], 3);
  EXPECT_EQ(cells_of(of(0, 2))[0], 2);
}

TEST(heat_strips, are_as_wide_as_their_time_was_long) {
  heat_map map(1);
  map.add(1, of(100, 1));
  map.add(3, of(100, 1));
  const std::vector<heat_map::strip> strips = map.strips(100);
  ASSERT_EQ(strips.size(), 2u);
  EXPECT_EQ(strips[0].end, 25);
  expect_to_fill(strips, 100);
}

TEST(heat_strips, count_in_an_interval_however_long_they_are) {
  heat_map map(0.5);
  map.add(0.5, of(100, 8));
  map.add(2, of(100, 8));
  const std::vector<heat_map::strip> strips = map.strips(100);
  ASSERT_EQ(strips.size(), 2u);
  EXPECT_DOUBLE_EQ(count_in(strips[0]), 8);
  EXPECT_DOUBLE_EQ(count_in(strips[1]), 2);
}

TEST(heat_strips, of_one_column_fill_the_width) {
  heat_map map(1);
  map.add(1e-6, of(100, 1));
  expect_to_fill(map.strips(1000), 1000);
  EXPECT_EQ(map.strips(1000).size(), 1u);
}

TEST(heat_strips, are_none_of_nothing) {
  EXPECT_TRUE(heat_map(1).strips(1000).empty());
  const heat_map::range none = heat_map::range_of({});
  EXPECT_EQ(none.first_cell, none.end_cell);
}

TEST(heat_strips, of_columns_too_narrow_to_be_seen_are_joined) {
  heat_map map(1);
  for (const double seconds : {1e-9, 1e-9, 1.0, 1e-9, 1.0, 1e-9}) map.add(seconds, of(100, 1));
  const std::vector<heat_map::strip> strips = map.strips(10);
  expect_to_fill(strips, 10);
  std::uint64_t counted = 0;
  for (const heat_map::strip& strip : strips) counted += strip.counted.count();
  EXPECT_EQ(counted, 6u);
}

TEST(heat_strips, hold_ten_thousand_columns_in_a_width_and_in_little_memory) {
  constexpr int kColumns = 10'000, kWidth = 1000;
  heat_map map(1);
  for (int i = 0; i < kColumns; ++i) {
    map.add(1, of(i < kColumns / 2 ? 100 : 100'000, 1));
    EXPECT_LE(map.columns().size(), heat_map::kMostColumns);
  }
  EXPECT_DOUBLE_EQ(map.seconds(), kColumns);
  const std::vector<heat_map::strip> strips = map.strips(kWidth);
  expect_to_fill(strips, kWidth);
  EXPECT_EQ(strips.size(), kWidth);
  std::uint64_t counted = 0;
  for (const heat_map::strip& strip : strips) {
    counted += strip.counted.count();
    EXPECT_NEAR(count_in(strip), 1, 1e-9);
    EXPECT_TRUE(strip.end >= kWidth / 2 || strip.counted.max() < 1e-6);
    EXPECT_TRUE(strip.begin < kWidth / 2 || strip.counted.quantile(0) > 1e-6);
  }
  EXPECT_EQ(counted, kColumns);
}

TEST(heat_range, begins_with_what_happened_once_though_the_interval_was_a_little_longer) {
  heat_map map(1);
  map.add(1.1, of(100, 1));
  map.add(1, of(1000, 20));
  const heat_map::range seen = heat_map::range_of(map.strips(100));
  EXPECT_DOUBLE_EQ(seen.least, 1);
  EXPECT_DOUBLE_EQ(seen.most, 20);
  EXPECT_EQ(seen.first_cell, cell_of(100e-9));
  EXPECT_EQ(seen.end_cell, cell_of(1e-6) + 1);
}

TEST(duration_axis, has_what_was_counted_and_some_room) {
  const heat_map::range seen{.least = 1, .most = 9, .first_cell = cell_of(1e-6), .end_cell = cell_of(1e-3) + 1};
  const duration_axis axis(seen, 100, 500);
  EXPECT_LT(axis.least(), 1e-6);
  EXPECT_GT(axis.most(), 1e-3);
  EXPECT_EQ(axis.row_of(axis.least()), 600);
  EXPECT_EQ(axis.row_of(axis.most()), 100);
  EXPECT_NEAR(axis.row_of(1e-5) - axis.row_of(1e-4), axis.row_of(1e-4) - axis.row_of(1e-3), 1);
}

TEST(duration_axis, is_never_empty_and_never_ends_outside_of_what_can_be_counted) {
  for (const heat_map::range& seen :
       {heat_map::range{}, {1, 1, 0, 1}, {1, 1, kCells - 1, kCells}, {1, 1, 80, 81}, {1, 1, 0, kCells}}) {
    const duration_axis axis(seen, 0, 500);
    EXPECT_GE(axis.least(), 1e-9);
    EXPECT_LE(cell_position(axis.most()), kCells + 1e-6);
    EXPECT_GT(axis.most() / axis.least(), 2);
    if (seen.first_cell < seen.end_cell) {
      EXPECT_LE(axis.foot_of(seen.first_cell), 500);
      EXPECT_GE(axis.foot_of(seen.end_cell), 0);
    }
  }
}

TEST(heat_colours, darken_evenly) {
  const auto luminance = [](std::uint32_t colour) {
    return 0.2126 * (colour >> 16) + 0.7152 * (colour >> 8 & 0xff) + 0.0722 * (colour & 0xff);
  };
  for (int percent = 1; percent <= 100; ++percent)
    EXPECT_LT(luminance(heat_colour(percent / 100.0)), luminance(heat_colour((percent - 1) / 100.0))) << percent;
  EXPECT_EQ(heat_colour(-1), heat_colour(0));
  EXPECT_EQ(heat_colour(2), heat_colour(1));
}

TEST(heat_colours, stand_for_the_logarithm_of_a_count) {
  const heat_map::range counts{.least = 1, .most = 10'000};
  EXPECT_DOUBLE_EQ(share_of(1, counts), 0);
  EXPECT_DOUBLE_EQ(share_of(100, counts), 0.5);
  EXPECT_DOUBLE_EQ(share_of(10'000, counts), 1);
  EXPECT_DOUBLE_EQ(share_of(7, {.least = 7, .most = 7}), 1);
}

#ifndef NO_GD

constexpr int kWhite = 0xffffff;

class heat_picture : public testing::Test {
 protected:
  void draw(const heat_map& map) {
    std::string png = draw_png(map, {.title = "metric of program", .subtitle = "what it is", .begin = 1e9});
    image_.reset(gdImageCreateFromPngPtr(static_cast<int>(png.size()), png.data()));
    ASSERT_TRUE(image_);
    EXPECT_EQ(gdImageSX(image_.get()), kPictureWidth);
    EXPECT_EQ(gdImageSY(image_.get()), kPictureHeight);
  }
  int at(int x, int y) const { return gdImageGetTrueColorPixel(image_.get(), x, y); }
  // In the middle of a duration's cell, at a share of the width.
  int of_cell(const heat_map& map, double seconds, double share) const {
    const duration_axis axis(heat_map::range_of(map.strips(kPlot.width)), kPlot.top, kPlot.height);
    const int cell = cell_of(seconds);
    return at(kPlot.left + static_cast<int>(share * kPlot.width), (axis.foot_of(cell) + axis.foot_of(cell + 1)) / 2);
  }
  int inked(int left, int top, int right, int bottom) const {
    int n = 0;
    for (int y = top; y < bottom; ++y)
      for (int x = left; x < right; ++x) n += at(x, y) != kWhite ? 1 : 0;
    return n;
  }

 private:
  std::unique_ptr<gdImage, decltype(&gdImageDestroy)> image_{nullptr, gdImageDestroy};
};

// p50 and p99 are elsewhere, since most durations are short, and so are the lines of the grid.
TEST_F(heat_picture, has_each_count_at_its_place_in_its_colour) {
  heat_map map(1);
  for (const std::uint64_t ns : {2'000'000u, 500'000u}) {
    histogram counted = of(1500, 10'000);
    counted.merge(of(ns, 1));
    map.add(1, counted);
  }
  draw(map);
  EXPECT_EQ(of_cell(map, 2e-3, 0.3), static_cast<int>(heat_colour(0)));
  EXPECT_EQ(of_cell(map, 2e-3, 0.7), kWhite);
  EXPECT_EQ(of_cell(map, 500e-6, 0.7), static_cast<int>(heat_colour(0)));
  EXPECT_EQ(of_cell(map, 500e-6, 0.3), kWhite);
}

TEST_F(heat_picture, is_darkest_where_most_was_counted) {
  heat_map map(1);
  histogram counted = of(1000, 1);
  counted.merge(of(1'000'000, 900));
  counted.merge(of(100'000, 30));
  counted.merge(of(1'000'000'000, 1000));
  map.add(1, counted);
  draw(map);
  EXPECT_EQ(of_cell(map, 1e-6, 0.5), static_cast<int>(heat_colour(0)));
  EXPECT_EQ(of_cell(map, 1e-4, 0.5), static_cast<int>(heat_colour(std::log(30) / std::log(1000))));
}

TEST_F(heat_picture, says_so_if_nothing_was_counted) {
  heat_map none(1), silence(1);
  for (int i = 0; i < 3; ++i) silence.add(1, {});
  for (const heat_map* map : {&none, &silence}) {
    draw(*map);
    const int x = kPlot.left + kPlot.width / 2, y = kPlot.top + kPlot.height / 2;
    EXPECT_GT(inked(x - 60, y - 8, x + 60, y + 8), 100);
  }
}

TEST_F(heat_picture, of_one_column_fills_the_width) {
  heat_map map(1);
  histogram counted = of(1000, 1000);
  counted.merge(of(1'000'000, 1));
  map.add(1, counted);
  draw(map);
  for (const double share : {0.0, 0.5, 0.999}) EXPECT_EQ(of_cell(map, 1e-3, share), static_cast<int>(heat_colour(0)));
}

TEST_F(heat_picture, of_ten_thousand_columns_has_them_all) {
  constexpr int kColumns = 10'000;
  heat_map map(1);
  for (int i = 0; i < kColumns; ++i) {
    histogram counted = of(1000, 1000);
    if (i < kColumns / 2) counted.merge(of(1'000'000, 1));
    map.add(1, counted);
  }
  draw(map);
  for (const double share : {0.01, 0.25, 0.49}) EXPECT_NE(of_cell(map, 1e-3, share), kWhite) << share;
  for (const double share : {0.51, 0.75, 0.99}) EXPECT_EQ(of_cell(map, 1e-3, share), kWhite) << share;
}

TEST_F(heat_picture, has_lines_for_quantiles) {
  constexpr int kP50 = 0x00a88f, kP99 = 0x1260d8;
  heat_map map(1);
  histogram counted = of(1000, 90);
  counted.merge(of(1'000'000, 10));
  map.add(1, counted);
  draw(map);
  const duration_axis axis(heat_map::range_of(map.strips(kPlot.width)), kPlot.top, kPlot.height);
  const int x = kPlot.left + 300;
  EXPECT_EQ(at(x, axis.row_of(counted.quantile(0.5))), kP50);
  EXPECT_EQ(at(x, axis.row_of(counted.quantile(0.99))), kP99);
}

TEST_F(heat_picture, has_words_and_labels_around) {
  heat_map map(1);
  map.add(1, of(1000, 90));
  draw(map);
  EXPECT_GT(inked(kPlot.left, 20, kPlot.left + 150, 36), 100);                                     // the title
  EXPECT_GT(inked(0, kPlot.top, kPlot.left - 6, kPlot.top + kPlot.height), 100);                   // durations
  EXPECT_GT(inked(kPlot.left, kPlot.top + kPlot.height + 6, kPictureWidth, kPictureHeight), 100);  // times
}

TEST_F(heat_picture, takes_any_name) {
  heat_map map(1);
  map.add(1, of(1000, 1));
  EXPECT_FALSE(draw_png(map, {.title = std::string(10'000, '\xff') + "\n\t", .subtitle = "µ"}).empty());
}

#else
TEST(heat_picture, is_drawn) { GTEST_SKIP() << "built without libgd"; }
#endif

}  // namespace
