// SPDX-License-Identifier: Apache-2.0
// The global run queue: what no P's queue holds. Goroutines that foreign threads start or wake, preempted ones, those
// of returning Ms without a P, and what overflows a local queue. Go: globrunqput, globrunqget.
//
// Goroutines that were preempted in mid-code are linked, not in the ring, since a signal handler queues them and must
// not allocate. Ring and list take turns.
#include "runtime/globq.h"

#include <algorithm>
#include <array>

#include "runtime/proc.h"

namespace weft::rt {
namespace {

// The parts of a goroutine that starting or resuming it reads.
void prefetch(const g* gp) {
  __builtin_prefetch(gp);
  __builtin_prefetch(&gp->fn);
}

void publish_size() WEFT_NO_THREAD_SAFETY_ANALYSIS {
  sched.global_size.store(
      static_cast<int>(sched.global.size()) + (sched.first_bound.load(std::memory_order_relaxed) ? 1 : 0),
      std::memory_order_release);
}

g* take_bound() {
  g* const gp = sched.first_bound.load(std::memory_order_relaxed);
  if (!gp) return nullptr;
  sched.first_bound.store(gp->schedlink, std::memory_order_relaxed);
  if (!gp->schedlink) sched.last_bound = nullptr;
  publish_size();
  return gp;
}

// Under sched.lock, as all of these.
bool is_bounds_turn() {
  sched.bound_turn = !sched.bound_turn;
  return sched.bound_turn || sched.global.size() == 0;
}

// `started`: how many of them count as started with this. Goroutines of a run() that is over go nowhere.
void put(std::span<g* const> gs, int started) {
  bool over, queued = false;
  {
    lock_guard hold(sched.lock);
    over = left_behind(gs.front()->run);
    if (!over) {
      queued = sched.global.push(gs);
      publish_size();
      sched.created_elsewhere.fetch_add(started, std::memory_order_relaxed);
    }
  }
  if (over)
    for (g* gp : gs) discard(gp);
  else if (!queued)
    fatal_throw("", "out of memory: no room in the global run queue");
}

}  // namespace

void globrunqput_batch(std::span<g* const> gs) { put(gs, 0); }
void globrunqput(g* gp) { put({&gp, 1}, 0); }
void globrunqput_new(g* gp) { put({&gp, 1}, 1); }

bool globrunqput_bound(g* gp) {
  lock_guard hold(sched.lock);
  if (left_behind(gp->run)) return false;
  gp->schedlink = nullptr;
  if (sched.last_bound)
    sched.last_bound->schedlink = gp;
  else
    sched.first_bound.store(gp, std::memory_order_relaxed);
  sched.last_bound = gp;
  publish_size();
  return true;
}

g* globrunqget_bound() {
  lock_guard hold(sched.lock);
  return take_bound();
}

// Go's share: this P's part of the queue, so that one P does not starve the others.
g* globrunqget(p* pp, int most) {
  if (sched.global_size.load(std::memory_order_acquire) == 0) return nullptr;
  constexpr int kMost = static_cast<int>(g_queue::kCapacity) / 2;
  std::array<g*, kMost> taken;
  int n;
  {
    lock_guard hold(sched.lock);
    if (g* const bound = is_bounds_turn() ? take_bound() : nullptr) return bound;
    const int size = static_cast<int>(sched.global.size());
    if (size == 0) return nullptr;
    n = std::min({most, size, size / sched.gomaxprocs.load(std::memory_order_relaxed) + 1, kMost});
    for (int i = 0; i < n; ++i) taken[static_cast<std::size_t>(i)] = sched.global.pop();
    publish_size();
  }
  const std::span<g* const> rest(taken.data() + 1, static_cast<std::size_t>(n - 1));
  for (g* gp : rest) prefetch(gp);
  for (g* gp : rest) runqput(pp, gp);
  return taken.front();
}

}  // namespace weft::rt
