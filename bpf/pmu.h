// SPDX-License-Identifier: Apache-2.0
//
// Hardware counters of this process, where there is a PMU: how often an address was in no TLB. Counted in user code
// only, which perf_event_paranoid 2 allows to everybody.
#pragma once

#include <sys/types.h>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "bpf/fds.h"

namespace weft::bpf {

// As perf_event_open() has them.
struct pmu_event {
  const char* name;
  std::uint32_t type;
  std::uint64_t config;
};

// The kernel's generic events for dTLB misses of loads and of stores and for iTLB misses. What its tables for x86 make
// of them (Intel: walks completed or begun, Zen: misses of the second level) is one page walk each.
std::span<const pmu_event> tlb_misses();

// May the calling thread be counted? 0, or the errno of perf_event_open().
int try_event(const pmu_event& event);

// Any thread may call anything at any time.
class pmu {
 public:
  explicit pmu(std::span<const pmu_event> events) : counts_(make(events)) {}
  ~pmu() { stop(); }
  pmu(const pmu&) = delete;
  pmu& operator=(const pmu&) = delete;

  // Counts from now on, in all threads and those that they start. Empty: done, or nothing to do; else why some event is
  // not counted, in one line (the others are).
  std::string start();
  void stop();

  struct count {
    const char* name;
    std::uint64_t times;  // of all times that it was counted
  };
  std::vector<count> read() const;  // of the events that could ever be counted

 private:
  struct counted {
    pmu_event event;
    std::vector<fd> fds;        // one a thread
    std::uint64_t earlier = 0;  // of what has been closed
    bool ever = false;

    std::uint64_t now() const;
  };
  static std::vector<counted> make(std::span<const pmu_event> events);

  mutable std::mutex mutex_;
  std::vector<counted> counts_;
  bool on_ = false;
};

}  // namespace weft::bpf
