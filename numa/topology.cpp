// SPDX-License-Identifier: Apache-2.0
//
// Discovery: the affinity mask says which CPUs are ours, sysfs which nodes there are and who shares what. libnuma could
// tell a part of it, but caches what hot-plug changes, counts nodes with memory only, and writes to stderr.
//
// sysfs in a container may be cut short or missing: what it does not tell is taken as simply as can be. A CPU without
// siblings is a core, CPUs without a cache share one in their node, and without nodes everything is in node 0.
#include "numa/topology.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <sstream>
#include <system_error>
#include <utility>

#include "numa/cgroup.h"
#include "numa/placement.h"

namespace weft::numa {
namespace {

constexpr int kMostCpus = 1 << 20;  // far above any kernel's; what claims more is nonsense

struct cpu_set_deleter {
  void operator()(cpu_set_t* set) const { CPU_FREE(set); }
};

std::string line_of(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Of those in `group`, the lowest that is among `cpus` (ascending) and in the same node; `number` if none is.
int lowest_of(const std::vector<int>& group, int number, const std::vector<cpu>& cpus) {
  const auto find = [&](int id) {
    const auto at = std::lower_bound(cpus.begin(), cpus.end(), id, [](const cpu& c, int n) { return c.id < n; });
    return at != cpus.end() && at->id == id ? &*at : nullptr;
  };
  const int home = find(number)->node;
  int lowest = number;
  for (int id : group)
    if (const cpu* const c = find(id); c && c->node == home) lowest = std::min(lowest, id);
  return lowest;
}

// The CPUs that share the last level of cache with this one; none: not told.
std::vector<int> cache_of(const std::string& directory) {
  int highest = 0;
  std::vector<int> shared;
  for (int i = 0;; ++i) {
    const std::string index = directory + "/cache/index" + std::to_string(i);
    int level = 0;
    std::ifstream file(index + "/level");
    if (!(file >> level)) return shared;
    if (level <= highest) continue;
    highest = level;
    shared = parse_cpu_list(line_of(index + "/shared_cpu_list"));
  }
}

std::uint64_t memory_of(const std::string& directory) {
  std::ifstream file(directory + "/meminfo");
  for (std::string line; std::getline(file, line);) {  // "Node 0 MemTotal:  123 kB"
    const auto at = line.find("MemTotal:");
    if (at == std::string::npos) continue;
    std::uint64_t kilobytes = 0;
    std::istringstream(line.substr(at + 9)) >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

std::uint64_t all_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES), page_size = sysconf(_SC_PAGESIZE);
  return pages > 0 && page_size > 0 ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_size) : 0;
}

// A row has a distance for each node that is online.
std::vector<int> distances_of(const std::string& directory) {
  std::istringstream in(line_of(directory + "/distance"));
  return {std::istream_iterator<int>(in), {}};
}

void read_nodes(const std::string& root, topology::parts& found, std::map<int, int>& node_of_cpu) {
  const std::string all = root + "/sys/devices/system/node";
  const std::vector<int> ids = parse_cpu_list(line_of(all + "/online"));
  for (int id : ids) {
    const std::string directory = all + "/node" + std::to_string(id);
    found.nodes.push_back({id, {}, memory_of(directory)});
    for (int number : parse_cpu_list(line_of(directory + "/cpulist"))) node_of_cpu[number] = id;
    std::vector<int> row = distances_of(directory);
    row.resize(ids.size());
    found.distances.insert(found.distances.end(), row.begin(), row.end());
  }
}

std::vector<int> cpus_switched_off(const std::string& root) {
  const std::string all = root + "/sys/devices/system/cpu/";
  const std::vector<int> present = parse_cpu_list(line_of(all + "present"));
  const std::vector<int> online = parse_cpu_list(line_of(all + "online"));
  std::vector<int> off;
  if (!online.empty())
    std::set_difference(present.begin(), present.end(), online.begin(), online.end(), std::back_inserter(off));
  return off;
}

// Who shares a core or a cache is known by the numbers of its CPUs, and those are known only once all have a node.
void read_groups(const std::string& root, std::vector<cpu>& cpus) {
  for (cpu& c : cpus) {
    const std::string directory = root + "/sys/devices/system/cpu/cpu" + std::to_string(c.id);
    c.core = lowest_of(parse_cpu_list(line_of(directory + "/topology/thread_siblings_list")), c.id, cpus);
    std::vector<int> shared = cache_of(directory);
    if (shared.empty())
      std::transform(cpus.begin(), cpus.end(), std::back_inserter(shared), [](const cpu& other) { return other.id; });
    c.cache = lowest_of(shared, c.id, cpus);
  }
}

}  // namespace

std::vector<int> allowed_cpus() {
  for (int limit = CPU_SETSIZE; limit <= kMostCpus; limit *= 2) {
    const std::unique_ptr<cpu_set_t, cpu_set_deleter> set(CPU_ALLOC(limit));
    if (!set) throw std::system_error(ENOMEM, std::generic_category(), "CPU_ALLOC");
    const std::size_t size = CPU_ALLOC_SIZE(limit);
    if (sched_getaffinity(0, size, set.get()) == 0) {
      std::vector<int> cpus;
      for (int number = 0; number < limit; ++number) {
        if (CPU_ISSET_S(static_cast<std::size_t>(number), size, set.get())) cpus.push_back(number);
      }
      return cpus;
    }
    if (errno != EINVAL) break;  // EINVAL: the kernel's mask is longer than ours
  }
  throw std::system_error(errno, std::generic_category(), "sched_getaffinity");
}

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
    for (int number = first; number <= last; ++number) cpus.push_back(number);
    at = parsed.ptr;
    if (at != end && (*at++ != ',' || at == end)) return {};
  }
  return cpus;
}

