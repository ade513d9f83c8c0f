// SPDX-License-Identifier: Apache-2.0
#include "runtime/nodes.h"

#include <sched.h>
#include <algorithm>

#include "runtime/proc.h"

namespace weft::rt {
namespace {

// Thieves may still look at one that is not in use any more, and a foreign thread at one of the last run().
using map_list = std::vector<std::unique_ptr<const machine_map>>;
auto& maps = *new map_list;
auto& earlier_maps = *new map_list;

// Beyond kMaxNodes different ones, all others are one.
node& known_node(int id) {
  if (node* const known = node_numbered(id)) return *known;
  const int n = sched.nnodes.load(std::memory_order_relaxed);
  if (n == kMaxNodes) return node_at(n - 1);
  auto* const fresh = new node(id, n, sched.busy, sched.idle_nodes);
  sched.nodes[static_cast<std::size_t>(n)].store(fresh, std::memory_order_release);
  sched.nnodes.store(n + 1, std::memory_order_release);
  return *fresh;
}

bool in_use(const cpu* c) { return c->index < sched.ncpus.load(std::memory_order_relaxed) && &cpu_at(c->index) == c; }

cpu* earlier_cpu(int id, node& home) {
  static auto& all = *new std::vector<cpu*>;
  for (cpu* const c : all)
    if (c->id == id && c->home == &home && !in_use(c)) return c;
  return all.emplace_back(new cpu(id, home));
}

// Null: there are too many.
cpu* known_cpu(int id, node& home, bool real) {
  const int n = sched.ncpus.load(std::memory_order_relaxed);
  for (int i = 0; i < n; ++i)
    if (cpu_at(i).id == id && cpu_at(i).home == &home) return &cpu_at(i);
  if (n == kMaxCpus) return nullptr;
  cpu* const c = earlier_cpu(id, home);
  c->number = real ? id : -1;
  c->index = n;
  c->idle_ms.reset();
  c->nps.store(0, std::memory_order_relaxed);
  c->sentinel_failed = false;
  c->armed.store(0, std::memory_order_relaxed);
  sched.cpus[static_cast<std::size_t>(n)].store(c, std::memory_order_release);
  sched.ncpus.store(n + 1, std::memory_order_release);
  return c;
}

void add_neighbours(machine_map& map) {
  map.neighbours.resize(static_cast<std::size_t>(sched.nnodes.load(std::memory_order_relaxed)));
  for (const numa::other_node& from : map.near.nodes())
    for (const numa::other_node& to : map.near.others(from.node))
      map.neighbours[static_cast<std::size_t>(known_node(from.node).index)].push_back(
          {&known_node(to.node), to.distance, to.cpus});
}

}  // namespace

void use_machine(const numa::topology& seen, bool real) {
  auto map = std::make_unique<machine_map>(seen);
  std::vector<cpu*> there;
  for (int number : map->near.row()) {
    cpu* const c = known_cpu(number, known_node(seen.node_of_cpu(number)), real);
    map->row.push_back(c ? c : map->row.back());
  }
  const int n = sched.ncpus.load(std::memory_order_relaxed);
  map->places.assign(static_cast<std::size_t>(n), -1);
  for (std::size_t place = map->row.size(); place-- > 0;)
    map->places[static_cast<std::size_t>(map->row[place]->index)] = static_cast<int>(place);
  for (int i = 0; i < n; ++i)
    if (map->place_of(cpu_at(i)) < 0) map->former.push_back(&cpu_at(i));
  add_neighbours(*map);
  for (int i = 0, nodes = sched.nnodes.load(std::memory_order_relaxed); i < nodes; ++i)
    place_stacks(i, nodes > 1 ? node_at(i).id : -1);
  sched.map.store(map.get(), std::memory_order_release);
  maps.push_back(std::move(map));
}

void forget_machine() {
  earlier_maps = std::move(maps);
  maps.clear();
  sched.ncpus.store(0, std::memory_order_relaxed);
  for (int i = 0, n = sched.nnodes.load(std::memory_order_relaxed); i < n; ++i) {
    node& each = node_at(i);
    each.gate.reset();
    each.wake_backoff.store(0, std::memory_order_relaxed);
    each.ps.store(0, std::memory_order_relaxed);
  }
}

cpu* cpu_numbered(int id) {
  const machine_map& map = machine();
  const int place = map.near.place_of(id);
  return place < 0 ? nullptr : map.row[static_cast<std::size_t>(place)];
}

node* node_numbered(int id) {
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i)
    if (node_at(i).id == id) return &node_at(i);
  return nullptr;
}

node& nearest_node(int id) {
  if (node* const known = node_numbered(id)) return nearest_with_ps(*known);
  const machine_map& map = machine();
  node* nearest = p_at(0)->home;
  for (const numa::other_node& each : map.near.nodes()) {
    node& there = known_node(each.node);
    if (there.ps.load(std::memory_order_relaxed) > 0 &&
        map.machine.distance(id, each.node) < map.machine.distance(id, nearest->id))
      nearest = &there;
  }
  return nearest_with_ps(*nearest);
}

node& node_of_thread() {
  if (sched.nnodes.load(std::memory_order_acquire) == 1) return node_at(0);
  node* const here = node_numbered(machine().machine.node_of_cpu(sched_getcpu()));
  return nearest_with_ps(here ? *here : node_at(0));
}

}  // namespace weft::rt
