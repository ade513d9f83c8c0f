// SPDX-License-Identifier: Apache-2.0
// WEFT_TRACE: what the Ps did of late, always at hand; see flight_recorder.cpp.
#pragma once

#include <cstdint>
#include <string>

namespace weft::rt {

struct recorder_settings {
  std::string path;           // ""; there is no recorder
  std::int64_t seconds = 5;   // so much is kept
  std::string histogram;      // whose p99 is watched; "": none
  std::uint64_t most_ns = 0;  // what that may be
};

/// Before a run(), when its Ps are there.
void start_recorder(const recorder_settings& wanted);
/// Writes the file, if somebody has asked for it or it is time to. By the template thread.
void write_recording_if_wanted();
/// After a run().
void stop_recorder();

}  // namespace weft::rt
