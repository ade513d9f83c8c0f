// SPDX-License-Identifier: Apache-2.0
// Stack traces in Go's form: what `panic:`, `fatal error:` and the goroutine dump are made of. unwind.h finds the
// program counters, symbols.h their names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "runtime/symbols.h"
#include "runtime/unwind.h"

namespace weft::rt {

// Go's rule for long stacks: this many innermost and this many outermost frames are shown.
inline constexpr std::size_t kTracebackInnerFrames = 50;
inline constexpr std::size_t kTracebackOuterFrames = 50;

// format_frames: "function(...)\n\tfile:line +0xOFF\n" for each frame, inlined ones included. The runtime's own frames
// are left out at both ends (not between user frames), unless there are no others; long stacks lose their middle.
std::string format_frames(std::span<const std::uintptr_t> pcs) noexcept;

// print_frames: format_frames() written to `fd`, in one write(2) where the kernel takes it whole.
void print_frames(int fd, std::span<const std::uintptr_t> pcs) noexcept;

// Its second step, for who holds locations already. Throws std::bad_alloc.
std::string format_locations(std::span<const code_location> frames);
bool is_runtime_frame(std::string_view function) noexcept;
// What is left out at the inner end, and at the outer one.
bool is_inner_frame(const code_location& location) noexcept;
bool is_outer_frame(const code_location& location) noexcept;

}  // namespace weft::rt
