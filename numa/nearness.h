// SPDX-License-Identifier: Apache-2.0
// Who is near whom: the order in which a thief visits CPUs, and in which a waker looks for an idle one: those of the
// same core, of the same cache, of the same node, then the other nodes by distance. Pure functions of a topology.
//
// All allowed CPUs stand in one row, in which those that share a core, a cache, a node are next to each other. So each
// of these groups is a range of the row, a larger one encloses a smaller one, and a CPU's view of the machine is three
// ranges and the list of the other nodes' ranges.
#pragma once

#include <cstdint>
#include <vector>

#include "weft/numa.h"

namespace weft::numa {

// Places in the row: [begin, end).
struct range {
  int begin, end;
  int size() const { return end - begin; }
  bool operator==(const range&) const = default;
};

struct other_node {
  int node;  // -1: the CPUs whose node is not known
  int distance;
  range cpus;
};

struct view {
  range core, cache, node;
};

class neighbourhood {
 public:
  explicit neighbourhood(const topology& machine);

  // The row: numbers of CPUs.
  const std::vector<int>& row() const { return row_; }
  // Where in the row a CPU stands; -1: it is not allowed.
  int place_of(int cpu) const;
  const view& view_from(int place) const { return views_[static_cast<std::size_t>(place)]; }
  // The other nodes that have CPUs, by distance from this one (by number of a node; -1: that of CPUs without).
  const std::vector<other_node>& others(int node) const;
  // The nodes that have CPUs, by number, each with its own range.
  const std::vector<other_node>& nodes() const { return nodes_; }

 private:
  std::vector<int> row_;
  std::vector<view> views_;                      // by place
  std::vector<other_node> nodes_;                // their distance is 0
  std::vector<std::vector<other_node>> others_;  // as nodes_
};

// What it costs a goroutine to run on another node than the one where its memory is, in ns: what moving it within a
// node costs, and as much more as the other node is further away. A wait shorter than that is better spent waiting.
constexpr std::uint64_t distance_cost_ns(int distance, std::uint64_t move_ns) {
  const auto away = static_cast<std::uint64_t>(distance > kLocalDistance ? distance - kLocalDistance : 0);
  return move_ns * away / kLocalDistance;
}

}  // namespace weft::numa
