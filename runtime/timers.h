// SPDX-License-Identifier: Apache-2.0
// The timers of a P: a 4-ary heap by due time. Go: runtime.timers.
//
// Guarded by its lock, because idle Ps run the timers of busy ones. first_when lets everybody see without the lock
// whether something is due; it is written under the lock, after the heap.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/futex.h"
#include "runtime/g.h"
#include "runtime/lock.h"

namespace weft::rt {

/// A sleeping goroutine or foreign thread. Lies on the sleeper's stack.
struct timer {
  std::int64_t when;
  g* sleeper;
};

class timer_heap {
 public:
  core_lock lock;

  /// When the first timer is due (kNever: none). Any thread.
  std::int64_t first_when() const { return first_when_.load(std::memory_order_acquire); }

  /// Under the lock.
  void push(const timer& t) {
    heap_.push_back(t);
    sift_up(heap_.size() - 1);
    publish();
  }
  /// Under the lock. The first timer, if it is due at `now`.
  bool pop_due(std::int64_t now, timer& due) {
    if (heap_.empty() || heap_.front().when > now) return false;
    due = heap_.front();
    heap_.front() = heap_.back();
    heap_.pop_back();
    if (!heap_.empty()) sift_down(0);
    publish();
    return true;
  }
  /// Under the lock. Moves all timers to `to`, whose lock is held too.
  void move_to(timer_heap& to) {
    for (const timer& t : heap_) to.push(t);
    heap_.clear();
    publish();
  }

 private:
  static constexpr std::size_t kWays = 4;

  void publish() { first_when_.store(heap_.empty() ? kNever : heap_.front().when, std::memory_order_release); }

  void sift_up(std::size_t i) {
    const timer t = heap_[i];
    for (; i > 0 && t.when < heap_[(i - 1) / kWays].when; i = (i - 1) / kWays) heap_[i] = heap_[(i - 1) / kWays];
    heap_[i] = t;
  }

  void sift_down(std::size_t i) {
    const timer t = heap_[i];
    for (;;) {
      std::size_t least = i * kWays + 1;
      if (least >= heap_.size()) break;
      const std::size_t end = std::min(least + kWays, heap_.size());
      for (std::size_t child = least + 1; child < end; ++child)
        if (heap_[child].when < heap_[least].when) least = child;
      if (heap_[least].when >= t.when) break;
      heap_[i] = heap_[least];
      i = least;
    }
    heap_[i] = t;
  }

  std::vector<timer> heap_;
  std::atomic<std::int64_t> first_when_{kNever};
};

}  // namespace weft::rt
