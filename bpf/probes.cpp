// SPDX-License-Identifier: Apache-2.0
//
// Registration. A thread registers itself, so that nobody has to know its number in any namespace:
//  - it runs the registration program by BPF_PROG_TEST_RUN, whose `current` is the caller. From 5.19 on a descriptor is
//    all that this takes; kernels before refuse every bpf(2) to who has no capability
//    (kernel.unprivileged_bpf_disabled);
//  - there, it puts a secret into the control page and sleeps for a moment with the secret and its slot as arguments
//    that nanosleep(2) does not have; the program at sched_switch finds them in its registers. Only who maps the
//    control page knows the secret, and one thread of the process asks at a time.
#include "bpf/probes.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <optional>

#include "bpf/fds.h"
#include "bpf/inherited.h"

namespace weft::bpf {
namespace {

constexpr int kRequestTries = 20;  // naps: one that ends before the thread has switched out is not seen
constexpr long kShortestNap = 1'000, kLongestNap = 1'000'000;  // ns
constexpr int kTestRunTries = 3;  // storage is allocated atomically, which may fail for a moment
constexpr int kAliveTries = 20;
constexpr int kSightTries = 5;
constexpr std::uint64_t kResultMask = 0xff;

// A map that the probes and we write.
template <class T>
class shared_array {
 public:
  shared_array() = default;
  shared_array(const fd& map, std::size_t count) : bytes_(round_up(count * sizeof(T))) {
    void* const at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, map.get(), 0);
    if (at != MAP_FAILED) data_ = static_cast<T*>(at);
  }
  shared_array(shared_array&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  shared_array& operator=(shared_array&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~shared_array() {
    if (data_) munmap(data_, bytes_);
  }

  T* get() const { return data_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  static std::size_t round_up(std::size_t bytes) {
    const auto page = static_cast<std::size_t>(getpagesize());
    return (bytes + page - 1) / page * page;
  }

  T* data_ = nullptr;
  std::size_t bytes_ = 0;
};

void nap() {
  const timespec moment{.tv_sec = 0, .tv_nsec = kShortestNap};
  syscall(SYS_nanosleep, &moment, nullptr);
}

void nap_with(long ns, std::uint64_t secret, std::uint32_t slot_number) {
  const timespec moment{.tv_sec = 0, .tv_nsec = ns};
  syscall(SYS_nanosleep, &moment, nullptr, secret, std::uint64_t{slot_number});
}

std::uint64_t make_secret() {
  std::uint64_t secret = 0;
  while ((secret & ~kResultMask) == 0)
    if (getrandom(&secret, sizeof secret, 0) != sizeof secret) secret = static_cast<std::uint64_t>(clock()) << 8;
  return secret & ~kResultMask;
}

std::string name_of(std::size_t cost_program) { return std::string("cost ") + kCostHooks[cost_program]; }

class loaded_probes final : public probes {
 public:
  bool open(std::size_t slots, variant wanted, std::string& why_not);

  bool register_current_thread(std::size_t i, std::string& why_not) override;
  bool unregister_current_thread(std::string& why_not) override {
    return run_registration(WEFT_BPF_UNREGISTER, why_not);
  }
  bool alive(std::size_t i) override;
  bool prepare_cost(std::string& why_not) override;
  bool cost_on(std::string& why_not) override;
  void cost_off() override;
  cost_counters cost_of(std::size_t cpu) const override;
  cost_counters cost() const override;
  bpf::faults faults_of(std::size_t i) const override;
  bool statistics_on(std::string& why_not) override;
  std::vector<program_statistics> statistics() const override;
  std::string hand_over() override { return pass_on(fds_, cost_fds_); }

 private:
  bool map(std::string& why_not);
  bool map_cost(std::string& why_not);
  bool sees_this_thread(std::string& why_not);
  bool run_registration(std::uint32_t slot_number, std::string& why_not);
  std::optional<weft_bpf_result> test_run(std::uint32_t slot_number);
  std::optional<weft_bpf_result> request(std::uint32_t slot_number);

  probe_fds fds_;
  cost_fds cost_fds_;
  std::array<fd, kCostPrograms> cost_links_;
  fd statistics_;
  std::size_t cpus_ = 0;
  shared_array<slot> slot_map_;
  shared_array<bpf::histograms> histogram_map_;
  shared_array<weft_bpf_control> control_;
  shared_array<weft_bpf_cpu_cost> cpu_costs_;
  shared_array<bpf::faults> faults_;
  mutable std::mutex mutex_;  // of requests, and of switching the cost programs
};

// -- Opening ----------------------------------------------------------------------------------------------------------

bool loaded_probes::map(std::string& why_not) {
  control_ = {fds_.control, 1};
  const weft_bpf_control* const control = control_.get();
  if (!control || control->magic != WEFT_BPF_MAGIC || control->version != WEFT_BPF_VERSION) {
    why_not = control ? "the probes are not those of this version of weft" : std::string("mmap: ") + strerror(errno);
    return false;
  }
  size_ = control->slots;
  slot_map_ = {fds_.slots, size_};
  histogram_map_ = {fds_.histograms, size_};
  if (!slot_map_ || !histogram_map_) {
    why_not = std::string("mmap: ") + strerror(errno);
    return false;
  }
  slots_ = slot_map_.get();
  histograms_ = histogram_map_.get();
  return !cost_fds_.cpu_costs || map_cost(why_not);
}

bool loaded_probes::map_cost(std::string& why_not) {
  cpus_ = static_cast<std::size_t>(sysconf(_SC_NPROCESSORS_CONF));
  cpu_costs_ = {cost_fds_.cpu_costs, cpus_};
  faults_ = {cost_fds_.faults, size_};
  if (cpu_costs_ && faults_) return true;
  why_not = std::string("mmap: ") + strerror(errno);
  return false;
}

// The proof that the programs understand this kernel: they see a thread block, in the call that it made, and come back.
// Not every kernel reports every switch, so it need not be the first time.
bool loaded_probes::sees_this_thread(std::string& why_not) {
  if (!register_current_thread(0, why_not)) return false;
  slot& mine = at(0);
  announce(mine, doing::user_code);
  bool understood = false;
  for (int tries = 0; tries < kSightTries && !understood; ++tries) {
    const bool slept = alive(0);
    const snapshot seen = read_slot(mine);
    understood = slept && seen.blocks != 0 && seen.event.state() == state::running &&
                 seen.event.reason() == reason::syscall && seen.event.syscall() == SYS_nanosleep;
  }
  std::string ignored;
  unregister_current_thread(ignored);
  std::memset(&mine, 0, sizeof mine);
  std::memset(histogram_map_.get(), 0, sizeof(bpf::histograms));
  if (!understood)
    why_not = "the probes are attached, but see nothing of a thread that sleeps: this kernel's sched_switch is unknown";
  return understood;
}

bool loaded_probes::open(std::size_t slots, variant wanted, std::string& why_not) {
  std::string why_not_inherited;
  if (take_inherited(fds_, cost_fds_, why_not_inherited)) return map(why_not) && sees_this_thread(why_not);
  if (load_probes(slots, wanted, fds_, why_not) && map(why_not) && sees_this_thread(why_not)) return true;
  if (!why_not_inherited.empty()) why_not = why_not_inherited + "; " + why_not;
  return false;
}

// -- Registration -----------------------------------------------------------------------------------------------------

std::optional<weft_bpf_result> loaded_probes::test_run(std::uint32_t slot_number) {
  std::uint64_t context = slot_number;
  bpf_test_run_opts options{};
  options.sz = sizeof options;
  options.ctx_in = &context;
  options.ctx_size_in = sizeof context;
  if (bpf_prog_test_run_opts(fds_.registration.get(), &options) != 0) return std::nullopt;
  return static_cast<weft_bpf_result>(options.retval);
}

std::optional<weft_bpf_result> loaded_probes::request(std::uint32_t slot_number) {
  weft_bpf_control& control = *control_.get();
  const std::uint64_t secret = make_secret();
  const auto answer = [&] { return __atomic_load_n(&control.answer, __ATOMIC_ACQUIRE); };
  const std::lock_guard lock(mutex_);
  __atomic_store_n(&control.request, secret, __ATOMIC_SEQ_CST);
  long ns = kShortestNap;
  for (int tries = 0; tries < kRequestTries && (answer() & ~kResultMask) != secret; ++tries) {
    nap_with(ns, secret, slot_number);
    ns = std::min(2 * ns, kLongestNap);
  }
  __atomic_store_n(&control.request, 0, __ATOMIC_SEQ_CST);
  if ((answer() & ~kResultMask) != secret) return std::nullopt;
  return static_cast<weft_bpf_result>(answer() & kResultMask);
}

bool loaded_probes::run_registration(std::uint32_t slot_number, std::string& why_not) {
  std::optional<weft_bpf_result> result = test_run(slot_number);
  for (int tries = 1; tries < kTestRunTries && result == WEFT_BPF_NO_MEMORY; ++tries) result = test_run(slot_number);
  if (!result) {
    why_not = refusal(errno);
    if (control_.get()->tid_hash) result = request(slot_number);
  }
  if (!result) return false;
  switch (*result) {
    case WEFT_BPF_OK: return true;
    case WEFT_BPF_NO_SUCH_SLOT: why_not = "the state page has " + std::to_string(size_) + " slots"; break;
    case WEFT_BPF_NO_MEMORY: why_not = "no room for another registered thread"; break;
    case WEFT_BPF_NOT_REGISTERED: why_not = "this thread is not registered"; break;
  }
  return false;
}

bool loaded_probes::register_current_thread(std::size_t i, std::string& why_not) {
  const std::size_t none = WEFT_BPF_UNREGISTER;
  return run_registration(static_cast<std::uint32_t>(std::min(i, none - 1)), why_not);
}

bool loaded_probes::alive(std::size_t i) {
  const auto sleeps = [&] { return __atomic_load_n(&at(i).wakeups, __ATOMIC_RELAXED); };
  const std::uint32_t before = sleeps();
  for (int tries = 0; tries < kAliveTries && sleeps() == before; ++tries) nap();
  return sleeps() != before;
}

// -- Costs ------------------------------------------------------------------------------------------------------------

bool loaded_probes::prepare_cost(std::string& why_not) {
  const std::lock_guard lock(mutex_);
  if (cost_fds_.cpu_costs) return true;
  return load_cost(fds_, size_, control_.get()->tid_hash, cost_fds_, why_not) && map_cost(why_not);
}

bool loaded_probes::cost_on(std::string& why_not) {
  if (!prepare_cost(why_not)) return false;
  const std::lock_guard lock(mutex_);
  std::array<fd, kCostPrograms> links;
  for (std::size_t i = 0; i < kCostPrograms; ++i) {
    if (!cost_fds_.programs[i]) continue;
    links[i] = attach(cost_fds_.programs[i], nullptr, why_not);
    if (!links[i]) return false;
  }
  cost_links_ = std::move(links);
  return true;
}

void loaded_probes::cost_off() {
  const std::lock_guard lock(mutex_);
  for (fd& link : cost_links_) link = fd();
}

cost_counters loaded_probes::cost_of(std::size_t cpu) const {
  const std::lock_guard lock(mutex_);
  cost_counters one{};
  if (cpu_costs_ && cpu < cpus_) static_cast<weft_bpf_cpu_cost&>(one) = cpu_costs_.get()[cpu];
  one.switches_timed = static_cast<bool>(cost_fds_.programs[kSwitchEndHook]);
  return one;
}

cost_counters loaded_probes::cost() const {
  const auto add = [](weft_bpf_sum& total, const weft_bpf_sum& one) {
    total.count += one.count;
    total.timed += one.timed;
    total.ns += one.ns;
  };
  cost_counters total = cost_of(0);
  for (std::size_t cpu = 1; cpu < cpus_; ++cpu) {
    const cost_counters one = cost_of(cpu);
    for (std::size_t i = 0; i < WEFT_BPF_SWITCH_KINDS; ++i) add(total.switches[i], one.switches[i]);
    for (std::size_t i = 0; i < WEFT_BPF_WAKE_KINDS; ++i) add(total.wakes[i], one.wakes[i]);
    for (std::size_t i = 0; i < WEFT_BPF_FLUSH_REASONS; ++i) total.tlb_flushes[i] += one.tlb_flushes[i];
  }
  return total;
}

bpf::faults loaded_probes::faults_of(std::size_t i) const {
  const std::lock_guard lock(mutex_);
  return faults_ ? faults_.get()[i] : bpf::faults{};
}

// -- What the probes cost ---------------------------------------------------------------------------------------------

bool loaded_probes::statistics_on(std::string& why_not) {
  if (statistics_) return true;
  statistics_ = fd(bpf_enable_stats(BPF_STATS_RUN_TIME));
  if (!statistics_) why_not = std::string("bpf() refused: ") + strerror(errno) + " (needs CAP_SYS_ADMIN)";
  return static_cast<bool>(statistics_);
}

std::vector<program_statistics> loaded_probes::statistics() const {
  std::vector<program_statistics> all;
  const auto read = [&](const fd& program, std::string name) {
    bpf_prog_info info{};
    std::uint32_t size = sizeof info;
    if (program && bpf_obj_get_info_by_fd(program.get(), &info, &size) == 0)
      all.push_back({std::move(name), info.run_cnt, info.run_time_ns});
  };
  read(fds_.on_switch, "sched_switch");
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < kCostPrograms; ++i) read(cost_fds_.programs[i], name_of(i));
  return all;
}

}  // namespace

std::unique_ptr<probes> probes::load(std::size_t slots, std::string& why_not, variant wanted) {
  auto loaded = std::make_unique<loaded_probes>();
  if (!loaded->open(std::max<std::size_t>(slots, 1), wanted, why_not)) return nullptr;
  return loaded;
}

}  // namespace weft::bpf
