// SPDX-License-Identifier: Apache-2.0
// What all subcommands do with a wrong command line, and with one that asks for help.
#pragma once

#include <cerrno>
#include <cstdio>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "tools/status.h"

namespace weft::tools {

/// One line on standard error that says what is wrong and where help is. Returns the exit status.
inline int usage_error(std::string_view command, std::string_view what) {
  fmt::print(stderr, "{}: {} (see '{} --help')\n", command, what, command);
  return kStatusUsage;
}

/// To standard output, whole; if that cannot be, one line on standard error and false.
inline bool print_text(std::string_view command, std::string_view text) {
  // A line-buffered stream may take all of it and only remember that it could not write.
  const bool taken = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (std::fflush(stdout) == 0 && taken && std::ferror(stdout) == 0) return true;
  fmt::print(stderr, "{}: write error: {}\n", command, std::generic_category().message(errno));
  return false;
}

/// Prints what was asked for instead of work: help, the version. Returns the exit status.
inline int print_information(std::string_view command, const CLI::App& app, const CLI::ParseError& asked) {
  std::ostringstream stream;
  const int status = app.exit(asked, stream, stream);
  return print_text(command, stream.str()) ? status : kStatusFailed;
}

}  // namespace weft::tools
