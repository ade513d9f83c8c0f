// SPDX-License-Identifier: Apache-2.0
// Runs on machines that are not there: their CPUs are none, so Ms are not pinned.
#pragma once

#include "numa/topology.h"
#include "runtime/proc.h"

namespace weft::test {

/// A machine of that description, from the next run() to the end of the scope.
class described_machine {
 public:
  explicit described_machine(const numa::topology& machine) { rt::pretend_machine(&machine); }
  ~described_machine() { rt::pretend_machine(nullptr); }
  described_machine(const described_machine&) = delete;
  described_machine& operator=(const described_machine&) = delete;
};

}  // namespace weft::test
