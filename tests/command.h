// SPDX-License-Identifier: Apache-2.0
// The weft command, and other programs, as tests run them.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/child.h"

namespace weft::test {

/// Where it is: run_tests.py names that of the configuration under test.
inline const char* weft_command() {
  const char* const path = std::getenv("WEFT_BIN");
  return path ? path : "build/release/weft";
}

/// Whether the shell finds it.
inline bool has_program(const std::string& name) {
  return std::system(("command -v " + name + " > /dev/null 2>&1").c_str()) == 0;
}

/// The process becomes this program; status 99 if it cannot.
[[noreturn]] inline void exec(std::vector<std::string> words) {
  std::vector<char*> all;
  for (std::string& word : words) all.push_back(word.data());
  all.push_back(nullptr);
  execvp(all[0], all.data());
  _exit(99);
}

/// The weft command with these arguments, from its beginning to its end.
inline child_result run_weft(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), weft_command());
  return in_child([&] { exec(arguments); });
}

/// A folder of its own, for as long as the test lasts.
class folder {
 public:
  folder() { EXPECT_NE(mkdtemp(path_.data()), nullptr); }
  ~folder() { std::filesystem::remove_all(path_); }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_ = testing::TempDir() + "weft-test-XXXXXX";
};

}  // namespace weft::test
