// SPDX-License-Identifier: Apache-2.0
// `weft hist --png`: watches a histogram of a process, and draws it when that is over.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace weft::tools {

struct heat_request {
  int pid = 0;
  std::string metric;
  double interval = 0;  // seconds
  std::uint64_t count = 0;
  std::string file;
  bool force = false;  // the file may exist
};

/// Returns the exit status. Throws `error`, and leaves no new file, if there is nothing that could be drawn.
int record_heat_map(std::string_view command, const heat_request& wanted);

}  // namespace weft::tools
