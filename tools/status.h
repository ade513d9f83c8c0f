// SPDX-License-Identifier: Apache-2.0
// Exit statuses, the same for all subcommands.
#pragma once

namespace weft::tools {

constexpr int kStatusOk = 0;
constexpr int kStatusFailed = 1;  ///< something could not be read or written, or did not match
constexpr int kStatusUsage = 2;   ///< the command line is wrong

}  // namespace weft::tools
