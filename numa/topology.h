// SPDX-License-Identifier: Apache-2.0
// Reading a machine's topology from another tree than the machine's own, and what that is made of.
#pragma once

#include <string>
#include <vector>

#include "weft/numa.h"

namespace weft::numa {

// The CPUs of a list in the kernel's form, such as "0-3,8"; none if it is malformed.
std::vector<int> parse_cpu_list(const std::string& list);

// The same the other way round.
std::string format_cpu_list(const std::vector<int>& ascending);

// The CPUs that the calling thread may use, ascending: its affinity, which the kernel keeps within its cpuset and
// within the CPUs that are online. Throws std::system_error.
std::vector<int> allowed_cpus();

// The topology that sysfs below `root` describes, for a thread that may use the CPUs `allowed`.
topology read_topology(const std::string& root, const std::vector<int>& allowed);

}  // namespace weft::numa
