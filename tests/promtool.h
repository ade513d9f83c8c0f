// SPDX-License-Identifier: Apache-2.0
// Prometheus' own judge of what is written for it.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/command.h"

namespace weft::test {

#define WEFT_SKIP_WITHOUT_PROMTOOL() \
  if (!weft::test::has_program("promtool")) GTEST_SKIP() << "no promtool (Debian's package prometheus has it)"

/// Failure, with all that it printed, unless `promtool check ARGUMENTS` is content with the text on its standard input.
inline testing::AssertionResult promtool_takes(const std::string& arguments, const std::string& text) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("weft-promtool-" + std::to_string(getpid()));
  std::ofstream(path) << text;
  std::FILE* const printed = popen(("promtool check " + arguments + " 2>&1 < " + path.string()).c_str(), "re");
  std::string out;
  char part[4096];
  for (std::size_t n; (n = std::fread(part, 1, sizeof part, printed)) > 0;) out.append(part, n);
  const int status = pclose(printed);
  std::filesystem::remove(path);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << out;
}

}  // namespace weft::test
