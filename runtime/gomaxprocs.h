// SPDX-License-Identifier: Apache-2.0
// What the rest of the runtime says to gomaxprocs.cpp about where Ps are to be.
#pragma once

#include "numa/wish.h"

namespace weft::rt {

/// From now on this is wished for.
void place_ps(const numa::ps_wish& wish);
/// The same for one node alone.
bool place_ps_on(int node, int n);
/// The machine has changed: what is wished for stays, and the Ps go where they can be.
void follow_machine(const numa::topology& seen);

}  // namespace weft::rt
