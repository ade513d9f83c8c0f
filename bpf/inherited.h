// SPDX-License-Identifier: Apache-2.0
//
// Probes over exec: a privileged process loads them, and the program that it becomes, or starts, finds the descriptors
// named in WEFT_BPF_FDS and needs no privilege. The variable holds decimal numbers with commas between: those of
// probe_fds, then those of cost_fds if these programs were loaded, in the order of their declaration; -1 for none.
#pragma once

#include <string>

#include "bpf/fds.h"

namespace weft::bpf {

inline constexpr const char* kFdsVariable = "WEFT_BPF_FDS";

// Takes what the variable names and removes the variable, so that no other program of this process's tries again. False
// if there is none, or what it names is not ours: then why_not is one line, else empty.
bool take_inherited(probe_fds& probes, cost_fds& cost, std::string& why_not);

// The variable's value for these descriptors, which lose their close-on-exec.
std::string pass_on(const probe_fds& probes, const cost_fds& cost);

}  // namespace weft::bpf
