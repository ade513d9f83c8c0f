// SPDX-License-Identifier: Apache-2.0
// Recording what happens on the Ps: the hooks in the scheduler. While nobody traces each costs a load of a line that is
// in use anyway, and a branch that is never taken.
//
// p::trace is the ring while events are recorded. It is the holder's, as all that is not atomic in a P: whoever has
// just taken a P from an M records that it has. Others only wish (lane.wanted); the holder follows when it comes
// through the scheduler, where no goroutine runs, so that a recording begins with a state that is known.
//
// An event takes some 50 ns, half of which is reading the clock. A P that switches every 20 ns would be slowed down
// three times over, and fill its ring in milliseconds. So each P has a credit of events that is refilled at a fixed
// rate: one that has used it up records nothing until it is full again. What is recorded then is a burst of a thousand
// events with nothing left out, and a gap that is marked as one. At the rate of those who attach (trace_file.cpp) the
// price is one percent of a P, whatever it does; few programs ever use their credit up.
#pragma once

#include "runtime/m.h"
#include "runtime/p.h"

namespace weft::rt {

constexpr std::uint64_t kTraceBurst = 1024;  // events

enum class loss : std::uint8_t;

void record_switch(m* mp, const g* from, const g* to);
void record_ready(p* pp, const g* gp, ready_cause cause);
void record(p* pp, trace_kind what, std::uint32_t number = 0);
void record_take(p* pp, const m* victim, loss why);
void record_steal(p* pp, const p* victim, const g* gp, std::uint8_t how);
void follow_trace(m* mp);

/// mp, which holds a P, leaves `from` and goes on with `to`; g0 is none.
inline void trace_switch(m* mp, const g* from, const g* to) {
  if (mp->held->trace) [[unlikely]]
    record_switch(mp, from, to);
}

/// The holder of pp makes gp runnable.
inline void trace_ready(p* pp, const g* gp, ready_cause cause) {
  if (pp->trace) [[unlikely]]
    record_ready(pp, gp, cause);
}

/// Something without a subject happens on pp, which the caller holds.
inline void trace_note(p* pp, trace_kind what, std::uint32_t number = 0) {
  if (pp->trace) [[unlikely]]
    record(pp, what, number);
}

/// The caller has taken pp from `victim`.
inline void trace_take(p* pp, const m* victim, loss why) {
  if (pp->trace) [[unlikely]]
    record_take(pp, victim, why);
}

/// The holder of pp has taken gp from the queue of `victim`.
inline void trace_steal(p* pp, const p* victim, const g* gp, std::uint8_t how) {
  if (pp->trace) [[unlikely]]
    record_steal(pp, victim, gp, how);
}

/// Any thread: pp does not come through the scheduler, though it is to be traced.
inline bool trace_awaits(const p* pp) {
  const trace_ring* const ring = pp->lane.wanted.load(std::memory_order_acquire);
  return ring && ring->awaits_writer();
}

/// In the scheduler, by an M that holds a P: begins, ends and resumes recording as is wished.
inline void look_at_trace(m* mp) {
  if (mp->held->lane.wanted.load(std::memory_order_relaxed) || mp->held->trace) [[unlikely]]
    follow_trace(mp);
}

}  // namespace weft::rt
