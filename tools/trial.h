// SPDX-License-Identifier: Apache-2.0
// Running a program once, and reading what the weft runtime in it reports.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace weft::tools {

/// What a weft program reports through WEFT_METRICS_FD (the format stands in runtime/report.cpp), at one time.
struct report {
  struct figures {
    double count, sum, p50, p99;  // seconds, but for the count
  };
  double seconds = 0;  // since its first run() began
  std::map<std::string, double> counters;
  std::map<std::string, figures> histograms;
};

/// Nothing: it is none, or of a format that is not known.
std::optional<report> parse_report(const std::string& text);

struct program {
  std::vector<std::string> words;
  double limit = 0;  // seconds, after which it is told to end (SIGTERM); 0: it ends by itself
};

/// How a program ended, and what it was like.
struct program_run {
  int status = 0;  // waitpid()'s
  bool by_limit = false;
  double seconds = 0, cpu_seconds = 0;
  std::string last_error;               // the last line that it wrote to standard error
  std::optional<report> first, latest;  // of its reports
};

/// SIGINT, SIGTERM or SIGHUP came; the program and all that it has started are gone.
struct interrupted {
  int signal;
};

/// Runs it with GOMAXPROCS as given, its input and output being nowhere, in a process group of its own, of which
/// nothing is left at the end. Throws interrupted, and std::runtime_error (one line) if it cannot be run.
program_run run_once(const program& what, const std::string& gomaxprocs);

}  // namespace weft::tools
