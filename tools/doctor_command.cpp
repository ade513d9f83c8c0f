// SPDX-License-Identifier: Apache-2.0
// Options, help, table and JSON of `weft doctor`.
#include "tools/doctor_command.h"

#include <unistd.h>

#include <algorithm>
#include <sstream>
#include <string_view>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "tools/terminal.h"
#include "tools/usage.h"

namespace weft::tools {

namespace {

constexpr const char* kName = "weft doctor";
constexpr int kStatusSentinel = 3, kStatusOff = 4;

constexpr std::size_t kColumns = 100, kStateColumns = 27, kIndent = 4;
constexpr std::string_view kBold = "\033[1m", kGreen = "\033[32m", kYellow = "\033[33m", kRed = "\033[31m",
                           kPlain = "\033[0m";

constexpr const char* kFooter = R"(
Each capability is tried, and nothing is changed. A program gets the same if it is started in the same way: by the same
user, in the same container, and with the same file capabilities (setcap).
The tier is how a thread that has blocked is found, so that its goroutines go on elsewhere: 'bpf' by the kernel's word,
'sentinel' by an idle thread that gets its CPU, 'off' by polling.

Exit status:
  0  tier bpf
  1  the output could not be written
  2  the command line is wrong
  3  tier sentinel
  4  tier off

Examples:
  weft doctor                            the table
  sudo setcap cap_bpf,cap_perfmon+ep $(command -v weft) && weft doctor
  weft doctor --json | jq -r '.checks[] | select(.ok == false) | .name + ": " + .advice')";

std::string paint(std::string_view text, std::string_view colour, bool wanted) {
  return wanted && !colour.empty() ? fmt::format("{}{}{}", colour, text, kPlain) : std::string(text);
}

std::string_view colour_of(check_state state) {
  switch (state) {
    case check_state::yes: return kGreen;
    case check_state::partly: return kYellow;
    case check_state::no: return kRed;
    case check_state::unknown: return kYellow;
    case check_state::value: break;
  }
  return {};
}

// Whole words, indented; a line is longer than kColumns only if it is one word.
std::string wrapped(std::string_view text, std::size_t indent) {
  std::istringstream words{std::string(text)};
  std::string lines, line;
  for (std::string word; words >> word; line += word) {
    if (!line.empty() && line.size() + 1 + word.size() > kColumns) {
      lines += line + "\n";
      line.clear();
    }
    line += line.empty() ? std::string(indent, ' ') : " ";
  }
  return line.empty() ? lines : lines + line + "\n";
}

// What was found stands beside the state where there is room.
bool fits(const check& c) { return state_text(c).size() + 2 + c.value.size() <= kStateColumns; }

std::string value_beside_state(const check& c) {
  return c.state == check_state::value || c.value.empty() || !fits(c) ? "" : ", " + c.value;
}

std::string draw_check(const check& c, std::size_t name_columns, bool colour) {
  const std::string beside = value_beside_state(c);
  const std::size_t used = state_text(c).size() + beside.size();
  std::string drawn =
      fmt::format("{:<{}}  {}{}{:{}}  {}\n", c.name, name_columns, paint(state_text(c), colour_of(c.state), colour),
                  beside, "", std::max(kStateColumns, used) - used, c.gives);
  if (!fits(c) && c.state != check_state::value) drawn += wrapped(c.value, kIndent);
  return drawn + wrapped(c.advice, kIndent);
}

std::string_view meaning_of(tier which) {
  switch (which) {
    case tier::off: return "threads that have blocked are found by polling, 20 us to 10 ms later";
    case tier::sentinel: return "a sentinel on each CPU finds out that a thread there has blocked";
    case tier::bpf: return "the kernel tells that a thread has blocked, and why";
  }
  return "";
}

// JSON's null: neither.
nlohmann::ordered_json ok_of(check_state state) {
  if (state == check_state::yes) return true;
  if (state == check_state::no || state == check_state::partly) return false;
  return nullptr;
}

}  // namespace

std::string draw_checks(const std::vector<check>& checks, bool colour) {
  std::size_t name_columns = 0;
  for (const check& c : checks) name_columns = std::max(name_columns, c.name.size());
  std::string drawn;
  for (const check& c : checks) drawn += draw_check(c, name_columns, colour);
  const tier reached = tier_of(checks);
  drawn +=
      fmt::format("\n{}: {}\n", paint(fmt::format("Tier {}", name_of(reached)), kBold, colour), meaning_of(reached));
  const std::string advice = advice_for_better_tier(checks);
  return advice.empty() ? drawn : drawn + wrapped("To do better: " + advice, 0);
}

// Names of files and variables need not be UTF-8, which JSON is.
std::string json_of(const std::vector<check>& checks) {
  nlohmann::ordered_json all;
  all["tier"] = name_of(tier_of(checks));
  all["checks"] = nlohmann::ordered_json::array();
  for (const check& c : checks)
    all["checks"].push_back({{"name", c.name},
                             {"state", state_text(c)},
                             {"ok", ok_of(c.state)},
                             {"value", c.value},
                             {"gives", c.gives},
                             {"advice", c.advice}});
  return all.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

int exit_status(tier which) {
  switch (which) {
    case tier::off: return kStatusOff;
    case tier::sentinel: return kStatusSentinel;
    case tier::bpf: return kStatusOk;
  }
  return kStatusFailed;
}

int doctor_command(int argc, char** argv) {
  bool json = false;
  CLI::App app("Tell what weft can use on this machine, what that gives, and how to get the rest", kName);
  app.add_flag("--json", json, "Print JSON instead of a table");
  app.footer(kFooter);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? print_information(kName, app, e) : usage_error(kName, e.what());
  }
  const std::vector<check> checks = examine();
  const std::string text = json ? json_of(checks) : draw_checks(checks, colour_wanted(STDOUT_FILENO));
  return print_text(kName, text) ? exit_status(tier_of(checks)) : kStatusFailed;
}

}  // namespace weft::tools
