// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace weft::rt {

/// The Ps go (see delete_ps()); what they measured stays readable until the next run().
void delete_ps_keeping_metrics();

/// count_goroutines(), for threads that may call it while a run() ends.
int read_goroutine_count();

}  // namespace weft::rt
