// SPDX-License-Identifier: Apache-2.0
// Stands in for heat_picture.cpp where there was no libgd to build it with.
#include "tools/heat_picture.h"

namespace weft::tools {

bool can_draw() { return false; }

std::string draw_png(const heat_map&, const picture_words&) { return {}; }

}  // namespace weft::tools
