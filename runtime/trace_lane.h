// SPDX-License-Identifier: Apache-2.0
// What a P keeps for its trace; see trace.h.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "bpf/probes.h"
#include "runtime/trace_ring.h"

namespace weft::rt {

/// The holder's, but for `wanted`.
struct trace_lane {
  trace_lane() = default;
  trace_lane(const trace_lane&) = delete;
  trace_lane& operator=(const trace_lane&) = delete;
  ~trace_lane();

  std::atomic<trace_ring*> wanted{nullptr};  // the template thread's: the ring while somebody traces
  trace_ring* mapped = nullptr;              // the same: until the P goes
  std::size_t mapped_bytes = 0;

  std::uint64_t credit = 0;         // in ticks: so many for each event
  std::uint64_t paid_at = 0;        // cputicks() when it was last reckoned up
  std::int64_t resume_at = 0;       // nanotime(), while the credit is used up
  const bpf::slot* slot = nullptr;  // of the M that recorded last, and what it counted then
  std::uint32_t preemptions = 0, sleeps = 0;
};

}  // namespace weft::rt
