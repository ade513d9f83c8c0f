// SPDX-License-Identifier: Apache-2.0
// The global run queues, one a NUMA node: what no P's queue holds. Goroutines that foreign threads start or wake,
// those that go home to another node, preempted ones, those of returning Ms without a P, and what overflows a local
// queue. Go: globrunqput, globrunqget.
//
// A goroutine is queued on the node on which it ran last (or is to start), or, if no P is wanted there, on the nearest
// where one is.
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

void publish_size(node& home) WEFT_NO_THREAD_SAFETY_ANALYSIS {
  home.global_size.store(
      static_cast<int>(home.global.size()) + (home.first_bound.load(std::memory_order_relaxed) ? 1 : 0),
      std::memory_order_release);
}

g* take_bound(node& home) {
  g* const gp = home.first_bound.load(std::memory_order_relaxed);
  if (!gp) return nullptr;
  home.first_bound.store(gp->schedlink, std::memory_order_relaxed);
  if (!gp->schedlink) home.last_bound = nullptr;
  publish_size(home);
  return gp;
}

// Under the node's lock, as all of these.
bool is_bounds_turn(node& home) {
  home.bound_turn = !home.bound_turn;
  return home.bound_turn || home.global.size() == 0;
}

// `started`: how many of them count as started with this. Goroutines of a run() that is over go nowhere.
void put(node& home, std::span<g* const> gs, int started) {
  bool over, queued = false;
  {
    lock_guard hold(home.lock);
    over = left_behind(gs.front()->run);
    if (!over) {
      queued = home.global.push(gs);
      publish_size(home);
    }
  }
  if (queued && started > 0) sched.created_elsewhere.fetch_add(started, std::memory_order_relaxed);
  if (over)
    for (g* gp : gs) discard(gp);
  else if (!queued)
    fatal_throw("", "out of memory: no room in the global run queue");
}

node& queue_of(const g* gp) { return nearest_with_ps(node_at(gp->home)); }

}  // namespace

node& nearest_with_ps(node& wanted) {
  if (wanted.ps.load(std::memory_order_relaxed) > 0) [[likely]]
    return wanted;
  for (const auto& other : machine().others(wanted))
    if (other.there->ps.load(std::memory_order_relaxed) > 0) return *other.there;
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i)
    if (node_at(i).ps.load(std::memory_order_relaxed) > 0) return node_at(i);
  return wanted;
}

void globrunqput_batch(node& home, std::span<g* const> gs) { put(nearest_with_ps(home), gs, 0); }

node& globrunqput(g* gp) {
  node& home = queue_of(gp);
  put(home, {&gp, 1}, 0);
  return home;
}

node& globrunqput_new(g* gp) {
  node& home = queue_of(gp);
  put(home, {&gp, 1}, 1);
  return home;
}

bool globrunqput_bound(g* gp) {
  node& home = queue_of(gp);
  lock_guard hold(home.lock);
  if (left_behind(gp->run)) return false;
  gp->schedlink = nullptr;
  if (home.last_bound)
    home.last_bound->schedlink = gp;
  else
    home.first_bound.store(gp, std::memory_order_relaxed);
  home.last_bound = gp;
  publish_size(home);
  return true;
}

bool any_bound() {
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i)
    if (node_at(i).first_bound.load(std::memory_order_relaxed)) return true;
  return false;
}

g* globrunqget_bound() {
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i) {
    node& home = node_at(i);
    lock_guard hold(home.lock);
    if (g* const gp = take_bound(home)) return gp;
  }
  return nullptr;
}

void drop_global_queues() {
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i) {
    node& home = node_at(i);
    while (home.global.size() > 0) discard(home.global.pop());
    home.first_bound.store(nullptr, std::memory_order_relaxed);
    home.last_bound = nullptr;  // their Ms go on without us
    home.global_size.store(0, std::memory_order_relaxed);
  }
}

// Go's share: this P's part of the queue, so that one P does not starve the others.
g* globrunqget(p* pp, node& from, int most) {
  if (from.global_size.load(std::memory_order_acquire) == 0) return nullptr;
  constexpr int kMost = static_cast<int>(g_queue::kCapacity) / 2;
  std::array<g*, kMost> taken;
  int n;
  {
    lock_guard hold(from.lock);
    if (g* const bound = is_bounds_turn(from) ? take_bound(from) : nullptr) return bound;  // to be adopted by its M
    const int size = static_cast<int>(from.global.size());
    if (size == 0) return nullptr;
    n = std::min({most, size, size / std::max(from.ps.load(std::memory_order_relaxed), 1) + 1, kMost});
    for (int i = 0; i < n; ++i) taken[static_cast<std::size_t>(i)] = from.global.pop();
    publish_size(from);
  }
  const std::span<g* const> rest(taken.data() + 1, static_cast<std::size_t>(n - 1));
  for (g* gp : rest) prefetch(gp);
  if (sched.nnodes.load(std::memory_order_relaxed) > 1)
    for (int i = 0; i < n; ++i) adopt(pp, taken[static_cast<std::size_t>(i)]);
  for (g* gp : rest) runqput(pp, gp);
  return taken.front();
}

}  // namespace weft::rt
