// SPDX-License-Identifier: Apache-2.0
// The statistics and the search of `weft tune`, on made-up programs with a known best point and noise.
#include "tools/tuner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>

namespace {

using namespace weft::tools;

sample sample_of(const std::vector<double>& values) {
  sample all;
  for (const double each : values) all.add(each);
  return all;
}

TEST(sample, has_mean_and_variance) {
  EXPECT_EQ(sample_of({}).mean(), 0);
  EXPECT_EQ(sample_of({3}).variance(), 0);
  EXPECT_DOUBLE_EQ(sample_of({1, 2, 3, 4}).mean(), 2.5);
  EXPECT_DOUBLE_EQ(sample_of({1, 2, 3, 4}).variance(), 5.0 / 3);
}

TEST(student_t, gets_smaller_with_the_degrees_of_freedom) {
  EXPECT_DOUBLE_EQ(student_t(1), 12.706);
  EXPECT_DOUBLE_EQ(student_t(4), 2.776);
  EXPECT_DOUBLE_EQ(student_t(0.3), 12.706);
  for (int degrees = 1; degrees < 200; ++degrees) EXPECT_LE(student_t(degrees + 1), student_t(degrees)) << degrees;
  EXPECT_NEAR(student_t(60), 2.000, 0.003);
  EXPECT_NEAR(student_t(1e6), 1.960, 0.001);
}

TEST(mean_interval, is_the_textbook_s) {
  const interval i = mean_interval(sample_of({1, 2, 3, 4}));
  const double half = 3.182 * std::sqrt(5.0 / 3 / 4);
  EXPECT_NEAR(i.low, 2.5 - half, 1e-9);
  EXPECT_NEAR(i.high, 2.5 + half, 1e-9);
  EXPECT_TRUE(std::isinf(mean_interval(sample_of({1})).high));
}

TEST(relative_gain, is_a_share_of_the_first) {
  const interval exact = relative_gain(sample_of({2, 2, 2}), sample_of({3, 3, 3}));
  EXPECT_DOUBLE_EQ(exact.low, 0.5);
  EXPECT_DOUBLE_EQ(exact.high, 0.5);
  const interval noisy = relative_gain(sample_of({1.9, 2, 2.1}), sample_of({2.9, 3, 3.1}));
  EXPECT_LT(noisy.low, 0.5);
  EXPECT_GT(noisy.low, 0.3);
  EXPECT_GT(noisy.high, 0.5);
  EXPECT_TRUE(std::isinf(relative_gain(sample_of({2}), sample_of({3, 3})).low));
}

// Covers the true difference as often as it says.
TEST(relative_gain, is_right_in_95_of_100_cases) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> before(10, 1), after(12, 2);
  int right = 0;
  constexpr int kCases = 2000;
  for (int i = 0; i < kCases; ++i) {
    sample a, b;
    for (int n = 0; n < 8; ++n) {
      a.add(before(random));
      b.add(after(random));
    }
    // As a share of the measured mean, which is itself noisy: the difference alone is what is 95 % sure.
    const interval gain = relative_gain(a, b);
    right += gain.low * a.mean() <= 2 && 2 <= gain.high * a.mean() ? 1 : 0;
  }
  EXPECT_NEAR(static_cast<double>(right) / kCases, 0.95, 0.02);
}

// A program whose throughput is known, measured with noise of a few per cent.
struct program {
  double (*throughput)(const point& at);
  double noise = 0.02;
  std::mt19937_64 random{42};
  int runs = 0;

  double operator()(const point& at) {
    ++runs;
    return throughput(at) * std::normal_distribution<double>(1, noise)(random);
  }
};

search_result search(program& what, const point& start, const point& most, const search_limits& limits = {}) {
  return search_best(start, most, limits, std::ref(what));
}

double scales(const point& at) { return std::accumulate(at.begin(), at.end(), 0.0); }
double flat(const point&) { return 100; }
// Best with 5 Ps on the first node and 2 on the second.
double hill(const point& at) { return 1000 - 30.0 * std::abs(at[0] - 5) - 40.0 * std::abs(at[1] - 2); }
// Two nodes are too far from each other for it.
double one_node(const point& at) { return at[0] > 0 && at[1] > 0 ? 60 : 10.0 * (at[0] + at[1]); }

