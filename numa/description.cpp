// SPDX-License-Identifier: Apache-2.0
#include "numa/description.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <utility>
#include <vector>

#include "numa/topology.h"

namespace weft::numa {
namespace {

constexpr int kRemoteDistance = 20;  // what the kernel takes where the firmware says nothing
constexpr int kMostNodes = 1024;     // as the kernel

struct described_cpu {
  int node;
  std::optional<int> core, cache;  // the first CPU of the line that names it
  bool offline = false;
};

class parser {
 public:
  topology parse(const std::string& text) {
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
      ++number_;
      line = line.substr(0, line.find('#'));
      std::istringstream words(line);
      words_.assign(std::istream_iterator<std::string>(words), {});
      if (!words_.empty()) statement();
    }
    number_ = 0;
    if (nodes_.empty()) fail("no node", "at least one line such as \"node 0 cpus 0-3 memory 8G\"");
    return topology(finish());
  }

 private:
  [[noreturn]] void fail(const std::string& what, const std::string& expected) const {
    const std::string where = number_ > 0 ? "line " + std::to_string(number_) + ": " : "";
    throw std::invalid_argument(where + what + ": expected " + expected);
  }

  void statement() {
    const std::string& name = words_[0];
    if (name == "node") return read_node();
    if (name == "distance") return read_distance();
    if (name == "core") return read_group(&described_cpu::core);
    if (name == "cache") return read_group(&described_cpu::cache);
    if (name == "offline") return read_offline();
    if (name == "allowed") return read_allowed();
    if (name == "quota") return read_quota();
    fail('"' + name + '"', "node, distance, core, cache, offline, allowed or quota");
  }

  const std::string& word(std::size_t i, const char* form) const {
    if (i >= words_.size()) fail("too few words", form);
    return words_[i];
  }

  int read_int(const std::string& text, int least, int most, const std::string& expected) const {
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most)
      fail('"' + text + '"', expected + " from " + std::to_string(least) + " to " + std::to_string(most));
    return value;
  }

  std::vector<int> read_list(const std::string& text) const {
    std::vector<int> cpus = parse_cpu_list(text);
    if (cpus.empty()) fail('"' + text + '"', "CPUs such as 0-3,8");
    return cpus;
  }

  // Those of a statement that is a list and nothing more, all of them described by a node before.
  std::vector<int> read_known_cpus() const {
    if (words_.size() != 2)
      fail('"' + words_[0] + "\" with " + std::to_string(words_.size() - 1) + " words", "one LIST");
    std::vector<int> cpus = read_list(words_[1]);
    for (int cpu : cpus)
      if (cpus_.count(cpu) == 0) fail("CPU " + std::to_string(cpu), "a CPU of a node line above");
    return cpus;
  }

