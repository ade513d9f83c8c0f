// SPDX-License-Identifier: Apache-2.0
// An element whose move constructor throws when it is told to.
#pragma once

#include <atomic>
#include <stdexcept>

namespace weft::test {

/// Counts its living instances. Each move of the value `throwing` throws, `throws` times.
struct fragile {
  static inline const std::runtime_error kMoved{"moved"};
  static inline std::atomic<int> alive{0}, throwing{0}, throws{0};
  static void arm(int value, int times = 1) {
    throwing = value;
    throws = times;
  }

  int value;

  explicit fragile(int v) : value(v) { ++alive; }
  fragile(fragile&& other) : value(other.value) {  // NOLINT(performance-noexcept-move-constructor)
    if (value == throwing && throws > 0) {
      --throws;
      throw kMoved;  // a copy: needs no memory from operator new
    }
    other.value = 0;
    ++alive;
  }
  fragile& operator=(fragile&&) = delete;
  ~fragile() { --alive; }
};

}  // namespace weft::test
