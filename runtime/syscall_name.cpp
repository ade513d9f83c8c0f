// SPDX-License-Identifier: Apache-2.0
// The table is made by the Makefile, from the kernel's headers of this architecture.
#include "runtime/syscall_name.h"

#include <algorithm>
#include <iterator>

namespace weft::rt {
namespace {

struct named {
  int number;
  const char* name;
};

constexpr named kNames[] = {
#include "runtime/syscall_names.inc"
};

}  // namespace

std::string syscall_name(int number) {
  if (number < 0) return "page fault";
  const auto found =
      std::find_if(std::begin(kNames), std::end(kNames), [number](const named& one) { return one.number == number; });
  return found == std::end(kNames) ? "system call " + std::to_string(number) : found->name;
}

}  // namespace weft::rt
