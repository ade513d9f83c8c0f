// SPDX-License-Identifier: Apache-2.0
// The `weft` command: its command line.
#include <clocale>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "tools/sum.h"

namespace {

using namespace weft::tools;

constexpr int kMostParallel = 4096;

constexpr const char* kCommandFooter = R"(
Examples:
  weft sum /usr/include > list     digests of all files below a directory
  weft sum --check list            verify them
  weft sum --help                  all about a subcommand

Environment: GOMAXPROCS (number of processors to use), WEFT_KERNEL_ASSIST=sentinel|off, WEFT_STACK_SIZE,
WEFT_DEBUG. The manual page weft(1) explains them.)";

constexpr const char* kSumFooter = R"(
A PATH may be a file, or a directory with all regular files below it, in the order of their bytes: the files that
`find PATH... -type f -print0 | LC_ALL=C sort -z` lists. Symbolic links are not followed, so one that is named
itself is an error (a '/' behind the name of a link to a directory follows it). The output is what sha256sum prints.
Messages and statistics go to standard error, as does a progress line when that is a terminal and CI is not set.

Exit status:
  0  everything was done, and with --check every digest matched
  1  something could not be read or written, or did not match
  2  the command line or an environment variable is wrong

Examples:
  weft sum /usr/include > list          one line a file: digest and name
  weft sum --check list                 verify the list
  weft sum --tag file1 file2            lines such as: SHA256 (file1) = digest
  curl -s URL | weft sum                standard input
  weft sum --stats /usr/share > list    how fast it was, and how the goroutines were scheduled)";

int usage_error(std::string_view command, std::string_view what) {
  fmt::print(stderr, "{}: {} (see '{} --help')\n", command, what, command);
  return kStatusUsage;
}

std::string parallel_problem(const std::string& text) {
  int n = 0;
  const bool number = CLI::detail::lexical_cast(text, n);
  if (number && n >= 1 && n <= kMostParallel) return {};
  return fmt::format("expected a number from 1 to {}, not '{}'", kMostParallel, text);
}

void add_sum(CLI::App& weft, sum_options& options) {
  CLI::App* const sum = weft.add_subcommand("sum", "Print or check SHA-256 digests of files and whole trees");
  CLI::Option* const paths = sum->add_option("PATH", options.paths, "Files and directories; none or '-': standard input");
  CLI::Option* const check =
      sum->add_option("-c,--check", options.check, "Verify the digests in FILE, a list in either format; '-': standard input")
          ->type_name("FILE");
  CLI::Option* const tag = sum->add_flag("--tag", options.tag, "Print BSD-style lines, as sha256sum --tag does");
  sum->add_flag("--stats", options.stats, "End with files/s, MB/s and the scheduler's histograms, on standard error");
  sum->add_option("-j", options.parallel, "Read at most N files at the same time")
      ->type_name("N")
      ->capture_default_str()
      ->check(parallel_problem);
  paths->type_name("");
  check->excludes(paths)->excludes(tag);
  sum->footer(kSumFooter);
}

}  // namespace

int main(int argc, char** argv) {
  std::setlocale(LC_CTYPE, "");
  sum_options options;
  CLI::App weft("weft: programs that run on the weft runtime, goroutines for C++", "weft");
  weft.set_version_flag("--version", "weft " WEFT_VERSION);
  weft.footer(kCommandFooter);
  weft.require_subcommand(1);
  add_sum(weft, options);
  try {
    weft.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return weft.exit(e);
    return usage_error(weft.got_subcommand("sum") ? "weft sum" : "weft", e.what());
  }
  return sum(options);
}
