// SPDX-License-Identifier: Apache-2.0
#include "numa/nearness.h"

#include <algorithm>
#include <cstddef>
#include <tuple>

namespace weft::numa {
namespace {

// The places around `place` of CPUs that are the same in `key`.
template <class Key>
range range_of(const std::vector<int>& row, int place, Key key) {
  const auto at = [&](int i) { return key(row[static_cast<std::size_t>(i)]); };
  range r{place, place + 1};
  while (r.begin > 0 && at(r.begin - 1) == at(place)) --r.begin;
  while (r.end < static_cast<int>(row.size()) && at(r.end) == at(place)) ++r.end;
  return r;
}

}  // namespace

neighbourhood::neighbourhood(const topology& machine) : row_(machine.cpus()) {
  const auto node = [&](int id) { return machine.find_cpu(id)->node; };
  const auto cache = [&](int id) { return std::pair(node(id), machine.find_cpu(id)->cache); };
  const auto core = [&](int id) { return std::pair(cache(id), machine.find_cpu(id)->core); };
  // -1, the CPUs of no known node, goes last.
  const auto key = [&](int id) { return std::tuple(static_cast<unsigned>(node(id)), core(id), id); };
  std::sort(row_.begin(), row_.end(), [&](int a, int b) { return key(a) < key(b); });
  for (int place = 0; place < static_cast<int>(row_.size()); ++place) {
    const view v{range_of(row_, place, core), range_of(row_, place, cache), range_of(row_, place, node)};
    if (v.node.begin == place) nodes_.push_back({node(row_[static_cast<std::size_t>(place)]), 0, v.node});
    views_.push_back(v);
  }
  for (const other_node& from : nodes_) {
    std::vector<other_node> others;
    for (const other_node& to : nodes_)
      if (to.node != from.node) others.push_back({to.node, machine.distance(from.node, to.node), to.cpus});
    std::stable_sort(others.begin(), others.end(),
                     [](const other_node& a, const other_node& b) { return a.distance < b.distance; });
    others_.push_back(std::move(others));
  }
}

int neighbourhood::place_of(int cpu) const {
  const auto at = std::find(row_.begin(), row_.end(), cpu);
  return at == row_.end() ? -1 : static_cast<int>(at - row_.begin());
}

const std::vector<other_node>& neighbourhood::others(int node) const {
  const auto at = std::find_if(nodes_.begin(), nodes_.end(), [node](const other_node& n) { return n.node == node; });
  return others_[static_cast<std::size_t>(at - nodes_.begin())];
}

}  // namespace weft::numa
