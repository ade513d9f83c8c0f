// SPDX-License-Identifier: Apache-2.0
// How many Ps are wished for, and where: what GOMAXPROCS says.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "numa/placement.h"

namespace weft::numa {

inline constexpr int kMostPs = 1024;  // that a program can have

// Neither a number nor entries: the default.
struct ps_wish {
  int number = 0;          // spread over the nodes
  placement on_nodes;      // of these nodes; others have their default
  bool automatic = false;  // the runtime may change it as it sees fit
};

inline constexpr const char* kWishForm =
    "a number of Ps from 1 to 1024, one for each node such as node0=6,node1=2, or auto";

// "8", "node0=6,node1=2" or "auto"; nothing: malformed (see kWishForm).
std::optional<ps_wish> parse_wish(std::string_view text);

// As parse_wish() reads it; empty: the default.
std::string text_of(const ps_wish& wish);

// What it means on a machine: at least one P.
placement placement_of(const ps_wish& wish, const topology& machine);

// Whether the node is there, with CPUs that we may use.
bool has_cpus(const topology& machine, int node);

}  // namespace weft::numa
