// SPDX-License-Identifier: Apache-2.0
// What the rest of the runtime says to gomaxprocs.cpp about where Ps are to be.
#pragma once

#include <cstdint>

#include "numa/wish.h"

namespace weft::rt {

/// What is wished for, and how often that has changed.
struct standing_wish {
  numa::ps_wish wish;
  std::uint64_t changes = 0;
};
standing_wish wish_for_ps();

/// From now on this is wished for.
void place_ps(const numa::ps_wish& wish);
/// The same for one node alone. False: there would be no P left, or more than there can be, or the node has no CPUs.
bool place_ps_on(int node, int n);
/// The same, and the Ps stay automatic. False: also if they are not, because somebody has asked for a number.
bool place_ps_automatically(int node, int n);
/// Whether GOMAXPROCS is "auto".
bool ps_are_automatic();
/// The machine has changed: what is wished for stays, and the Ps go where they can be.
void follow_machine(const numa::topology& seen);

}  // namespace weft::rt
