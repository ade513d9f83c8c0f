// SPDX-License-Identifier: Apache-2.0
// `weft dump`: the goroutines of a running process.
#pragma once

#include <string>
#include <vector>

#include <weft/attach.h>

namespace weft::tools {

/// In the form of Go's tracebacks; what is equal once, with all its numbers.
std::string draw_groups(const std::vector<goroutine_group>& groups);
/// {"goroutines": N, "groups": [{"state", "count", "stack", "creator", "goroutines": [{"id", "wait", "name"}]}]}
std::string json_of(const std::vector<goroutine_group>& groups);

/// argv[0] is the subcommand's name. Returns the exit status.
int dump_command(int argc, char** argv);

}  // namespace weft::tools
