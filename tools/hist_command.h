// SPDX-License-Identifier: Apache-2.0
// `weft hist`: the latency histograms of a running process.
#pragma once

namespace weft::tools {

/// argv[0] is the subcommand's name. Returns the exit status.
int hist_command(int argc, char** argv);

}  // namespace weft::tools
