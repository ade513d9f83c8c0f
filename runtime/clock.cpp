// SPDX-License-Identifier: Apache-2.0
#include "runtime/clock.h"

#include <mutex>

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

namespace weft::rt {
namespace {

// ns = ticks * scale / 2^32; 0 until init_clock(), or where the counter is nanotime() itself.
std::uint64_t scale;
__extension__ using wide = unsigned __int128;
constexpr std::int64_t kCalibrationNs = 50'000;

#if defined(__x86_64__)
bool invariant_tsc() {
  unsigned a, b, c, d;
  return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d & (1u << 8)) != 0;
}
std::uint64_t counter() { return __rdtsc(); }
#elif defined(__aarch64__)
bool invariant_tsc() { return true; }
std::uint64_t counter() {
  std::uint64_t value;
  asm volatile("mrs %0, cntvct_el0" : "=r"(value));
  return value;
}
#else
bool invariant_tsc() { return false; }
std::uint64_t counter() { return 0; }
#endif

}  // namespace

std::uint64_t cputicks() { return scale != 0 ? counter() : static_cast<std::uint64_t>(nanotime()); }

std::uint64_t ticks_to_ns(std::uint64_t ticks) {
  if (scale == 0) return ticks;
  return static_cast<std::uint64_t>((static_cast<wide>(ticks) * scale) >> 32);
}

void init_clock() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (!invariant_tsc()) return;
    const std::int64_t start_ns = nanotime();
    const std::uint64_t start = counter();
    std::int64_t end_ns;
    while ((end_ns = nanotime()) - start_ns < kCalibrationNs) {
    }
    const std::uint64_t ticks = counter() - start;
    if (ticks == 0) return;
    scale = static_cast<std::uint64_t>((static_cast<wide>(end_ns - start_ns) << 32) / ticks);
  });
}

}  // namespace weft::rt
