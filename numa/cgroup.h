// SPDX-License-Identifier: Apache-2.0
//
// The CPU bandwidth that cgroups leave to this process, and the number of Ps that follows from it.
//
// A process may use no more than the tightest limit on the way from its cgroup to the root, so every ancestor counts
// that can be seen from here, in each hierarchy: v1's cpu controller, v2, or both where they are mounted side by side.
// What cannot be read or understood limits nothing.
#pragma once

#include <string>

namespace weft::numa {

class topology;

// The limit in CPUs' worth of time, such as 1.5; infinity when there is none.
double cpu_quota();

// The same with `root` put before /proc and before every mount point found there, to read another tree than the
// machine's.
double cpu_quota_under(const std::string& root);

// Go's default GOMAXPROCS for so many CPUs and such a quota: the quota rounded up, but at least 2, for with a single P
// each blocking call stops the whole program; never more than the CPUs; at least 1.
int gomaxprocs_for(int cpus, double quota);

// gomaxprocs_for this machine's allowed CPUs and quota.
int default_gomaxprocs(const topology& machine);

}  // namespace weft::numa
