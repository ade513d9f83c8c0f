// SPDX-License-Identifier: Apache-2.0
// Stands in for file_ring.cpp where there was no liburing to build it with.
#include "runtime/file_ring.h"

namespace weft::rt {

long call_by_ring(ring_request&) { return kNoRing; }
void cancel_ring_call(ring_request&) {}
void start_wanted_file_ring() {}
void stop_file_ring() {}
int threads_of_file_ring() { return 0; }
std::uint64_t calls_by_ring() { return 0; }

}  // namespace weft::rt
