// SPDX-License-Identifier: Apache-2.0
// What this machine lets a weft program do, found out by trying, and the tier of kernel assist that follows.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace weft::tools {

/// `value`: neither good nor bad, the value says it all.
enum class check_state { yes, partly, no, unknown, value };

/// A row of the table.
struct check {
  std::string name;
  check_state state = check_state::unknown;
  std::string value = {};   ///< what was found, if it is more than the state says
  std::string gives = {};   ///< to weft, in a few words
  std::string advice = {};  ///< what to do to get it; empty where there is nothing to do
};

/// As the runtime chooses it: in ascending order.
enum class tier { off, sentinel, bpf };

/// Tries everything; changes nothing on the system, and in this process only that WEFT_BPF_FDS is used up. Not to be
/// called from two threads at once.
std::vector<check> examine();

/// The tier that a program gets which is started as this one was. A check that is not among them counts as failed.
tier tier_of(const std::vector<check>& checks);
/// What to do for a better tier; empty if there is none, or no check has an advice.
std::string advice_for_better_tier(const std::vector<check>& checks);

std::string_view name_of(tier which);
/// `yes`, `no`, `partly`, `not known` or the value.
std::string_view state_text(const check& c);

}  // namespace weft::tools
