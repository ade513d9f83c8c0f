// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace weft::rt {

/// At a run()'s beginning: nothing has been measured yet.
void start_adapting();
/// Once a second, by the template thread: if GOMAXPROCS is "auto", measures the nodes' load and changes their Ps.
void adapt_ps();

}  // namespace weft::rt
