// SPDX-License-Identifier: Apache-2.0
#include "tools/trace_json.h"
#include "runtime/syscall_name.h"

#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace weft::tools {
namespace {

using kind = trace_event::kind;

constexpr std::size_t kPiece = 1 << 16;
constexpr std::uint64_t kForTheEnd = 4096;  // of what may be written: to end what is open, on each track
constexpr int kKernelTracks = 100'000;      // the number of the first

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// In microseconds since the trace's beginning.
std::string time_text(std::int64_t ns) { return fmt::format("{}.{:03}", ns / 1000, ns % 1000); }

// The text, counted and in large pieces.
class output {
 public:
  output(std::uint64_t most, const std::function<bool(std::string_view)>& write) : most_(most), write_(write) {}

  void add(std::string_view text) {
    bytes_ += text.size();
    pending_ += text;
    if (pending_.size() >= kPiece) flush();
  }
  void flush() {
    good_ = good_ && write_(pending_);
    pending_.clear();
  }
  bool has_room() const { return good_ && bytes_ < most_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  const std::uint64_t most_;
  const std::function<bool(std::string_view)>& write_;
  std::string pending_;
  std::uint64_t bytes_ = 0;
  bool good_ = true;
};

// Where something is shown: a process and a thread, as the format calls them.
struct place {
  int pid, tid;
};

// The format's records, with times in ns since the trace's beginning.
class records {
 public:
  explicit records(output& to) : to_(to) {}

  void slice(place at, const char* category, std::string_view name, std::int64_t begin, std::int64_t end,
             std::string_view arguments) {
    record(fmt::format(R"("ph":"X","cat":"{}","name":"{}",{},"ts":{},"dur":{},"args":{{{}}})", category, name,
                       text_of(at), time_text(begin), time_text(std::max(end, begin) - begin), arguments));
    ++slices;
  }
  void instant(place at, const char* category, std::string_view name, std::int64_t when) {
    record(fmt::format(R"("ph":"i","s":"t","cat":"{}","name":"{}",{},"ts":{})", category, name, text_of(at),
                       time_text(when)));
  }
  void arrow(place from, std::int64_t begin, place to, std::int64_t end, std::string_view name) {
    ++arrows;
    const auto half = [&](const char* phase, place at, std::int64_t when) {
      record(fmt::format(R"("ph":{},"cat":"ready","name":"{}","id":{},{},"ts":{})", phase, name, arrows, text_of(at),
                         time_text(when)));
    };
    half(R"("s")", from, begin);
    half(R"("f","bp":"e")", to, end);
  }
  // "process_name" and the like.
  void about(place at, const char* what, std::string_view arguments) {
    record(fmt::format(R"("ph":"M","name":"{}",{},"args":{{{}}})", what, text_of(at), arguments));
  }

  std::uint64_t slices = 0, arrows = 0;

 private:
  static std::string text_of(place at) { return fmt::format(R"("pid":{},"tid":{})", at.pid, at.tid); }

  void record(const std::string& text) {
    to_.add(first_ ? "\n{" : ",\n{");
    to_.add(text);
    to_.add("}");
    first_ = false;
  }

  output& to_;
  bool first_ = true;
};

// Where a goroutine that waits for its turn was made runnable.
struct readied {
  place at;
  std::int64_t time;
  const char* why;
};
using readied_goroutines = std::unordered_map<std::uint64_t, readied>;

// A P's track.
class track {
 public:
  track(records& to, readied_goroutines& waiting, const trace::lane& of, std::int64_t begin)
      : to_(to), waiting_(waiting), at_{of.node + 1, of.p + 1}, kernel_{at_.pid, kKernelTracks + of.p}, begin_(begin) {
    to_.about(at_, "thread_name", fmt::format(R"~("name":"P {} (CPU {})")~", of.p, of.cpu));
    to_.about(at_, "thread_sort_index", fmt::format(R"("sort_index":{})", 2 * of.p));
    if (std::none_of(of.events.begin(), of.events.end(), [](const auto& e) { return e.what == kind::off_cpu; })) return;
    to_.about(kernel_, "thread_name", fmt::format(R"("name":"P {}: kernel")", of.p));
    to_.about(kernel_, "thread_sort_index", fmt::format(R"("sort_index":{})", 2 * of.p + 1));
  }

  void show(const trace_event& e) {
    // A thread that loses its CPU between reading the clock and writing tells of a time before the beginning.
    const std::int64_t now = std::max<std::int64_t>(e.time - begin_, 0);
    switch (e.what) {
      case kind::run: switch_to(e, now); break;
      case kind::ready: make_ready(e, now); break;
      case kind::call: call_since_ = now; break;
      case kind::back: end_call(now, "blocking call"); break;
      case kind::take: lose_p(e, now); break;
      case kind::idle: stop(now, ""); break;
      case kind::thread: thread_ = e.number; break;
      case kind::steal:
        to_.instant(at_, "steal", fmt::format("steals G{} from P {} ({})", e.goroutine, e.number, e.why), now);
        break;
      case kind::off_cpu: leave_cpu(e, now); break;
      case kind::pause:
        stop(now, "");
        gap_since_ = now;
        break;
      case kind::resume: resume(now); break;
    }
  }

  // At the trace's end.
  void end(std::int64_t now) {
    if (call_since_ >= 0) end_call(now, "blocking call");
    resume(now);
    stop(now, "");
  }