std::string format_cpu_list(const std::vector<int>& ascending) {
  std::string list;
  for (std::size_t i = 0; i < ascending.size(); ++i) {
    const std::size_t first = i;
    while (i + 1 < ascending.size() && ascending[i + 1] == ascending[i] + 1) ++i;
    if (!list.empty()) list += ',';
    list += std::to_string(ascending[first]);
    if (i > first) list += '-' + std::to_string(ascending[i]);
  }
  return list;
}

topology read_topology(const std::string& root, const std::vector<int>& allowed) {
  topology::parts found;
  std::map<int, int> node_of_cpu;
  read_nodes(root, found, node_of_cpu);
  const auto known = [&](int number) { return node_of_cpu.count(number) != 0; };
  if (std::none_of(allowed.begin(), allowed.end(), known)) {
    found.nodes = {{0, {}, all_memory()}};
    found.distances = {kLocalDistance};
    for (int number : allowed) node_of_cpu[number] = 0;
  }
  for (int number : allowed) found.cpus.push_back({number, known(number) ? node_of_cpu[number] : -1, 0, 0});
  read_groups(root, found.cpus);
  found.offline = cpus_switched_off(root);
  found.cpu_quota = cpu_quota_under(root);
  return topology(std::move(found));
}

topology topology::discover() { return read_topology("", allowed_cpus()); }

topology::topology(parts made_of)
    : cpus_(std::move(made_of.cpus)), offline_(std::move(made_of.offline)), cpu_quota_(made_of.cpu_quota) {
  std::vector<node>& given = made_of.nodes;
  std::vector<std::size_t> order(given.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return given[a].id < given[b].id; });
  made_of.distances.resize(given.size() * given.size());
  for (std::size_t from : order) {
    nodes_.push_back({given[from].id, {}, given[from].memory});
    for (std::size_t to : order) distances_.push_back(made_of.distances[from * given.size() + to]);
  }
  std::sort(cpus_.begin(), cpus_.end(), [](const cpu& a, const cpu& b) { return a.id < b.id; });
  for (const cpu& c : cpus_)
    for (node& n : nodes_)
      if (n.id == c.node) n.cpus.push_back(c.id);
  order_ = binding_order(cpus_);
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

const cpu* topology::find_cpu(int number) const {
  const auto at =
      std::lower_bound(cpus_.begin(), cpus_.end(), number, [](const cpu& c, int wanted) { return c.id < wanted; });
  return at != cpus_.end() && at->id == number ? &*at : nullptr;
}

int topology::node_of_cpu(int number) const {
  const cpu* const c = find_cpu(number);
  return c ? c->node : -1;
}

int topology::nearest_memory(int node) const {
  int nearest = -1;
  for (const numa::node& n : nodes_)
    if (n.memory > 0 && (nearest < 0 || distance(node, n.id) < distance(node, nearest))) nearest = n.id;
  return nearest;
}

}  // namespace weft::numa
