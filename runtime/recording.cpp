// SPDX-License-Identifier: Apache-2.0
#include "runtime/recording.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

#include "runtime/p.h"
#include "runtime/proc.h"
#include "runtime/wait_reason.h"
#include "weft/error.h"

namespace weft {
namespace rt {
namespace {

using kind = trace_event::kind;
__extension__ using wide = __int128;

constexpr const char* kDistances[kStealDistances] = {"core", "cache", "node", "far"};

const char* why_stopped(std::uint8_t detail) {
  switch (detail) {
    case kNoneRan: return "";
    case kYielded: return "yield";
    case kPreempted: return "preempted";
    case kEnded: return "ended";
    default: return name_of(static_cast<wait_reason>(detail - kWaits));
  }
}

const char* distance_of(std::uint8_t detail) {
  const std::size_t distance = detail & ~kRobbed;
  return distance < kStealDistances ? kDistances[distance] : "?";
}

// The rest of an event, whose time, kind and goroutine are there.
void explain(trace_event& shown, const trace_entry& e) {
  switch (shown.what) {
    case kind::run: shown.why = why_stopped(e.detail); break;
    case kind::ready:
      shown.why = static_cast<ready_cause>(e.detail) == ready_cause::started ? "started" : "woken";
      break;
    case kind::take:
      shown.why = static_cast<loss>(e.detail) == loss::blocked ? "blocked" : "preempted";
      shown.number = e.number == kNoCall ? -1 : std::int64_t{e.number};
      break;
    case kind::thread: shown.number = e.number; break;
    case kind::steal:
      shown.why = distance_of(e.detail);
      shown.number = e.other;
      break;
    case kind::off_cpu:
      shown.goroutine = 0;
      shown.count = e.other;
      shown.number = e.number;
      if (e.number != 0) shown.time = static_cast<std::int64_t>(e.subject);
      break;
    case kind::call:
    case kind::back:
    case kind::idle:
    case kind::pause:
    case kind::resume: break;
  }
}

kind kind_of(trace_kind what) { return static_cast<kind>(what); }
static_assert(static_cast<int>(kind::run) == static_cast<int>(trace_kind::run) &&
              static_cast<int>(kind::off_cpu) == static_cast<int>(trace_kind::off_cpu) &&
              static_cast<int>(kind::resume) == static_cast<int>(trace_kind::resume));

trace_event translated(const trace_entry& e, const trace_clock& clock) {
  trace_event shown{.time = clock.ns_of(e.ticks), .what = kind_of(e.what), .goroutine = e.subject};
  explain(shown, e);
  return shown;
}

trace::lane translated(const raw_lane& lane, const trace_clock& clock) {
  trace::lane shown{.p = lane.of.p, .node = lane.of.node, .cpu = lane.of.cpu};
  shown.events.reserve(lane.events.size() + 1);
  // The ring may have been in use before.
  if (!lane.events.empty() && lane.events.front().what != trace_kind::resume)
    shown.events.push_back({.time = clock.ns_of(lane.events.front().ticks), .what = kind::resume});
  for (const trace_entry& e : lane.events)
    if (e.what <= trace_kind::resume) shown.events.push_back(translated(e, clock));
  return shown;
}

}  // namespace

std::int64_t trace_clock::ns_of(std::uint64_t ticks) const {
  const auto span = static_cast<wide>(std::max<std::uint64_t>(end_ticks - start_ticks, 1));
  const auto since = static_cast<wide>(static_cast<std::int64_t>(ticks - start_ticks));
  return start_ns + static_cast<std::int64_t>(since * (end_ns - start_ns) / span);
}

trace translated(const recording_header& of, const std::vector<raw_lane>& lanes, std::uint64_t lost) {
  trace shown{.pid = of.pid,
              .program = std::string(of.program.data(), strnlen(of.program.data(), of.program.size())),
              .begin = of.clock.ns_of(of.begin_ticks),
              .end = of.clock.end_ns,
              .lost = lost};
  for (const raw_lane& lane : lanes) shown.lanes.push_back(translated(lane, of.clock));
  return shown;
}

}  // namespace rt

namespace {

struct closer {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

class recording_file {
 public:
  explicit recording_file(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "re")) {
    if (!file_) throw error(path + ": " + std::strerror(errno));
  }
  template <class T>
  void read(T& value) {
    read(&value, sizeof value);
  }
  void read(void* to, std::size_t size) {
    if (std::fread(to, 1, size, file_.get()) != size) throw error(path_ + ": is cut short");
  }
  void check(const rt::recording_header& header) const {
    if (header.magic != rt::kRecordingMagic) throw error(path_ + ": is no recording of weft's");
    if (header.version != rt::kTraceVersion) throw error(path_ + ": was recorded by another version of weft");
  }
  rt::raw_lane read_lane() {
    rt::raw_lane lane;
    read(lane.of);
    if (lane.of.events > rt::kMostTraceEvents) throw error(path_ + ": is damaged");
    lane.events.resize(lane.of.events);
    read(lane.events.data(), lane.events.size() * sizeof(rt::trace_entry));
    return lane;
  }

 private:
  const std::string path_;
  const std::unique_ptr<std::FILE, closer> file_;
};

}  // namespace

trace read_recording(const std::string& path) {
  recording_file file(path);
  rt::recording_header header;
  file.read(header.magic);
  file.check({.magic = header.magic});
  file.read(reinterpret_cast<char*>(&header) + sizeof header.magic, sizeof header - sizeof header.magic);
  file.check(header);
  std::vector<rt::raw_lane> lanes;
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(header.lanes, rt::kMaxPs); ++i)
    lanes.push_back(file.read_lane());
  return rt::translated(header, lanes, 0);
}

}  // namespace weft
