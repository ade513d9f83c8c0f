// SPDX-License-Identifier: Apache-2.0
// Time: sleeping.
#pragma once

#include <chrono>
#include <cstdint>

namespace weft {

using clock = std::chrono::steady_clock;
using time_point = clock::time_point;

namespace detail {

void sleep_until_ns(std::int64_t when);
std::int64_t now_ns() noexcept;

/// A duration in nanoseconds, rounded up, held within int64: "huge" means never.
template <class Rep, class Period>
std::int64_t to_ns(std::chrono::duration<Rep, Period> d) {
  using seconds = std::chrono::duration<long double>;
  constexpr long double kLimit = 9.2e18L;
  const long double ns = std::chrono::duration_cast<seconds>(d).count() * 1e9L;
  if (ns >= kLimit) return INT64_MAX;
  if (ns <= -kLimit) return INT64_MIN;
  return std::chrono::ceil<std::chrono::nanoseconds>(d).count();
}

/// The instant d from now; a sum that overflows is never.
inline std::int64_t deadline_after(std::int64_t ns) {
  const std::int64_t now = now_ns();
  return ns > INT64_MAX - now ? INT64_MAX : now + ns;
}

}  // namespace detail

/// Parks this goroutine for at least d; d <= 0 returns at once. Go: time.Sleep.
template <class Rep, class Period>
void sleep_for(std::chrono::duration<Rep, Period> d) {
  const std::int64_t ns = detail::to_ns(d);
  if (ns > 0) detail::sleep_until_ns(detail::deadline_after(ns));
}

/// Parks this goroutine until `when` at the earliest.
inline void sleep_until(time_point when) {
  detail::sleep_until_ns(std::chrono::ceil<std::chrono::nanoseconds>(when.time_since_epoch()).count());
}

}  // namespace weft
