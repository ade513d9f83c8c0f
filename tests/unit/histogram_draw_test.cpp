// SPDX-License-Identifier: Apache-2.0
// Histograms as text.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include <weft/metrics.h>

#include "tools/hist_draw.h"

namespace {

using namespace weft::tools;
using weft::metrics::histogram;

void add(histogram& values, std::uint64_t ns, std::uint64_t times) {
  values.add(histogram::bucket_of(ns), times, ns * times);
  values.add_max(ns);
}

TEST(duration, has_three_digits_and_the_unit_that_fits) {
  EXPECT_EQ(format_duration(0, true), "0 ns");
  EXPECT_EQ(format_duration(7e-9, true), "7 ns");
  EXPECT_EQ(format_duration(512e-9, true), "512 ns");
  EXPECT_EQ(format_duration(1.024e-6, true), "1.02 µs");
  EXPECT_EQ(format_duration(65.536e-6, true), "65.5 µs");
  EXPECT_EQ(format_duration(4.1e-3, true), "4.10 ms");
  EXPECT_EQ(format_duration(262.144e-3, true), "262 ms");
  EXPECT_EQ(format_duration(12.3456, true), "12.3 s");
  EXPECT_EQ(format_duration(4398.0, true), "4398 s");
}

TEST(duration, rounding_never_shows_a_thousand_of_a_unit) {
  EXPECT_EQ(format_duration(999.7e-9, true), "1.00 µs");
  EXPECT_EQ(format_duration(999.96e-6, true), "1.00 ms");
  EXPECT_EQ(format_duration(9.996e-3, true), "10.0 ms");
}

TEST(duration, without_utf8) { EXPECT_EQ(format_duration(2e-6, false), "2.00 us"); }

TEST(bar, is_as_long_as_its_share) {
  EXPECT_EQ(bar(10, 10, 40, false), std::string(40, '*'));
  EXPECT_EQ(bar(5, 10, 40, false), std::string(20, '*'));
  EXPECT_EQ(bar(0, 10, 40, false), "");
}

TEST(bar, is_never_empty_for_what_happened) {
  EXPECT_EQ(bar(1, 1'000'000, 40, false), "*");
  EXPECT_EQ(bar(1, 1'000'000, 40, true), "▏");
}

TEST(bar, has_eighths_in_utf8) {
  EXPECT_EQ(bar(8, 8, 2, true), "██");
  EXPECT_EQ(bar(5, 8, 1, true), "▋");
  EXPECT_EQ(bar(12, 16, 2, true), "█▌");
}

TEST(rows, are_powers_of_two) {
  histogram values;
  for (const std::uint64_t ns : {256u, 300u, 511u, 512u}) add(values, ns, 1);
  const std::vector<log2_row> rows = log2_rows(values.buckets());
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].lower_ns, 256u);
  EXPECT_EQ(rows[0].upper_ns, 512u);
  EXPECT_EQ(rows[0].count, 3u);
  EXPECT_EQ(rows[1].lower_ns, 512u);
  EXPECT_EQ(rows[1].count, 1u);
}

TEST(rows, between_the_first_and_the_last_are_shown_empty) {
  histogram values;
  add(values, 0, 2);
  add(values, 5, 1);
  const std::vector<log2_row> rows = log2_rows(values.buckets());
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0].lower_ns, 0u);
  EXPECT_EQ(rows[0].upper_ns, 1u);
  EXPECT_EQ(rows[0].count, 2u);
  EXPECT_EQ(rows[1].count, 0u);
  EXPECT_EQ(rows[2].count, 0u);
  EXPECT_EQ(rows[3].lower_ns, 4u);
  EXPECT_EQ(rows[3].count, 1u);
}

TEST(rows, none_of_an_empty_histogram) { EXPECT_TRUE(log2_rows(histogram().buckets()).empty()); }

TEST(rows, hold_the_longest_duration) {
  histogram values;
  add(values, UINT64_MAX / 2, 3);
  const std::vector<log2_row> rows = log2_rows(values.buckets());
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].count, 3u);
}

TEST(drawing, plain) {
  histogram values;
  add(values, 600, 4);
  add(values, 1100, 2);
  EXPECT_EQ(draw_histogram("runq_wait", "runnable to running", values, {}),
            "runq_wait (runnable to running): 6 times, p50 " + format_duration(values.quantile(0.5), false) + ", p90 " +
                format_duration(values.quantile(0.9), false) + ", p99 " +
                format_duration(values.quantile(0.99), false) + ", max 1.10 us\n" +
                "    512 ns .. 1.02 us  : 4          |" + std::string(40, '*') + "|\n" +
                "   1.02 us .. 2.05 us  : 2          |" + std::string(20, '*') + std::string(20, ' ') + "|\n");
}

TEST(drawing, columns_stay_aligned_in_utf8) {
  histogram values;
  add(values, 600, 4);
  add(values, 1100, 1);
  const std::string text = draw_histogram("x", "y", values, {.utf8 = true});
  std::string full;
  for (int i = 0; i < 40; ++i) full += "█";
  std::string quarter;
  for (int i = 0; i < 10; ++i) quarter += "█";
  EXPECT_NE(text.find("    512 ns .. 1.02 µs  : 4          │" + full + "│\n"), std::string::npos) << text;
  EXPECT_NE(text.find("   1.02 µs .. 2.05 µs  : 1          │" + quarter + std::string(30, ' ') + "│\n"),
            std::string::npos)
      << text;
}

TEST(drawing, colours_only_when_asked) {
  histogram values;
  add(values, 600, 4);
  EXPECT_EQ(draw_histogram("x", "y", values, {.utf8 = true}).find('\033'), std::string::npos);
  EXPECT_NE(draw_histogram("x", "y", values, {.colour = true}).find('\033'), std::string::npos);
}

TEST(drawing, nothing_happened) { EXPECT_EQ(draw_histogram("handoff", "y", histogram(), {}), "handoff (y): none\n"); }

}  // namespace
