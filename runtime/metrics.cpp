// SPDX-License-Identifier: Apache-2.0
// Collecting what the Ps measured, and what they, the nodes, Ms and goroutines do at the time.
//
// Nobody is stopped for it: each number is right at some moment of the collection, and two that belong together may
// differ by what happened between.
#include "runtime/metrics.h"

#include <algorithm>
#include <mutex>

#include "runtime/counter.h"
#include "runtime/machine_watch.h"
#include "runtime/proc.h"
#include "runtime/syscall_name.h"
#include "weft/metrics.h"

namespace weft::rt {

namespace {

std::mutex& reading = *new std::mutex;  // readers against the end of a run(); never destroyed, as in scheduler.h
metrics::snapshot& last = *new metrics::snapshot;

constexpr std::pair<const char*, live_histogram p::*> kHistograms[] = {{"runq_wait", &p::runq_wait},
                                                                       {"wakeup_to_run", &p::wakeup_to_run},
                                                                       {"handoff", &p::handoff},
                                                                       {"blocked", &p::blocked}};
constexpr std::pair<const char*, owned_counter p::*> kCounters[] = {
    {"goroutines_created", &p::created}, {"takes", &p::takes},      {"handoffs", &p::handoffs},
    {"robberies", &p::robberies},        {"node_moves", &p::moves}, {"preemptions", &p::preemptions}};
constexpr const char* kSteals[kStealDistances] = {"core_steals", "cache_steals", "node_steals", "far_steals"};
constexpr std::pair<const char*, std::atomic<std::uint64_t> node_costs::*> kDecisions[] = {
    {"handoffs_at_once", &node_costs::at_once},      {"handoff_waits_won", &node_costs::waits_won},
    {"handoff_waits_lost", &node_costs::waits_lost}, {"handoff_regret_ns", &node_costs::regret_ns},
    {"spins_won", &node_costs::spins_won},           {"spins_lost", &node_costs::spins_lost},
    {"spin_regret_ns", &node_costs::spin_regret_ns}};

const char* state_of(const p* pp) {
  if (surplus(pp)) return "surplus";
  return pp->home->gate.is_idle(pp->id) ? "idle" : "running";
}

metrics::p_snapshot collect_p(const p* pp) {
  metrics::p_snapshot one{.p = pp->id, .node = pp->home->id, .cpu = pp->c->id, .state = state_of(pp)};
  one.queued = pp->runq.size();
  for (const auto& [name, counter] : kCounters) one.counters[name] = (pp->*counter).get();
  one.counters["schedticks"] = pp->schedtick.load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < kStealDistances; ++i) {
    one.counters[kSteals[i]] = pp->steals[i].get();
    one.counters["steals"] += pp->steals[i].get();
  }
  return one;
}

void add_blocked_calls(metrics::node_snapshot& to, const node_costs& of) {
  for (int i = 0; i <= node_costs::kSyscalls; ++i) {
    const blocked_call& in = of.blocked[static_cast<std::size_t>(i)];
    const std::uint64_t times = in.times.load(std::memory_order_relaxed);
    if (times == 0) continue;
    std::string name = syscall_name(i == node_costs::kSyscalls ? -1 : i);
    std::ranges::replace(name, ' ', '_');  // counters' names are words
    to.counters["blocked_times_in_" + name] = times;
    to.counters["blocked_ns_in_" + name] = in.ns.load(std::memory_order_relaxed);
  }
}

metrics::node_snapshot collect_node(const node& of) {
  metrics::node_snapshot one{.node = of.id, .gomaxprocs = of.ps.load(std::memory_order_relaxed)};
  one.idle_ps = std::max(of.gate.nidle(), 0);
  one.spinning = std::max(of.gate.nspinning(), 0);
  one.queued = static_cast<std::uint64_t>(std::max(of.global_size.load(std::memory_order_relaxed), 0));
  for (const auto& [name, counter] : kDecisions)
    one.counters[name] = (of.costs->*counter).load(std::memory_order_relaxed);
  for (const auto& [name, unused] : kHistograms) one.histograms[name];
  add_blocked_calls(one, *of.costs);
  const stack_counts stacks = count_stacks(of.index);
  one.stacks = {{"used", stacks.used}, {"warm", stacks.warm}, {"cold", stacks.cold}};
  return one;
}

void add(std::map<std::string, std::uint64_t>& total, const std::map<std::string, std::uint64_t>& part) {
  for (const auto& [name, value] : part) total[name] += value;
}

void collect_ps(metrics::snapshot& all) {
  std::vector<metrics::node_snapshot> nodes;
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i)
    nodes.push_back(collect_node(node_at(i)));
  const int n = sched.nps.load(std::memory_order_acquire);
  for (int i = 0; i < n; ++i) {
    const p* const pp = p_at(i);
    all.ps.push_back(collect_p(pp));
    add(all.counters, all.ps.back().counters);
    for (const auto& [name, histogram] : kHistograms) (pp->*histogram).add_to(nodes[pp->home_index].histograms[name]);
  }
  for (const metrics::node_snapshot& node : nodes) {
    add(all.counters, node.counters);
    for (const auto& [name, histogram] : node.histograms) all.histograms[name].merge(histogram);
  }
  all.nodes = std::move(nodes);
}

