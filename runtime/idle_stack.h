// SPDX-License-Identifier: Apache-2.0
// A lock-free LIFO of numbered objects: the idle Ms of one CPU, and the numbers of dead Ms. Go: sched.midle.
//
// A Treiber stack of numbers. The head carries a counter beside the number, so a pop that was overtaken by a pop and
// a push of the same object fails its CAS (no ABA). Objects are never freed while they can be in a stack, so reading
// the link of one that has just left is harmless. The sentinel pops while a thread that it interrupted may be half way
// through a push or pop: nobody waits for anybody here, which is why this is no lock.
#pragma once

#include <cstdint>

#include "runtime/barrier.h"

namespace weft::rt {

/// Links: a callable that gives the atomic link word (Policy::atomic<uint32_t>&) of the object with a given number.
template <class Links, class Policy = hardware>
class idle_stack {
 public:
  static constexpr std::uint32_t kNone = 0xffffffff;

  explicit idle_stack(Links links = Links{}) : links_(links) {}

  void push(std::uint32_t number) {
    std::uint64_t head = head_.load(std::memory_order_relaxed);
    do {
      links_(number).store(static_cast<std::uint32_t>(head), std::memory_order_relaxed);
    } while (!head_.compare_exchange_weak(head, next_head(head, number), std::memory_order_acq_rel,
                                          std::memory_order_relaxed));
  }

  /// kNone when empty.
  std::uint32_t pop() {
    std::uint64_t head = head_.load(std::memory_order_acquire);  // pairs with push's release: the link is visible
    for (;;) {
      const auto number = static_cast<std::uint32_t>(head);
      if (number == kNone) return kNone;
      const std::uint32_t below = links_(number).load(std::memory_order_relaxed);
      if (head_.compare_exchange_weak(head, next_head(head, below), std::memory_order_acq_rel,
                                      std::memory_order_acquire))
        return number;
    }
  }

  /// Forgets everything. Nobody else may be here.
  void reset() { head_.store(kNone, std::memory_order_relaxed); }

  bool empty() const { return static_cast<std::uint32_t>(head_.load(std::memory_order_acquire)) == kNone; }

 private:
  static std::uint64_t next_head(std::uint64_t head, std::uint32_t number) { return ((head >> 32) + 1) << 32 | number; }
  typename Policy::template atomic<std::uint64_t> head_{kNone};
  [[no_unique_address]] Links links_;
};

}  // namespace weft::rt
