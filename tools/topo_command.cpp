// SPDX-License-Identifier: Apache-2.0
#include "tools/topo_command.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "numa/description.h"
#include "numa/topology.h"
#include "tools/usage.h"

namespace weft::tools {

namespace {

constexpr const char* kName = "weft topo";

constexpr const char* kFooter = R"(
A P is the right to run goroutines; each is bound to a CPU, whose number stands before its own. Physical cores get
one before their SMT siblings do. GOMAXPROCS as a number is spread over the nodes; by default there is a P for each
allowed CPU, or, under a lower CPU quota, that many rounded up, on as few nodes as possible.

A machine that is described, one statement a line ('#' begins a comment; LIST is such as 0-3,8):
  node NUMBER [cpus LIST] [memory SIZE]
  distance NODE NODE NUMBER
  core LIST                  SMT siblings
  cache LIST                 CPUs that share the last level of cache
  offline LIST               CPUs that are switched off
  allowed LIST               what affinity and cpuset leave
  quota CPUS                 such as 1.5

Exit status:
  0  well
  1  the machine or the description could not be read, or the output not be written
  2  the command line, GOMAXPROCS or the description is wrong

Examples:
  weft topo                               this machine
  weft topo --gomaxprocs node0=6,node1=2  and where those Ps would be
  weft topo --describe > machine          for another to look at:
  weft topo --file machine)";

using ps_of_cpus = std::map<int, std::vector<int>>;

ps_of_cpus bound(const numa::topology& machine, const numa::ps_wish& wish) {
  ps_of_cpus ps;
  int number = 0;
  for (int cpu : numa::cpus_for(machine, numa::placement_of(wish, machine))) ps[cpu].push_back(number++);
  return ps;
}

std::string size_text(std::uint64_t bytes) {
  if (bytes == 0) return "no memory";
  const char* const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit < 4; ++unit) value /= 1024;
  return fmt::format("{:.{}f} {}", value, value < 10 && unit > 0 ? 1 : 0, units[unit]);
}

std::string count_text(int n, const char* what) { return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s"); }

// "0: P 0, P 8"
std::string cpu_text(int cpu, const ps_of_cpus& ps) {
  std::string text = std::to_string(cpu);
  const auto found = ps.find(cpu);
  if (found == ps.end()) return text + ": -";
  for (std::size_t i = 0; i < found->second.size(); ++i)
    text += fmt::format("{}P {}", i == 0 ? ": " : ", ", found->second[i]);
  return text;
}

std::map<int, std::vector<int>> grouped(const numa::topology& machine, const std::vector<int>& cpus,
                                        int numa::cpu::*group) {
  std::map<int, std::vector<int>> groups;
  for (int cpu : cpus) groups[machine.find_cpu(cpu)->*group].push_back(cpu);
  return groups;
}

std::string draw_cpus(const numa::topology& machine, const std::vector<int>& cpus, const ps_of_cpus& ps) {
  std::string drawn;
  for (const auto& [cache, sharing] : grouped(machine, cpus, &numa::cpu::cache)) {
    drawn += fmt::format("  cache of CPUs {}\n", numa::format_cpu_list(sharing));
    for (const auto& [core, siblings] : grouped(machine, sharing, &numa::cpu::core)) {
      std::string line;
      for (int cpu : siblings) line += fmt::format("{:<16}", cpu_text(cpu, ps));
      while (line.ends_with(' ')) line.pop_back();
      drawn += fmt::format("    {} {}\n", siblings.size() > 1 ? "core" : "CPU ", line);
    }
  }
  return drawn;
}

std::vector<int> cpus_without_node(const numa::topology& machine) {
  std::vector<int> cpus;
  for (int cpu : machine.cpus())
    if (machine.node_of_cpu(cpu) < 0) cpus.push_back(cpu);
  std::sort(cpus.begin(), cpus.end());
  return cpus;
}

std::string draw_distances(const numa::topology& machine) {
  if (machine.nodes().size() < 2) return "";
  std::string drawn = "\nDistances  ";
  for (const numa::node& to : machine.nodes()) drawn += fmt::format("{:>5}", to.id);
  for (const numa::node& from : machine.nodes()) {
    drawn += fmt::format("\n{:>9}  ", from.id);
    for (const numa::node& to : machine.nodes()) {
      const int distance = machine.distance(from.id, to.id);
      drawn += distance == numa::kFarDistance ? "    ?" : fmt::format("{:>5}", distance);
    }
  }
  return drawn + "\n";
}

int ps_on(const numa::placement& all, int node) {
  for (const numa::node_ps& each : all)
    if (each.node == node) return each.ps;
  return 0;
}

// As it would stand in the environment.
std::string vector_text(const numa::placement& all) {
  std::string text;
  for (const numa::node_ps& each : all)
    if (each.node >= 0) text += fmt::format("{}node{}={}", text.empty() ? "" : ",", each.node, each.ps);
  return text;
}

numa::topology read_file(const std::string& path) {
  std::string text;
  std::FILE* const file = std::fopen(path.c_str(), "re");
  std::array<char, 4096> part{};
  for (std::size_t n = 1; file && n > 0;) {
    n = std::fread(part.data(), 1, part.size(), file);
    text.append(part.data(), n);
  }
  const int error = !file || std::ferror(file) ? errno : 0;
  if (file) std::fclose(file);
  if (error != 0) throw std::runtime_error(path + ": " + std::generic_category().message(error));
  try {
    return numa::parse_description(text);
  } catch (const std::invalid_argument& e) {
    throw std::invalid_argument(path + ": " + e.what());
  }
}

// What was asked for, or what the environment says.
numa::ps_wish read_wish(const std::string& option) {
  const char* const variable = std::getenv("GOMAXPROCS");
  const std::string text = !option.empty() ? option : variable ? variable : "";
  if (text.empty()) return {};
  const auto wish = numa::parse_wish(text);
  if (!wish)
    throw std::invalid_argument(
        fmt::format("GOMAXPROCS={}: expected a number of Ps from 1 to {}, or one for each node such as node0=6,node1=2",
                    text, numa::kMostPs));
  return *wish;
}

}  // namespace

