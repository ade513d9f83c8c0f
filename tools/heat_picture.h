// SPDX-License-Identifier: Apache-2.0
// A heat map as a picture.
#pragma once

#include <string>

#include "tools/heat_map.h"

namespace weft::tools {

struct picture_area {
  int left, top, width, height;  // pixels
};

inline constexpr int kPictureWidth = 1280, kPictureHeight = 720;
inline constexpr picture_area kPlot{84, 96, 1084, 568};  ///< where the map itself is

/// What a picture says beside what it shows.
struct picture_words {
  std::string title, subtitle;
  double begin = 0;  ///< Unix time of the first column
};

/// Whether this build has what draws pictures: libgd.
bool can_draw();
/// The file's content, a PNG of kPictureWidth by kPictureHeight. Only if can_draw().
std::string draw_png(const heat_map& map, const picture_words& words);

}  // namespace weft::tools
