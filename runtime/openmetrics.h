// SPDX-License-Identifier: Apache-2.0
// A snapshot as the text that Prometheus reads.
#pragma once

#include <string>

#include "weft/metrics.h"

namespace weft::rt {

/// The two formats that are in use. In the older one a counter's family has the suffix of its samples, and neither
/// units nor the end are marked.
enum class exposition { openmetrics, prometheus };

std::string format_metrics(const metrics::snapshot& all, exposition format);

}  // namespace weft::rt
