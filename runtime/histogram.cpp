// SPDX-License-Identifier: Apache-2.0
#include "runtime/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace weft::metrics {

// Below 2^(kSubBits+1) ns the buckets are 1 ns wide; above, the kSubBits bits below the leading one number them.
int histogram::bucket_of(std::uint64_t ns) noexcept {
  if (ns < (std::uint64_t{1} << kSubBits)) return static_cast<int>(ns);
  const int exponent = 63 - std::countl_zero(ns);
  if (exponent >= kMaxBits) return kBuckets - 1;
  const auto sub = static_cast<int>((ns >> (exponent - kSubBits)) & ((1u << kSubBits) - 1));
  return ((exponent - kSubBits + 1) << kSubBits) + sub;
}

std::uint64_t histogram::lower_ns(int bucket) noexcept {
  if (bucket < (1 << kSubBits)) return static_cast<std::uint64_t>(bucket);
  const int exponent = (bucket >> kSubBits) + kSubBits - 1;
  const auto sub = static_cast<std::uint64_t>(bucket & ((1 << kSubBits) - 1));
  return ((std::uint64_t{1} << kSubBits) + sub) << (exponent - kSubBits);
}

void histogram::add(int bucket, std::uint64_t count, std::uint64_t sum_ns) noexcept {
  counts_[static_cast<std::size_t>(bucket)] += count;
  count_ += count;
  sum_ns_ += sum_ns;
}

void histogram::merge(const histogram& other) noexcept {
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  sum_ns_ += other.sum_ns_;
  max_ns_ = std::max(max_ns_, other.max_ns_);
}

histogram histogram::since(const histogram& earlier) const {
  histogram rest;
  for (int i = 0; i < kBuckets; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (counts_[at] <= earlier.counts_[at]) continue;
    rest.add(i, counts_[at] - earlier.counts_[at], 0);
    rest.max_ns_ = std::min(lower_ns(i + 1), max_ns_);
  }
  rest.sum_ns_ = sum_ns_ - std::min(earlier.sum_ns_, sum_ns_);
  return rest;
}

double histogram::quantile(double q) const noexcept {
  if (count_ == 0) return 0;
  const double rank = std::clamp(q, 0.0, 1.0) * static_cast<double>(count_);
  std::uint64_t below = 0;
  for (int i = 0; i < kBuckets; ++i) {
    const std::uint64_t n = counts_[static_cast<std::size_t>(i)];
    if (n == 0 || static_cast<double>(below + n) < rank) {
      below += n;
      continue;
    }
    const double share = (rank - static_cast<double>(below)) / static_cast<double>(n);
    const auto low = static_cast<double>(lower_ns(i)), high = static_cast<double>(lower_ns(i + 1));
    return std::min(low + share * (high - low), static_cast<double>(max_ns_)) * 1e-9;
  }
  return max();
}

std::vector<histogram::bucket> histogram::buckets() const {
  std::vector<bucket> result;
  for (int i = 0; i < kBuckets; ++i)
    if (const std::uint64_t n = counts_[static_cast<std::size_t>(i)])
      result.push_back({static_cast<double>(lower_ns(i)) * 1e-9, static_cast<double>(lower_ns(i + 1)) * 1e-9, n});
  return result;
}

}  // namespace weft::metrics
