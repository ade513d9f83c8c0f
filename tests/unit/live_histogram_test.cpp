// SPDX-License-Identifier: Apache-2.0
// The log-linear histogram: where each duration is counted, what quantiles say of it, merging, and its live form with
// one writer and any number of readers.
#include "runtime/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "tests/fixture.h"

namespace {

using weft::metrics::histogram;
using weft::rt::live_histogram;
using weft::test::scaled;

constexpr std::uint64_t kEnd = std::uint64_t{1} << histogram::kMaxBits;
constexpr double kNs = 1e-9;

// What a duration in a histogram is known to, and rounding.
double tolerance(double seconds) { return seconds / (1 << histogram::kSubBits) + kNs; }

histogram of(const std::vector<std::uint64_t>& values) {
  const auto live = std::make_unique<live_histogram>();
  for (std::uint64_t v : values) live->record(v);
  histogram result;
  live->add_to(result);
  return result;
}

TEST(histogram, buckets_are_in_order_and_leave_no_gap) {
  EXPECT_EQ(histogram::lower_ns(0), 0u);
  EXPECT_EQ(histogram::lower_ns(histogram::kBuckets), kEnd);
  for (int i = 0; i < histogram::kBuckets; ++i)
    ASSERT_LT(histogram::lower_ns(i), histogram::lower_ns(i + 1)) << "bucket " << i;
}

TEST(histogram, a_value_at_below_and_above_each_boundary_falls_on_its_side) {
  for (int i = 0; i < histogram::kBuckets; ++i) {
    const std::uint64_t low = histogram::lower_ns(i), next = histogram::lower_ns(i + 1);
    ASSERT_EQ(histogram::bucket_of(low), i) << low;
    ASSERT_EQ(histogram::bucket_of(next - 1), i) << next - 1;
    if (i > 0) {
      ASSERT_EQ(histogram::bucket_of(low - 1), i - 1) << low - 1;
    }
    ASSERT_EQ(histogram::bucket_of(low + 1), next - low > 1 ? i : std::min(i + 1, histogram::kBuckets - 1)) << low + 1;
  }
}

TEST(histogram, small_durations_are_known_exactly_and_all_within_a_sixteenth) {
  for (std::uint64_t ns = 0; ns < 2u << histogram::kSubBits; ++ns)
    EXPECT_EQ(histogram::lower_ns(histogram::bucket_of(ns)), ns);
  for (int i = 1; i < histogram::kBuckets; ++i) {
    const std::uint64_t low = histogram::lower_ns(i), width = histogram::lower_ns(i + 1) - low;
    ASSERT_LE(width - 1, low >> histogram::kSubBits) << "bucket " << i;
  }
}

TEST(histogram, longer_durations_are_counted_in_the_last_bucket_and_known_as_the_maximum) {
  for (std::uint64_t ns : {kEnd, kEnd + 1, 3 * kEnd, UINT64_MAX})
    EXPECT_EQ(histogram::bucket_of(ns), histogram::kBuckets - 1);
  EXPECT_EQ(histogram::bucket_of(kEnd - 1), histogram::kBuckets - 1);
  const histogram h = of({5, 4 * kEnd});
  EXPECT_EQ(h.count(), 2u);
  EXPECT_DOUBLE_EQ(h.max(), static_cast<double>(4 * kEnd) * kNs);
  ASSERT_EQ(h.buckets().size(), 2u);
  EXPECT_EQ(h.buckets().back().count, 1u);
  EXPECT_GE(h.quantile(1), static_cast<double>(histogram::lower_ns(histogram::kBuckets - 1)) * kNs);
  EXPECT_LE(h.quantile(1), h.max());
}

TEST(histogram, an_empty_one_is_all_zeros) {
  const histogram h;
  EXPECT_EQ(h.count(), 0u);
  EXPECT_EQ(h.sum(), 0);
  EXPECT_EQ(h.max(), 0);
  for (double q : {0.0, 0.5, 1.0}) EXPECT_EQ(h.quantile(q), 0);
  EXPECT_TRUE(h.buckets().empty());
}

TEST(histogram, one_value_is_every_quantile) {
  for (std::uint64_t ns : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{17}, std::uint64_t{123'456'789}}) {
    const histogram h = of({ns});
    const double seconds = static_cast<double>(ns) * kNs;
    EXPECT_DOUBLE_EQ(h.sum(), seconds);
    EXPECT_DOUBLE_EQ(h.max(), seconds);
    for (double q : {0.0, 0.01, 0.5, 0.99, 1.0}) EXPECT_NEAR(h.quantile(q), seconds, tolerance(seconds));
    EXPECT_DOUBLE_EQ(h.quantile(1), seconds);
  }
}