  std::uint64_t read_size(const std::string& text) const {
    std::uint64_t value = 0;
    const char* const last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data(), last, value);
    const std::string unit(end, last);
    const std::string units = "kMGT";
    const std::size_t place = unit.size() == 1 ? units.find(unit) : std::string::npos;
    const std::size_t shift = unit.empty() ? 0 : 10 * (place + 1);
    if (error != std::errc{} || (!unit.empty() && place == std::string::npos) || value > UINT64_MAX >> shift)
      fail('"' + text + '"', "a size such as 512M, 16G or 0");
    return value << shift;
  }

  void read_node() {
    constexpr const char* kForm = "node NUMBER [cpus LIST] [memory SIZE]";
    const int id = read_int(word(1, kForm), 0, kMostNodes - 1, "a node's number");
    if (nodes_.count(id) != 0) fail("node " + std::to_string(id) + " again", "each node once");
    std::uint64_t& memory = nodes_[id];
    for (std::size_t i = 2; i < words_.size(); i += 2) {
      const std::string& value = word(i + 1, kForm);
      if (words_[i] == "cpus")
        add_cpus(id, read_list(value));
      else if (words_[i] == "memory")
        memory = read_size(value);
      else
        fail('"' + words_[i] + '"', kForm);
    }
  }

  void add_cpus(int node, const std::vector<int>& list) {
    for (int cpu : list)
      if (!cpus_.insert({cpu, {node, {}, {}, false}}).second)
        fail("CPU " + std::to_string(cpu) + " again", "each CPU in one node");
  }

  void read_distance() {
    constexpr const char* kForm = "distance NODE NODE NUMBER";
    int node[2];
    for (std::size_t i : {0u, 1u}) {
      node[i] = read_int(word(i + 1, kForm), 0, kMostNodes - 1, "a node's number");
      if (nodes_.count(node[i]) == 0) fail("node " + std::to_string(node[i]), "a node of a line above");
    }
    if (node[0] == node[1]) fail("a distance of node " + std::to_string(node[0]) + " to itself", "two nodes");
    const int value = read_int(word(3, kForm), kLocalDistance + 1, kFarDistance, "a distance");
    if (words_.size() > 4) fail('"' + words_[4] + '"', kForm);
    distances_[{node[0], node[1]}] = distances_[{node[1], node[0]}] = value;
  }

  void read_group(std::optional<int> described_cpu::*group) {
    const std::vector<int> list = read_known_cpus();
    for (int cpu : list) {
      described_cpu& c = cpus_.at(cpu);
      if (c.node != cpus_.at(list.front()).node)
        fail("CPU " + std::to_string(cpu) + " of node " + std::to_string(c.node), "CPUs of one node");
      if (c.*group) fail("CPU " + std::to_string(cpu) + " again", "each CPU in one " + words_[0]);
      c.*group = list.front();
    }
  }

  void read_offline() {
    for (int cpu : read_known_cpus()) cpus_.at(cpu).offline = true;
  }

  void read_allowed() {
    if (!allowed_.empty()) fail("\"allowed\" again", "one such line");
    for (int cpu : read_known_cpus()) allowed_.insert(cpu);
  }

  void read_quota() {
    constexpr const char* kForm = "a number of CPUs above 0, such as 1.5";
    const std::string& text = word(1, kForm);
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || !(value > 0) || !std::isfinite(value))
      fail('"' + text + '"', kForm);
    quota_ = value;
  }

  topology::parts finish() const {
    topology::parts made;
    for (const auto& [id, memory] : nodes_) made.nodes.push_back({id, {}, memory});
    for (const auto& [from, unused_from] : nodes_)
      for (const auto& [to, unused_to] : nodes_) {
        const auto said = distances_.find({from, to});
        const int remote = said == distances_.end() ? kRemoteDistance : said->second;
        made.distances.push_back(from == to ? kLocalDistance : remote);
      }
    // A group is named by the lowest of its CPUs that is allowed.
    std::map<std::pair<int, int>, int> cores, caches;  // by node and the line's first CPU; -1: named by no line
    for (const auto& [id, c] : cpus_) {
      if (c.offline) made.offline.push_back(id);
      if (c.offline || (!allowed_.empty() && allowed_.count(id) == 0)) continue;
      const int core = c.core ? cores.insert({{c.node, *c.core}, id}).first->second : id;
      const int cache = caches.insert({{c.node, c.cache.value_or(-1)}, id}).first->second;
      made.cpus.push_back({id, c.node, core, cache});
    }
    if (made.cpus.empty()) fail("no CPU is left", "a node with a CPU that is allowed and not offline");
    if (quota_) made.cpu_quota = *quota_;
    return made;
  }

  int number_ = 0;  // of the line
  std::vector<std::string> words_;
  std::map<int, std::uint64_t> nodes_;  // memory
  std::map<int, described_cpu> cpus_;
  std::map<std::pair<int, int>, int> distances_;
  std::set<int> allowed_;
  std::optional<double> quota_;
};

std::string size_text(std::uint64_t bytes) {
  const char* const units[] = {"", "k", "M", "G", "T"};
  std::size_t unit = 0;
  while (unit < 4 && bytes != 0 && bytes % 1024 == 0) {
    bytes /= 1024;
    ++unit;
  }
  return std::to_string(bytes) + units[unit];
}

// One line for each group of more CPUs than one.
std::string group_lines(const char* name, const topology& machine, int cpu::*group, bool also_single) {
  std::map<int, std::vector<int>> groups;
  std::vector<int> all = machine.cpus();
  std::sort(all.begin(), all.end());
  for (int number : all) groups[machine.find_cpu(number)->*group].push_back(number);
  std::string lines;
  for (const auto& [first, cpus] : groups)
    if (cpus.size() > 1 || also_single) lines += std::string(name) + " " + format_cpu_list(cpus) + "\n";
  return lines;
}

}  // namespace

topology parse_description(const std::string& text) { return parser().parse(text); }

std::string describe(const topology& machine) {
  std::string text;
  for (const node& n : machine.nodes()) {
    text += "node " + std::to_string(n.id);
    if (!n.cpus.empty()) text += " cpus " + format_cpu_list(n.cpus);
    if (n.memory > 0) text += " memory " + size_text(n.memory);
    text += "\n";
  }
  for (const node& from : machine.nodes())
    for (const node& to : machine.nodes())
      if (const int distance = machine.distance(from.id, to.id); from.id < to.id)
        text +=
            "distance " + std::to_string(from.id) + " " + std::to_string(to.id) + " " + std::to_string(distance) + "\n";
  text += group_lines("core", machine, &cpu::core, false);
  text += group_lines("cache", machine, &cpu::cache, true);
  if (std::isfinite(machine.cpu_quota())) {
    char quota[32];
    std::snprintf(quota, sizeof quota, "quota %g\n", machine.cpu_quota());
    text += quota;
  }
  return text;
}

}  // namespace weft::numa
