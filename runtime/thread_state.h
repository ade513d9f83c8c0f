// SPDX-License-Identifier: Apache-2.0
// What the kernel says a thread of this process is doing, without privilege: /proc/self/task/TID/stat (2.5 us).
#pragma once

#include <cstdint>

namespace weft::rt {

/// running: it has a CPU, or only wants one. blocked: it sleeps until something happens. unknown: no /proc, no such
/// thread, or it is stopped by a signal or a debugger.
enum class thread_state : std::uint8_t { running, blocked, unknown };

/// Any thread; takes no lock and allocates nothing.
thread_state state_of_thread(int tid);

}  // namespace weft::rt
