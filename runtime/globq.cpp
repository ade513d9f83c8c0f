// SPDX-License-Identifier: Apache-2.0
// The global run queue: what no P's queue holds. Goroutines that foreign threads start or wake, preempted ones, those
// of returning Ms without a P, and what overflows a local queue. Go: globrunqput, globrunqget.
#include <algorithm>

#include "runtime/proc.h"

namespace weft::rt {

void globrunqput_batch(g* first, g* last, int n) {
  lock_guard hold(sched.lock);
  if (left_behind(first->run)) return;  // goroutines of a run() that is over go nowhere
  last->schedlink = nullptr;
  (sched.global_tail ? sched.global_tail->schedlink : sched.global_head) = first;
  sched.global_tail = last;
  sched.global_size.store(sched.global_size.load(std::memory_order_relaxed) + n, std::memory_order_release);
}

void globrunqput(g* gp) { globrunqput_batch(gp, gp, 1); }

// Go's share: this P's part of the queue, so that one P does not starve the others.
g* globrunqget(p* pp, int most) {
  if (sched.global_size.load(std::memory_order_acquire) == 0) return nullptr;
  g* first;
  int n;
  {
    lock_guard hold(sched.lock);
    const int size = sched.global_size.load(std::memory_order_relaxed);
    if (size == 0) return nullptr;
    n = std::min({most, size, size / sched.gomaxprocs.load(std::memory_order_relaxed) + 1,
                  static_cast<int>(g_queue::kCapacity) / 2});
    first = sched.global_head;
    g* last = first;
    for (int i = 1; i < n; ++i) last = last->schedlink;
    sched.global_head = last->schedlink;
    if (!sched.global_head) sched.global_tail = nullptr;
    sched.global_size.store(size - n, std::memory_order_release);
  }
  g* gp = first->schedlink;
  for (int i = 1; i < n; ++i) {
    g* const following = gp->schedlink;
    runqput(pp, gp);
    gp = following;
  }
  return first;
}

}  // namespace weft::rt
