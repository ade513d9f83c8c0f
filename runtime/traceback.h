// SPDX-License-Identifier: Apache-2.0
// Stack walks and their text in Go's form: what `panic:`, `fatal error:` and the goroutine dump are made of.
//
// Three starting points (the caller's own stack, a signal's context, a parked goroutine's register block) give program
// counters; format_frames() turns those into text. Invariants:
//  - Every pc handed out is a return address or looks like one: for a frame that was interrupted (a fault, a signal)
//    the walk gives pc + 1. So pc - 1 lies in the instruction that counts, for every element, whoever reads the array.
//  - Nothing here throws unless said, and no frame, however wrong, makes it fault: a walk ends early instead.
//  - Nothing here is async-signal-safe: there is malloc, the loader's lock and libdw behind it. In the handler of a
//    fatal signal it is a best effort; a fault inside of a look-up is answered without libdw instead of deadlocking.
//  - The caller's stack pays for little: libdw needs more than 150 KiB, more than a goroutine's or a signal's stack
//    has, so look-ups run on a stack of their own.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft::rt {

// Go's rule for long stacks: this many innermost and this many outermost frames are shown.
inline constexpr std::size_t kTracebackInnerFrames = 50;
inline constexpr std::size_t kTracebackOuterFrames = 50;

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

// unwind_here: the calling thread's stack as it is now. pcs[0] is in the caller, or `skip` frames further out.
// All walks return how many pcs they wrote, innermost first; what doesn't fit is left out at the outer end.
std::size_t unwind_here(std::span<std::uintptr_t> pcs, std::size_t skip = 0) noexcept;

// unwind_from: the stack that a signal interrupted. A jump through a wild pointer is shown by the frame that made it.
std::size_t unwind_from(const ucontext_t& interrupted, std::span<std::uintptr_t> pcs) noexcept;

// unwind_parked: the stack [stack_lo, stack_hi) of a goroutine that left its CPU through Boost.Context's jump_fcontext;
// `fcontext` is the fcontext_t it left behind. 0 when that isn't a register block on this stack. The goroutine must
// stay parked, and its stack mapped, until this returns.
std::size_t unwind_parked(const void* fcontext, std::uintptr_t stack_lo, std::uintptr_t stack_hi,
                          std::span<std::uintptr_t> pcs) noexcept;

// format_frames: "function(...)\n\tfile:line +0xOFF\n" for each frame, inlined ones included. The runtime's own frames
// are left out at both ends (not between user frames), unless there are no others; long stacks lose their middle.
std::string format_frames(std::span<const std::uintptr_t> pcs) noexcept;

// print_frames: format_frames() written to `fd`, in one write(2) where the kernel takes it whole.
void print_frames(int fd, std::span<const std::uintptr_t> pcs) noexcept;

// The steps of format_frames(), for those who hold locations or names already. These throw std::bad_alloc.
std::string format_locations(std::span<const code_location> frames);
std::string function_name(const char* symbol);  // demangled, then cut as code_location::function says
bool is_runtime_frame(std::string_view function) noexcept;

}  // namespace weft::rt
