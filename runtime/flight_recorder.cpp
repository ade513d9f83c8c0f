// SPDX-License-Identifier: Apache-2.0
// The flight recorder: all Ps are traced from the beginning of the run() on, into rings of their own (trace_ring.h),
// and what they hold is written to a file when SIGUSR2 comes, or when the p99 of a histogram over the last second is
// above what it may be. `weft trace --read` shows it.
//
// The rings are to reach back for so many seconds whatever happens, and their memory is bounded: so the rate at which
// a P may record (trace.h) is what its ring can hold in that time. A busy P then records bursts; a thousand events of
// each, and gaps.
//
// The template thread watches and writes. It comes round once a second at least.
#include "runtime/flight_recorder.h"

#include <signal.h>
#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "runtime/clock.h"
#include "runtime/metrics.h"
#include "runtime/proc.h"
#include "runtime/recording.h"
#include "runtime/replace_file.h"
#include "runtime/trace.h"
#include "runtime/trace_file.h"

namespace weft::rt {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::size_t kMemory = 64 << 20;  // of all rings together, if that many Ps stay
constexpr std::size_t kLeastCapacity = 4096, kMostCapacity = 1 << 18;
constexpr std::uint64_t kLeastCount = 100;  // a p99 of fewer tells nothing

struct recorder {
  recorder_settings wanted;
  std::atomic<bool> asked{false};
  bool signal_is_ours = false;
  struct sigaction earlier {};
  // The template thread's.
  metrics::histogram before;
  std::int64_t next_look = 0;
  bool failed = false;
};
auto& self = *new recorder;

void on_signal(int) {
  const int saved = errno;
  self.asked.store(true, std::memory_order_release);
  wake_template_thread();
  errno = saved;
}

// A program that has a use for the signal keeps it.
void take_signal() {
  sigaction(SIGUSR2, nullptr, &self.earlier);
  self.signal_is_ours = (self.earlier.sa_flags & SA_SIGINFO) == 0 && self.earlier.sa_handler == SIG_DFL;
  if (!self.signal_is_ours) {
    std::fputs("weft: WEFT_TRACE: SIGUSR2 is the program's own and writes no recording\n", stderr);
    return;
  }
  struct sigaction ours {};
  ours.sa_handler = on_signal;
  ours.sa_flags = SA_RESTART | SA_ONSTACK;
  sigemptyset(&ours.sa_mask);
  sigaction(SIGUSR2, &ours, nullptr);
}

std::size_t capacity_for(int ps) {
  const std::size_t share = kMemory / sizeof(trace_entry) / static_cast<std::size_t>(std::max(ps, 1));
  return std::clamp(std::bit_floor(share), kLeastCapacity, kMostCapacity);
}

recording_header header_of(std::int64_t seconds) {
  const trace_header& of = *traced();
  recording_header all{
      .pid = of.pid, .program = of.program, .clock = {of.start_ticks, of.start_ns, cputicks(), nanotime()}};
  const double share = static_cast<double>(seconds * kSecond) /
                       static_cast<double>(std::max<std::int64_t>(all.clock.end_ns - of.start_ns, 1));
  const std::uint64_t since_start = all.clock.end_ticks - of.start_ticks;
  all.begin_ticks = share >= 1
                        ? of.start_ticks
                        : all.clock.end_ticks - static_cast<std::uint64_t>(share * static_cast<double>(since_start));
  return all;
}

void append(std::string& to, const void* from, std::size_t bytes) { to.append(static_cast<const char*>(from), bytes); }

void append_ring(std::string& to, const trace_ring& ring, std::uint64_t begin_ticks) {
  std::vector<trace_entry> events;
  std::uint64_t next = 0;
  ring.read(next, traced()->capacity, events);
  const auto first =
      std::partition_point(events.begin(), events.end(), [&](const trace_entry& e) { return e.ticks < begin_ticks; });
  const auto n = static_cast<std::size_t>(events.end() - first);
  const recorded_lane lane{.p = ring.p(), .node = ring.node(), .cpu = ring.cpu(), .events = n};
  append(to, &lane, sizeof lane);
  append(to, events.data() + (events.size() - n), n * sizeof(trace_entry));
}

std::string recording() {
  const std::vector<const trace_ring*> rings = traced_rings();
  recording_header header = header_of(self.wanted.seconds);
  header.lanes = rings.size();
  std::string bytes;
  append(bytes, &header, sizeof header);
  for (const trace_ring* const ring : rings) append_ring(bytes, *ring, header.begin_ticks);
  return bytes;
}

void write_recording(const std::string& why) {
  self.next_look = nanotime() + self.wanted.seconds * kSecond;  // what follows is to be in the next one
  const char* const path = self.wanted.path.c_str();
  if (replace_file(self.wanted.path, recording())) {
    self.failed = false;
    std::fprintf(stderr, "weft: WEFT_TRACE: %sthe last %lld s are in %s\n", why.c_str(),
                 static_cast<long long>(self.wanted.seconds), path);
  } else if (!std::exchange(self.failed, true)) {
    std::fprintf(stderr, "weft: WEFT_TRACE: cannot write %s: %s\n", path, std::strerror(errno));
  }
}

// Of the last second; 0: too little has happened.
double recent_p99() {
  const metrics::histogram now = read_histogram(self.wanted.histogram);
  const metrics::histogram recent = now.since(self.before);
  self.before = now;
  return recent.count() < kLeastCount ? 0 : recent.quantile(0.99);
}

void watch_p99() {
  const std::int64_t now = nanotime();
  if (self.wanted.histogram.empty() || now < self.next_look) return;
  self.next_look = now + kSecond;
  const double p99 = recent_p99();
  if (p99 * 1e9 <= static_cast<double>(self.wanted.most_ns)) return;
  char why[64];
  std::snprintf(why, sizeof why, "p99 of %s %.3g ms: ", self.wanted.histogram.c_str(), p99 * 1e3);
  write_recording(why);
}

}  // namespace

void start_recorder(const recorder_settings& wanted) {
  self.wanted = wanted;
  if (wanted.path.empty()) return;
  const std::size_t capacity = capacity_for(sched.nps.load(std::memory_order_relaxed));
  const std::uint64_t rate = (capacity - kTraceBurst) / static_cast<std::uint64_t>(wanted.seconds);
  if (!trace_always(std::clamp<std::uint64_t>(rate, 1, kMostTraceRate), capacity)) {
    std::fputs("weft: WEFT_TRACE: no memory for the recorder: going on without\n", stderr);
    self.wanted.path.clear();
    return;
  }
  self.before = {};
  self.next_look = nanotime() + kSecond;
  self.asked.store(false, std::memory_order_relaxed);
  take_signal();
}

void write_recording_if_wanted() {
  if (self.wanted.path.empty()) return;
  if (self.asked.exchange(false, std::memory_order_acq_rel)) return write_recording("");
  watch_p99();
}

void stop_recorder() {
  if (self.wanted.path.empty() || !self.signal_is_ours) return;
  sigaction(SIGUSR2, &self.earlier, nullptr);
  self.signal_is_ours = false;
}

}  // namespace weft::rt
