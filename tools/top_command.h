// SPDX-License-Identifier: Apache-2.0
// `weft top`: what a running process does, live.
#pragma once

namespace weft::tools {

/// argv[0] is the subcommand's name. Returns the exit status.
int top_command(int argc, char** argv);

}  // namespace weft::tools
