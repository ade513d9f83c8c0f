// SPDX-License-Identifier: Apache-2.0
// A global run queue's storage: a ring of pointers that grows. Under its node's lock.
//
// Not a list through the Gs, as Go's: who takes a hundred from a queue of a million would wait for memory a hundred
// times, one miss after the other (a third of the time of starting a million goroutines went there). Pointers in a row
// can all be fetched at once.
#pragma once

#include <cstddef>
#include <new>
#include <span>

#include "runtime/g.h"
#include "runtime/pages.h"

namespace weft::rt {

class g_ring {
 public:
  /// False: no memory for it.
  bool push(std::span<g* const> gs) {
    if (count_ + gs.size() > capacity_ && !grow(count_ + gs.size())) return false;
    for (g* const gp : gs) slots_[(head_ + count_++) & (capacity_ - 1)] = gp;
    return true;
  }
  /// There must be one.
  g* pop() {
    g* const gp = slots_[head_];
    head_ = (head_ + 1) & (capacity_ - 1);
    if (--count_ == 0 && capacity_ > kKept) clear();
    return gp;
  }
  void clear() {
    if (slots_) memory_.deallocate(slots_, capacity_);
    slots_ = nullptr;
    head_ = count_ = capacity_ = 0;
  }
  std::size_t size() const { return count_; }

 private:
  static constexpr std::size_t kFirst = 512, kKept = 4096;

  bool grow(std::size_t wanted) {
    std::size_t capacity = capacity_ ? capacity_ : kFirst;
    while (capacity < wanted) capacity *= 2;
    g** larger;
    try {
      larger = memory_.allocate(capacity);
    } catch (const std::bad_alloc&) {
      return false;
    }
    const std::size_t n = count_;
    for (std::size_t i = 0; i < n; ++i) larger[i] = slots_[(head_ + i) & (capacity_ - 1)];
    clear();
    slots_ = larger;
    count_ = n;
    capacity_ = capacity;
    return true;
  }

  page_allocator<g*> memory_;
  g** slots_ = nullptr;
  std::size_t head_ = 0, count_ = 0, capacity_ = 0;
};

}  // namespace weft::rt
