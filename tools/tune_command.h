// SPDX-License-Identifier: Apache-2.0
// `weft tune`: finds the number of Ps on each node with which a program does best.
#pragma once

namespace weft::tools {

/// argv[0] is the subcommand's name. Returns the exit status.
int tune_command(int argc, char** argv);

}  // namespace weft::tools
