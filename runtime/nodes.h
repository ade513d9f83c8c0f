// SPDX-License-Identifier: Apache-2.0
// The machine as the scheduler sees it: NUMA nodes and CPUs, who is near whom, and what the Ps of a node share.
//
// Nodes and CPUs that a run() has once known stay, also when the machine takes them away: then no P is wanted there any
// more. Their structs outlive the runs, for an M that is left behind may still look at its own. Which CPUs there are
// now, and how they lie to each other, is a map, which never changes; a new one takes its place (replan()).
#pragma once

#include <pthread.h>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "numa/nearness.h"
#include "numa/placement.h"
#include "runtime/cache_line.h"
#include "runtime/costs.h"
#include "runtime/futex.h"
#include "runtime/globq.h"
#include "runtime/idle_stack.h"
#include "runtime/lock.h"
#include "runtime/p.h"
#include "runtime/wake.h"

namespace weft::rt {

constexpr int kMaxCpus = kMaxPs;

struct m_link {
  std::atomic<std::uint32_t>& operator()(std::uint32_t id) const;
};

/// A node: what its Ps share and those of other nodes only look at. Grouped by who writes when.
struct alignas(kLinePair) node {
  node(int number, int place, busy_count<>& busy, std::atomic<int>& idle_nodes)
      : id(number), index(place), costs(&costs_of_node(number)), gate(busy, idle_nodes) {}

  const int id;     // the machine's number
  const int index;  // in sched.nodes: the same for ever
  node_costs* const costs;
  std::atomic<int> ps{0};  // wanted here; see gomaxprocs.cpp

  wake_gate<kMaxPs> gate;            // its Ps only
  std::atomic<int> wake_backoff{0};  // see wakep_slow()
  std::atomic<int> visitors{0};      // Ms; see visit in proc.h

  // The node's global queue; see globq.cpp.
  alignas(kCacheLine) core_lock lock;
  g_ring global;
  std::atomic<g*> first_bound{nullptr};
  g* last_bound = nullptr;
  bool bound_turn = false;
  std::atomic<int> global_size{0};
};

/// A CPU that Ps are bound to: its Ps, its sleeping Ms, its sentinel.
struct alignas(kLinePair) cpu {
  cpu(int numbered, rt::node& of) : id(numbered), home(&of), costs(of.costs) {}

  const int id;  // the machine's number
  rt::node* const home;
  node_costs* const costs;
  int number = -1;  // its number, if Ms are pinned to it; -1: they are not
  int index = 0;    // in sched.cpus
  std::atomic<int> nps{0};
  std::array<std::atomic<p*>, kMaxPs> ps{};  // the first nps
  alignas(kCacheLine) idle_stack<m_link> idle_ms;
  std::atomic<int> nidle_ms{0};  // also those that are being woken
  // The sentinel: 1 while it is to watch. See sentinel.cpp.
  alignas(kCacheLine) std::atomic<std::uint32_t> armed{0};
  pthread_t sentinel{};
  std::atomic<bool> has_sentinel{false};
  std::atomic<std::uint32_t> sentinel_number{0};  // of the one that is to look
  std::atomic<int> visiting{0};  // sentinels that look around: this one, and one of the last run() that ends
  note sentinel_verdict;         // of the new thread: kIdleClass or kNoIdleClass
  bool sentinel_failed = false;  // the template thread's
  std::atomic<bool> wants_sentinel{false};
  std::atomic<bool> wants_m{false};  // one that goes idle
  std::atomic<int> coming_ms{0};     // those that have been made for that, and are not here yet
};

/// How the CPUs lie to each other at one time.
struct machine_map {
  struct neighbour {
    node* there;
    int distance;
    numa::range cpus;
  };

  explicit machine_map(numa::topology seen) : machine(std::move(seen)), near(machine) {}

  /// The row's part around a CPU; one that is not there any more sees all as its node.
  numa::view view_from(const cpu& c) const {
    const int place = place_of(c);
    const numa::range all{0, static_cast<int>(row.size())}, none{0, 0};
    return place < 0 ? numa::view{none, none, all} : near.view_from(place);
  }
  int place_of(const cpu& c) const {
    const auto index = static_cast<std::size_t>(c.index);
    return index < places.size() ? places[index] : -1;
  }
  /// The other nodes that have CPUs, the nearest first.
  const std::vector<neighbour>& others(const node& from) const {
    static const std::vector<neighbour> none;
    const auto index = static_cast<std::size_t>(from.index);
    return index < neighbours.size() ? neighbours[index] : none;
  }

  numa::topology machine;
  numa::neighbourhood near;
  std::vector<cpu*> row;     // as near.row()
  std::vector<int> places;   // in the row, by cpu::index; -1: not there
  std::vector<cpu*> former;  // CPUs of this run() that are not there any more: their Ps may still have work
  std::vector<std::vector<neighbour>> neighbours;  // by node::index
};

}  // namespace weft::rt
