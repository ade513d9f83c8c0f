// SPDX-License-Identifier: Apache-2.0
// The order in which a thief visits Ps: every one exactly once, from a random start. Go: runtime.randomOrder.
#pragma once

#include <numeric>

#include "runtime/rng.h"

namespace weft::rt {

/// Enumerates 0 … n-1, each once: start, start + stride, start + 2 stride … modulo n, the stride coprime with n.
class steal_order {
 public:
  steal_order(int n, rng& random)
      : n_(n), at_(static_cast<int>(random.below(static_cast<std::uint32_t>(n)))), stride_(1), left_(n) {
    if (n > 2) {
      stride_ = 1 + static_cast<int>(random.below(static_cast<std::uint32_t>(n - 1)));
      while (std::gcd(stride_, n) != 1) stride_ = stride_ % n + 1;
    }
  }
  bool done() const { return left_ == 0; }
  int position() const { return at_; }
  void next() {
    at_ = (at_ + stride_) % n_;
    --left_;
  }

 private:
  int n_, at_, stride_, left_;
};

}  // namespace weft::rt
