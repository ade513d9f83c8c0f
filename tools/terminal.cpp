// SPDX-License-Identifier: Apache-2.0
// The environment's conventions: TERM, NO_COLOR (no-color.org), CI.
#include "tools/terminal.h"

#include <langinfo.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace weft::tools {

namespace {

bool is_set(const char* variable) {
  const char* const value = std::getenv(variable);
  return value && *value;
}

bool is_capable_terminal(int fd) {
  const char* const term = std::getenv("TERM");
  return ::isatty(fd) && term && std::string_view(term) != "dumb";
}

}  // namespace

bool locale_is_utf8() { return std::string_view(::nl_langinfo(CODESET)) == "UTF-8"; }

bool colour_wanted(int fd) { return is_capable_terminal(fd) && !is_set("NO_COLOR"); }

bool live_line_wanted(int fd) { return is_capable_terminal(fd) && !is_set("CI"); }

}  // namespace weft::tools
