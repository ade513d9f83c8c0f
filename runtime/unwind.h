// SPDX-License-Identifier: Apache-2.0
// Stack walks: from the caller's own stack, a signal's context, or a parked goroutine's register block to program
// counters. Invariants:
//  - Every pc handed out is a return address or looks like one: for a frame that was interrupted (a fault, a signal)
//    the walk gives pc + 1. So pc - 1 lies in the instruction that counts, for every element, whoever reads the array.
//  - Nothing here throws, but for std::bad_alloc where it copies, and no frame, however wrong, makes it fault: a walk
//  ends early instead.
//  - Nothing here is async-signal-safe; in the handler of a fatal signal it is a best effort.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::rt {

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

// unwind_interrupted: the stack [stack_lo, stack_hi) of a goroutine whose thread has parked in a signal handler;
// `interrupted` is the handler's ucontext_t. If the goroutine has gone on, the walk is short or empty.
std::size_t unwind_interrupted(const void* interrupted, std::uintptr_t stack_lo, std::uintptr_t stack_hi,
                               std::span<std::uintptr_t> pcs) noexcept;

// unwind_copied: as unwind_parked, for a goroutine that may go on at any time: its stack is copied first. What comes
// out is right if it has stayed parked meanwhile; nothing bad happens if it has not.
std::size_t unwind_copied(const void* fcontext, std::uintptr_t stack_lo, std::uintptr_t stack_hi,
                          std::span<std::uintptr_t> pcs);

// read_memory: what lies at an address of this process, if there is (still) anything.
bool read_memory(std::uintptr_t from, void* to, std::size_t size) noexcept;

}  // namespace weft::rt
