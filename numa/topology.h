// SPDX-License-Identifier: Apache-2.0
//
// The CPUs that this process may use and the NUMA nodes that they belong to.
//
// Invariants of a topology:
//  - it is a snapshot and never changes; a later hot-plug or affinity change is seen by the next discover();
//  - cpus() holds each allowed CPU once; the nodes' CPUs are disjoint and a subset of it;
//  - nodes() is in ascending order of id, ids may have gaps, and there is at least one node;
//  - a node without CPUs (memory only, or none of its CPUs allowed) stays a node.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace weft::numa {

inline constexpr int kLocalDistance = 10;  // ACPI SLIT: a node to itself
inline constexpr int kFarDistance = 255;   // ACPI SLIT: unreachable; stands for every distance that is not known

struct node {
  int id;
  std::vector<int> cpus;  // allowed and online, ascending
  std::uint64_t memory;   // bytes; 0 if it has none or the kernel does not tell
};

class topology {
 public:
  // Reads the machine as the calling thread may use it: a thread that is bound to one CPU finds that CPU only.
  // Without NUMA support all allowed CPUs are in node 0. Throws std::system_error if the affinity cannot be read.
  // Not to be called from two threads at once (libnuma's caches).
  static topology discover();

  // A topology of the given parts. `nodes` is in ascending order of id, `cpus` in the order for cpus(); `distances` is
  // one row a node, in the order of `nodes`, as libnuma gives them: 0 means unknown.
  topology(std::vector<node> nodes, std::vector<int> cpus, std::vector<int> distances);

  const std::vector<node>& nodes() const { return nodes_; }

  // The allowed CPUs, in the order in which Ps are to be bound: one thread of each physical core, node after node,
  // then their SMT siblings, node after node; last in each pass the CPUs whose node is not known.
  const std::vector<int>& cpus() const { return cpus_; }

  // The distance between two nodes, by id: kLocalDistance to itself, kFarDistance if it is not known.
  int distance(int from, int to) const;

  // The id of the CPU's node; -1 if the CPU is not allowed or its node is not known.
  int node_of_cpu(int cpu) const;

 private:
  std::vector<node> nodes_;
  std::vector<int> cpus_;
  std::vector<int> distances_;    // row-major, by position in nodes_
  std::vector<int> node_of_cpu_;  // by CPU number
};

// The CPUs of a list in the kernel's form, such as "0-3,8"; none if it is malformed.
std::vector<int> parse_cpu_list(const std::string& list);

// The order that topology::cpus() describes, for the CPUs `allowed` (ascending) spread over `nodes`.
// `root` is put before /sys, to read another tree than the machine's; a CPU that is not described there is a core.
std::vector<int> binding_order(const std::vector<node>& nodes, const std::vector<int>& allowed,
                               const std::string& root);

}  // namespace weft::numa
