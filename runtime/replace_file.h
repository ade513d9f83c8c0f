// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace weft::rt {

/// Makes this the content of the file. Who opens it sees a whole one always, the old or the new: it is written beside
/// it and then renamed. False: errno tells why.
bool replace_file(const std::string& path, std::string_view content);

}  // namespace weft::rt
