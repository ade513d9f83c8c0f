// SPDX-License-Identifier: Apache-2.0
#include "tools/top_screen.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "runtime/syscall_name.h"
#include "tools/hist_draw.h"
#include "tools/observe.h"

namespace weft::tools {
namespace {

using values = std::map<std::string, std::uint64_t>;
using metrics::node_snapshot;
using metrics::p_snapshot;

constexpr std::array<std::string_view, 8> kHeights = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr std::array<char, 8> kPlainHeights = {'_', '.', '-', '~', '=', '+', '*', '#'};
constexpr std::array<std::string_view, 3> kTiers = {"off", "sentinel", "bpf"};
constexpr std::size_t kShownHistory = 18;
constexpr std::size_t kMostRows = 6;

std::uint64_t at(const values& all, const std::string& name) {
  const auto found = all.find(name);
  return found == all.end() ? 0 : found->second;
}

double rate(const observation& seen, const values& counters, const std::string& name) {
  return seen.seconds > 0 ? static_cast<double>(at(counters, name)) / seen.seconds : 0;
}

// "950", "12.3k", "4.56M": at most five characters.
std::string short_number(double n) {
  constexpr std::array<std::string_view, 4> kUnits = {"", "k", "M", "G"};
  std::size_t unit = 0;
  for (; n >= 999.5 && unit + 1 < kUnits.size(); ++unit) n /= 1000;
  const int decimals = unit == 0 || n >= 99.95 ? 0 : n >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f}{}", n, decimals, kUnits[unit]);
}

std::string list_of(const values& states) {
  std::string text;
  for (const auto& [state, n] : states) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", state, n);
  return text;
}

std::uint64_t sum_of(const values& states) {
  std::uint64_t sum = 0;
  for (const auto& [state, n] : states) sum += n;
  return sum;
}

bool is_busy(const std::string& doing) {
  return doing == "running" || doing == "runnable" || doing == "syscall" || doing == "preempted";
}

std::vector<std::pair<std::string, std::uint64_t>> most_frequent(const values& all,
                                                                 bool (*wanted)(const std::string&)) {
  std::vector<std::pair<std::string, std::uint64_t>> sorted;
  for (const auto& each : all)
    if (wanted(each.first)) sorted.emplace_back(each);
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  if (sorted.size() > kMostRows) sorted.resize(kMostRows);
  return sorted;
}

class drawing {
 public:
  explicit drawing(const observation& seen, bool utf8) : seen_(seen), utf8_(utf8) {}

  void summary() {
    const std::uint64_t tier = std::min<std::uint64_t>(at(seen_.state.counters, "kernel_assist"), kTiers.size() - 1);
    values busy;
    std::uint64_t waiting = 0;
    for (const auto& [doing, n] : seen_.state.goroutines) (is_busy(doing) ? busy[doing] : waiting) += n;
    busy["waiting"] = waiting;
    add(fmt::format("weft top: process {} ({}), kernel assist {}, {:.3g} s", seen_.pid, seen_.program, kTiers[tier],
                    seen_.seconds),
        true);
    add(fmt::format("goroutines {}: {}", sum_of(seen_.state.goroutines), list_of(busy)));
    add(fmt::format("threads {}: {}", sum_of(seen_.state.threads), list_of(seen_.state.threads)));
    constexpr std::array<std::pair<const char*, const char*>, 6> kRates = {{{"goroutines_created", "started"},
                                                                            {"schedticks", "slices"},
                                                                            {"steals", "steals"},
                                                                            {"handoffs", "handoffs"},
                                                                            {"preemptions", "preempted"},
                                                                            {"node_moves", "node moves"}}};
    std::string text = "a second:";
    for (const auto& [name, shown] : kRates)
      if (seen_.rest.counters.contains(name))
        text += fmt::format(" {} {} ", shown, short_number(rate(seen_, seen_.rest.counters, name)));
    add(text);
  }

  void histograms(const history& past) {
    add(fmt::format("{:<16} {:>7} {:>8} {:>8} {:>8} {:>8}  {}", "latency", "a sec.", "p50", "p90", "p99", "max",
                    "p99 of late"),
        true);
    for (const auto& each : seen_.rest.histograms) {
      const std::string& name = each.first;
      const metrics::histogram& h = each.second;
      const auto show = [&](double seconds) { return h.count() ? format_duration(seconds, utf8_) : std::string("-"); };
      const auto found = past.find(name);
      std::deque<double> late = found == past.end() ? std::deque<double>{} : found->second;
      while (late.size() > kShownHistory) late.pop_front();
      add(fmt::format("{:<16} {:>7} {:>8} {:>8} {:>8} {:>8}  {}", name,
                      short_number(seen_.seconds > 0 ? static_cast<double>(h.count()) / seen_.seconds : 0),
                      show(h.quantile(0.50)), show(h.quantile(0.90)), show(h.quantile(0.99)), show(h.max()),
                      sparkline(late, utf8_)));
    }
  }

  void nodes() {
    add(fmt::format("{:<6} {:>4} {:>5} {:>9} {:>7}", "node", "Ps", "idle", "spinning", "queued"), true);
    for (const node_snapshot& n : seen_.state.nodes)
      add(fmt::format("{:<6} {:>4} {:>5} {:>9} {:>7}", n.node, n.gomaxprocs, n.idle_ps, n.spinning,
                      short_number(static_cast<double>(n.queued))));
  }

