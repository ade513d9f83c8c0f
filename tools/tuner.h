// SPDX-License-Identifier: Apache-2.0
// Finding the best number of Ps for each node by measuring: the statistics and the search, which know nothing of
// programs and processes.
//
// A measurement is noisy, and dear (a run of the program). So two points are compared by the confidence interval of the
// difference of their means (Welch's), with no more measurements than it takes to tell, a few at least and a limited
// number at most, and in turns, so that what the machine does besides hits both alike. What cannot be told apart, or
// differs by less than is worth a change, is equal, and then what was there first stays.
//
// The search is a coordinate descent: one node after the other, in steps that get smaller, until no step on any node is
// better. A grid would need the product of the nodes' sizes, this takes about their logarithm each; where the best
// point is not reached by changing one node at a time it may stop too early. At the end the best point is measured
// against the first anew: of many noisy values the best is too good to be true.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace weft::tools {

/// Values measured under the same conditions.
class sample {
 public:
  void add(double value);
  int size() const { return static_cast<int>(values_.size()); }
  const std::vector<double>& values() const { return values_; }
  double mean() const;
  double variance() const;  // of the values; 0 for fewer than two

 private:
  std::vector<double> values_;
};

struct interval {
  double low, high;
};

/// The 97.5th percentile of Student's t: what bounds 95 % on both sides. Degrees of freedom at least 1.
double student_t(double degrees);
/// Where the mean lies, with 95 % confidence; without bounds for fewer than two values.
interval mean_interval(const sample& of);
/// By how much the mean of `to` is greater than that of `from`, as a share of it (0.1: by a tenth), with 95 %
/// confidence.
interval relative_gain(const sample& from, const sample& to);

/// Ps on each node.
using point = std::vector<int>;

struct search_limits {
  int min_runs = 3;     // of a point before it is judged
  int max_runs = 10;    // then it counts as equal
  int budget = 1000;    // runs in all
  double worth = 0.02;  // a gain below this is none
};

struct trial {
  point at;
  sample scores;
};

struct search_result {
  std::vector<trial> trials;  // in the order in which they were first tried; the first is the start
  point best;                 // the start if nothing is better for sure
  sample first, found;        // of the last comparison, of the start and the best point; empty if nothing was found
  interval gain{0, 0};        // of the best point
  bool exhausted = false;     // the budget was, before the search ended
};

/// A score of the program at a point, the more the better. What it throws ends the search.
using measure_fn = std::function<double(const point& at)>;

/// The best point from 0 to `most` on each node, at least one P in all.
search_result search_best(const point& start, const point& most, const search_limits& limits,
                          const measure_fn& measure);

/// The steps of the search's first round, in order, if none of them is better: for a look without measuring.
std::vector<point> first_round(const point& start, const point& most);

}  // namespace weft::tools
