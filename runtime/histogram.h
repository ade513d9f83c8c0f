// SPDX-License-Identifier: Apache-2.0
// The live form of metrics::histogram: one writer (the M that holds the P), read by anybody at any time, wait-free.
// Counters are written with plain load-add-store: nobody else writes them. A reader may see a count without its sum;
// it never sees one go backwards.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "weft/metrics.h"

namespace weft::rt {

/// A counter with one writer.
class owned_counter {
 public:
  void add(std::uint64_t n) { value_.store(get() + n, std::memory_order_relaxed); }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

class live_histogram {
 public:
  /// Counts a duration `weight` times (a sample stands for as many).
  void record(std::uint64_t ns, std::uint64_t weight = 1) {
    counts_[static_cast<std::size_t>(metrics::histogram::bucket_of(ns))].add(weight);
    sum_.add(ns * weight);
    if (ns > max_.load(std::memory_order_relaxed)) max_.store(ns, std::memory_order_relaxed);
  }

  std::uint64_t sum_ns() const { return sum_.get(); }
  void add_to(metrics::histogram& total) const {
    for (std::size_t i = 0; i < counts_.size(); ++i)
      if (const std::uint64_t n = counts_[i].get()) total.add(static_cast<int>(i), n, 0);
    total.add(0, 0, sum_.get());
    total.add_max(max_.load(std::memory_order_relaxed));
  }

 private:
  std::array<owned_counter, metrics::histogram::kBuckets> counts_;
  owned_counter sum_;
  std::atomic<std::uint64_t> max_{0};
};

}  // namespace weft::rt
