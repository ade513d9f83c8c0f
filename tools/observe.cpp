// SPDX-License-Identifier: Apache-2.0
#include "tools/observe.h"

#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <thread>

#include <fmt/format.h>

#include "tools/status.h"

namespace weft::tools {
namespace {

using values = std::map<std::string, std::uint64_t>;

// These are states, though they stand among what is counted.
bool is_state(const std::string& name) { return name == "gomaxprocs" || name == "threads" || name == "kernel_assist"; }

bool went_back(const values& before, const values& now) {
  const auto at = [](const values& of) { return of.contains("schedticks") ? of.at("schedticks") : 0; };
  return at(now) < at(before);
}

void subtract(values& now, const values& before) {
  for (auto& [name, value] : now)
    if (const auto found = before.find(name); found != before.end() && !is_state(name))
      value -= std::min(found->second, value);
}

void subtract(std::map<std::string, metrics::histogram>& now, const std::map<std::string, metrics::histogram>& before) {
  for (auto& [name, histogram] : now)
    if (const auto found = before.find(name); found != before.end()) histogram = histogram.since(found->second);
}

}  // namespace

metrics::snapshot between(const metrics::snapshot& before, const metrics::snapshot& now) {
  metrics::snapshot rest = now;
  if (went_back(before.counters, now.counters)) return rest;
  subtract(rest.counters, before.counters);
  subtract(rest.histograms, before.histograms);
  for (std::size_t i = 0; i < std::min(rest.nodes.size(), before.nodes.size()); ++i) {
    subtract(rest.nodes[i].counters, before.nodes[i].counters);
    subtract(rest.nodes[i].histograms, before.nodes[i].histograms);
  }
  for (std::size_t i = 0; i < std::min(rest.ps.size(), before.ps.size()); ++i)
    subtract(rest.ps[i].counters, before.ps[i].counters);
  return rest;
}

nlohmann::ordered_json json_of(const metrics::histogram& values) {
  nlohmann::ordered_json shown{{"count", values.count()},      {"sum", values.sum()},
                               {"p50", values.quantile(0.50)}, {"p90", values.quantile(0.90)},
                               {"p99", values.quantile(0.99)}, {"p999", values.quantile(0.999)},
                               {"max", values.max()},          {"buckets", nlohmann::ordered_json::array()}};
  for (const metrics::histogram::bucket& b : values.buckets())
    shown["buckets"].push_back({{"lower", b.lower}, {"upper", b.upper}, {"count", b.count}});
  return shown;
}

void add_pid_option(CLI::App& app, int& pid) {
  app.add_option("-p,--pid", pid, "The process to look at")->required()->type_name("PID")->check(CLI::PositiveNumber);
}

void add_duration_option(CLI::App& app, double& seconds) {
  app.add_option("--for", seconds, "End after so many seconds (else by Ctrl-C)")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 86400.0));
}

std::string program_of(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
  std::string name;
  std::getline(file, name);
  return name;
}

std::string no_histogram(int pid, const std::string& name) {
  return fmt::format("process {} has no histogram '{}' (--help lists them)", pid, name);
}

int reporting(std::string_view command, const std::function<int()>& work) {
  try {
    return work();
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}: {}\n", command, e.what());
    return kStatusFailed;
  }
}

void wait_seconds(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

}  // namespace weft::tools
