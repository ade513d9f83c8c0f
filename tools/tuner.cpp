// SPDX-License-Identifier: Apache-2.0
#include "tools/tuner.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

namespace weft::tools {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// A first value this far below the mean of the best point's needs no second.
constexpr double kHopeless = 0.6;

int sum(const point& at) { return std::accumulate(at.begin(), at.end(), 0); }

// What the search is out of, when its budget is.
struct out_of_budget {};

class searcher {
 public:
  searcher(const point& most, const search_limits& limits, const measure_fn& measure)
      : most_(most), limits_(limits), measure_(measure) {}

  search_result run(const point& start) {
    result_.trials.push_back({start, {}});
    best_ = 0;
    try {
      while (at(best_).scores.size() < limits_.min_runs) measure(best_);
      for (int step = first_step(most_); step > 0; step /= 2)
        while (improve(step)) continue;
      confirm(start);
    } catch (const out_of_budget&) {
      result_.exhausted = true;
    }
    if (result_.best.empty()) result_.best = start;
    return std::move(result_);
  }

  static int first_step(const point& most) {
    int step = 1;
    while (step * 4 <= *std::max_element(most.begin(), most.end())) step *= 2;
    return step;
  }

  // In the first round also all the way: a node may be best left out, though half of it is no better than the whole.
  static std::vector<int> moves(int step, int most, int first) {
    std::vector<int> all = {step, -step};
    if (step == first) all.insert(all.end(), {-most, most});
    return all;
  }

  static std::optional<point> moved(const point& from, std::size_t axis, int by, const point& most) {
    point to = from;
    to[axis] = std::clamp(from[axis] + by, 0, most[axis]);
    return to == from || sum(to) == 0 ? std::nullopt : std::optional(to);
  }

 private:
  trial& at(std::size_t index) { return result_.trials[index]; }

  void measure(sample& into, const point& where) {
    if (runs_ == limits_.budget) throw out_of_budget();
    ++runs_;
    into.add(measure_(where));
  }
  void measure(std::size_t index) { measure(at(index).scores, point(at(index).at)); }

  // Nothing: it was tried before, when the best was worse than it is now, or it is the best itself.
  std::optional<std::size_t> new_trial(const point& where) {
    const auto same = [&](const trial& t) { return t.at == where; };
    if (std::any_of(result_.trials.begin(), result_.trials.end(), same)) return std::nullopt;
    result_.trials.push_back({where, {}});
    return result_.trials.size() - 1;
  }

  // One round over all nodes, up and down; true: something was better.
  bool improve(int step) {
    bool any = false;
    for (std::size_t axis = 0; axis < most_.size(); ++axis)
      for (const int by : moves(step, most_[axis], first_step(most_)))
        while (const auto next = moved(at(best_).at, axis, by, most_)) {
          const auto candidate = new_trial(*next);
          if (!candidate || !is_better(*candidate)) break;
          best_ = *candidate;
          any = true;
        }
    return any;
  }

  bool is_better(std::size_t candidate) {
    for (;;) {
      while (at(best_).scores.size() < std::min(at(candidate).scores.size() + 1, limits_.max_runs)) measure(best_);
      measure(candidate);
      const int n = at(candidate).scores.size();
      if (n == 1 && at(candidate).scores.mean() < kHopeless * at(best_).scores.mean()) return false;
      if (n < limits_.min_runs) continue;
      const interval gain = relative_gain(at(best_).scores, at(candidate).scores);
      const double mean = at(candidate).scores.mean() / at(best_).scores.mean() - 1;
      if (gain.low > 0 && mean >= limits_.worth) return true;
      if (gain.high < limits_.worth || n >= limits_.max_runs) return false;
    }
  }

  void confirm(const point& start) {
    if (best_ == 0) return;
    const point found = at(best_).at;
    for (int i = 0; i < limits_.max_runs; ++i) {
      measure(result_.first, start);
      measure(result_.found, found);
    }
    const interval gain = relative_gain(result_.first, result_.found);
    if (gain.low <= 0) return;
    result_.gain = gain;
    result_.best = found;
  }

  const point most_;
  const search_limits limits_;
  const measure_fn& measure_;
  search_result result_;
  std::size_t best_ = 0;
  int runs_ = 0;
};

}  // namespace

void sample::add(double value) { values_.push_back(value); }

double sample::mean() const {
  return values_.empty() ? 0 : std::accumulate(values_.begin(), values_.end(), 0.0) / size();
}

double sample::variance() const {
  if (size() < 2) return 0;
  const double middle = mean();
  double sum = 0;
  for (const double each : values_) sum += (each - middle) * (each - middle);
  return sum / (size() - 1);
}

double student_t(double degrees) {
  constexpr std::array kTable = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                                 2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
                                 2.080,  2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
  const auto whole = static_cast<std::size_t>(std::max(degrees, 1.0));
  return whole <= kTable.size() ? kTable[whole - 1] : 1.960 + 2.45 / degrees;
}

interval mean_interval(const sample& of) {
  if (of.size() < 2) return {-kInfinity, kInfinity};
  const double half = student_t(of.size() - 1) * std::sqrt(of.variance() / of.size());
  return {of.mean() - half, of.mean() + half};
}

interval relative_gain(const sample& from, const sample& to) {
  if (from.size() < 2 || to.size() < 2 || from.mean() <= 0) return {-kInfinity, kInfinity};
  const double a = from.variance() / from.size(), b = to.variance() / to.size();
  const double middle = to.mean() - from.mean();
  double half = 0;
  if (a + b > 0) {
    const double degrees = (a + b) * (a + b) / (a * a / (from.size() - 1) + b * b / (to.size() - 1));
    half = student_t(degrees) * std::sqrt(a + b);
  }
  return {(middle - half) / from.mean(), (middle + half) / from.mean()};
}

search_result search_best(const point& start, const point& most, const search_limits& limits,
                          const measure_fn& measure) {
  return searcher(most, limits, measure).run(start);
}

std::vector<point> first_round(const point& start, const point& most) {
  std::vector<point> all;
  const int step = searcher::first_step(most);
  for (std::size_t axis = 0; axis < most.size(); ++axis)
    for (const int by : searcher::moves(step, most[axis], step))
      if (const auto next = searcher::moved(start, axis, by, most); next && std::ranges::find(all, *next) == all.end())
        all.push_back(*next);
  return all;
}

}  // namespace weft::tools
