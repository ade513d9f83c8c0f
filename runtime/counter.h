// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "weft/metrics.h"

namespace weft::rt {

/// Adds the counters of the program's own to a snapshot.
void add_own_counters(metrics::snapshot& all);

}  // namespace weft::rt
