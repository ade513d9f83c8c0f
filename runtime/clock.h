// SPDX-License-Identifier: Apache-2.0
// Time: nanotime() for deadlines, cputicks() for measuring. Go: runtime.nanotime, runtime.cputicks.
#pragma once

#include <cstdint>
#include <ctime>

namespace weft::rt {

/// CLOCK_MONOTONIC in nanoseconds, the clock of std::chrono::steady_clock (34 ns a call here).
inline std::int64_t nanotime() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

/// The cheapest steady counter: the invariant TSC, the arm64 virtual counter, else nanotime().
std::uint64_t cputicks();
/// A difference of cputicks() in nanoseconds.
std::uint64_t ticks_to_ns(std::uint64_t ticks);
/// Measures the counter's rate once (50 us). Idempotent, any thread.
void init_clock();

}  // namespace weft::rt
