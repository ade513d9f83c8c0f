// SPDX-License-Identifier: Apache-2.0
// The wake_gate of a machine with one NUMA node, for the models in which Ms sleep and are woken.
#pragma once

#include "runtime/wake.h"

namespace weft::model {

template <class Policy, int kPs>
struct one_node {
  template <class T>
  using atomic = typename Policy::template atomic<T>;

  rt::busy_count<Policy> busy;
  atomic<int> idle_nodes{0};
  rt::wake_gate<kPs, Policy> gate{busy, idle_nodes};

  /// The number of a P that was idle; -1: none was.
  int take_any_idle() {
    for (int p = 0; p < kPs; ++p)
      if (gate.take_idle(p)) return p;
    return -1;
  }
};

}  // namespace weft::model
