// SPDX-License-Identifier: Apache-2.0
// The holder's side of a trace; see trace.h.
#include "runtime/trace.h"

#include <algorithm>

#include "runtime/clock.h"
#include "runtime/proc.h"
#include "runtime/trace_file.h"

namespace weft::rt {
namespace {

std::uint32_t saturated(std::uint64_t ns) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(ns, UINT32_MAX));
}

void pause_trace(p* pp, std::uint64_t now) {
  pp->trace->write({.ticks = now, .what = trace_kind::pause});
  pp->trace = nullptr;
  pp->lane.resume_at = nanotime() + static_cast<std::int64_t>(ticks_to_ns(kTraceBurst * ticks_of_an_event()));
}

// What one event costs is paid after it, so that it can be the last.
void write_and_pay(p* pp, const trace_entry& event) {
  trace_lane& lane = pp->lane;
  pp->trace->write(event);
  const std::uint64_t price = ticks_of_an_event(), most = kTraceBurst * price;
  lane.credit = std::min(lane.credit + (event.ticks - lane.paid_at), most);
  lane.paid_at = event.ticks;
  if (lane.credit < price) return pause_trace(pp, event.ticks);
  lane.credit -= price;
}

std::uint64_t id_of(const g* gp) { return gp->id.load(std::memory_order_relaxed); }

// Its status and reason are those of the one that stops.
std::uint8_t why_it_stops(const m* mp, const g* from) {
  if (from == &mp->g0) return kNoneRan;
  if (from == &mp->ended) return kEnded;
  if (from->status.load(std::memory_order_relaxed) == g_status::waiting)
    return static_cast<std::uint8_t>(kWaits + static_cast<std::uint8_t>(from->reason.load(std::memory_order_relaxed)));
  return mp->held->preempt.load(std::memory_order_relaxed) ? kPreempted : kYielded;
}

// The slot tells of the last absence, and counts all: if there was none but preemptions, that was one.
void write_absences(p* pp, const bpf::slot& of, std::uint64_t ticks) {
  trace_lane& lane = pp->lane;
  const bpf::snapshot seen = bpf::read_slot(of);
  const std::uint32_t sleeps = seen.blocks + seen.parks, times = seen.preemptions - lane.preemptions;
  const bool known = lane.slot == &of, told = known && times != 0, last_was_one = told && sleeps == lane.sleeps;
  lane.slot = &of;
  lane.preemptions = seen.preemptions;
  lane.sleeps = sleeps;
  if (!told) return;
  pp->trace->write({.ticks = ticks,
                    .subject = last_was_one ? seen.since_ns : 0,
                    .what = trace_kind::off_cpu,
                    .other = static_cast<std::uint16_t>(std::min<std::uint32_t>(times, UINT16_MAX)),
                    .number = last_was_one ? saturated(seen.off_ns) : 0});
}

void note_absences(p* pp, const m* mp, std::uint64_t ticks) {
  const bpf::slot* const s = slot_of(mp);
  if (!s) return;
  if (s != pp->lane.slot || __atomic_load_n(&s->preemptions, __ATOMIC_RELAXED) != pp->lane.preemptions)
    write_absences(pp, *s, ticks);
}

}  // namespace

trace_lane::~trace_lane() {
  if (mapped) unmap_ring(mapped, mapped_bytes);
}

void record(p* pp, trace_kind what, std::uint32_t number) {
  write_and_pay(pp, {.ticks = cputicks(), .what = what, .number = number});
}

void record_switch(m* mp, const g* from, const g* to) {
  const std::uint64_t now = cputicks();
  note_absences(mp->held, mp, now);
  write_and_pay(mp->held,
                {.ticks = now, .subject = id_of(to), .what = trace_kind::run, .detail = why_it_stops(mp, from)});
}

void record_ready(p* pp, const g* gp, ready_cause cause) {
  write_and_pay(pp, {.ticks = cputicks(),
                     .subject = id_of(gp),
                     .what = trace_kind::ready,
                     .detail = static_cast<std::uint8_t>(cause)});
}

void record_take(p* pp, const m* victim, loss why) {
  const bpf::slot* const s = why == loss::blocked ? slot_of(victim) : nullptr;
  const int call = s ? bpf::read_event(*s).syscall() : -1;
  write_and_pay(pp, {.ticks = cputicks(),
                     .what = trace_kind::take,
                     .detail = static_cast<std::uint8_t>(why),
                     .number = call < 0 ? kNoCall : static_cast<std::uint32_t>(call)});
}

void record_steal(p* pp, const p* victim, const g* gp, std::uint8_t how) {
  write_and_pay(pp, {.ticks = cputicks(),
                     .subject = id_of(gp),
                     .what = trace_kind::steal,
                     .detail = how,
                     .other = static_cast<std::uint16_t>(victim->id)});
}

void follow_trace(m* mp) {
  p* const pp = mp->held;
  trace_lane& lane = pp->lane;
  trace_ring* const wanted = lane.wanted.load(std::memory_order_acquire);
  if (pp->trace == wanted) return;
  if (!wanted) {
    pp->trace = nullptr;
    lane.resume_at = 0;
    return;
  }
  // No clock is read here: the P's allowance ends when it is time (look_by).
  if (pp->allowed_at < lane.resume_at) return look_by(pp, lane.resume_at);
  pp->trace = wanted;
  wanted->writer_has_come();
  lane.resume_at = 0;
  lane.paid_at = cputicks();
  lane.credit = kTraceBurst * ticks_of_an_event();
  lane.slot = nullptr;
  record(pp, trace_kind::resume);
  record(pp, trace_kind::thread, static_cast<std::uint32_t>(mp->tid.load(std::memory_order_relaxed)));
}

}  // namespace weft::rt
