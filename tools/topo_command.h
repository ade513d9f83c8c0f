// SPDX-License-Identifier: Apache-2.0
// `weft topo`: what a machine looks like to weft, and which CPUs Ps are bound to.
#pragma once

#include <string>

#include "numa/wish.h"

namespace weft::tools {

/// A drawing for a person: nodes, caches, cores with their CPUs, and the Ps on each; distances; who gets how many.
std::string draw_topology(const numa::topology& machine, const numa::ps_wish& wish);
/// The same as JSON, with a newline at its end.
std::string json_of(const numa::topology& machine, const numa::ps_wish& wish);

/// argv[0] is the subcommand's name. Returns the exit status.
int topo_command(int argc, char** argv);

}  // namespace weft::tools
