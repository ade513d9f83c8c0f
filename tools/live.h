// SPDX-License-Identifier: Apache-2.0
// A running program whose Ps are changed while it works for others. It must not suffer from whoever does that: what is
// tried ends by itself (attachment::place_ps), and what it had comes back unless something is to stay.
#pragma once

#include <string>

#include <weft/attach.h>
#include "tools/interruption.h"
#include "tools/trial.h"

namespace weft::tools {

class live_program {
 public:
  /// Throws `error` if it cannot be looked at. Signals that would end us are seen by run() from here on.
  live_program(int pid, double seconds);
  ~live_program();
  live_program(const live_program&) = delete;
  live_program& operator=(const live_program&) = delete;

  /// What it had.
  const process_ps& at_first() const { return first_; }
  /// Its counters by now.
  report now();
  /// What it does with these Ps: reports of the seconds in which it was watched. Throws interrupted, and `error` if
  /// the process has ended or somebody else changes its Ps.
  program_run run(const std::string& gomaxprocs);
  /// It has these for good.
  void keep(const std::string& gomaxprocs);

 private:
  void watch(const std::string& gomaxprocs, double seconds);

  attachment process_;
  const double seconds_;
  const process_ps first_;
  const interruption stop_;
  bool changed_ = false;
};

}  // namespace weft::tools
