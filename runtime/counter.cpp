// SPDX-License-Identifier: Apache-2.0
// Counters of the program's own: a cell for each node, so that nodes do not wait for each other's lines.
#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <string>

#include "runtime/cache_line.h"
#include "runtime/counter.h"
#include "runtime/scheduler.h"
#include "weft/metrics.h"

namespace weft::detail {

struct counter_cells {
  struct alignas(rt::kLinePair) cell {
    std::atomic<std::uint64_t> count{0};
  };
  std::array<cell, rt::kMaxNodes> of_node;  // of threads that are no Ms: the first
};

}  // namespace weft::detail

namespace weft::rt {
namespace {

using detail::counter_cells;

// Never destroyed, as what static counters of the program point to.
std::mutex& registering = *new std::mutex;
auto& by_name = *new std::map<std::string, counter_cells*>;

counter_cells* cells_named(const std::string& name) {
  const std::lock_guard hold(registering);
  counter_cells*& cells = by_name[name];
  if (!cells) cells = new counter_cells;
  return cells;
}

}  // namespace

void add_own_counters(metrics::snapshot& all) {
  const std::lock_guard hold(registering);
  for (const auto& [name, cells] : by_name) {
    std::uint64_t sum = 0;
    for (const auto& each : cells->of_node) sum += each.count.load(std::memory_order_relaxed);
    all.counters[name] += sum;
  }
}

}  // namespace weft::rt

namespace weft::metrics {

counter::counter(const std::string& name) : cells_(rt::cells_named(name)) {}

void counter::add(std::uint64_t n) noexcept {
  const rt::m* const mp = rt::this_m();
  const auto node = static_cast<std::size_t>(mp ? mp->c->home->index : 0);
  cells_->of_node[node].count.fetch_add(n, std::memory_order_relaxed);
}

}  // namespace weft::metrics
