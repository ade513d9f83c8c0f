// SPDX-License-Identifier: Apache-2.0
// P: a processor, the right to run goroutines, and all that running them needs without a lock. Go: runtime.p.
//
// A P is bound to a CPU. It is held by one M (owner), or is idle (a bit in its node's gate), or benched (surplus), or
// on its way from the one to the other in the hands of whoever took it. What is not atomic here belongs to the holder.
// The atomics that the holder writes with plain stores are read by sysmon, sentinels, thieves and metrics.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "runtime/cache_line.h"
#include "runtime/g.h"
#include "runtime/histogram.h"
#include "runtime/rng.h"
#include "runtime/runq.h"
#include "runtime/timers.h"
#include "runtime/trace_lane.h"

namespace weft::rt {

struct cpu;
struct m;
struct node;

constexpr int kMaxPs = 1024;
constexpr int kFairTicks = 61;  // Go's: look at the global queue this often; a prime, so it does not beat with patterns

using g_queue = run_queue<g>;

/// What thief and victim share: the core (or the CPU), the last level of cache, the node, nothing.
enum class steal_distance : std::uint8_t { core, cache, node, far };
constexpr std::size_t kStealDistances = 4;

/// Decides which of very many events are timed. At a low rate every event is; at a high rate one in `period` on
/// average, at random distances, and counts for `period`: so the histogram is unbiased, and a clock read (19 ns here)
/// is paid rarely.
struct event_sampler {
  int left = 1;    // events until the next sample
  int period = 1;  // what that sample counts for
  std::uint64_t last = 0;
};

struct alignas(kLinePair) p {
  p(int number, cpu& bound_to, std::uint64_t seed);

  const int id;
  cpu* const c;
  node* const home;
  const std::uint16_t home_index;  // home->index

  // The switch path.
  std::atomic<int> switches_left{kFairTicks};  // until the scheduler's own stack has a look; also a sign of progress
  std::atomic<bool> preempt{false};            // set by others: go through the scheduler at the next runtime call
  std::atomic<std::uint32_t> schedtick{0};     // goroutines run, but for those that inherited a time slice
  std::atomic<std::uint32_t> out_of_turn{0};   // those of them that came from the global queue while others waited here
  trace_ring* trace = nullptr;                 // while its events are recorded; see trace.h
  event_sampler sampler;
  rng random;
  g_queue runq;

  // Starting and ending goroutines.
  g* free_gs = nullptr;
  int nfree_gs = 0;
  stack* free_stacks = nullptr;
  int nfree_stacks = 0;
  std::uint64_t next_id = 0, end_id = 0;
  owned_counter created, ended;
  owned_counter poll_waits, poll_wakes;  // see poll_waiters()

  timer_heap& timers;
  std::int64_t allowed_at = 0;  // when switches_left was last renewed (nanotime)
  int allowed = kFairTicks;     // what it was then, less what look_by() took off
  std::int64_t switch_ns = 1;   // what a switch took of late, its goroutine included
  std::int64_t polled_at = 0;   // when files were last looked for though there was other work
  const p* robbed = nullptr;    // the last robbery, until it is judged; see find.cpp
  std::uint64_t robbed_ticks = 0;
  int robbed_switches = 0;
  std::uint32_t watch_ns = 400;
  int wakes_skipped = 0;         // see wakep()
  std::int64_t strays_next = 0;  // see stop_strays_at()
  std::uint32_t stray_look = 0;
  trace_lane lane;
  bool dropped = false;  // its run() is over and taken down: the M that still holds it deletes it. Under sched.lock

  alignas(kCacheLine) std::atomic<m*> owner{nullptr};
  std::atomic<bool> wanted{false};              // GOMAXPROCS has room for it; see gomaxprocs.cpp
  std::atomic<bool> benched{false};             // surplus, and out of use until it is wanted again
  std::atomic<std::uint32_t> wants_m{0};        // the template thread is to make an M for it: 1, 2 spinning
  std::atomic<std::uint64_t> handoff_ticks{0};  // when it was taken from a blocked M, until a goroutine runs

  live_histogram runq_wait, wakeup_to_run, handoff, blocked;
  std::array<owned_counter, kStealDistances> steals;  // by steal_distance
  owned_counter robberies, takes, handoffs, preemptions;
  owned_counter moves;  // goroutines fetched from another node than this
};

}  // namespace weft::rt
