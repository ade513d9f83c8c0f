// SPDX-License-Identifier: Apache-2.0
// What the terminal, if any, can show.
#pragma once

namespace weft::tools {

/// Whether the locale's character set is UTF-8. Needs setlocale(LC_CTYPE, "") before.
bool locale_is_utf8();
/// Whether text on this descriptor may be coloured: a terminal that is not "dumb", and NO_COLOR is not set.
bool colour_wanted(int fd);
/// Whether a line that changes in place makes sense: a terminal that is not "dumb", and no continuous integration.
bool live_line_wanted(int fd);

}  // namespace weft::tools
