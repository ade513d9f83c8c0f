// SPDX-License-Identifier: Apache-2.0
// How many Ps are wished for, and where: what GOMAXPROCS says.
#pragma once

#include <optional>
#include <string_view>

#include "numa/placement.h"

namespace weft::numa {

inline constexpr int kMostPs = 1024;  // that a program can have

// Neither a number nor entries: the default.
struct ps_wish {
  int number = 0;      // spread over the nodes
  placement on_nodes;  // of these nodes; others have their default
};

// "8", or "node0=6,node1=2"; nothing: malformed.
std::optional<ps_wish> parse_wish(std::string_view text);

// What it means on a machine: at least one P.
placement placement_of(const ps_wish& wish, const topology& machine);

// Whether the node is there, with CPUs that we may use.
bool has_cpus(const topology& machine, int node);

}  // namespace weft::numa
