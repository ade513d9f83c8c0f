// SPDX-License-Identifier: Apache-2.0
// How many Ps each node gets, and which CPUs they are bound to: pure functions of a topology.
//
// Without a wish, Ps are packed: a quota below the CPUs is best spent on few nodes, for work that stays together
// shares caches and memory. A number alone is spread over the nodes by turns. Either way one thread of each physical
// core comes first, on all nodes, then their SMT siblings; with more Ps than CPUs the order begins anew.
#pragma once

#include <vector>

#include "weft/numa.h"

namespace weft::numa {

struct node_ps {
  int node;  // -1: the CPUs whose node is not known
  int ps;
  bool operator==(const node_ps&) const = default;
};

// One entry for each node that has CPUs, in the order of topology::nodes(); last, if there are, the CPUs of none.
using placement = std::vector<node_ps>;

// The order of topology::cpus(). CPUs whose node is not known come last among the cores and among the siblings.
std::vector<int> binding_order(const std::vector<cpu>& cpus);

// n Ps by turns over the nodes.
placement spread(const topology& machine, int n);

// n Ps on as few nodes as possible: the smallest node whose physical cores suffice; if none does, the largest node
// whole, then the nearest to it, and so on, the last one in part. SMT siblings only when all nodes' cores have one,
// in the same order of nodes.
placement pack(const topology& machine, int n);

// The default number of Ps (see gomaxprocs_for() in cgroup.h): a P for each CPU, or packed if the quota allows fewer.
placement default_placement(const topology& machine);

int count_ps(const placement& wanted);

// Which CPU each P is bound to, by number of the P: the CPUs of topology::cpus(), again and again, as long as their
// node wants more. A node that is not there, or has no CPUs, gets none.
std::vector<int> cpus_for(const topology& machine, const placement& wanted);

}  // namespace weft::numa
