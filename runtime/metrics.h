// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace weft::rt {

/// The Ps go (see delete_ps()); what they measured stays readable until the next run().
void delete_ps_keeping_metrics();

}  // namespace weft::rt
