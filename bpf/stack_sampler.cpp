// SPDX-License-Identifier: Apache-2.0
#include "bpf/stack_sampler.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "bpf/fds.h"

namespace weft::bpf {
namespace {

// ring_buffer__consume() goes on for as long as there is something, which is for ever if samples come faster than they
// are taken. An error of the callback ends it.
constexpr int kAtOnce = 64;
constexpr int kEnough = -ECANCELED;

fd open_clock(int cpu, int hz) {
  perf_event_attr wanted{};
  wanted.size = sizeof wanted;
  wanted.type = PERF_TYPE_SOFTWARE;
  wanted.config = PERF_COUNT_SW_CPU_CLOCK;
  wanted.freq = 1;
  wanted.sample_freq = static_cast<std::uint64_t>(hz);
  return fd(static_cast<int>(syscall(SYS_perf_event_open, &wanted, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC)));
}

class sampler final : public stack_sampler {
 public:
  bool begin(const options& wanted, std::string& why_not) {
    if (!load_sampler(wanted.wanted == what::on_cpu, wanted.ring_bytes, fds_, why_not)) return false;
    ring_.reset(ring_buffer__new(fds_.samples.get(), pass_on, this, nullptr));
    if (!ring_) {
      why_not = std::string("the samples cannot be mapped: ") + strerror(errno);
      return false;
    }
    if (!mark(wanted.pidfds, why_not)) return false;
    return wanted.wanted == what::on_cpu ? attach_clocks(wanted.hz, why_not) : attach_switches(why_not);
  }

  bool take_some(const std::function<void(const stack_sample&)>& take) override {
    take_ = &take;
    taken_ = 0;
    ring_buffer__consume(ring_.get());
    return taken_ > 0;
  }

  void stop() override {
    clocks_.clear();
    switches_ = fd();
  }

  std::uint64_t lost() const override {
    std::uint64_t count = 0;
    const std::uint32_t zero = 0;
    return bpf_map_lookup_elem(fds_.globals.get(), &zero, &count) == 0 ? count : 0;
  }

 private:
  static int pass_on(void* self, void* data, std::size_t size) {
    auto& to = *static_cast<sampler*>(self);
    const auto& sample = *static_cast<const stack_sample*>(data);
    if (size >= offsetof(stack_sample, stack) + sample.stack_size) (*to.take_)(sample);
    return ++to.taken_ < kAtOnce ? 0 : kEnough;
  }

  bool mark(const std::vector<int>& pidfds, std::string& why_not) {
    std::uint32_t number = 0;
    for (const int process : pidfds) {
      ++number;
      if (process < 0 || bpf_map_update_elem(fds_.targets.get(), &process, &number, BPF_ANY) == 0 || errno == ESRCH)
        continue;  // gone
      why_not = std::string("a process cannot be marked: ") + strerror(errno);
      return false;
    }
    return true;
  }

  bool attach_clocks(int hz, std::string& why_not) {
    const int cpus = libbpf_num_possible_cpus();
    for (int cpu = 0; cpu < cpus; ++cpu) {
      fd clock = open_clock(cpu, hz);
      if (!clock && errno == ENODEV) continue;  // offline
      if (!clock || ioctl(clock.get(), PERF_EVENT_IOC_SET_BPF, fds_.on_cpu.get()) != 0) {
        why_not = std::string("perf events are refused: ") + strerror(errno);
        return false;
      }
      clocks_.push_back(std::move(clock));
    }
    return true;
  }

  // In this order: a thread that leaves its CPU meanwhile is seen by the one or by the other.
  bool attach_switches(std::string& why_not) {
    switches_ = attach(fds_.on_switch, nullptr, why_not);
    if (!switches_) return false;
    if (fds_.already_off) look_at_all();
    return true;
  }

  void look_at_all() const {
    const fd link(bpf_link_create(fds_.already_off.get(), 0, BPF_TRACE_ITER, nullptr));
    const fd walk(link ? bpf_iter_create(link.get()) : -1);
    char nothing[64];
    while (walk && read(walk.get(), nothing, sizeof nothing) > 0) {
    }
  }

  struct free_ring {
    void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
  };

  sampler_fds fds_;
  std::unique_ptr<ring_buffer, free_ring> ring_;
  std::vector<fd> clocks_;
  fd switches_;
  const std::function<void(const stack_sample&)>* take_ = nullptr;
  int taken_ = 0;
};

}  // namespace

std::unique_ptr<stack_sampler> stack_sampler::start(const options& wanted, std::string& why_not) {
  auto started = std::make_unique<sampler>();
  if (!started->begin(wanted, why_not)) return nullptr;
  return started;
}

}  // namespace weft::bpf
