// SPDX-License-Identifier: Apache-2.0
// What all subcommands do with a wrong command line.
#pragma once

#include <cstdio>
#include <string_view>

#include <fmt/format.h>

namespace weft::tools {

constexpr int kStatusUsage = 2;

/// One line on standard error that says what is wrong and where help is. Returns the exit status.
inline int usage_error(std::string_view command, std::string_view what) {
  fmt::print(stderr, "{}: {} (see '{} --help')\n", command, what, command);
  return kStatusUsage;
}

}  // namespace weft::tools
