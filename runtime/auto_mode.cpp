// SPDX-License-Identifier: Apache-2.0
// GOMAXPROCS=auto: what the policy of auto_ps.h decides by, once a second, and what becomes of it.
//
// A sum of waits, divided by the time in which they happened, is the mean number of those who waited (Little's law).
// Goroutines' waits are what the Ps' histograms sum up; threads' waits for a CPU, and the time that they had one, are
// in /proc/self/task/TID/schedstat, on every tier. A P that had no thread running or waiting was idle. What threads
// that have ended since measured is missing: a moment's error.
#include "runtime/auto_mode.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <vector>

#include "runtime/auto_ps.h"
#include "runtime/clock.h"
#include "runtime/gomaxprocs.h"
#include "runtime/proc.h"

namespace weft::rt {
namespace {

constexpr std::int64_t kShortestPeriod = 500'000'000;

// Since the run() began.
struct totals {
  std::uint64_t ran = 0, waited = 0;  // of threads, ns
  std::uint64_t gs_waited = 0;        // ns
  std::uint64_t slices = 0;
};

using node_totals = std::array<totals, kMaxNodes>;  // by node::index

struct adapting {
  std::array<auto_ps, kMaxNodes> policies;
  node_totals before;
  std::int64_t since = 0;  // 0: nothing was measured
};
auto& self = *new adapting;  // the template thread's

struct thread {
  int tid;
  int node;
};

std::vector<thread> threads_of_ms() {
  const std::uint32_t n = sched.nms_ever.load(std::memory_order_acquire);
  std::vector<thread> all;
  all.reserve(n);  // not under the lock: whoever holds the allocator's may wait for ours
  lock_guard hold(sched.lock);
  for (std::uint32_t id = 0; id < n; ++id) {
    const m* const mp = sched.allm[id].load(std::memory_order_acquire);
    if (mp && mp->c && !mp->dead && !mp->zombie)
      all.push_back({mp->tid.load(std::memory_order_relaxed), mp->c->home->index});
  }
  return all;
}

void add_schedstat(int tid, totals& to) {
  std::array<char, 64> path;
  std::snprintf(path.data(), path.size(), "/proc/self/task/%d/schedstat", tid);
  std::FILE* const file = std::fopen(path.data(), "re");
  if (!file) return;
  unsigned long long ran = 0, waited = 0;
  if (std::fscanf(file, "%llu %llu", &ran, &waited) == 2) {
    to.ran += ran;
    to.waited += waited;
  }
  std::fclose(file);
}

node_totals measure() {
  node_totals all;
  for (const thread& each : threads_of_ms()) add_schedstat(each.tid, all[static_cast<std::size_t>(each.node)]);
  for (int i = 0, n = sched.nps.load(std::memory_order_acquire); i < n; ++i) {
    const p* const pp = p_at(i);
    all[pp->home_index].gs_waited += pp->runq_wait.sum_ns();
    all[pp->home_index].slices += pp->schedtick.load(std::memory_order_relaxed);
  }
  return all;
}

double rate(std::uint64_t before, std::uint64_t now, std::int64_t period) {
  return now > before ? static_cast<double>(now - before) / static_cast<double>(period) : 0;
}

int cpus_of(const node& there) {
  for (const numa::other_node& each : machine().near.nodes())
    if (each.node == there.id) return each.cpus.size();
  return 0;
}

node_load load_of(const node& there, const totals& before, const totals& now, std::int64_t period) {
  node_load load{.ps = there.ps.load(std::memory_order_relaxed), .most = cpus_of(there)};
  load.waiting_ms = rate(before.waited, now.waited, period);
  load.waiting_gs = rate(before.gs_waited, now.gs_waited, period);
  load.idle = std::max(load.ps - rate(before.ran, now.ran, period) - load.waiting_ms, 0.0);
  load.done = rate(before.slices, now.slices, period) * 1e9;
  return load;
}

void change_ps(const node& there, int n) {
  if (!place_ps_automatically(there.id, n)) return;
  ask_surplus_to_stop();
  wakep_everywhere();
}

}  // namespace

void start_adapting() { self = {}; }

void adapt_ps() {
  if (!ps_are_automatic() || !sched.active.load(std::memory_order_acquire)) return;
  const visit inside;
  const std::int64_t now = nanotime();
  if (!inside.welcome || now - self.since < kShortestPeriod) return;
  const node_totals totals_now = measure();
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n && self.since != 0; ++i) {
    const auto index = static_cast<std::size_t>(i);
    const node_load load = load_of(node_at(i), self.before[index], totals_now[index], now - self.since);
    if (const int wanted = self.policies[index].decide(load); wanted != load.ps) change_ps(node_at(i), wanted);
  }
  self.before = totals_now;
  self.since = now;
}

}  // namespace weft::rt
