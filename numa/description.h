// SPDX-License-Identifier: Apache-2.0
// A topology as text, so that a machine can be described that is not there: one statement a line, '#' begins a comment.
//
//   node NUMBER [cpus LIST] [memory SIZE]   a node; without cpus it has memory only, without memory only CPUs
//   distance NODE NODE NUMBER               both ways, 11 to 255 (not known); 20 if not said
//   core LIST                               CPUs of one node that are SMT siblings; any other CPU is a core
//   cache LIST                              CPUs of one node that share the last level of cache; if not said, all of a
//                                           node that no other cache line names
//   offline LIST                            CPUs that are switched off
//   allowed LIST                            what affinity and cpuset leave; all if not said
//   quota CPUS                              of cgroups, such as 1.5; none if not said
//
// LIST is the kernel's form, such as 0-3,8. SIZE is a number of bytes, with k, M, G or T behind it if need be.
#pragma once

#include <string>

#include "weft/numa.h"

namespace weft::numa {

// Throws std::invalid_argument if the text is false: one line, "line N: WHAT: what was expected".
topology parse_description(const std::string& text);

// The text of a topology: its nodes, and its allowed CPUs. Others, which it does not know or that are switched off, are
// left out.
std::string describe(const topology& machine);

}  // namespace weft::numa
