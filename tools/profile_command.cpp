// SPDX-License-Identifier: Apache-2.0
#include "tools/profile_command.h"

#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "tools/flame_graph.h"
#include "tools/interruption.h"
#include "tools/observe.h"
#include "tools/output_file.h"
#include "tools/profile.h"
#include "tools/profiler.h"
#include "tools/terminal.h"
#include "tools/usage.h"

namespace weft::tools {
namespace {

using std::chrono::steady_clock;

constexpr const char* kName = "weft profile";
constexpr std::int64_t kLookEveryNs = 20'000'000;  // a small part of the time in which the samples' ring can be filled
constexpr int kOnCpuHz = 99;                       // not 100, in step with what a program does ten times a second
constexpr int kParkedHz = 19;                      // each look has the process list all its goroutines

constexpr const char* kFooter = R"~(
--on-cpu   which functions run, by a sample of each CPU --hz times a second (99)
--off-cpu  which functions have their threads leave the CPU, for how long, and why: the system call, a page fault, or
           preempted by the kernel; a busy program's stacks are copied for some, which count for all
--parked   where goroutines wait for each other, for locks, timers and sockets, by a look at all of them --hz times a
           second (19); needs no privilege

The first two need CAP_BPF and CAP_PERFMON (or root) and Linux 5.15. The processes are neither stopped nor changed, and
may be compiled without frame pointers. Names come from their symbols and debug information. Ctrl-C ends the profile; so
does the end of all processes.

Without a format the functions and stacks in which most was spent are printed. --folded prints a line for each stack,
"program;outermost;...;innermost;[reason] AMOUNT", amounts in samples (on-CPU) or microseconds, for flamegraph.pl or
speedscope; --svg a flame graph, for a browser. A FILE named *.folded, *.svg or *.json says so by itself.

--json prints {"kind": "on-CPU"|"off-CPU"|"parked", "seconds": SECONDS, "hz": N or null, "processes": [{"pid", "program"},
...], "lost": SAMPLES, "stacks": [{"pid": ..., "frames": [OUTERMOST, ..., INNERMOST], "reason": ... or null, "samples": N
(on-CPU) or "microseconds": N}, ...]}, the largest stack first.

Exit status:
  0  well
  1  a process is not there, is another user's, does not run weft or does not answer; the kernel or a privilege is
     missing; or FILE exists or cannot be written
  2  the command line is wrong

Examples:
  weft profile -p 1234 --for 10
  weft profile -p 1234 --for 10 -o cpu.svg
  weft profile -p 1234 --off-cpu --for 10 --folded | head
  weft profile -p 1234 -p 1235 --parked --for 5 --json | jq -r '.stacks[] | "\(.microseconds) \(.reason)"'
  weft profile --all --for 30 -o fleet.svg      all that run weft here: see weft-profile-daemonset.yml)~";

enum class format : std::uint8_t { table, folded, svg, json };

struct request {
  std::vector<int> pids;
  bool all = false, on_cpu = false, off_cpu = false, parked = false, folded = false, svg = false, json = false;
  bool force = false;
  double seconds = std::numeric_limits<double>::infinity();
  int hz = 0;
  std::string file = "-";

