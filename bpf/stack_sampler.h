// SPDX-License-Identifier: Apache-2.0
//
// Copies of the stacks of other processes' threads, as they run or as they leave their CPUs; whoever gets them unwinds
// them. The processes are not stopped, and know nothing of it.
//
// Needs CAP_BPF and CAP_PERFMON, Linux 5.15, and for threads that run perf events.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bpf/stack_sample.h"

namespace weft::bpf {

using stack_sample = weft_sample;

class stack_sampler {
 public:
  enum class what : std::uint8_t {
    on_cpu,   // who runs, so many times a second on each CPU
    off_cpu,  // who leaves a CPU, when, and when it is back
  };
  struct options {
    what wanted = what::on_cpu;
    int hz = 99;
    std::vector<int> pidfds;  // the processes; stack_sample::target is a place here
    std::size_t ring_bytes = std::size_t{32} << 20;
  };

  // Null if it cannot be: why_not is one line.
  static std::unique_ptr<stack_sampler> start(const options& wanted, std::string& why_not);

  virtual ~stack_sampler() = default;
  stack_sampler(const stack_sampler&) = delete;
  stack_sampler& operator=(const stack_sampler&) = delete;

  // Passes on some of the samples that there are, which are gone afterwards; false: there was none. However fast they
  // come, this ends. Of each `stack` only the first stack_size bytes are there.
  virtual bool take_some(const std::function<void(const stack_sample&)>& take) = 0;

  // No samples come from now on. Those that have come can still be taken.
  virtual void stop() = 0;

  // How many samples there was no room for.
  virtual std::uint64_t lost() const = 0;

 protected:
  stack_sampler() = default;
};

}  // namespace weft::bpf
