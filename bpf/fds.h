// SPDX-License-Identifier: Apache-2.0
//
// What a set of probes is to the kernel: file descriptors. However a process came by them, loaded or inherited, the
// rest is the same: map the maps, run the registration program, keep the link open for as long as the probes are to
// run.
#pragma once

#include <unistd.h>
#include <array>
#include <cstddef>
#include <string>
#include <utility>

#include "bpf/probes.h"

namespace weft::bpf {

class fd {
 public:
  fd() = default;
  explicit fd(int number) : number_(number) {}
  fd(fd&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  fd& operator=(fd&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~fd() {
    if (number_ >= 0) close(number_);
  }

  int get() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

 private:
  int number_ = -1;
};

struct probe_fds {
  fd slots, histograms, control;  // BPF_F_MMAPABLE maps
  fd threads;                     // thread_of_task or thread_of_tid
  fd registration, on_switch;     // programs
  fd link;                        // closing the last copy detaches the program
};

constexpr std::size_t kCostPrograms = 5;
constexpr std::array<const char*, kCostPrograms> kCostHooks{"sched_switch", "sched_exit_tp", "sched_waking",
                                                            "tlb_flush", "page_fault_user"};
constexpr std::size_t kSwitchEndHook = 1;  // by position in kCostHooks

struct cost_fds {
  fd cpu_costs, faults;                    // BPF_F_MMAPABLE maps
  std::array<fd, kCostPrograms> programs;  // none where this kernel has no such tracepoint
};

struct sampler_fds {
  fd targets, samples;                // maps
  fd globals;                         // the map of the programs' variables: the count of lost samples
  fd on_cpu, on_switch, already_off;  // programs; of the two kinds only the one that was asked for
};

// All or nothing: on failure `why_not` is one line, and nothing is left loaded.
bool load_probes(std::size_t slots, variant wanted, probe_fds& loaded, std::string& why_not);
bool load_cost(const probe_fds& probes, std::size_t slots, bool tid_hash, cost_fds& loaded, std::string& why_not);

bool load_sampler(bool on_cpu, std::size_t ring_bytes, sampler_fds& loaded, std::string& why_not);

// Attaches to the tracepoint; a typed program (tp_btf) knows its own, and `tracepoint` is null.
fd attach(const fd& program, const char* tracepoint, std::string& why_not);

// "bpf() refused: …", for an errno of bpf(2).
std::string refusal(int error);

}  // namespace weft::bpf
