// SPDX-License-Identifier: Apache-2.0
#include "tools/top_command.h"

#include <chrono>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "tools/observe.h"
#include "tools/screen.h"
#include "tools/terminal.h"
#include "tools/top_screen.h"
#include "tools/usage.h"

namespace weft::tools {
namespace {

using std::chrono::steady_clock;

constexpr const char* kName = "weft top";
constexpr double kLeastInterval = 0.1, kMostInterval = 3600;
constexpr const char* kFooter = R"(
Rates and latencies are those of the last interval. The process is not stopped; it pays nothing while nobody looks.

Keys: q quits, p or space pauses, + and - change the interval.

--json prints a line for each interval: {"time", "pid", "program", "interval", "goroutines": {STATE: N}, "threads":
{STATE: N}, "counters": {NAME: N}, "histograms": {NAME: as in weft hist}, "nodes": [{"node", "gomaxprocs", "idle_ps",
"spinning", "queued", "counters", "histograms"}], "ps": [{"p", "node", "cpu", "state", "queued", "counters"}], "costs":
[{"node", "costs", "blocks": [{"syscall", "name", "blocks", "wait"}]}]}; counters and histograms are those of the interval.

Exit status:
  0  well
  1  the process is not there, is another user's, does not run weft, has ended or does not answer; or there is no
     terminal, or one that is too small
  2  the command line is wrong

Examples:
  weft top -p 1234
  weft top -p 1234 --once
  weft top -p 1234 --json -d 10 | jq '.histograms.runq_wait.p99')";

struct request {
  int pid = 0;
  double interval = 1;
  bool once = false, json = false;
};

class observer {
 public:
  explicit observer(int pid) : process_(pid), program_(program_of(pid)) { look(); }

  const observation& look() {
    const steady_clock::time_point now = steady_clock::now();
    metrics::snapshot state = process_.read();
    seen_ = {.pid = process_.pid(),
             .program = program_,
             .seconds = std::chrono::duration<double>(now - last_).count(),
             .state = state,
             .rest = between(seen_.state, state),
             .costs = process_.costs()};
    last_ = now;
    return seen_;
  }
  const observation& seen() const { return seen_; }

 private:
  attachment process_;
  const std::string program_;
  observation seen_;
  steady_clock::time_point last_ = steady_clock::now();
};

int print_once(observer& process, const request& wanted) {
  wait_seconds(wanted.interval);
  history past;
  remember(past, process.look());
  std::string text;
  for (const screen_line& line : draw_top(process.seen(), past, 0, locale_is_utf8())) text += line.text + "\n";
  return print_text(kName, text) ? kStatusOk : kStatusFailed;
}

int print_json(observer& process, const request& wanted) {
  do {
    wait_seconds(wanted.interval);
    if (!print_text(kName, json_of(process.look()))) return kStatusFailed;
  } while (!wanted.once);
  return kStatusOk;
}

// What the keys have changed.
struct mode {
  double interval;
  bool paused = false, over = false;
};

void obey(int key, mode& now) {
  switch (key) {
    case 'q': now.over = true; break;
    case 'p':
    case ' ': now.paused = !now.paused; break;
    case '+': now.interval = std::min(now.interval * 2, kMostInterval); break;
    case '-': now.interval = std::max(now.interval / 2, kLeastInterval); break;
    default: break;
  }
}

int show_live(observer& process, const request& wanted) {
  screen terminal(kLeastColumns, kLeastLines);
  history past;
  mode now{.interval = wanted.interval};
  auto next = steady_clock::now();
  while (!now.over) {
    if (!now.paused && steady_clock::now() >= next) {
      remember(past, process.look());
      next = steady_clock::now() +
             std::chrono::duration_cast<steady_clock::duration>(std::chrono::duration<double>(now.interval));
    }
    terminal.show(draw_top(process.seen(), past, static_cast<std::size_t>(terminal.lines() - 1), locale_is_utf8()),
                  fmt::format(" every {:.3g} s{}   q quit   p pause   + - interval ", now.interval,
                              now.paused ? ", paused" : ""));
    const double rest = std::chrono::duration<double>(next - steady_clock::now()).count();
    obey(terminal.key(now.paused ? kMostInterval : std::max(rest, 0.0)), now);
  }
  return kStatusOk;
}

}  // namespace

int top_command(int argc, char** argv) {
  request wanted;
  CLI::App app("Show live what a running weft program does: nodes, Ps, queues, threads, goroutines, latencies", kName);
  add_pid_option(app, wanted.pid);
  app.add_option("-d,--delay", wanted.interval, "Seconds from one look to the next (1)")
      ->type_name("SECONDS")
      ->check(CLI::Range(kLeastInterval, kMostInterval));
  app.add_flag("--once", wanted.once, "Print one interval as text, and end");
  app.add_flag("--json", wanted.json, "A line of JSON for each interval (with --once, one)");
  app.footer(kFooter);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? print_information(kName, app, e) : usage_error(kName, e.what());
  }
  return reporting(kName, [&] {
    observer process(wanted.pid);
    if (wanted.json) return print_json(process, wanted);
    return wanted.once ? print_once(process, wanted) : show_live(process, wanted);
  });
}

}  // namespace weft::tools
