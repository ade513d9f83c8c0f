// SPDX-License-Identifier: Apache-2.0
// `weft sum`: digests of all files below some paths, or the check of a list of digests.
#pragma once

#include <string>
#include <vector>

namespace weft::tools {

struct sum_options {
  std::vector<std::string> paths;  ///< empty: standard input
  std::string check;               ///< not empty: verify this list ("-": standard input) and leave the paths alone
  bool tag = false;
  bool stats = false;
  int parallel = 32;  ///< files being read at the same time
};

/// Starts the runtime, does it all, and returns the exit status.
int sum(const sum_options& options);

}  // namespace weft::tools
