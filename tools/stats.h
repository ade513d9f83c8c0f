// SPDX-License-Identifier: Apache-2.0
// The report that `weft sum --stats` ends with.
#pragma once

#include <string>
#include <string_view>

#include "tools/hist_draw.h"
#include "tools/progress.h"

namespace weft::tools {

/// What a histogram of the scheduler's counts; empty for one that is not known here.
std::string_view meaning_of(std::string_view histogram);

/// Files and bytes a second, then the scheduler's histograms and counters as they are now.
std::string stats_report(const progress& counted, const draw_style& style);

}  // namespace weft::tools
