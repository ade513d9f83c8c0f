// SPDX-License-Identifier: Apache-2.0
// The command line of `weft run`.
#pragma once

namespace weft::tools {

/// argv[0] is the subcommand's name. Returns the exit status, if it returns.
int run_command(int argc, char** argv);

}  // namespace weft::tools