  void waits() {
    const auto most = most_frequent(seen_.state.goroutines, [](const std::string& doing) { return !is_busy(doing); });
    if (most.empty()) return;
    add(fmt::format("{:<28} {:>10}", "waiting for", "goroutines"), true);
    for (const auto& [doing, n] : most) add(fmt::format("{:<28} {:>10}", doing, n));
  }

  // What the cost model has decided about, since the process began.
  void calls() {
    values by_call;
    for (const metrics::node_costs& node : seen_.costs)
      for (const metrics::block_costs& kind : node.blocks) by_call[rt::syscall_name(kind.syscall)] += kind.blocks;
    const auto most = most_frequent(by_call, [](const std::string&) { return true; });
    if (most.empty()) return;
    add(fmt::format("{:<28} {:>10}", "blocked in", "so far"), true);
    for (const auto& [call, n] : most) add(fmt::format("{:<28} {:>10}", call, n));
  }

  // Last: there may be many.
  void ps() {
    add(fmt::format("{:>4} {:>4} {:>4} {:<8} {:>6} {:>7} {:>7} {:>8} {:>8}", "P", "node", "CPU", "state", "queue",
                    "slices", "steals", "handoffs", "preempt."),
        true);
    for (std::size_t i = 0; i < seen_.state.ps.size(); ++i) {
      const p_snapshot& p = seen_.state.ps[i];
      if (p.state == "surplus") continue;
      const auto show = [&](const char* name) { return short_number(rate(seen_, seen_.rest.ps[i].counters, name)); };
      add(fmt::format("{:>4} {:>4} {:>4} {:<8} {:>6} {:>7} {:>7} {:>8} {:>8}", p.p, p.node, p.cpu, p.state, p.queued,
                      show("schedticks"), show("steals"), show("handoffs"), show("preemptions")));
    }
  }

  std::vector<screen_line> take() { return std::move(lines_); }

 private:
  void add(std::string text, bool heading = false) { lines_.push_back({std::move(text), heading}); }

  const observation& seen_;
  const bool utf8_;
  std::vector<screen_line> lines_;
};

nlohmann::ordered_json json_of_costs(const std::vector<metrics::node_costs>& costs) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const metrics::node_costs& node : costs) {
    nlohmann::ordered_json one{{"node", node.node}};
    for (const auto& [name, cost] : node.costs)
      one["costs"][name] = {{"seconds", cost.seconds}, {"samples", cost.samples}};
    one["blocks"] = nlohmann::ordered_json::array();
    for (const metrics::block_costs& kind : node.blocks)
      one["blocks"].push_back({{"syscall", kind.syscall},
                               {"name", rt::syscall_name(kind.syscall)},
                               {"blocks", kind.blocks},
                               {"wait", kind.wait}});
    all.push_back(std::move(one));
  }
  return all;
}

nlohmann::ordered_json json_of(const p_snapshot& p, const p_snapshot& rest) {
  return {{"p", p.p},         {"node", p.node},     {"cpu", p.cpu},
          {"state", p.state}, {"queued", p.queued}, {"counters", rest.counters}};
}

nlohmann::ordered_json json_of(const node_snapshot& n, const node_snapshot& rest) {
  nlohmann::ordered_json one{{"node", n.node},         {"gomaxprocs", n.gomaxprocs}, {"idle_ps", n.idle_ps},
                             {"spinning", n.spinning}, {"queued", n.queued},         {"counters", rest.counters}};
  for (const auto& [name, h] : rest.histograms) one["histograms"][name] = tools::json_of(h);
  return one;
}

}  // namespace

void remember(history& past, const observation& seen) {
  for (const auto& [name, h] : seen.rest.histograms) {
    std::deque<double>& late = past[name];
    late.push_back(h.count() ? h.quantile(0.99) : -1);
    if (late.size() > kRemembered) late.pop_front();
  }
}

std::string sparkline(const std::deque<double>& values, bool utf8) {
  std::string text;
  const double largest = values.empty() ? 0 : *std::max_element(values.begin(), values.end());
  for (const double value : values) {
    const double share = largest > 0 ? value / largest : 0;
    const auto height = static_cast<std::size_t>(std::clamp(std::lround(share * 7), 0L, 7L));
    if (value < 0)
      text += ' ';
    else if (utf8)
      text += kHeights[height];
    else
      text += kPlainHeights[height];
  }
  return text;
}

std::vector<screen_line> draw_top(const observation& seen, const history& past, std::size_t lines, bool utf8) {
  drawing drawn(seen, utf8);
  drawn.summary();
  drawn.histograms(past);
  drawn.nodes();
  drawn.waits();
  drawn.calls();
  drawn.ps();
  std::vector<screen_line> all = drawn.take();
  if (lines != 0 && all.size() > lines) all.resize(lines);
  return all;
}

std::string json_of(const observation& seen) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  nlohmann::ordered_json line{{"time", std::chrono::duration<double>(now).count()},
                              {"pid", seen.pid},
                              {"program", seen.program},
                              {"interval", seen.seconds},
                              {"goroutines", seen.state.goroutines},
                              {"threads", seen.state.threads},
                              {"counters", seen.rest.counters}};
  for (const auto& [name, h] : seen.rest.histograms) line["histograms"][name] = json_of(h);
  line["nodes"] = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < seen.state.nodes.size(); ++i)
    line["nodes"].push_back(json_of(seen.state.nodes[i], seen.rest.nodes[i]));
  line["ps"] = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < seen.state.ps.size(); ++i)
    line["ps"].push_back(json_of(seen.state.ps[i], seen.rest.ps[i]));
  line["costs"] = json_of_costs(seen.costs);
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace weft::tools
