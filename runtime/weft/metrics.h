// SPDX-License-Identifier: Apache-2.0
// What the scheduler measured: latency histograms and counters, readable at any time from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

/// What the scheduler measured.
namespace weft::metrics {

/// A log-linear histogram of durations: sixteen equal buckets to each power of two of nanoseconds, so a value is known
/// within 1/16. A plain value: copy it, merge it, read it at leisure.
class histogram {
 public:
  /// Buckets from 0 ns to 2^42 ns (73 minutes); longer durations are counted in the last one.
  static constexpr int kSubBits = 4;
  static constexpr int kMaxBits = 42;  ///< see kSubBits
  /// How many buckets that makes.
  static constexpr int kBuckets = (kMaxBits - kSubBits + 1) << kSubBits;

  /// A bucket that counted something.
  struct bucket {
    double lower;         ///< seconds: the least value that belongs here
    double upper;         ///< seconds: the least that does not any more
    std::uint64_t count;  ///< values
  };

  static int bucket_of(std::uint64_t ns) noexcept;     ///< the bucket that counts this duration
  static std::uint64_t lower_ns(int bucket) noexcept;  ///< bucket may be kBuckets: the end of the last

  /// Counts `count` values in a bucket; together they are sum_ns nanoseconds.
  void add(int bucket, std::uint64_t count, std::uint64_t sum_ns) noexcept;
  /// max() is at least this many nanoseconds.
  void add_max(std::uint64_t ns) noexcept {
    if (ns > max_ns_) max_ns_ = ns;
  }
  /// Adds all that the other counted.
  void merge(const histogram& other) noexcept;

  std::uint64_t count() const noexcept { return count_; }                      ///< values
  double sum() const noexcept { return static_cast<double>(sum_ns_) * 1e-9; }  ///< seconds
  double max() const noexcept { return static_cast<double>(max_ns_) * 1e-9; }  ///< seconds
  /// The value in seconds below which a share q (0 to 1) of the values lies, linear within a bucket; 0 when empty.
  double quantile(double q) const noexcept;
  /// The buckets that counted something, in order.
  std::vector<bucket> buckets() const;

 private:
  std::vector<std::uint64_t> counts_ = std::vector<std::uint64_t>(kBuckets);
  std::uint64_t count_ = 0, sum_ns_ = 0, max_ns_ = 0;
};

/// All histograms and counters at one time, by name. Histograms: "runq_wait" (runnable to running), "wakeup_to_run"
/// (readied by another goroutine, thread or timer to running), "handoff" (a P taken from a blocked M to the next
/// goroutine on it), "blocked" (a blocking() call in which the P was lost), all in seconds.
struct snapshot {
  std::map<std::string, histogram> histograms;    ///< by name
  std::map<std::string, std::uint64_t> counters;  ///< by name
};

/// What the runtime has measured since the last run() began. Run-queue histograms are sampled without bias at high
/// rates: each sample counts for as many as it stands for. Any thread, any time.
snapshot read();

}  // namespace weft::metrics
