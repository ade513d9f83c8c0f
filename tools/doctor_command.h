// SPDX-License-Identifier: Apache-2.0
// The command line of `weft doctor`, and how it shows what was found.
#pragma once

#include <string>
#include <vector>

#include "tools/doctor.h"

namespace weft::tools {

/// The table, and below it the tier and what to do for a better one. At most 100 columns wide.
std::string draw_checks(const std::vector<check>& checks, bool colour);
/// {"tier": ..., "checks": [...]}, with a newline at its end.
std::string json_of(const std::vector<check>& checks);
/// What `weft doctor` ends with if all goes well.
int exit_status(tier which);

/// argv[0] is the subcommand's name. Returns the exit status.
int doctor_command(int argc, char** argv);

}  // namespace weft::tools
