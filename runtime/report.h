// SPDX-License-Identifier: Apache-2.0
// Telling whoever has started the program what it measures: `weft tune`.
#pragma once

namespace weft::rt {

/// At a run()'s beginning: finds out whether somebody wants to be told.
void open_report();
/// Once a second, by the template thread, and at a run()'s end.
void report_metrics();

}  // namespace weft::rt