TEST(histogram, a_share_outside_of_0_to_1_means_the_nearest_end) {
  const histogram h = of({10, 1000, 100'000});
  EXPECT_EQ(h.quantile(-1), h.quantile(0));
  EXPECT_EQ(h.quantile(7), h.quantile(1));
}

TEST(histogram, buckets_are_disjoint_ordered_and_count_everything) {
  std::mt19937_64 random(1);
  std::vector<std::uint64_t> values;
  for (int i = 0; i < 10'000; ++i) values.push_back(random() >> (20 + random() % 44));
  const histogram h = of(values);
  std::uint64_t count = 0;
  double end = 0;
  for (const histogram::bucket& b : h.buckets()) {
    EXPECT_GE(b.lower, end);
    EXPECT_GT(b.upper, b.lower);
    EXPECT_GT(b.count, 0u);
    count += b.count;
    end = b.upper;
  }
  EXPECT_EQ(count, values.size());
  EXPECT_EQ(h.count(), values.size());
}

struct shape {
  const char* name;
  std::uint64_t (*draw)(std::mt19937_64& random);
};

void PrintTo(const shape& s, std::ostream* to) { *to << s.name; }

class histogram_quantiles : public testing::TestWithParam<shape> {};

TEST_P(histogram_quantiles, are_within_a_sixteenth_of_the_exact_ones) {
  std::mt19937_64 random(42);
  for (int n : {1, 2, 3, 10, 1000, scaled(100'000)}) {
    std::vector<std::uint64_t> values;
    for (int i = 0; i < n; ++i) values.push_back(GetParam().draw(random));
    const histogram h = of(values);
    std::sort(values.begin(), values.end());
    double before = 0;
    for (double q : {0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0}) {
      const auto rank = static_cast<std::size_t>(std::ceil(q * n));
      const double exact = static_cast<double>(values[rank == 0 ? 0 : rank - 1]) * kNs;
      EXPECT_NEAR(h.quantile(q), exact, tolerance(exact)) << "q " << q << " of " << n;
      EXPECT_GE(h.quantile(q), before) << "q " << q << " of " << n;
      before = h.quantile(q);
    }
    EXPECT_LE(before, h.max());
    EXPECT_DOUBLE_EQ(h.max(), static_cast<double>(values.back()) * kNs);
  }
}

INSTANTIATE_TEST_SUITE_P(
    of, histogram_quantiles,
    testing::Values(shape{"uniform", [](std::mt19937_64& random) { return random() % 1'000'000; }},
                    shape{"small", [](std::mt19937_64& random) { return random() % 40; }},
                    shape{"constant", [](std::mt19937_64&) { return std::uint64_t{54'321}; }},
                    shape{"exponential",
                          [](std::mt19937_64& random) {
                            return static_cast<std::uint64_t>(std::exponential_distribution<>(1e-5)(random));
                          }},
                    shape{"every_magnitude", [](std::mt19937_64& random) { return random() >> (23 + random() % 41); }},
                    shape{"two_peaks",
                          [](std::mt19937_64& random) {
                            return random() % 10 == 0 ? 5'000'000 + random() % 1000 : 200 + random() % 50;
                          }}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(histogram, merging_is_as_if_all_had_been_counted_in_one) {
  std::mt19937_64 random(7);
  std::vector<std::uint64_t> all, parts[3];
  for (int i = 0; i < 3000; ++i) {
    all.push_back(random() >> (20 + random() % 44));
    parts[i % 3].push_back(all.back());
  }
  const histogram whole = of(all);
  for (const auto& order : {std::vector{0, 1, 2}, {2, 0, 1}}) {
    histogram merged;
    for (int i : order) merged.merge(of(parts[i]));
    merged.merge(histogram());
    EXPECT_EQ(merged.count(), whole.count());
    EXPECT_DOUBLE_EQ(merged.sum(), whole.sum());
    EXPECT_EQ(merged.max(), whole.max());
    ASSERT_EQ(merged.buckets().size(), whole.buckets().size());
    for (std::size_t i = 0; i < whole.buckets().size(); ++i) {
      EXPECT_EQ(merged.buckets()[i].lower, whole.buckets()[i].lower);
      EXPECT_EQ(merged.buckets()[i].count, whole.buckets()[i].count);
    }
    for (double q : {0.1, 0.5, 0.9, 0.99}) EXPECT_EQ(merged.quantile(q), whole.quantile(q));
  }
}

TEST(histogram, a_copy_stays_as_it_was) {
  const histogram before = of({1, 2, 3});
  histogram copy = before;
  copy.merge(of({1000}));
  EXPECT_EQ(before.count(), 3u);
  EXPECT_EQ(copy.count(), 4u);
}

TEST(live_histogram, a_weight_counts_for_as_many) {
  const auto weighted = std::make_unique<live_histogram>(), single = std::make_unique<live_histogram>();
  weighted->record(100, 7);
  weighted->record(5000);
  for (int i = 0; i < 7; ++i) single->record(100);
  single->record(5000);
  histogram a, b;
  weighted->add_to(a);
  single->add_to(b);
  EXPECT_EQ(a.count(), 8u);
  EXPECT_EQ(a.count(), b.count());
  EXPECT_DOUBLE_EQ(a.sum(), b.sum());
  EXPECT_EQ(a.quantile(0.5), b.quantile(0.5));
}

TEST(live_histogram, several_are_added_up) {
  const auto first = std::make_unique<live_histogram>(), second = std::make_unique<live_histogram>();
  first->record(10);
  second->record(20);
  second->record(30);
  histogram total;
  first->add_to(total);
  second->add_to(total);
  EXPECT_EQ(total.count(), 3u);
  EXPECT_NEAR(total.sum(), 60 * kNs, 1e-12);
  EXPECT_NEAR(total.max(), 30 * kNs, 1e-12);
}

TEST(live_histogram, readers_beside_the_writer_see_nothing_go_backwards) {
  const auto live = std::make_unique<live_histogram>();
  const std::uint64_t n = static_cast<std::uint64_t>(scaled(200'000));
  std::atomic<bool> done{false};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i)
    readers.emplace_back([&] {
      std::uint64_t count = 0;
      double sum = 0, max = 0;
      while (!done) {
        histogram h;
        live->add_to(h);
        EXPECT_GE(h.count(), count);
        EXPECT_GE(h.sum(), sum);
        EXPECT_GE(h.max(), max);
        EXPECT_LE(h.count(), n);
        count = h.count();
        sum = h.sum();
        max = h.max();
      }
    });
  for (std::uint64_t i = 0; i < n; ++i) live->record(i);
  done = true;
  for (std::thread& reader : readers) reader.join();
  histogram h;
  live->add_to(h);
  EXPECT_EQ(h.count(), n);
  EXPECT_DOUBLE_EQ(h.sum(), static_cast<double>(n * (n - 1) / 2) * kNs);
  EXPECT_DOUBLE_EQ(h.max(), static_cast<double>(n - 1) * kNs);
}

}  // namespace
