// SPDX-License-Identifier: Apache-2.0
// Exceptions as a panic's report names them.
#pragma once

#include <string>
#include <typeinfo>

namespace weft::rt {

/// The exception that is being handled: its type, and what it says of itself. what() may do anything, park too.
std::string describe_exception();

std::string type_name(const std::type_info& type);

}  // namespace weft::rt
