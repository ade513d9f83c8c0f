// SPDX-License-Identifier: Apache-2.0
#include "tools/trace_command.h"

#include <chrono>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <weft/trace.h>
#include "tools/interruption.h"
#include "tools/observe.h"
#include "tools/output_file.h"
#include "tools/trace_json.h"
#include "tools/usage.h"

namespace weft::tools {
namespace {

using std::chrono::steady_clock;

constexpr const char* kName = "weft trace";
constexpr std::uint64_t kMegabyte = 1'000'000;
constexpr std::uint64_t kLeastBytes = 64;           // of text for an event: more events than that need not be kept
constexpr std::int64_t kFetchEveryNs = 50'000'000;  // a third of the time in which a ring can be filled
constexpr const char* kFooter = R"(
Open the file in Perfetto (https://ui.perfetto.dev): a track for each P below its NUMA node, with the goroutines that ran,
their announced blocking calls, handoffs of Ps, steals, preemptions, and, where the process has the probes, the times in
which the kernel gave the CPU to others; arrows go from where a goroutine was made runnable to where it runs.

The process is neither stopped nor asked anything meanwhile. A P on which more than 250,000 things happen in a second
records bursts, and the track shows the gaps. Ctrl-C ends the trace; so does the end of the process.

Exit status:
  0  well
  1  the process is not there, is another user's, does not run weft, has ended before or does not answer; or FILE exists
     or cannot be written
  2  the command line is wrong

Examples:
  weft trace -p 1234 -o trace.json --for 5
  weft trace -p 1234 -o - --for 0.1 | jq '.traceEvents | length'
  weft trace --read /var/tmp/server.weft -o trace.json    what a flight recorder has left (WEFT_TRACE, see weft(1)))";

struct request {
  int pid = 0;
  std::string recording, file;
  double seconds = std::numeric_limits<double>::infinity();
  double megabytes = 64;
  bool force = false;

  std::uint64_t bytes() const { return static_cast<std::uint64_t>(megabytes * static_cast<double>(kMegabyte)); }
};

void tell(const std::string& text) { fmt::print(stderr, "{}: {}\n", kName, text); }

trace record(tracer& process, const request& wanted) {
  const interruption stop;
  const auto begin = steady_clock::now();
  const auto is_over = [&] {
    return std::chrono::duration<double>(steady_clock::now() - begin).count() >= wanted.seconds ||
           process.events() > wanted.bytes() / kLeastBytes;
  };
  bool alive = true;
  while (alive && !is_over()) {
    const bool interrupted = stop.comes_within(kFetchEveryNs) != 0;
    alive = process.fetch();
    if (interrupted) break;
  }
  if (!alive) tell(fmt::format("process {} has ended; what it did until then follows", wanted.pid));
  return process.take();
}

void tell_of(const trace& shown, const written_trace& done, const request& wanted) {
  if (shown.lost != 0)
    tell(fmt::format("{} events were overwritten before they could be read; gaps show where", shown.lost));
  if (!done.whole)
    tell(fmt::format("{} has the first {:.3g} s: all would be larger than {:g} MB (--size)", wanted.file,
                     static_cast<double>(done.shown_ns) / 1e9, wanted.megabytes));
  std::size_t events = 0;
  for (const trace::lane& lane : shown.lanes) events += lane.events.size();
  tell(fmt::format("{:.3g} s of process {} ({}): {} events on {} Ps, {} slices and {} arrows in {:.1f} MB",
                   static_cast<double>(shown.end - shown.begin) / 1e9, shown.pid, shown.program, events,
                   shown.lanes.size(), done.slices, done.arrows,
                   static_cast<double>(done.bytes) / static_cast<double>(kMegabyte)));
}

void write_trace(const trace& shown, const output_file& to, const request& wanted) {
  const written_trace done = write_json(shown, wanted.bytes(), [&to](std::string_view text) {
    to.write_all(text);
    return true;
  });
  tell_of(shown, done, wanted);
}

int trace_process(const request& wanted) {
  tracer process(wanted.pid);  // before there is a file
  const output_file to(wanted.file, wanted.force);
  write_trace(record(process, wanted), to, wanted);
  return kStatusOk;
}

int show_recording(const request& wanted) {
  const trace shown = read_recording(wanted.recording);
  write_trace(shown, output_file(wanted.file, wanted.force), wanted);
  return kStatusOk;
}

}  // namespace

int trace_command(int argc, char** argv) {
  request wanted;
  CLI::App app("Trace a running weft program: what its Ps do, moment by moment, for Perfetto", kName);
  auto* const pid =
      app.add_option("-p,--pid", wanted.pid, "The process to look at")->type_name("PID")->check(CLI::PositiveNumber);
  app.add_option("--read", wanted.recording, "Show what a flight recorder has left in FILE")
      ->type_name("FILE")
      ->excludes(pid);
  app.add_option("-o,--output", wanted.file, "Where the trace goes: a new file; -: standard output")
      ->type_name("FILE")
      ->required();
  add_duration_option(app, wanted.seconds);
  app.add_option("--size", wanted.megabytes, "The output's size at most, in MB (64)")
      ->type_name("MB")
      ->check(CLI::Range(0.1, 4096.0));
  app.add_flag("--force", wanted.force, "Replace FILE if it exists");
  app.footer(kFooter);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? print_information(kName, app, e) : usage_error(kName, e.what());
  }
  if (wanted.pid == 0 && wanted.recording.empty()) return usage_error(kName, "expected --pid or --read");
  return reporting(kName, [&] { return wanted.recording.empty() ? trace_process(wanted) : show_recording(wanted); });
}

}  // namespace weft::tools
