// SPDX-License-Identifier: Apache-2.0
// What stands at a program counter: function, file, line.
//
// Nothing here throws unless said. Nothing is async-signal-safe: there is malloc, the loader's lock and libdw behind
// it. In the handler of a fatal signal it is a best effort; a fault inside of a look-up is answered without libdw
// instead of deadlocking. The caller's stack pays for little: libdw needs more than 150 KiB, more than a goroutine's or
// a signal's stack has, so look-ups run on a stack of their own.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace weft::rt {

struct code_location {
  std::string function;  // qualified name, no return type, no parameter list; "" when unknown
  std::string file;      // the source; the module's path when there is no line; "" when unknown
  int line = 0;          // 0 when unknown
  // The pc's distance from the function's start, or from the module's when `function` is "". 0 when inlined.
  std::uintptr_t offset = 0;
  bool inlined = false;  // this function has no frame of its own: the next location is its caller
};

enum class pc_kind { return_address, exact };

// symbolize_inlined: all source-level frames of one pc, innermost first; never empty unless memory ran out. All
// of this header is thread-safe.
std::vector<code_location> symbolize_inlined(std::uintptr_t pc, pc_kind kind = pc_kind::return_address) noexcept;

// symbolize: the innermost of them, whose line is the line of the pc.
code_location symbolize(std::uintptr_t pc, pc_kind kind = pc_kind::return_address) noexcept;

// locate: the frames of all pcs, one after the other. Throws std::bad_alloc.
std::vector<code_location> locate(std::span<const std::uintptr_t> pcs, pc_kind kind);

// function_name: a symbol, demangled, then cut as code_location::function says. Throws std::bad_alloc.
std::string function_name(const char* symbol);

}  // namespace weft::rt
