// SPDX-License-Identifier: Apache-2.0
//
// Discovery: libnuma says which nodes there are, sysfs which CPUs share a core, the affinity mask what is ours.
// libnuma is asked only about nodes that it has listed itself: for others it writes warnings to stderr.
#include "numa/topology.h"

#include <numa.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <fstream>
#include <memory>
#include <system_error>
#include <tuple>
#include <utility>

// libnuma's word on stderr about a /sys that is not there; what it finds or does not find is in the topology. Weak, as
// libnuma's own is: a program's definition goes first.
extern "C" [[gnu::weak]] void numa_warn(int, char*, ...) {}

namespace weft::numa {
namespace {

constexpr int kMostCpus = 1 << 20;  // far above any kernel's; what claims more is nonsense

struct cpu_set_deleter {
  void operator()(cpu_set_t* set) const { CPU_FREE(set); }
};

// The kernel masks the affinity with the active CPUs itself, so no offline CPU is among these.
std::vector<int> allowed_cpus() {
  for (int limit = CPU_SETSIZE; limit <= kMostCpus; limit *= 2) {
    std::unique_ptr<cpu_set_t, cpu_set_deleter> set(CPU_ALLOC(limit));
    if (!set) throw std::system_error(ENOMEM, std::generic_category(), "CPU_ALLOC");
    const std::size_t size = CPU_ALLOC_SIZE(limit);
    if (sched_getaffinity(0, size, set.get()) == 0) {
      std::vector<int> cpus;
      for (int cpu = 0; cpu < limit; ++cpu) {
        if (CPU_ISSET_S(static_cast<std::size_t>(cpu), size, set.get())) cpus.push_back(cpu);
      }
      return cpus;
    }
    if (errno != EINVAL) break;  // EINVAL: the kernel's mask is longer than ours
  }
  throw std::system_error(errno, std::generic_category(), "sched_getaffinity");
}

std::vector<node> numa_nodes(const std::vector<int>& allowed) {
  std::vector<node> nodes;
  if (numa_available() < 0) return nodes;
  numa_node_to_cpu_update();
  for (int id = 0; id <= numa_max_node(); ++id) {
    if (!numa_bitmask_isbitset(numa_nodes_ptr, static_cast<unsigned>(id))) continue;
    const long long memory = numa_node_size64(id, nullptr);
    nodes.push_back({id, {}, memory > 0 ? static_cast<std::uint64_t>(memory) : 0});
  }
  for (int cpu : allowed) {
    const int id = numa_node_of_cpu(cpu);
    const auto home = std::find_if(nodes.begin(), nodes.end(), [id](const node& n) { return n.id == id; });
    if (home != nodes.end()) home->cpus.push_back(cpu);
  }
  return nodes;
}

std::vector<node> one_node(std::vector<int> allowed) {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page_size = sysconf(_SC_PAGESIZE);
  const bool known = pages > 0 && page_size > 0;
  const std::uint64_t memory = known ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_size) : 0;
  return {{0, std::move(allowed), memory}};
}

std::vector<int> numa_distances(const std::vector<node>& nodes) {
  std::vector<int> distances;
  for (const node& from : nodes) {
    for (const node& to : nodes) distances.push_back(numa_distance(from.id, to.id));
  }
  return distances;
}

// How many allowed threads of the same core come before this CPU.
int smt_rank(int cpu, const std::vector<int>& allowed, const std::string& root) {
  std::ifstream file(root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
  std::string list;
  std::getline(file, list);
  const std::vector<int> siblings = parse_cpu_list(list);
  return static_cast<int>(std::count_if(siblings.begin(), siblings.end(), [&](int sibling) {
    return sibling < cpu && std::binary_search(allowed.begin(), allowed.end(), sibling);
  }));
}

}  // namespace

std::vector<int> parse_cpu_list(const std::string& list) {
  std::vector<int> cpus;
  const char* at = list.data();
  const char* const end = at + list.size();
  while (at != end) {
    int first = 0;
    auto parsed = std::from_chars(at, end, first);
    int last = first;
    if (parsed.ec == std::errc{} && parsed.ptr != end && *parsed.ptr == '-') {
      parsed = std::from_chars(parsed.ptr + 1, end, last);
    }
    if (parsed.ec != std::errc{} || first < 0 || last < first || last >= kMostCpus) return {};
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
    at = parsed.ptr;
    if (at != end && *at++ != ',') return {};
  }
  return cpus;
}

std::vector<int> binding_order(const std::vector<node>& nodes, const std::vector<int>& allowed,
                               const std::string& root) {
  std::vector<std::tuple<int, std::size_t, int>> keys;  // SMT rank, position of the node, CPU
  for (int cpu : allowed) {
    const auto home = std::find_if(nodes.begin(), nodes.end(), [cpu](const node& n) {
      return std::find(n.cpus.begin(), n.cpus.end(), cpu) != n.cpus.end();
    });
    keys.emplace_back(smt_rank(cpu, allowed, root), static_cast<std::size_t>(home - nodes.begin()), cpu);
  }
  std::sort(keys.begin(), keys.end());
  std::vector<int> order;
  for (const auto& key : keys) order.push_back(std::get<2>(key));
  return order;
}

topology topology::discover() {
  const std::vector<int> allowed = allowed_cpus();
  std::vector<node> nodes = numa_nodes(allowed);
  std::vector<int> distances = numa_distances(nodes);
  if (std::all_of(nodes.begin(), nodes.end(), [](const node& n) { return n.cpus.empty(); })) {
    nodes = one_node(allowed);
    distances = {kLocalDistance};
  }
  std::vector<int> order = binding_order(nodes, allowed, "");
  return topology(std::move(nodes), std::move(order), std::move(distances));
}

topology::topology(std::vector<node> nodes, std::vector<int> cpus, std::vector<int> distances)
    : nodes_(std::move(nodes)), cpus_(std::move(cpus)), distances_(std::move(distances)) {
  for (const node& n : nodes_) {
    for (int cpu : n.cpus) {
      const auto slot = static_cast<std::size_t>(cpu);
      if (node_of_cpu_.size() <= slot) node_of_cpu_.resize(slot + 1, -1);
      node_of_cpu_[slot] = n.id;
    }
  }
}

int topology::distance(int from, int to) const {
  if (from == to) return kLocalDistance;
  const auto position = [this](int id) {
    const auto found = std::find_if(nodes_.begin(), nodes_.end(), [id](const node& n) { return n.id == id; });
    return static_cast<std::size_t>(found - nodes_.begin());
  };
  const std::size_t row = position(from);
  const std::size_t column = position(to);
  if (row == nodes_.size() || column == nodes_.size()) return kFarDistance;
  const int known = distances_[row * nodes_.size() + column];
  return known > 0 ? known : kFarDistance;
}

int topology::node_of_cpu(int cpu) const {
  if (cpu < 0 || static_cast<std::size_t>(cpu) >= node_of_cpu_.size()) return -1;
  return node_of_cpu_[static_cast<std::size_t>(cpu)];
}

}  // namespace weft::numa
