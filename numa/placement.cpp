// SPDX-License-Identifier: Apache-2.0
#include "numa/placement.h"

#include <algorithm>
#include <climits>
#include <map>
#include <tuple>

#include "numa/cgroup.h"

namespace weft::numa {
namespace {

node_ps* entry_of(placement& all, int node) {
  const auto at = std::find_if(all.begin(), all.end(), [node](const node_ps& each) { return each.node == node; });
  return at == all.end() ? nullptr : &*at;
}

placement empty_placement(const topology& machine) {
  placement all;
  bool strays = false;
  for (int number : machine.cpus()) strays |= machine.node_of_cpu(number) < 0;
  for (const node& n : machine.nodes())
    if (!n.cpus.empty()) all.push_back({n.id, 0});
  if (strays) all.push_back({-1, 0});
  return all;
}

struct node_size {
  int node;
  int cores;
  int cpus;
};

std::vector<node_size> sizes(const topology& machine) {
  std::vector<node_size> all;
  for (const node_ps& each : empty_placement(machine)) {
    node_size size{each.node, 0, 0};
    for (int number : machine.cpus()) {
      const cpu& c = *machine.find_cpu(number);
      if (c.node != each.node) continue;
      ++size.cpus;
      size.cores += c.core == c.id ? 1 : 0;
    }
    all.push_back(size);
  }
  return all;
}

// The node to begin with, then by distance from it.
void sort_for_packing(const topology& machine, std::vector<node_size>& nodes, int n) {
  const auto better = [n](const node_size& a, const node_size& b) {
    const auto fits = [n](const node_size& s) { return s.cores >= n; };
    if (fits(a) != fits(b)) return fits(a);
    return fits(a) ? a.cores < b.cores : a.cores > b.cores;
  };
  const int first = std::min_element(nodes.begin(), nodes.end(), better)->node;
  std::stable_sort(nodes.begin(), nodes.end(), [&](const node_size& a, const node_size& b) {
    return machine.distance(first, a.node) < machine.distance(first, b.node);
  });
}

}  // namespace

std::vector<int> binding_order(const std::vector<cpu>& cpus) {
  std::map<int, int> siblings_before;         // by core
  std::map<std::pair<int, int>, int> before;  // by SMT rank and node
  std::vector<std::tuple<int, bool, int, unsigned, int>> keys;
  for (const cpu& c : cpus) {
    const int rank = siblings_before[c.core]++;
    const int turn = before[{rank, c.node}]++;
    const bool stray = c.node < 0;
    keys.emplace_back(rank, stray, turn, static_cast<unsigned>(c.node), c.id);
  }
  std::sort(keys.begin(), keys.end());
  std::vector<int> order;
  for (const auto& key : keys) order.push_back(std::get<4>(key));
  return order;
}

placement spread(const topology& machine, int n) {
  placement all = empty_placement(machine);
  const auto size = static_cast<int>(machine.cpus().size());
  for (int i = 0; i < size; ++i) {
    const int node = machine.node_of_cpu(machine.cpus()[static_cast<std::size_t>(i)]);
    entry_of(all, node)->ps += n / size + (i < n % size ? 1 : 0);
  }
  return all;
}

placement pack(const topology& machine, int n) {
  if (const auto cpus = static_cast<int>(machine.cpus().size()); n >= cpus) return spread(machine, n);
  placement all = empty_placement(machine);
  std::vector<node_size> nodes = sizes(machine);
  sort_for_packing(machine, nodes, n);
  for (const bool siblings : {false, true}) {
    for (const node_size& each : nodes) {
      const int more = std::min(n, siblings ? each.cpus - each.cores : each.cores);
      entry_of(all, each.node)->ps += more;
      n -= more;
    }
  }
  return all;
}

placement default_placement(const topology& machine) { return pack(machine, default_gomaxprocs(machine)); }

int count_ps(const placement& wanted) {
  int n = 0;
  for (const node_ps& each : wanted) n += each.ps;
  return n;
}

std::vector<int> cpus_for(const topology& machine, const placement& wanted) {
  placement left = wanted;
  std::vector<int> cpus;
  for (bool more = true; more;) {
    more = false;
    for (int number : machine.cpus()) {
      node_ps* const node = entry_of(left, machine.node_of_cpu(number));
      if (!node || node->ps == 0) continue;
      --node->ps;
      cpus.push_back(number);
      more = true;
    }
  }
  return cpus;
}

}  // namespace weft::numa
