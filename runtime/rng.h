// SPDX-License-Identifier: Apache-2.0
// A small fast random number generator (xorshift64*): steal order, sampling, chaos. Not for secrets.
#pragma once

#include <cstdint>

namespace weft::rt {

class rng {
 public:
  explicit rng(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u | 1) {}
  std::uint32_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<std::uint32_t>((state_ * 0x2545f4914f6cdd1du) >> 32);
  }
  /// Uniform in [0, n).
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>((std::uint64_t{next()} * n) >> 32); }

 private:
  std::uint64_t state_;
};

}  // namespace weft::rt
