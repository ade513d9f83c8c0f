// SPDX-License-Identifier: Apache-2.0
#include "tools/hist_command.h"

#include <chrono>
#include <cmath>
#include <ctime>
#include <limits>
#include <string>
#include <vector>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "tools/heat_record.h"
#include "tools/hist_draw.h"
#include "tools/observe.h"
#include "tools/stats.h"
#include "tools/terminal.h"
#include "tools/usage.h"

namespace weft::tools {
namespace {

constexpr const char* kName = "weft hist";
constexpr const char* kFooter = R"(
Without an interval, all since the process's run() began; with one, what was counted in each interval, until
interrupted or COUNT times. Without a metric, all of them:
  runq_wait         goroutines: runnable to running
  wakeup_to_run     goroutines: woken up to running
  handoff           a blocked thread's P to its next goroutine
  blocked           calls that blocked so long that the P went
  kernel_blocked    threads asleep in the kernel (with probes)
  kernel_runq_wait  threads runnable, until the kernel gave them a CPU (with probes)

--json prints a line for each report:
  {"time": UNIX_SECONDS, "interval": SECONDS or null, "histograms": {NAME: {"count", "sum", "p50", "p90", "p99",
   "p999", "max" (all in seconds), "buckets": [{"lower", "upper", "count"}, ...]}}}

--png draws a heat map instead, with METRIC and INTERVAL: durations over time, darker where there are more of
them, with lines for p50 and p99. The picture is written in the end: after COUNT intervals, at Ctrl-C, or when
the process has ended.

Exit status:
  0  well
  1  the process is not there, is another user's, does not run weft, has ended or does not answer; or FILE
     exists or cannot be written
  2  the command line is wrong

Examples:
  weft hist -p 1234                      all histograms since run() began
  weft hist -p 1234 runq_wait 1 10 -T    run queue wait, each second, ten times, with the time of day
  weft hist -p 1234 runq_wait 0.5 --png wait.png  a heat map of all until Ctrl-C, two columns a second
  weft hist -p 1234 handoff --json | jq .histograms.handoff.p99)";

struct request {
  int pid = 0;
  std::string metric;  // empty: all
  double interval = 0;
  std::uint64_t count = std::numeric_limits<std::uint64_t>::max();
  bool timestamps = false, milliseconds = false, json = false;
  std::string picture;  // empty: text
  bool force = false;
};

// [METRIC] [INTERVAL [COUNT]]: a metric's name does not begin with a digit.
bool read_words(const std::vector<std::string>& words, request& wanted) {
  auto at = words.begin();
  if (at != words.end() && !std::isdigit(static_cast<unsigned char>(at->front())) && at->front() != '-')
    wanted.metric = *at++;
  if (at != words.end()) {
    if (!CLI::detail::lexical_cast(*at++, wanted.interval) || !(wanted.interval > 0) || wanted.interval > 1e6)
      return false;
    if (at != words.end() && (!CLI::detail::lexical_cast(*at++, wanted.count) || wanted.count == 0)) return false;
  }
  return at == words.end();
}

std::map<std::string, metrics::histogram> chosen(const metrics::snapshot& all, const request& wanted) {
  if (wanted.metric.empty()) return all.histograms;
  const auto found = all.histograms.find(wanted.metric);
  if (found == all.histograms.end()) throw error(no_histogram(wanted.pid, wanted.metric));
  return {*found};
}

std::string report(const metrics::snapshot& all, const request& wanted, const draw_style& style) {
  const auto now = std::chrono::system_clock::now();
  const auto histograms = chosen(all, wanted);
  if (wanted.json) {
    nlohmann::ordered_json line{{"time", std::chrono::duration<double>(now.time_since_epoch()).count()},
                                {"interval", wanted.interval > 0 ? nlohmann::ordered_json(wanted.interval) : nullptr}};
    for (const auto& [name, values] : histograms) line["histograms"][name] = json_of(values);
    return line.dump() + "\n";
  }
  std::string text;
  if (wanted.timestamps) text = fmt::format("{:%H:%M:%S}\n", fmt::localtime(std::chrono::system_clock::to_time_t(now)));
  for (const auto& [name, values] : histograms) text += draw_histogram(name, meaning_of(name), values, style) + "\n";
  return text;
}

int watch(attachment& to, const request& wanted, const draw_style& style) {
  metrics::snapshot before = to.read();
  chosen(before, wanted);
  for (std::uint64_t i = 0; i < wanted.count; ++i) {
    wait_seconds(wanted.interval);
    metrics::snapshot now = to.read();
    if (!print_text(kName, report(between(before, now), wanted, style))) return kStatusFailed;
    before = std::move(now);
  }
  return kStatusOk;
}

heat_request heat_request_of(const request& wanted) {
  return {wanted.pid, wanted.metric, wanted.interval, wanted.count, wanted.picture, wanted.force};
}

}  // namespace

int hist_command(int argc, char** argv) {
  request wanted;
  std::vector<std::string> words;
  CLI::App app("Draw the latency histograms of a running weft program", kName);
  add_pid_option(app, wanted.pid);
  app.add_option("words", words, "METRIC [INTERVAL [COUNT]]: which one, each so many seconds, so many times")
      ->type_name("[METRIC] [INTERVAL [COUNT]]")
      ->option_text(" ");
  app.add_flag("-T,--timestamp", wanted.timestamps, "Begin each report with the time of day");
  app.add_flag("-m,--milliseconds", wanted.milliseconds, "Powers of two of milliseconds, not of nanoseconds");
  app.add_flag("--json", wanted.json, "A line of JSON for each report");
  auto* const picture = app.add_option("--png", wanted.picture, "Draw a heat map over time into a new file")
                            ->type_name("FILE")
                            ->excludes("--timestamp", "--milliseconds", "--json");
  app.add_flag("--force", wanted.force, "Replace FILE if it exists")->needs(picture);
  app.footer(kFooter);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? print_information(kName, app, e) : usage_error(kName, e.what());
  }
  if (!read_words(words, wanted)) return usage_error(kName, "expected [METRIC] [INTERVAL [COUNT]]");
  if (*picture) {
    if (wanted.metric.empty() || wanted.interval == 0)
      return usage_error(kName, "--png draws over time: expected METRIC INTERVAL [COUNT]");
    return reporting(kName, [&] { return record_heat_map(kName, heat_request_of(wanted)); });
  }
  const draw_style style{locale_is_utf8(), colour_wanted(STDOUT_FILENO), wanted.milliseconds};
  return reporting(kName, [&] {
    attachment to(wanted.pid);
    if (wanted.interval > 0) return watch(to, wanted, style);
    return print_text(kName, report(to.read(), wanted, style)) ? kStatusOk : kStatusFailed;
  });
}

}  // namespace weft::tools
