// SPDX-License-Identifier: Apache-2.0
// GOMAXPROCS asked for and changed from outside, for weft::attachment.
//
// Who tries numbers on a program that works for others may die in the middle. So what is tried has an end: when that
// comes and nobody has said anything else, the program gets back what it had before the first trial. What the program
// itself, or its machine, has wished for meanwhile stays.
#pragma once

#include <cstdint>
#include <string>

#include "weft/attach.h"

namespace weft::rt {

/// What is asked.
struct ps_request {
  bool change = false;        // else only tell
  std::string wish{};         // as GOMAXPROCS, empty: the default
  std::int64_t trial_ns = 0;  // 0: for good
};

struct ps_answer {
  std::string refusal{};  // empty: it is done
  process_ps ps{};        // from now on
};

/// By the template thread, as is the next.
ps_answer answer_about_ps(const ps_request& asked);
/// If a trial is over: what was before.
void end_ps_trial_if_due();

}  // namespace weft::rt
