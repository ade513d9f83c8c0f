// SPDX-License-Identifier: Apache-2.0
// What was recorded of a process, as it was written down: from its rings (trace_ring.h), or in a file of the flight
// recorder. Such a file is a recording_header, and for each P a recorded_lane and its events, the oldest first.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/trace_ring.h"
#include "weft/trace.h"

namespace weft::rt {

constexpr std::array<char, 8> kRecordingMagic{'w', 'e', 'f', 't', 'r', 'e', 'c', '\n'};

/// Two moments on both clocks.
struct trace_clock {
  std::uint64_t start_ticks = 0;
  std::int64_t start_ns = 0;
  std::uint64_t end_ticks = 0;
  std::int64_t end_ns = 0;

  std::int64_t ns_of(std::uint64_t ticks) const;
};

struct recording_header {
  std::array<char, 8> magic = kRecordingMagic;
  std::uint32_t version = kTraceVersion;
  std::int32_t pid = 0;
  std::array<char, 16> program{};
  trace_clock clock{};
  std::uint64_t begin_ticks = 0;  // of what was asked for
  std::uint64_t lanes = 0;
};

struct recorded_lane {
  std::int32_t p = 0, node = 0, cpu = 0, reserved = 0;
  std::uint64_t events = 0;
};

struct raw_lane {
  recorded_lane of;
  std::vector<trace_entry> events;
};

/// For whoever shows it: in order of time, in words.
trace translated(const recording_header& of, const std::vector<raw_lane>& lanes, std::uint64_t lost);

}  // namespace weft::rt