  profile::kind what() const {
    if (off_cpu) return profile::kind::off_cpu;
    return parked ? profile::kind::parked : profile::kind::on_cpu;
  }
  int looks() const {
    if (off_cpu) return 0;
    if (hz != 0) return hz;
    return parked ? kParkedHz : kOnCpuHz;
  }
  format form() const {
    if (folded || (!svg && !json && file.ends_with(".folded"))) return format::folded;
    if (svg || (!json && file.ends_with(".svg"))) return format::svg;
    return json || file.ends_with(".json") ? format::json : format::table;
  }
};

void tell(const std::string& text) { fmt::print(stderr, "{}: {}\n", kName, text); }

std::unique_ptr<profiler> start(const request& wanted) {
  if (wanted.all) return profiler::start_on_all(wanted.what(), wanted.looks());
  std::vector<int> pids = wanted.pids;
  std::sort(pids.begin(), pids.end());
  pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
  return profiler::start(wanted.what(), pids, wanted.looks());
}

void tell_news(profiler& of) {
  for (const std::string& line : of.news()) tell(line);
}

void watch(profiler& of, const request& wanted, const interruption& stop) {
  const auto begin = steady_clock::now();
  const auto time_is_up = [&] {
    return std::chrono::duration<double>(steady_clock::now() - begin).count() >= wanted.seconds;
  };
  while (!of.is_over() && !time_is_up()) {
    const bool more = of.look();
    tell_news(of);
    if (stop.comes_within(more ? 0 : kLookEveryNs) != 0) return;
  }
  tell_news(of);
}

std::string text_of(const profile& shown, const request& wanted, bool on_terminal) {
  switch (wanted.form()) {
    case format::folded: return folded(shown);
    case format::svg: return flame_graph(shown);
    case format::json: return json_of(shown);
    default: return table(shown, {.utf8 = locale_is_utf8(), .colour = on_terminal && colour_wanted(STDOUT_FILENO)});
  }
}

int profile_processes(const request& wanted) {
  const interruption stop;
  const std::unique_ptr<profiler> running = start(wanted);
  const output_file to(wanted.file, wanted.force);
  watch(*running, wanted, stop);
  const profile found = running->result();
  to.write_all(text_of(found, wanted, to.is_standard_output()));
  if (found.stacks.empty()) tell(fmt::format("nothing was seen {} in {:.3g} s", name_of(found.what), found.seconds));
  if (found.lost != 0) tell(fmt::format("{} samples came faster than they could be read", found.lost));
  return kStatusOk;
}

void add_processes(CLI::App& app, request& wanted) {
  auto* const pids = app.add_option("-p,--pid", wanted.pids, "A process to look at; may be given several times")
                         ->type_name("PID")
                         ->check(CLI::PositiveNumber)
                         ->allow_extra_args(false);
  app.add_flag("-a,--all", wanted.all, "All processes that run weft")->excludes(pids);
}

void add_kinds(CLI::App& app, request& wanted) {
  auto* const on = app.add_flag("--on-cpu", wanted.on_cpu, "Where threads run (the default)");
  auto* const off = app.add_flag("--off-cpu", wanted.off_cpu, "Where threads block or are preempted")->excludes(on);
  app.add_flag("--parked", wanted.parked, "Where goroutines wait")->excludes(on)->excludes(off);
  app.add_option("--hz", wanted.hz, "Looks a second, 1 to 999")
      ->type_name("N")
      ->check(CLI::Range(1, 999))
      ->excludes(off);
}

void add_formats(CLI::App& app, request& wanted) {
  auto* const folded = app.add_flag("--folded", wanted.folded, "Print folded stacks");
  auto* const svg = app.add_flag("--svg", wanted.svg, "Print a flame graph")->excludes(folded);
  app.add_flag("--json", wanted.json, "Print JSON")->excludes(folded)->excludes(svg);
}

}  // namespace

int profile_command(int argc, char** argv) {
  request wanted;
  CLI::App app("Show where running weft programs spend their time", kName);
  add_processes(app, wanted);
  add_kinds(app, wanted);
  add_duration_option(app, wanted.seconds);
  app.add_option("-o,--output", wanted.file, "Where the profile goes: a new file; -: standard output, the default")
      ->type_name("FILE");
  add_formats(app, wanted);
  app.add_flag("--force", wanted.force, "Replace FILE if it exists");
  app.footer(kFooter);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? print_information(kName, app, e) : usage_error(kName, e.what());
  }
  if (wanted.pids.empty() && !wanted.all) return usage_error(kName, "expected --pid or --all");
  return reporting(kName, [&] { return profile_processes(wanted); });
}

}  // namespace weft::tools
