// SPDX-License-Identifier: Apache-2.0
// What `weft top` shows, as lines of text.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include <weft/metrics.h>

namespace weft::tools {

/// One look at a process, and what it did since the look before.
struct observation {
  int pid = 0;
  std::string program{};              ///< its name
  double seconds = 0;                 ///< since the look before
  metrics::snapshot state{}, rest{};  ///< as it is; and with the differences (observe.h)
  std::vector<metrics::node_costs> costs{};
};

/// A histogram's p99 of late, in seconds, the last one the newest; < 0: nothing was counted.
using history = std::map<std::string, std::deque<double>>;
/// Adds what was seen; keeps the last kRemembered.
void remember(history& past, const observation& seen);
constexpr std::size_t kRemembered = 60;

struct screen_line {
  std::string text;
  bool heading = false;
};

/// The smallest terminal on which all but the longest lists have room.
constexpr int kLeastColumns = 80, kLeastLines = 16;

/// At most `lines` (0: all that there are).
std::vector<screen_line> draw_top(const observation& seen, const history& past, std::size_t lines, bool utf8);
/// One line of JSON.
std::string json_of(const observation& seen);
/// Values as heights, the largest the highest; as wide as there are values, ' ' for those below 0.
std::string sparkline(const std::deque<double>& values, bool utf8);

}  // namespace weft::tools
