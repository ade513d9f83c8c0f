// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace weft::rt {

/// In how many periods since run() began its cgroups stopped this process (all of the cgroup), and for how long; as of
/// a second ago at most.
std::uint64_t periods_throttled();
std::uint64_t ns_throttled();

}  // namespace weft::rt
