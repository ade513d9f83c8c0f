// SPDX-License-Identifier: Apache-2.0
//
// The CPU bandwidth that cgroups leave to this process, and the number of Ps that follows from it.
//
// A process may use no more than the tightest limit on the way from its cgroup to the root, so every ancestor counts
// that can be seen from here, in each hierarchy: v1's cpu controller, v2, or both where they are mounted side by side.
// What cannot be read or understood limits nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace weft::numa {

class topology;

// How often and for how long the limits have stopped the cgroups that they are set on, since those were made.
struct throttling {
  std::uint64_t periods = 0;
  std::uint64_t ns = 0;
};

// Where the limits on this process stand. A process hardly ever changes its cgroup, so they are looked for once and
// then only read again.
class limits {
 public:
  // `root` is put before /proc and before every mount point found there, to read another tree than the machine's.
  explicit limits(const std::string& root);

  // The tightest, in CPUs' worth of time, such as 1.5; infinity when there is none.
  double quota() const;
  // Of all cgroups with a limit together.
  throttling throttled() const;

  enum class version { v1, v2 };

 private:
  struct place {
    version kind;
    std::string directory;
  };
  std::vector<place> places_;
};

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
