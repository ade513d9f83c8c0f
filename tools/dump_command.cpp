// SPDX-License-Identifier: Apache-2.0
#include "tools/dump_command.h"

#include <algorithm>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "tools/observe.h"
#include "tools/usage.h"

namespace weft::tools {
namespace {

constexpr const char* kName = "weft dump";
constexpr std::size_t kMostNumbers = 16;
constexpr std::uint64_t kSecond = 1'000'000'000;

constexpr const char* kFooter = R"~(
The process goes on meanwhile: goroutines that run, or are in a blocking call, have no stack to show. Of more than
10,000 goroutines that have one, the others' stacks are not looked at.

--json prints {"goroutines": COUNT, "groups": [{"state": ..., "count": ..., "stack": [LINE, ...], "creator": [LINE, ...],
"goroutines": [{"id": ..., "wait": SECONDS or null, "name": ...}, ...]}, ...]}, the most frequent group first.

Exit status:
  0  well
  1  the process is not there, is another user's, does not run weft, has ended or does not answer
  2  the command line is wrong

Examples:
  weft dump -p 1234
  weft dump -p 1234 --json | jq -r '.groups[] | "\(.count) \(.state)"')~";

std::string duration(std::uint64_t ns) {
  const std::uint64_t seconds = ns / kSecond;
  if (seconds < 60) return fmt::format("{} second{}", seconds, seconds == 1 ? "" : "s");
  return fmt::format("{} minute{}", seconds / 60, seconds < 120 ? "" : "s");
}

// ", 5 seconds" or ", 5 seconds to 2 minutes"; nothing for less than a second, as in Go.
std::string waits(const goroutine_group& group) {
  const auto by_wait = [](const auto& a, const auto& b) { return a.since < b.since; };
  const auto [least, most] = std::minmax_element(group.members.begin(), group.members.end(), by_wait);
  if (most->since < kSecond) return "";
  const std::string shortest = duration(least->since), longest = duration(most->since);
  return shortest == longest ? ", " + longest : fmt::format(", {} to {}", shortest, longest);
}

std::string numbers(const goroutine_group& group) {
  std::string text;
  for (std::size_t i = 0; i < std::min(group.members.size(), kMostNumbers); ++i)
    text += fmt::format("{}{}", i == 0 ? "" : ", ", group.members[i].id);
  return text + (group.members.size() > kMostNumbers ? ", ..." : "");
}

std::string header(const goroutine_group& group) {
  const goroutine_group::member& first = group.members.front();
  if (group.members.size() > 1)
    return fmt::format("{} goroutines [{}{}]: {}\n", group.members.size(), group.state, waits(group), numbers(group));
  const std::string name = first.name.empty() ? "" : fmt::format(" \"{}\"", first.name);
  return fmt::format("goroutine {} [{}{}]{}:\n", first.id, group.state, waits(group), name);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

}  // namespace

std::string draw_groups(const std::vector<goroutine_group>& groups) {
  std::string text;
  for (const goroutine_group& group : groups)
    text += (text.empty() ? "" : "\n") + header(group) + group.stack + group.creator;
  return text;
}

std::string json_of(const std::vector<goroutine_group>& groups) {
  nlohmann::ordered_json shown{{"goroutines", 0}, {"groups", nlohmann::ordered_json::array()}};
  std::size_t count = 0;
  for (const goroutine_group& group : groups) {
    nlohmann::ordered_json members = nlohmann::ordered_json::array();
    for (const goroutine_group::member& m : group.members)
      members.push_back({{"id", m.id},
                         {"wait", m.since != 0 ? nlohmann::ordered_json(static_cast<double>(m.since) / 1e9) : nullptr},
                         {"name", m.name}});
    count += group.members.size();
    shown["groups"].push_back({{"state", group.state},
                               {"count", group.members.size()},
                               {"stack", lines_of(group.stack)},
                               {"creator", lines_of(group.creator)},
                               {"goroutines", std::move(members)}});
  }
  shown["goroutines"] = count;
  return shown.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

int dump_command(int argc, char** argv) {
  int pid = 0;
  bool json = false;
  CLI::App app("Print all goroutines of a running weft program: state, wait, stack, creator", kName);
  add_pid_option(app, pid);
  app.add_flag("--json", json, "Print JSON");
  app.footer(kFooter);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? print_information(kName, app, e) : usage_error(kName, e.what());
  }
  return reporting(kName, [&] {
    const std::vector<goroutine_group> groups = attachment(pid).goroutines();
    return print_text(kName, json ? json_of(groups) : draw_groups(groups)) ? kStatusOk : kStatusFailed;
  });
}

}  // namespace weft::tools
