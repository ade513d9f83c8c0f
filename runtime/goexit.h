// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace weft::rt {

/// What goexit() throws and the goroutine's first frame catches. Not derived from std::exception: only catch (...) sees
/// it.
struct goexit_signal {};

}  // namespace weft::rt
