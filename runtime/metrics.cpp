// SPDX-License-Identifier: Apache-2.0
// Collecting what the Ps measured.
#include "runtime/metrics.h"

#include <mutex>

#include "runtime/machine_watch.h"
#include "runtime/proc.h"
#include "weft/metrics.h"

namespace weft::rt {

namespace {

std::mutex& reading = *new std::mutex;  // readers against the end of a run(); never destroyed, as in scheduler.h
metrics::snapshot& last = *new metrics::snapshot;

void collect(metrics::snapshot& all) {
  const int n = sched.nps.load(std::memory_order_acquire);
  for (int i = 0; i < n; ++i) {
    const p* const pp = sched.allp[static_cast<std::size_t>(i)].load(std::memory_order_acquire);
    pp->runq_wait.add_to(all.histograms["runq_wait"]);
    pp->wakeup_to_run.add_to(all.histograms["wakeup_to_run"]);
    pp->handoff.add_to(all.histograms["handoff"]);
    pp->blocked.add_to(all.histograms["blocked"]);
    all.counters["goroutines_created"] += pp->created.get();
    all.counters["takes"] += pp->takes.get();
    all.counters["handoffs"] += pp->handoffs.get();
    all.counters["steals"] += pp->steals.get();
    all.counters["far_steals"] += pp->far_steals.get();
    all.counters["node_moves"] += pp->moves.get();
    all.counters["robberies"] += pp->robberies.get();
    all.counters["preemptions"] += pp->preemptions.get();
    all.counters["schedticks"] += pp->schedtick.load(std::memory_order_relaxed);
  }
  all.counters["gomaxprocs"] = static_cast<std::uint64_t>(sched.gomaxprocs.load(std::memory_order_relaxed));
  for (int node = 0; node < kMaxNodes; ++node) {
    const node_costs* const costs = known_costs_of_node(node);
    if (!costs) continue;
    all.counters["handoffs_at_once"] += costs->at_once.load(std::memory_order_relaxed);
    all.counters["handoff_waits_won"] += costs->waits_won.load(std::memory_order_relaxed);
    all.counters["handoff_waits_lost"] += costs->waits_lost.load(std::memory_order_relaxed);
    all.counters["handoff_regret_ns"] += costs->regret_ns.load(std::memory_order_relaxed);
    all.counters["spins_won"] += costs->spins_won.load(std::memory_order_relaxed);
    all.counters["spins_lost"] += costs->spins_lost.load(std::memory_order_relaxed);
    all.counters["spin_regret_ns"] += costs->spin_regret_ns.load(std::memory_order_relaxed);
  }
  all.counters["cgroup_throttled_periods"] = periods_throttled();
  all.counters["cgroup_throttled_ns"] = ns_throttled();
  all.counters["kernel_assist"] = static_cast<std::uint64_t>(sched.tier.load(std::memory_order_relaxed));
  add_kernel_metrics(all);
  all.counters["threads"] = static_cast<std::uint64_t>(sched.nms.load(std::memory_order_relaxed));
}

}  // namespace

void delete_ps_keeping_metrics() {
  const std::lock_guard hold(reading);
  last = {};
  collect(last);
  delete_ps();
}

int read_goroutine_count() {
  const std::lock_guard hold(reading);
  return count_goroutines();
}

metrics::snapshot read_metrics() {
  const std::lock_guard hold(reading);
  if (sched.nps.load(std::memory_order_acquire) == 0) return last;
  metrics::snapshot all;
  collect(all);
  return all;
}

}  // namespace weft::rt

namespace weft::metrics {

snapshot read() { return rt::read_metrics(); }

}  // namespace weft::metrics