std::string draw_topology(const numa::topology& machine, const numa::ps_wish& wish) {
  const numa::placement all = numa::placement_of(wish, machine);
  const ps_of_cpus ps = bound(machine, wish);
  std::string drawn;
  for (const numa::node& n : machine.nodes()) {
    drawn += fmt::format("node {}: {}, {}, {}\n", n.id, count_text(static_cast<int>(n.cpus.size()), "CPU"),
                         size_text(n.memory), count_text(ps_on(all, n.id), "P"));
    drawn += draw_cpus(machine, n.cpus, ps);
  }
  if (const std::vector<int> cpus = cpus_without_node(machine); !cpus.empty())
    drawn += "CPUs of no known node:\n" + draw_cpus(machine, cpus, ps);
  drawn += draw_distances(machine);
  drawn += "\n";
  if (!machine.offline().empty())
    drawn += fmt::format("CPUs switched off: {}\n", numa::format_cpu_list(machine.offline()));
  if (std::isfinite(machine.cpu_quota())) drawn += fmt::format("CPU quota: {:.3g} CPUs\n", machine.cpu_quota());
  return drawn + fmt::format("{}: GOMAXPROCS={}\n", count_text(numa::count_ps(all), "P"), vector_text(all));
}

std::string json_of(const numa::topology& machine, const numa::ps_wish& wish) {
  const numa::placement all = numa::placement_of(wish, machine);
  const ps_of_cpus ps = bound(machine, wish);
  nlohmann::ordered_json drawn;
  drawn["nodes"] = nlohmann::ordered_json::array();
  for (const numa::node& n : machine.nodes()) {
    nlohmann::ordered_json distances;
    for (const numa::node& to : machine.nodes()) distances[std::to_string(to.id)] = machine.distance(n.id, to.id);
    drawn["nodes"].push_back(
        {{"node", n.id}, {"cpus", n.cpus}, {"memory", n.memory}, {"distances", distances}, {"ps", ps_on(all, n.id)}});
  }
  drawn["cpus"] = nlohmann::ordered_json::array();
  for (int number : machine.cpus()) {
    const numa::cpu& c = *machine.find_cpu(number);
    const auto found = ps.find(number);
    drawn["cpus"].push_back({{"cpu", number},
                             {"node", c.node},
                             {"core", c.core},
                             {"cache", c.cache},
                             {"ps", found == ps.end() ? std::vector<int>{} : found->second}});
  }
  drawn["offline"] = machine.offline();
  drawn["quota"] = std::isfinite(machine.cpu_quota()) ? nlohmann::ordered_json(machine.cpu_quota()) : nullptr;
  drawn["ps"] = numa::count_ps(all);
  drawn["gomaxprocs"] = vector_text(all);
  return drawn.dump(2) + "\n";
}

int topo_command(int argc, char** argv) {
  bool json = false, describe = false;
  std::string file, wanted;
  CLI::App app("Draw the machine's nodes, caches and CPUs, and where Ps are bound", kName);
  app.add_option("--gomaxprocs", wanted,
                 "Ps to place: a number, or node0=6,node1=2; else GOMAXPROCS of the environment");
  app.add_option("--file", file, "A machine that is described there, instead of this one");
  auto* const as_json = app.add_flag("--json", json, "Print JSON instead of a drawing");
  app.add_flag("--describe", describe, "Print the machine's description, as --file reads it")->excludes(as_json);
  app.footer(kFooter);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? print_information(kName, app, e) : usage_error(kName, e.what());
  }
  try {
    const numa::ps_wish wish = read_wish(wanted);
    const numa::topology machine = file.empty() ? numa::topology::discover() : read_file(file);
    const std::string text = describe ? numa::describe(machine)
                             : json   ? json_of(machine, wish)
                                      : draw_topology(machine, wish);
    return print_text(kName, text) ? kStatusOk : kStatusFailed;
  } catch (const std::invalid_argument& e) {
    return usage_error(kName, e.what());
  } catch (const std::runtime_error& e) {
    fmt::print(stderr, "{}: {}\n", kName, e.what());
    return kStatusFailed;
  }
}

}  // namespace weft::tools
