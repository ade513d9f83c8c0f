// SPDX-License-Identifier: Apache-2.0
#include "bpf/pmu.h"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

namespace weft::bpf {
namespace {

constexpr std::uint64_t cache_misses(std::uint64_t cache, std::uint64_t operation) {
  return cache | operation << 8 | std::uint64_t{PERF_COUNT_HW_CACHE_RESULT_MISS} << 16;
}

constexpr std::array kTlbMisses{
    pmu_event{"dtlb_load_misses", PERF_TYPE_HW_CACHE,
              cache_misses(PERF_COUNT_HW_CACHE_DTLB, PERF_COUNT_HW_CACHE_OP_READ)},
    pmu_event{"dtlb_store_misses", PERF_TYPE_HW_CACHE,
              cache_misses(PERF_COUNT_HW_CACHE_DTLB, PERF_COUNT_HW_CACHE_OP_WRITE)},
    pmu_event{"itlb_misses", PERF_TYPE_HW_CACHE, cache_misses(PERF_COUNT_HW_CACHE_ITLB, PERF_COUNT_HW_CACHE_OP_READ)}};

// A thread that is started while we look may be missed; one that is listed and counts for its creator, too, would be
// counted twice, so there is no second look.
std::vector<pid_t> own_threads() {
  std::vector<pid_t> all;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task", ignored)) {
    const std::string name = entry.path().filename();
    pid_t tid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), tid).ec == std::errc()) all.push_back(tid);
  }
  return all;
}

// None: errno tells why.
fd open_counter(const pmu_event& event, pid_t tid) {
  perf_event_attr wanted{};
  wanted.size = sizeof wanted;
  wanted.type = event.type;
  wanted.config = event.config;
  wanted.inherit = wanted.inherit_thread = 1;
  wanted.exclude_kernel = wanted.exclude_hv = 1;
  // There may be fewer registers than events: then each counts for a part of the time.
  wanted.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
  const auto open = [&] {
    return fd(static_cast<int>(syscall(SYS_perf_event_open, &wanted, tid, -1, -1, PERF_FLAG_FD_CLOEXEC)));
  };
  fd opened = open();
  if (opened || errno != EINVAL) return opened;
  wanted.inherit_thread = 0;  // before Linux 5.13: counts for processes that we start, too
  return open();
}

std::uint64_t read_counter(const fd& counter) {
  struct {
    std::uint64_t value, enabled, running;
  } seen{};
  if (::read(counter.get(), &seen, sizeof seen) != sizeof seen || seen.running == 0) return 0;
  return static_cast<std::uint64_t>(static_cast<double>(seen.value) * static_cast<double>(seen.enabled) /
                                    static_cast<double>(seen.running));
}

std::string why_refused(const pmu_event& event, int error) {
  const bool no_pmu = error == ENOENT || error == ENODEV || error == EOPNOTSUPP;
  return std::string(event.name) + ": " + (no_pmu ? "this machine has no such counter" : std::strerror(error));
}

}  // namespace

std::span<const pmu_event> tlb_misses() { return kTlbMisses; }

int try_event(const pmu_event& event) { return open_counter(event, 0) ? 0 : errno; }

std::vector<pmu::counted> pmu::make(std::span<const pmu_event> events) {
  std::vector<counted> all;
  for (const pmu_event& event : events) all.push_back({.event = event, .fds = {}});
  return all;
}

std::uint64_t pmu::counted::now() const {
  std::uint64_t sum = earlier;
  for (const fd& each : fds) sum += read_counter(each);
  return sum;
}

std::string pmu::start() {
  const std::lock_guard lock(mutex_);
  if (on_) return "";
  on_ = true;
  std::string refused;
  const std::vector<pid_t> threads = own_threads();
  for (counted& each : counts_)
    for (const pid_t tid : threads) {
      if (fd counter = open_counter(each.event, tid)) {
        each.fds.push_back(std::move(counter));
        each.ever = true;
      } else if (errno != ESRCH) {  // it has ended
        if (refused.empty()) refused = why_refused(each.event, errno);
        break;
      }
    }
  return refused;
}

void pmu::stop() {
  const std::lock_guard lock(mutex_);
  on_ = false;
  for (counted& each : counts_) {
    each.earlier = each.now();
    each.fds.clear();
  }
}

std::vector<pmu::count> pmu::read() const {
  const std::lock_guard lock(mutex_);
  std::vector<count> all;
  for (const counted& each : counts_)
    if (each.ever) all.push_back({each.event.name, each.now()});
  return all;
}

}  // namespace weft::bpf