 private:
  void switch_to(const trace_event& e, std::int64_t now) {
    const std::int64_t taken = taken_since_;
    stop(now, e.why);
    if (std::string_view(e.why) == "preempted") to_.instant(at_, "preemption", "preempted", now);
    if (e.goroutine == 0) return;
    if (taken >= 0) to_.slice(at_, "handoff", "handoff", taken, now, "");
    goroutine_ = e.goroutine;
    since_ = now;
    const auto found = waiting_.find(e.goroutine);
    if (found == waiting_.end()) return;
    if (found->second.time <= now) to_.arrow(found->second.at, found->second.time, at_, now, found->second.why);
    waiting_.erase(found);
  }

  // What the scheduler itself makes runnable (timers, files) has no slice that an arrow could begin in.
  void make_ready(const trace_event& e, std::int64_t now) {
    if (goroutine_ != 0)
      waiting_[e.goroutine] = {at_, now, e.why};
    else
      waiting_.erase(e.goroutine);
  }

  void lose_p(const trace_event& e, std::int64_t now) {
    const std::string call = e.number >= 0 ? rt::syscall_name(static_cast<int>(e.number)) : "";
    if (call_since_ >= 0) end_call(now, call.empty() ? "blocking call" : call);
    const bool blocked = std::string_view(e.why) == "blocked";
    stop(now, blocked && !call.empty() ? "blocked in " + call : e.why);
    if (!blocked) to_.instant(at_, "preemption", "preempted", now);
    taken_since_ = now;
  }

  void end_call(std::int64_t now, std::string_view name) {
    if (call_since_ >= 0 && goroutine_ != 0) to_.slice(at_, "call", name, std::max(call_since_, since_), now, "");
    call_since_ = -1;
  }

  void stop(std::int64_t now, std::string_view why) {
    if (goroutine_ != 0)
      to_.slice(at_, "goroutine", fmt::format("G{}", goroutine_), since_, now,
                fmt::format(R"("goroutine":{},"thread":{}{})", goroutine_, thread_,
                            why.empty() ? "" : fmt::format(R"(,"stopped":"{}")", why)));
    goroutine_ = 0;
    call_since_ = taken_since_ = -1;
  }

  void leave_cpu(const trace_event& e, std::int64_t now) {
    if (e.number == 0) return to_.instant(kernel_, "kernel", fmt::format("preempted {} times", e.count), now);
    const std::int64_t from = std::max(now, kernel_until_), until = std::max(e.time - begin_ + e.number, from);
    to_.slice(kernel_, "kernel", "preempted", from, until, fmt::format(R"("times":{},"thread":{})", e.count, thread_));
    kernel_until_ = until;
  }

  void resume(std::int64_t now) {
    if (gap_since_ >= 0 && now > gap_since_) to_.slice(at_, "gap", "not recorded", gap_since_, now, "");
    gap_since_ = -1;
  }

  records& to_;
  readied_goroutines& waiting_;
  const place at_, kernel_;
  const std::int64_t begin_;

  std::uint64_t goroutine_ = 0;  // that runs; 0: none
  std::int64_t since_ = 0;       // when it began to
  std::int64_t call_since_ = -1, taken_since_ = -1, gap_since_ = -1;
  std::int64_t kernel_until_ = 0;
  std::int64_t thread_ = 0;
};

struct one_event {
  const trace_event* event;
  std::size_t lane;
};

std::vector<one_event> by_time(const trace& shown) {
  std::vector<one_event> all;
  for (std::size_t i = 0; i < shown.lanes.size(); ++i)
    for (const trace_event& e : shown.lanes[i].events) all.push_back({&e, i});
  // Absences from the CPU are told when they are over, but belong to a track of their own.
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.event->time < b.event->time; });
  return all;
}

std::string beginning(const trace& shown) {
  return fmt::format(
      R"({{"displayTimeUnit":"ns","otherData":{{"program":{},"pid":{},"seconds":{:.6f},"lost":{}}},"traceEvents":[)",
      quoted(shown.program), shown.pid, static_cast<double>(shown.end - shown.begin) / 1e9, shown.lost);
}

void name_nodes(const trace& shown, records& to) {
  std::map<int, bool> named;
  for (const trace::lane& lane : shown.lanes) {
    if (named[lane.node]) continue;
    named[lane.node] = true;
    to.about({lane.node + 1, 0}, "process_name", fmt::format(R"("name":"node {}")", lane.node));
    to.about({lane.node + 1, 0}, "process_sort_index", fmt::format(R"("sort_index":{})", lane.node));
  }
}

}  // namespace

written_trace write_json(const trace& shown, std::uint64_t most_bytes,
                         const std::function<bool(std::string_view)>& write) {
  const std::uint64_t reserve = kForTheEnd + shown.lanes.size() * 1024;
  output text(most_bytes - std::min(reserve, most_bytes), write);
  text.add(beginning(shown));
  records to(text);
  name_nodes(shown, to);
  readied_goroutines waiting;
  std::vector<track> tracks;
  for (const trace::lane& lane : shown.lanes) tracks.emplace_back(to, waiting, lane, shown.begin);
  written_trace done{.shown_ns = shown.end - shown.begin};
  for (const auto& [event, lane] : by_time(shown)) {
    if (!text.has_room()) {
      done.whole = false;
      done.shown_ns = event->time - shown.begin;
      break;
    }
    tracks[lane].show(*event);
  }
  for (track& each : tracks) each.end(done.shown_ns);
  text.add("\n]}\n");
  text.flush();
  done.bytes = text.bytes();
  done.slices = to.slices;
  done.arrows = to.arrows;
  return done;
}

}  // namespace weft::tools
