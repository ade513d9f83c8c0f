// SPDX-License-Identifier: Apache-2.0
// Options, help and usage errors of `weft sum`.
#include "tools/sum_command.h"

#include <iterator>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "tools/sum.h"
#include "tools/usage.h"

namespace weft::tools {

namespace {

constexpr const char* kName = "weft sum";
constexpr int kMostParallel = 4096;

constexpr const char* kFooter = R"(
A PATH is a file, or a directory with all regular files below it. They come in the order of their bytes: what
`find -H PATH... -type f -print0 | LC_ALL=C sort -z` lists: a symbolic link is followed where it is a PATH itself,
and nowhere else. The lines are those of sha256sum, byte for byte.
Messages and statistics go to standard error, as does a progress line if that is a terminal and CI is not set.

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

std::string parallel_problem(const std::string& text) {
  int n = 0;
  const bool number = CLI::detail::lexical_cast(text, n);
  if (number && n >= 1 && n <= kMostParallel) return {};
  return fmt::format("expected a number from 1 to {}, not '{}'", kMostParallel, text);
}

void define_options(CLI::App& app, sum_options& options) {
  app.add_option("PATH", options.paths, "Files and directories; none, or '-': standard input")->type_name("");
  app.add_option("-c,--check", options.check,
                 "Verify the digests in FILE, a list in either format; '-': standard input")
      ->type_name("FILE");
  app.add_flag("--tag", options.tag, "Print BSD-style lines, as sha256sum --tag does");
  app.add_flag("--stats", options.stats, "End with files/s, MB/s and the scheduler's histograms, on standard error");
  app.add_option("-j", options.parallel, "Read at most N files at the same time")
      ->type_name("N")
      ->capture_default_str()
      ->check(parallel_problem);
  app.footer(kFooter);
}

// CLI11 makes a list of an argument like "[a,b]", but not of one that ends with a NUL, which no argument can have by
// itself. It wants the arguments from last to first.
std::vector<std::string> protected_arguments(int argc, char** argv) {
  std::vector<std::string> arguments(std::make_reverse_iterator(argv + argc), std::make_reverse_iterator(argv + 1));
  for (std::string& argument : arguments)
    if (argument.starts_with('[')) argument += '\0';
  return arguments;
}

void unprotect(std::string& argument) {
  if (argument.ends_with('\0')) argument.pop_back();
}

const char* conflict(const sum_options& options, bool check) {
  if (!check) return nullptr;
  if (options.check.empty()) return "--check: expected the name of a file, not ''";
  if (!options.paths.empty()) return "--check FILE: expected no PATH beside it, the files are named in FILE";
  if (options.tag) return "--check FILE: expected no --tag beside it, either format is read";
  return nullptr;
}

}  // namespace

int sum_command(int argc, char** argv) {
  sum_options options;
  CLI::App app("Print or check SHA-256 digests of files and whole trees", kName);
  define_options(app, options);
  try {
    app.parse(protected_arguments(argc, argv));
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? print_information(kName, app, e) : usage_error(kName, e.what());
  }
  for (std::string& path : options.paths) unprotect(path);
  unprotect(options.check);
  if (const char* const what = conflict(options, app.count("--check") != 0)) return usage_error(kName, what);
  return sum(options);
}

}  // namespace weft::tools
