// SPDX-License-Identifier: Apache-2.0
// Counting what is done, and a line on the terminal that tells it.
//
// Whoever counts draws, when the last drawing is long enough ago: no goroutine and no timer is needed, and nothing is
// drawn while nothing gets done. Two never draw at once, and one that finds the lock taken leaves the drawing to the
// other.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include <weft/sync.h>

namespace weft::tools {

class progress {
 public:
  /// With a line on standard error, or counting only.
  explicit progress(bool visible);

  void add_bytes(std::size_t n) {
    bytes_.fetch_add(n, std::memory_order_relaxed);
    draw_if_due();
  }
  void add_file() { files_.fetch_add(1, std::memory_order_relaxed); }

  /// Takes the line away, so that something else can be written. It comes back with the next drawing.
  void erase();

  std::uint64_t files() const { return files_.load(std::memory_order_relaxed); }
  std::uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }
  double seconds() const;

 private:
  using steady = std::chrono::steady_clock;

  void draw_if_due();
  void draw();

  const bool visible_;
  const steady::time_point start_ = steady::now();
  std::atomic<std::uint64_t> files_{0}, bytes_{0};
  std::atomic<std::int64_t> due_;  // nanoseconds after start_
  mutex lock_;                     // the terminal's line
  bool drawn_ = false;             // guarded by lock_
};

}  // namespace weft::tools
