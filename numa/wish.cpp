// SPDX-License-Identifier: Apache-2.0
#include "numa/wish.h"

#include <algorithm>
#include <charconv>
#include <system_error>

namespace weft::numa {
namespace {

bool parse(std::string_view text, int& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

// "node0=6"
std::optional<node_ps> parse_item(std::string_view item) {
  constexpr std::string_view kNode = "node";
  const std::size_t equals = item.find('=');
  node_ps each{};
  if (!item.starts_with(kNode) || equals == item.npos) return std::nullopt;
  if (!parse(item.substr(kNode.size(), equals - kNode.size()), each.node) || each.node < 0) return std::nullopt;
  if (!parse(item.substr(equals + 1), each.ps) || each.ps < 0 || each.ps > kMostPs) return std::nullopt;
  return each;
}

}  // namespace

std::optional<ps_wish> parse_wish(std::string_view text) {
  ps_wish wish;
  wish.automatic = text == "auto";
  if (wish.automatic) return wish;
  if (parse(text, wish.number)) return wish.number >= 1 && wish.number <= kMostPs ? std::optional(wish) : std::nullopt;
  wish.number = 0;
  for (std::string_view left = text;;) {
    const std::string_view item = left.substr(0, left.find(','));
    const std::optional<node_ps> each = parse_item(item);
    if (!each) return std::nullopt;
    for (const node_ps& before : wish.on_nodes)
      if (before.node == each->node) return std::nullopt;
    wish.on_nodes.push_back(*each);
    if (item.size() == left.size()) break;
    left.remove_prefix(item.size() + 1);
  }
  return count_ps(wish.on_nodes) <= kMostPs ? std::optional(wish) : std::nullopt;
}

std::string text_of(const ps_wish& wish) {
  if (wish.automatic) return "auto";
  if (wish.number > 0) return std::to_string(wish.number);
  std::string text;
  for (const node_ps& each : wish.on_nodes)
    text += (text.empty() ? "node" : ",node") + std::to_string(each.node) + "=" + std::to_string(each.ps);
  return text;
}

placement placement_of(const ps_wish& wish, const topology& machine) {
  if (wish.number > 0) return spread(machine, wish.number);
  placement all = default_placement(machine);
  for (const node_ps& wanted : wish.on_nodes)
    for (node_ps& each : all)
      if (each.node == wanted.node) each.ps = wanted.ps;
  return count_ps(all) > 0 ? all : default_placement(machine);
}

bool has_cpus(const topology& machine, int node) {
  return std::any_of(machine.nodes().begin(), machine.nodes().end(),
                     [node](const numa::node& n) { return n.id == node && !n.cpus.empty(); });
}

}  // namespace weft::numa
