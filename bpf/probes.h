// SPDX-License-Identifier: Apache-2.0
//
// The state page: for each registered thread, whether it runs, was preempted or has blocked, since when and why, kept
// by the kernel side (bpf/*.bpf.c) at every context switch. This layer knows threads and CPUs, and never goroutines.
//
// Reading a slot and writing its user line is a load or a store: no function here that a hot path needs makes a system
// call. Losing the probes while they run is not an error either: the slots stop moving, which alive() finds out.
//
// Fork: threads of a child are not registered, so the probes write nothing on their behalf, but the pages stay shared.
// A child that goes on without exec must not write user lines.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bpf/slot.h"

namespace weft::bpf {

using slot = weft_bpf_slot;
using histograms = weft_bpf_histograms;
using faults = weft_bpf_faults;

enum class doing : std::uint8_t {
  idle = WEFT_BPF_IDLE,
  user_code = WEFT_BPF_USER_CODE,
  in_runtime = WEFT_BPF_IN_RUNTIME,
  in_syscall = WEFT_BPF_IN_SYSCALL,
};
enum class state : std::uint8_t {
  no_thread = WEFT_BPF_NO_THREAD,
  running = WEFT_BPF_RUNNING,
  preempted = WEFT_BPF_PREEMPTED,
  blocked = WEFT_BPF_BLOCKED,
};
enum class reason : std::uint8_t {
  none = WEFT_BPF_NO_REASON,
  syscall = WEFT_BPF_SYSCALL,
  page_fault = WEFT_BPF_PAGE_FAULT,
  stopped = WEFT_BPF_STOPPED,
};

// The word of a slot that every verdict is made on; it is still the same switch for as long as the words are equal.
struct event {
  std::uint64_t word;

  std::uint32_t sequence() const { return static_cast<std::uint32_t>(word); }
  bpf::state state() const { return static_cast<bpf::state>(word >> 48 & 0xff); }
  // Of the last block:
  bpf::reason reason() const { return static_cast<bpf::reason>(word >> 56); }
  int syscall() const {  // -1: it was in none
    const auto number = static_cast<std::uint16_t>(word >> 32);
    return number == WEFT_BPF_NO_SYSCALL ? -1 : number;
  }
  bool operator==(const event&) const = default;
};

// Pairs with the probes' store of the whole word.
inline event read_event(const slot& s) { return {__atomic_load_n(&s.event, __ATOMIC_ACQUIRE)}; }

inline void announce(slot& s, doing what, std::uint32_t syscall = 0) {
  __atomic_store_n(&s.user, static_cast<std::uint64_t>(what) | std::uint64_t{syscall} << 32, __ATOMIC_RELAXED);
}

// A slot's BPF line as of one moment. `event` is exact always; see slot.h for the rest.
struct snapshot {
  bpf::event event;
  std::uint64_t since_ns, off_ns;
  std::uint32_t blocks, parks, wakeups, preemptions, mm_switches, migrations, minor_faults, major_faults, cpu;
};
snapshot read_slot(const slot& s);

// How the program at sched_switch reads the kernel, and finds a thread's record.
enum class variant : std::uint8_t {
  best,          // of those that follow, the first that this kernel takes
  typed,         // tp_btf, task storage: from 5.19 on
  typed_by_tid,  // tp_btf, a hash by thread number
  raw,           // raw_tp, the same hash: no description of the tracepoint needed
};

struct program_statistics {
  std::string name;
  std::uint64_t runs;
  std::uint64_t ns;
};

// What registered threads had to do with, over all CPUs.
struct cost_counters : weft_bpf_cpu_cost {
  bool switches_timed;  // false: this kernel (before 6.14) does not tell when a switch ends
};

class probes {
 public:
  // Takes over the probes that WEFT_BPF_FDS hands to this process, or else loads and attaches them: 15 ms and the
  // capabilities CAP_BPF and CAP_PERFMON. Null if it cannot be: why_not is one line. Makes itself sure that a block of
  // the calling thread, which must not be registered with it, is seen. Prints nothing. Sets libbpf's print function for
  // the time of the call.
  static std::unique_ptr<probes> load(std::size_t slots, std::string& why_not, variant wanted = variant::best);

  // Detaches, unless others hold the same probes. No slot may be in use any more.
  virtual ~probes() = default;
  probes(const probes&) = delete;
  probes& operator=(const probes&) = delete;

  std::size_t size() const { return size_; }
  slot& at(std::size_t i) const { return slots_[i]; }
  const bpf::histograms& histograms_of(std::size_t i) const { return histograms_[i]; }

  // From now on slot i tells of the calling thread. One live thread a slot; a thread that registers again changes its
  // slot. Ends with the thread, if not before. Needs no capability.
  virtual bool register_current_thread(std::size_t i, std::string& why_not) = 0;
  virtual bool unregister_current_thread(std::string& why_not) = 0;

  // Called by the thread of slot i: sleeps for a moment, and tells whether the probes have seen it.
  virtual bool alive(std::size_t i) = 0;

  // The cost programs, off at first. prepare_cost() loads them, for which it needs the capabilities; switching needs
  // them on kernels before 5.19.
  virtual bool prepare_cost(std::string& why_not) = 0;
  virtual bool cost_on(std::string& why_not) = 0;
  virtual void cost_off() = 0;
  virtual cost_counters cost_of(std::size_t cpu) const = 0;  // zeros before prepare_cost()
  virtual cost_counters cost() const = 0;                    // of all CPUs
  virtual bpf::faults faults_of(std::size_t i) const = 0;

  // What the programs themselves cost. The kernel counts only while asked to, for all programs of the machine, and
  // asking needs CAP_SYS_ADMIN; once on, it is for the life of this object.
  virtual bool statistics_on(std::string& why_not) = 0;
  virtual std::vector<program_statistics> statistics() const = 0;

  // Lets the next exec keep the descriptors, and returns what WEFT_BPF_FDS must then be.
  virtual std::string hand_over() = 0;

 protected:
  probes() = default;

  std::size_t size_ = 0;
  slot* slots_ = nullptr;
  const bpf::histograms* histograms_ = nullptr;
};

}  // namespace weft::bpf
