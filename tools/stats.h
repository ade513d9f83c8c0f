// SPDX-License-Identifier: Apache-2.0
// The report that `weft sum --stats` ends with.
#pragma once

#include <string>

#include "tools/hist_draw.h"
#include "tools/progress.h"

namespace weft::tools {

/// Files and bytes a second, then the scheduler's histograms and counters as they are now.
std::string stats_report(const progress& counted, const draw_style& style);

}  // namespace weft::tools
