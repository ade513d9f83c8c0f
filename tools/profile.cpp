// SPDX-License-Identifier: Apache-2.0
#include "tools/profile.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/hist_draw.h"

namespace weft::tools {
namespace {

constexpr std::size_t kMostFunctions = 20, kMostStacks = 5;
constexpr int kBarColumns = 16;
constexpr std::string_view kBold = "\033[1m", kBarColour = "\033[36m", kPlain = "\033[0m";

double percent(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(whole);
}

// The format's two separators, and what would end a line.
std::string folded_frame(std::string name) {
  for (char& c : name)
    if (c == ';' || c == '\n') c = ':';
  return name;
}

struct cost {
  std::uint64_t self = 0;   // of the function itself
  std::uint64_t below = 0;  // with all that it called
};

// By name. A function that is on a stack twice has called itself, and is counted once.
std::vector<std::pair<std::string, cost>> costs_of_functions(const profile& shown) {
  std::map<std::string, cost> costs;
  for (const profile::stack& stack : shown.stacks) {
    if (stack.frames.empty()) continue;
    costs[stack.frames.back()].self += stack.amount;
    for (const std::string& name : std::set<std::string>(stack.frames.begin(), stack.frames.end()))
      costs[name].below += stack.amount;
  }
  std::vector<std::pair<std::string, cost>> sorted(costs.begin(), costs.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second.self, a.second.below) > std::pair(b.second.self, b.second.below);
  });
  return sorted;
}

std::string paint(std::string_view text, std::string_view colour, const table_style& style) {
  return style.colour ? fmt::format("{}{}{}", colour, text, kPlain) : std::string(text);
}

std::string program_names(const profile& shown) {
  std::string text;
  for (const profile::process& p : shown.processes)
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", p.program, p.pid);
  return text;
}

std::string headline(const profile& shown, const table_style& style) {
  std::string text = fmt::format("{}, {:.3g} s: {}, {}", program_names(shown), shown.seconds, name_of(shown.what),
                                 amount_text(shown.what, shown.total(), style.utf8));
  if (shown.lost != 0) text += fmt::format(", {} more samples lost", shown.lost);
  return paint(text, kBold, style) + "\n";
}

std::string function_rows(const profile& shown, const table_style& style) {
  const auto costs = costs_of_functions(shown);
  const std::uint64_t total = shown.total();
  std::string text = fmt::format("\n    self   total  {:<{}}  function\n", "", kBarColumns);
  for (std::size_t i = 0; i < std::min(costs.size(), kMostFunctions); ++i) {
    const auto& [name, spent] = costs[i];
    const std::string drawn = fmt::format("{:<{}}", bar(spent.self, total, kBarColumns, style.utf8), kBarColumns);
    text += fmt::format("{:>6.1f} % {:>5.1f} %  {}  {}\n", percent(spent.self, total), percent(spent.below, total),
                        paint(drawn, kBarColour, style), name);
  }
  return text;
}

std::string stack_text(const profile& shown, const profile::stack& stack, const table_style& style) {
  std::string text = fmt::format("\n{:>6.1f} %  {}", percent(stack.amount, shown.total()),
                                 amount_text(shown.what, stack.amount, style.utf8));
  if (!stack.reason.empty()) text += fmt::format(" [{}]", stack.reason);
  if (shown.processes.size() > 1) text += fmt::format(", process {}", stack.pid);
  text += "\n";
  for (auto frame = stack.frames.rbegin(); frame != stack.frames.rend(); ++frame)
    text += fmt::format("          {}\n", *frame);
  return text;
}

const char* unit_of(profile::kind what) { return what == profile::kind::on_cpu ? "samples" : "microseconds"; }

}  // namespace

std::uint64_t profile::total() const {
  return std::accumulate(stacks.begin(), stacks.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const stack& s) { return sum + s.amount; });
}

const char* name_of(profile::kind what) {
  switch (what) {
    case profile::kind::on_cpu: return "on-CPU";
    case profile::kind::off_cpu: return "off-CPU";
    case profile::kind::parked: return "parked";
  }
  return "?";
}

std::string amount_text(profile::kind what, std::uint64_t amount, bool utf8) {
  if (what == profile::kind::on_cpu) return fmt::format("{} sample{}", amount, amount == 1 ? "" : "s");
  return format_duration(static_cast<double>(amount) * 1e-6, utf8);
}

std::vector<std::string> path_of(const profile& of, const profile::stack& stack) {
  const auto found = std::find_if(of.processes.begin(), of.processes.end(),
                                  [&](const profile::process& p) { return p.pid == stack.pid; });
  const std::string program = found == of.processes.end() ? "?" : found->program;
  std::vector<std::string> path{of.processes.size() > 1 ? fmt::format("{} ({})", program, stack.pid) : program};
  path.insert(path.end(), stack.frames.begin(), stack.frames.end());
  if (!stack.reason.empty()) path.push_back(fmt::format("[{}]", stack.reason));
  return path;
}

std::string folded(const profile& shown) {
  std::string text;
  for (const profile::stack& stack : shown.stacks) {
    std::string line;
    for (const std::string& frame : path_of(shown, stack)) line += (line.empty() ? "" : ";") + folded_frame(frame);
    text += fmt::format("{} {}\n", line, stack.amount);
  }
  return text;
}

std::string json_of(const profile& shown) {
  using json = nlohmann::ordered_json;
  json told{{"kind", name_of(shown.what)}, {"seconds", shown.seconds}, {"hz", shown.hz != 0 ? json(shown.hz) : json()},
            {"processes", json::array()},  {"lost", shown.lost},       {"stacks", json::array()}};
  for (const profile::process& p : shown.processes)
    told["processes"].push_back({{"pid", p.pid}, {"program", p.program}});
  for (const profile::stack& s : shown.stacks)
    told["stacks"].push_back({{"pid", s.pid},
                              {"frames", s.frames},
                              {"reason", s.reason.empty() ? json() : json(s.reason)},
                              {unit_of(shown.what), s.amount}});
  return told.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string table(const profile& shown, const table_style& style) {
  std::string text = headline(shown, style);
  if (shown.stacks.empty()) return text;
  text += function_rows(shown, style);
  for (std::size_t i = 0; i < std::min(shown.stacks.size(), kMostStacks); ++i)
    text += stack_text(shown, shown.stacks[i], style);
  return text;
}

}  // namespace weft::tools
