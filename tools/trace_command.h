// SPDX-License-Identifier: Apache-2.0
// `weft trace`: what happens on the Ps of a running process, or what its flight recorder has left, as a file for
// Perfetto.
#pragma once

namespace weft::tools {

/// argv[0] is the subcommand's name. Returns the exit status.
int trace_command(int argc, char** argv);

}  // namespace weft::tools
