// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/simulation.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "numa/description.h"

namespace weft::sim {
namespace {

constexpr ns kWatchPeriod = 1'000'000;   // sysmon's while it is patient
constexpr ns kPatience = 1'000'000'000;  // at the end: what has not run by then is lost

}  // namespace

// All nodes are equally far from each other, as far as their memory is: distance 20 for twice as slow.
numa::topology simulation::machine_of(const setup& wanted) {
  std::string text;
  for (int node = 0; node < wanted.nodes; ++node) {
    const int first = node * wanted.ps_per_node;
    text += "node " + std::to_string(node) + " cpus " + std::to_string(first) + "-" +
            std::to_string(first + wanted.ps_per_node - 1) + " memory 1G\n";
    for (int other = 0; other < node; ++other)
      text += "distance " + std::to_string(other) + " " + std::to_string(node) + " " +
              std::to_string(std::lround(numa::kLocalDistance * wanted.remote)) + "\n";
  }
  return numa::parse_description(text);
}

simulation::simulation(const setup& wanted)
    : wanted_(wanted), machine_(machine_of(wanted)), near_(machine_), random_(wanted.seed) {
  for (int cpu : near_.row()) ps_.push_back({.node = machine_.node_of_cpu(cpu)});
  sleeping_ = ps();
  work_ = make_workload(wanted_.work);
  if (wanted_.policy == "weft") policy_ = make_weft_policy(*this);
  if (wanted_.policy == "go") policy_ = make_go_policy(*this);
  if (!work_ || !policy_) throw std::invalid_argument("no such work, or no such policy");
}

task& simulation::make(int role, int home, int memory) {
  tasks_.push_back(std::make_unique<task>(task{.memory = memory, .home = home, .role = role}));
  return *tasks_.back();
}

void simulation::post(ns after, what kind, int p, task* t) { events_.push({now() + after, order_++, kind, p, t}); }

void simulation::note_ready(task& t) {
  t.ready_at = now();
  ++waiting_;
}

void simulation::ready(task& t) {
  note_ready(t);
  policy_->ready(at_work_, t);
}

void simulation::ready_later(task& t, ns after) { post(after, what::arrival, -1, &t); }

ns simulation::random_time(ns mean) {
  const double uniform = (random_.next() + 1.0) / 4294967297.0;
  return std::max<ns>(1, static_cast<ns>(-std::log(uniform) * static_cast<double>(mean)));
}

void simulation::lock(serial& held, int by_node) {
  const ns start = std::max(now(), held.free_at);
  held.free_at = start + from_far(costs::kLock, held.last_node, by_node);
  held.last_node = by_node;
  spent_ = held.free_at - now_;
}

void simulation::wake(int p) {
  processor& woken = ps_[static_cast<std::size_t>(p)];
  woken.asleep = false;
  --sleeping_;
  spend(costs::kWakeCall);
  woken.busy_until = now() + costs::kWake;
  post(costs::kWake, what::look, p);
}

void simulation::count_steal(int thief, int victim) {
  ++counts_.steals;
  if (node_of(thief) != node_of(victim)) ++counts_.far_steals;
}

// Steps in which a P sleeps though a task waits: whichever of them there are less of.
void simulation::advance(ns to) {
  const auto beside = static_cast<double>(std::min<std::int64_t>(sleeping_, waiting_));
  if (now_ >= warm_at_ && !closing_) slept_beside_work_ += beside * static_cast<double>(to - now_);
  now_ = to;
  spent_ = 0;
}

void simulation::begin_slice(int p, task& t) {
  processor& mine = ps_[static_cast<std::size_t>(p)];
  --waiting_;
  if (t.memory < 0) t.memory = mine.node;
  spend(costs::kSwitch);
  if (now_ >= warm_at_ && !closing_) {
    const ns waited = std::max<ns>(now() - t.ready_at, 0);
    waits_.add(metrics::histogram::bucket_of(static_cast<std::uint64_t>(waited)), 1,
               static_cast<std::uint64_t>(waited));
    waits_.add_max(static_cast<std::uint64_t>(waited));
    ++counts_.runs;
    home_runs_ += t.memory == mine.node ? 1u : 0u;
  }
  mix(static_cast<std::uint64_t>(now()) * 1024 + static_cast<std::uint64_t>(p));
  mine.running = &t;
  const ns takes = from_far(work_->compute(*this, t), t.memory, mine.node);
  mine.busy_until = now() + takes;
  post(takes, what::ended, p);
}

void simulation::look_for_work(int p) {
  at_work_ = p;
  processor& mine = ps_[static_cast<std::size_t>(p)];
  if (task* const t = policy_->find(p)) return begin_slice(p, *t);
  if (policy_->look_again(p)) {
    mine.busy_until = now() + costs::kRoundPause;
    return post(costs::kRoundPause, what::look, p);
  }
  mine.asleep = true;
  ++sleeping_;
}

void simulation::end_slice(int p) {
  at_work_ = p;
  processor& mine = ps_[static_cast<std::size_t>(p)];
  task& t = *mine.running;
  if (work_->done(*this, t)) {
    const ns takes = from_far(work_->compute(*this, t), t.memory, mine.node);
    mine.busy_until = now() + takes;
    return post(takes, what::ended, p);
  }
  mine.running = nullptr;
  look_for_work(p);
}

void simulation::handle(const event& e) {
  advance(e.at);
  at_work_ = -1;
  switch (e.kind) {
    case what::look: return look_for_work(e.p);
    case what::ended: return end_slice(e.p);
    case what::arrival: note_ready(*e.t); return policy_->ready_from_outside(*e.t);
    case what::watch: policy_->watch(); return post(kWatchPeriod, what::watch, -1);
  }
}

void simulation::run_until(ns end) {
  while (!events_.empty() && events_.top().at <= end) {
    const event next = events_.top();
    events_.pop();
    handle(next);
  }
  advance(std::max(now_, end));
}

result simulation::run() {
  warm_at_ = wanted_.duration / 10;
  post(kWatchPeriod, what::watch, -1);
  at_work_ = 0;  // main
  ps_[0].asleep = false;
  --sleeping_;
  work_->begin(*this);
  post(0, what::look, 0);
  run_until(warm_at_ + wanted_.duration);
  const double seconds = static_cast<double>(wanted_.duration) * 1e-9;
  counts_.throughput = static_cast<double>(units_) / seconds;
  counts_.home_share = static_cast<double>(home_runs_) / static_cast<double>(std::max<std::uint64_t>(counts_.runs, 1));
  counts_.idle_beside_work = slept_beside_work_ / (static_cast<double>(wanted_.duration) * ps());
  counts_.wait_p50 = waits_.quantile(0.5);
  counts_.wait_p99 = waits_.quantile(0.99);
  closing_ = true;
  const ns end = now_ + kPatience;
  while (now_ < end && (sleeping_ < ps() || waiting_ > 0 || events_.size() > 1)) run_until(now_ + kWatchPeriod);
  counts_.lost = static_cast<std::uint64_t>(waiting_);
  counts_.digest = digest_;
  return counts_;
}

}  // namespace weft::sim
