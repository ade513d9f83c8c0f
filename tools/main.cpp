// SPDX-License-Identifier: Apache-2.0
// The `weft` command: finds the subcommand and gives it the rest of the command line.
//
// Each subcommand parses its own, since nested parsers of CLI11 would take operands for themselves: a file named
// "++" ends the inner one.
#include <array>
#include <clocale>
#include <string_view>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "tools/doctor_command.h"
#include "tools/dump_command.h"
#include "tools/hist_command.h"
#include "tools/profile_command.h"
#include "tools/run_command.h"
#include "tools/sum_command.h"
#include "tools/top_command.h"
#include "tools/topo_command.h"
#include "tools/trace_command.h"
#include "tools/tune_command.h"
#include "tools/usage.h"

namespace {

struct subcommand {
  const char* name;
  const char* what;
  int (*run)(int argc, char** argv);
};

constexpr std::array<subcommand, 10> kSubcommands = {
    {{"sum", "Print or check SHA-256 digests of files and whole trees", weft::tools::sum_command},
     {"doctor", "Tell what weft can use on this machine, and how to get the rest", weft::tools::doctor_command},
     {"run", "Run a program with the probes, and without the privilege that loading them takes",
      weft::tools::run_command},
     {"top", "Show live what a running weft program does", weft::tools::top_command},
     {"hist", "Draw the latency histograms of a running weft program", weft::tools::hist_command},
     {"dump", "Print all goroutines of a running weft program", weft::tools::dump_command},
     {"trace", "Trace what the Ps of a running weft program do, for Perfetto", weft::tools::trace_command},
     {"profile", "Show where running weft programs spend their time", weft::tools::profile_command},
     {"topo", "Draw the machine's nodes, caches and CPUs, and where Ps are bound", weft::tools::topo_command},
     {"tune", "Find the number of Ps on each NUMA node with which a program does best", weft::tools::tune_command}}};

constexpr const char* kName = "weft";
constexpr const char* kFooter = R"(
Examples:
  weft sum /usr/include > list     digests of all files below a directory
  weft sum --check list            verify them
  weft run --user www-data -- ./server   a program with the kernel's help, but without privilege
  weft doctor                      what the kernel lets weft do here, and what to do for more
  weft top -p 1234                 what a program that runs does, live
  weft hist -p 1234 runq_wait 1    how long its goroutines wait to run, each second
  weft dump -p 1234                its goroutines: states and stacks
  weft trace -p 1234 -o trace.json --for 5   what its Ps do, moment by moment, for Perfetto
  weft profile -p 1234 --for 10 -o cpu.svg   where it spends its time: on the CPU, off it, or parked
  weft topo                        nodes, caches, CPUs, and where Ps are bound
  weft tune -- ./program           how many Ps on each node are best for it
  weft sum --help                  all about a subcommand

Environment: GOMAXPROCS=N or node0=N,node1=N, WEFT_KERNEL_ASSIST=bpf|sentinel|off, WEFT_STACK_SIZE=64k,
WEFT_METRICS=HOST:PORT or file:/PATH.prom, WEFT_TRACE=file:/PATH, WEFT_DEBUG=schedtrace=MS; the manual page weft(1)
explains them.)";

// All that is left when no subcommand was found: --help, --version, or a mistake.
int without_subcommand(int argc, char** argv) {
  CLI::App app("Programs on the weft runtime, goroutines for C++", kName);
  app.set_version_flag("--version", "weft " WEFT_VERSION);
  app.footer(kFooter);
  for (const subcommand& s : kSubcommands) app.add_subcommand(s.name, s.what);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? weft::tools::print_information(kName, app, e)
                                  : weft::tools::usage_error(kName, e.what());
  }
  return weft::tools::usage_error(kName, "expected a subcommand");
}

}  // namespace

int main(int argc, char** argv) {
  std::setlocale(LC_CTYPE, "");
  const std::string_view first = argc > 1 ? argv[1] : "";
  if (!first.empty() && !first.starts_with('-')) {
    for (const subcommand& s : kSubcommands)
      if (first == s.name) return s.run(argc - 1, argv + 1);
    return weft::tools::usage_error(kName, fmt::format("unknown subcommand '{}'", first));
  }
  return without_subcommand(argc, argv);
}
