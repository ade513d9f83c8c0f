// SPDX-License-Identifier: Apache-2.0
// The file that the rings are in (trace_ring.h): when it is there, who maps what, and for how long events are recorded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/trace_ring.h"

namespace weft::rt {

constexpr std::uint64_t kMostTraceRate = 250'000;  // events a second and P; what who asks from outside gets

/// Begins to trace for whoever asks from outside. Returns the file's descriptor, or an error number, negative. By the
/// template thread, as is the next.
int start_tracing();
/// Ends that when nobody has the file locked any more; gives new Ps their rings.
void look_at_tracing();
/// Before a run(): traces until its end, that many events a second and P, into rings of this capacity. False: no
/// memory.
bool trace_always(std::uint64_t rate, std::size_t capacity);
/// At the end of a run().
void stop_tracing();

/// The credit that an event takes.
std::uint64_t ticks_of_an_event();
void unmap_ring(trace_ring* ring, std::size_t bytes);

/// The file's first page; null: there is none.
const trace_header* traced();
/// The rings of the Ps that there are. By the template thread.
std::vector<const trace_ring*> traced_rings();

}  // namespace weft::rt
