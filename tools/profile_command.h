// SPDX-License-Identifier: Apache-2.0
// `weft profile`: where running processes spend their time.
#pragma once

namespace weft::tools {

/// argv[0] is the subcommand's name. Returns the exit status.
int profile_command(int argc, char** argv);

}  // namespace weft::tools
