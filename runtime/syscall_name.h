// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace weft::rt {

/// "read" for its number; "system call 9999" for one that the kernel's headers did not know; "page fault" for -1.
std::string syscall_name(int number);

}  // namespace weft::rt