TEST(search_best, stays_where_nothing_is_better) {
  program what{flat};
  const search_result found = search(what, {8, 8}, {8, 8});
  EXPECT_EQ(found.best, (point{8, 8}));
  EXPECT_EQ(found.found.size(), 0);
  EXPECT_FALSE(found.exhausted);
}

TEST(search_best, takes_all_cpus_that_help) {
  program what{scales};
  const search_result found = search(what, {1, 1}, {8, 4});
  EXPECT_EQ(found.best, (point{8, 4}));
  EXPECT_GT(found.gain.low, 4);
  EXPECT_LT(found.gain.high, 6);
}

TEST(search_best, goes_uphill_on_each_node) {
  for (const point& start : {point{8, 8}, point{1, 0}, point{0, 8}}) {
    program what{hill, 0.002};
    EXPECT_EQ(search(what, start, {8, 8}).best, (point{5, 2}));
  }
}

TEST(search_best, leaves_a_node_that_harms) {
  program what{one_node};
  EXPECT_EQ(search(what, {8, 8}, {8, 8}).best, (point{0, 8}));
}

TEST(search_best, needs_far_fewer_runs_than_a_grid) {
  program what{scales};
  search(what, {64, 64, 64, 64}, {64, 64, 64, 64});
  EXPECT_LT(what.runs, 400);  // 65^4 points
}

TEST(search_best, is_hardly_ever_deceived_by_noise) {
  int deceived = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    program what{flat, 0.1, std::mt19937_64(seed)};
    deceived += search(what, {4, 4}, {4, 4}).best != point{4, 4} ? 1 : 0;
  }
  EXPECT_LE(deceived, 5);
}

TEST(search_best, ignores_a_gain_that_is_not_worth_it) {
  program what{[](const point& at) { return at[0] == 4 ? 100.0 : 101.0; }, 0.0001};
  EXPECT_EQ(search(what, {4}, {4}).best, point{4});
  EXPECT_NE(search(what, {4}, {4}, {.worth = 0.005}).best, point{4});
}

TEST(search_best, measures_no_point_without_ps_or_beyond_the_machine) {
  std::set<point> seen;
  search_best({2, 0}, {2, 1}, {}, [&](const point& at) {
    seen.insert(at);
    EXPECT_GT(at[0] + at[1], 0);
    EXPECT_TRUE(at[0] >= 0 && at[0] <= 2 && at[1] >= 0 && at[1] <= 1);
    return 1.0;
  });
  EXPECT_TRUE(seen.contains(point{1, 0}));
  EXPECT_TRUE(seen.contains(point{2, 1}));
}

TEST(search_best, gives_up_at_once_on_what_is_hopeless) {
  int runs_of_one = 0;
  search_best({8}, {8}, {}, [&](const point& at) {
    runs_of_one += at[0] == 4 ? 1 : 0;
    return static_cast<double>(at[0]);
  });
  EXPECT_EQ(runs_of_one, 1);
}

TEST(search_best, keeps_to_its_budget) {
  program what{scales};
  const search_result found = search(what, {1, 1}, {8, 8}, {.budget = 10});
  EXPECT_EQ(what.runs, 10);
  EXPECT_TRUE(found.exhausted);
  EXPECT_EQ(found.best, (point{1, 1}));  // nothing was confirmed
}

TEST(search_best, ends_with_what_the_measurement_throws) {
  EXPECT_THROW(search_best({1}, {4}, {}, [](const point&) -> double { throw std::runtime_error("x"); }),
               std::runtime_error);
}

TEST(search_best, has_one_point_to_measure_on_one_cpu) {
  program what{flat};
  const search_result found = search(what, {1}, {1});
  EXPECT_EQ(found.trials.size(), 1u);
  EXPECT_EQ(what.runs, 3);
  EXPECT_EQ(found.best, point{1});
}

TEST(first_round, is_half_of_the_largest_node_up_and_down_and_all_of_it) {
  EXPECT_EQ(first_round({8, 2}, {8, 8}), (std::vector<point>{{4, 2}, {0, 2}, {8, 6}, {8, 0}, {8, 8}}));
  EXPECT_TRUE(first_round({1}, {1}).empty());
}

}  // namespace
