// SPDX-License-Identifier: Apache-2.0
// The side of trace_file.cpp that traces another process.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/clock.h"
#include "runtime/recording.h"
#include "weft/attach.h"
#include "weft/error.h"
#include "weft/trace.h"

namespace weft {
namespace {

// A part of the file, mapped. The process may be gone: its file is not.
class mapping {
 public:
  mapping(int fd, std::size_t offset, std::size_t bytes) : bytes_(bytes) {
    struct stat status;
    if (fstat(fd, &status) != 0 || static_cast<std::size_t>(status.st_size) < offset + bytes) return;
    at_ = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(offset));
  }
  mapping(mapping&& from) noexcept : bytes_(from.bytes_), at_(std::exchange(from.at_, MAP_FAILED)) {}
  mapping& operator=(mapping&&) = delete;
  ~mapping() {
    if (at_ != MAP_FAILED) munmap(at_, bytes_);
  }
  template <class T>
  const T* as() const {
    return at_ == MAP_FAILED ? nullptr : static_cast<const T*>(at_);
  }

 private:
  const std::size_t bytes_;
  void* at_ = MAP_FAILED;
};

class trace_file {
 public:
  trace_file(int pid, int number)
      : fd_(open(path(pid, number).c_str(), O_RDONLY | O_CLOEXEC)), first_(fd_, 0, rt::kTracePage) {
    // The process looks now and then whether anybody has this lock, by taking it for a moment.
    const bool locked = fd_ >= 0 && flock(fd_, LOCK_SH) == 0;
    const auto* const found = first_.as<rt::trace_header>();
    if (locked && found && found->magic == rt::kTraceMagic && found->version == rt::kTraceVersion &&
        is_sane(found->capacity)) {
      capacity_ = found->capacity;
      return;
    }
    if (fd_ >= 0) close(fd_);
    throw error("process " + std::to_string(pid) + " has ended its run()");
  }
  ~trace_file() { close(fd_); }
  trace_file(const trace_file&) = delete;
  trace_file& operator=(const trace_file&) = delete;

  const rt::trace_header& header() const { return *first_.as<rt::trace_header>(); }
  std::size_t capacity() const { return capacity_; }
  mapping ring(std::size_t p) const {
    return {fd_, rt::trace_ring::offset(p, capacity_), rt::trace_ring::bytes(capacity_)};
  }

 private:
  static std::string path(int pid, int number) {
    return "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(number);
  }
  static bool is_sane(std::uint64_t capacity) {
    return std::has_single_bit(capacity) && capacity <= rt::kMostTraceEvents;
  }

  const int fd_;
  const mapping first_;
  std::size_t capacity_ = 0;
};

struct traced_p {
  mapping memory;
  const rt::trace_ring* ring;
  std::uint64_t next;
  rt::raw_lane lane;
};

}  // namespace

class tracer::reader {
 public:
  explicit reader(int pid) : process_(pid), file_(pid, process_.begin_trace()) {
    rt::init_clock();
    begin_ticks_ = rt::cputicks();
    map_rings();
    for (traced_p& each : ps_) each.next = each.ring->written();  // others may trace, too
  }

  bool fetch() {
    const bool over = file_.header().over.load(std::memory_order_acquire) != 0 || process_.has_ended();
    map_rings();
    for (traced_p& each : ps_) fetch(each);
    return !over;
  }

  std::uint64_t events() const {
    std::uint64_t sum = 0;
    for (const traced_p& each : ps_) sum += each.lane.events.size();
    return sum;
  }

  trace take() {
    const rt::trace_header& of = file_.header();
    const rt::recording_header all{.pid = process_.pid(),
                                   .program = of.program,
                                   .clock = {of.start_ticks, of.start_ns, rt::cputicks(), rt::nanotime()},
                                   .begin_ticks = begin_ticks_};
    std::vector<rt::raw_lane> lanes;
    for (traced_p& each : ps_) lanes.push_back(std::move(each.lane));
    return rt::translated(all, lanes, lost_);
  }

 private:
  void map_rings() {
    const std::size_t n = file_.header().rings.load(std::memory_order_acquire);
    while (ps_.size() < n) {
      mapping memory = file_.ring(ps_.size());
      const auto* const ring = memory.as<rt::trace_ring>();
      if (!ring) return;
      const rt::recorded_lane of{.p = ring->p(), .node = ring->node(), .cpu = ring->cpu()};
      ps_.push_back({std::move(memory), ring, 0, {of, {}}});
    }
  }

  void fetch(traced_p& from) {
    std::vector<rt::trace_entry> fresh;
    const std::uint64_t lost = from.ring->read(from.next, file_.capacity(), fresh);
    std::vector<rt::trace_entry>& events = from.lane.events;
    if (lost != 0) mark_gap(events, fresh);
    lost_ += lost;
    events.insert(events.end(), fresh.begin(), fresh.end());
  }

  static void mark_gap(std::vector<rt::trace_entry>& before, const std::vector<rt::trace_entry>& after) {
    if (!before.empty()) before.push_back({.ticks = before.back().ticks, .what = rt::trace_kind::pause});
    if (!after.empty()) before.push_back({.ticks = after.front().ticks, .what = rt::trace_kind::resume});
  }

  attachment process_;
  trace_file file_;
  std::uint64_t begin_ticks_ = 0;
  std::vector<traced_p> ps_;
  std::uint64_t lost_ = 0;
};

tracer::tracer(int pid) : reads_(std::make_unique<reader>(pid)) {}
tracer::~tracer() = default;
bool tracer::fetch() { return reads_->fetch(); }
std::uint64_t tracer::events() const noexcept { return reads_->events(); }
trace tracer::take() { return reads_->take(); }

}  // namespace weft
