// SPDX-License-Identifier: Apache-2.0
#include "runtime/costs.h"

#include <algorithm>
#include <limits>

#include "runtime/state_page.h"

namespace weft::rt {
namespace {

constexpr std::uint32_t kExploreFirst = 4, kExploreEvery = 256;
constexpr std::uint32_t kMemory = 256;  // samples, until old ones count half
constexpr int kSmoothing = 8;
constexpr std::uint32_t kHopeless = 64;  // one in so many is too few to wait for

auto& models = *new std::array<std::atomic<node_costs*>, kMaxNodes>{};

}  // namespace

void estimate::add(std::uint64_t ns) {
  const auto sample = static_cast<std::int64_t>(std::min<std::uint64_t>(ns, UINT32_MAX / 2));
  const std::uint32_t n = samples_.load(std::memory_order_relaxed);
  const std::int64_t old = ns_.load(std::memory_order_relaxed);
  const std::int64_t next = n == 0 ? sample : old + (sample - old) / std::min<std::int64_t>(n + 1, kSmoothing);
  ns_.store(static_cast<std::uint32_t>(next), std::memory_order_relaxed);
  samples_.store(n + 1, std::memory_order_relaxed);
}

std::uint32_t block_kind::next_wait() {
  const std::uint32_t n = decisions_.fetch_add(1, std::memory_order_relaxed);
  const bool explore = n % kExploreEvery < (n < kExploreEvery ? kExploreFirst : 1);
  return explore ? kLongestWait : wait_ns_.load(std::memory_order_relaxed);
}

void block_kind::count(std::uint64_t ns) {
  const auto bucket = std::lower_bound(kLimits.begin(), kLimits.end(), ns) - kLimits.begin();
  counts_[static_cast<std::size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  if (samples_.fetch_add(1, std::memory_order_relaxed) % kMemory == kMemory - 1)
    for (auto& count : counts_) count.store(count.load(std::memory_order_relaxed) / 2, std::memory_order_relaxed);
}

void block_kind::learn(std::uint64_t ns, std::uint32_t switch_ns) {
  count(ns);
  std::uint32_t best = 0;
  for (const std::uint32_t wait_ns : kLimits)
    if (expected(wait_ns, switch_ns) < expected(best, switch_ns)) best = wait_ns;
  wait_ns_.store(best, std::memory_order_relaxed);
}

void block_kind::learn_if_hopeless(std::uint64_t ns, std::uint32_t switch_ns) {
  count(ns);
  std::uint32_t in_time = 0;
  for (std::size_t i = 0; i < kLimits.size(); ++i) in_time += counts_[i].load(std::memory_order_relaxed);
  const bool hopeless = in_time * kHopeless < in_time + counts_.back().load(std::memory_order_relaxed);
  const auto price = std::lower_bound(kLimits.begin(), kLimits.end() - 1, switch_ns);
  wait_ns_.store(hopeless ? 0 : *price, std::memory_order_relaxed);
}

// What all counted blocks would have cost with this wait: the CPU's time until somebody runs on it again.
std::uint64_t block_kind::expected(std::uint32_t wait_ns, std::uint32_t switch_ns) const {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    const bool in_time = i < kLimits.size() && kLimits[i] <= wait_ns;
    const std::uint64_t each = in_time ? kLimits[i] * 3 / 4 : std::uint64_t{wait_ns} + switch_ns;  // on average
    sum += each * counts_[i].load(std::memory_order_relaxed);
  }
  return sum;
}

void block_kind::add_to(metrics::block_costs& shown) const {
  shown.blocks = decisions_.load(std::memory_order_relaxed);
  shown.wait = wait_ns_.load(std::memory_order_relaxed) * 1e-9;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    const double limit = i < kLimits.size() ? kLimits[i] * 1e-9 : std::numeric_limits<double>::infinity();
    shown.lasted.push_back({limit, counts_[i].load(std::memory_order_relaxed)});
  }
}

void node_costs::learn_from_spin(bool found, std::uint64_t ns) {
  (found ? spins_won : spins_lost).fetch_add(1, std::memory_order_relaxed);
  if (!found) spin_regret_ns.fetch_add(ns, std::memory_order_relaxed);
  idle.learn_if_hopeless(found ? ns : block_kind::kLongestWait + 1, wake.ns());
}

node_costs& costs_of_node(int node) {
  auto& place = models[static_cast<std::size_t>(std::clamp(node, 0, kMaxNodes - 1))];
  if (node_costs* const known = place.load(std::memory_order_acquire)) return *known;
  auto* const fresh = new node_costs;
  node_costs* expected = nullptr;
  if (place.compare_exchange_strong(expected, fresh, std::memory_order_acq_rel)) return *fresh;
  delete fresh;
  return *expected;
}

const node_costs* known_costs_of_node(int node) {
  return models[static_cast<std::size_t>(node)].load(std::memory_order_acquire);
}

}  // namespace weft::rt

namespace weft::metrics {

std::vector<node_costs> costs() {
  std::vector<node_costs> all;
  for (int node = 0; node < rt::kMaxNodes; ++node) {
    const rt::node_costs* const known = rt::known_costs_of_node(node);
    if (!known) continue;
    node_costs shown;
    shown.node = node;
    const auto add = [&](const char* name, const rt::estimate& e) { shown.costs[name] = {e.ns() * 1e-9, e.samples()}; };
    add("handoff", known->handoff);
    add("wake", known->wake);
    rt::add_kernel_costs(shown);
    known->idle.add_to(shown.idle);
    for (std::size_t i = 0; i < known->kinds.size(); ++i) {
      block_costs kind;
      kind.syscall = static_cast<int>(i) == rt::node_costs::kSyscalls ? -1 : static_cast<int>(i);
      known->kinds[i].add_to(kind);
      if (kind.blocks != 0) shown.blocks.push_back(std::move(kind));
    }
    all.push_back(std::move(shown));
  }
  return all;
}

}  // namespace weft::metrics
