// SPDX-License-Identifier: Apache-2.0
// A profile as a flame graph: one SVG file that needs no other. A browser shows a frame's share when the mouse is over
// it, zooms into a frame that is clicked on, and finds frames by a regular expression; without scripts it is a picture.
#pragma once

#include <string>

#include "tools/profile.h"

namespace weft::tools {

std::string flame_graph(const profile& shown);

}  // namespace weft::tools