void collect_goroutines(metrics::snapshot& all) {
  std::map<const char*, std::uint64_t> counted;  // by address: a million strings would take long to compare
  for_each_g(
      [](g* gp, void* to) {
        if (const char* const doing = doing_of(gp)) ++(*static_cast<std::map<const char*, std::uint64_t>*>(to))[doing];
      },
      &counted);
  for (const auto& [doing, n] : counted) all.goroutines[doing] += n;
}

void collect_threads(metrics::snapshot& all) {
  int with_p = 0;
  for (int i = 0, n = sched.nps.load(std::memory_order_acquire); i < n; ++i)
    with_p += p_at(i)->owner.load(std::memory_order_acquire) ? 1 : 0;
  const int spinning = std::clamp(nspinning_ms(), 0, with_p);
  const int idle = nidle_ms();
  const int blocked = sched.nms.load(std::memory_order_relaxed) - idle - with_p;
  const auto set = [&](const char* state, int n) { all.threads[state] = static_cast<std::uint64_t>(std::max(n, 0)); };
  set("running", with_p - spinning);
  set("spinning", spinning);
  set("idle", idle);
  set("blocked", blocked);
}

void collect(metrics::snapshot& all) {
  collect_ps(all);
  collect_goroutines(all);
  collect_threads(all);
  all.counters["goroutines_created"] +=
      static_cast<std::uint64_t>(std::max<std::int64_t>(sched.created_elsewhere.load(std::memory_order_relaxed), 0));
  all.counters["gomaxprocs"] = static_cast<std::uint64_t>(sched.gomaxprocs.load(std::memory_order_relaxed));
  all.counters["threads"] = static_cast<std::uint64_t>(sched.nms.load(std::memory_order_relaxed));
  all.counters["cgroup_throttled_periods"] = periods_throttled();
  all.counters["cgroup_throttled_ns"] = ns_throttled();
  all.counters["kernel_assist"] = static_cast<std::uint64_t>(sched.tier.load(std::memory_order_relaxed));
  add_kernel_metrics(all);
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
  metrics::snapshot all;
  if (sched.nps.load(std::memory_order_acquire) == 0)
    all = last;
  else
    collect(all);
  add_own_counters(all);
  return all;
}

bool is_histogram(std::string_view name) {
  return std::any_of(std::begin(kHistograms), std::end(kHistograms),
                     [&](const auto& one) { return one.first == name; });
}

metrics::histogram read_histogram(std::string_view wanted) {
  metrics::histogram sum;
  for (const auto& [name, histogram] : kHistograms)
    for (int i = 0, n = name == wanted ? sched.nps.load(std::memory_order_acquire) : 0; i < n; ++i)
      (p_at(i)->*histogram).add_to(sum);
  return sum;
}

}  // namespace weft::rt

namespace weft::metrics {

snapshot read() { return rt::read_metrics(); }

}  // namespace weft::metrics
