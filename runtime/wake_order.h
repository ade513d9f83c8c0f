// SPDX-License-Identifier: Apache-2.0
// Who is woken for work: on which node, which of its Ps, and how often not. Pure, so that the simulation (tests/sim)
// decides by the same text as the scheduler (wakeup.cpp, where the essay is).
#pragma once

#include "numa/nearness.h"

namespace weft::rt {

constexpr int kMaxBackoff = 8;
constexpr int kFirstSkip = 4;

/// Tries the places of a part of the row, but not those of another part. Returns the first that try_at(place) finds
/// (what it returns is false, or null, if it finds nothing).
template <class Try>
auto first_in(numa::range part, numa::range but, const Try& try_at) -> decltype(try_at(0)) {
  for (int place = part.begin; place < part.end; ++place) {
    if (place >= but.begin && place < but.end) continue;
    if (auto found = try_at(place)) return found;
  }
  return {};
}

/// The same for all of a node, the nearest first: same core, same cache, the others.
template <class Try>
auto first_near(const numa::view& seen, const Try& try_at) -> decltype(try_at(0)) {
  if (auto found = first_in(seen.core, {0, 0}, try_at)) return found;
  if (auto found = first_in(seen.cache, seen.core, try_at)) return found;
  return first_in(seen.node, seen.cache, try_at);
}

/// Whether a node's work is everybody's business: where one of its own Ps idles, that one is woken for it.
template <class Node>
bool needs_help(const Node& of) {
  return of.gate.nidle() <= 0;
}

/// Where to wake somebody for work of `home`: there, or, if no P idles there, on the nearest node where one does. Null:
/// nowhere, or somebody looks for work already. `others`: the other nodes, the nearest first.
template <class Node, class Others>
Node* node_to_wake(Node& home, const Others& others) {
  if (home.gate.nspinning() != 0) return nullptr;
  if (home.gate.nidle() > 0) return &home;
  for (const auto& other : others)
    if (other.there->gate.nidle() > 0) return other.there->gate.nspinning() == 0 ? other.there : nullptr;
  return nullptr;
}

/// Whether a submission wakes nobody, because of late those that were woken found nothing. `skipped`: how many have
/// been put off so far.
constexpr bool put_off_wake(int backoff, int& skipped) {
  if (backoff == 0) return false;
  if (++skipped < kFirstSkip << backoff) return true;
  skipped = 0;
  return false;
}

}  // namespace weft::rt
