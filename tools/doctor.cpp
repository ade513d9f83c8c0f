// SPDX-License-Identifier: Apache-2.0
// The checks. What can be tried is tried, since versions and settings do not tell what a container's filter of system
// calls lets through; they are read only to say what was found and what to do.
//
// What changes a thread for good (its CPUs, its scheduling class) is tried on a thread that ends with it.
#include "tools/doctor.h"

#include <linux/io_uring.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "bpf/capabilities.h"
#include "bpf/pmu.h"
#include "bpf/probes.h"
#include "numa/cgroup.h"
#include "numa/topology.h"
#include "tools/sum_line.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102  // Linux 6.13; older headers do not know it
#endif
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441  // the same number everywhere
#endif

namespace weft::tools {

namespace {

constexpr const char* kKernelTypes = "/sys/kernel/btf/vmlinux";
constexpr const char* kSetcap = "setcap cap_bpf,cap_perfmon+ep PROGRAM";
constexpr const char* kFilter = "a filter of system calls refuses it: let the sandbox or container allow {}";
constexpr rlim_t kProbesMemory = 16 << 20;  // what the maps for 1024 threads take, rounded up
constexpr rlim_t kNormalNice = 20;          // RLIMIT_NICE that allows a nice value of 0

// The checks on which the tier depends, by name.
constexpr const char* kEnvironment = "environment";
constexpr const char* kPinning = "pinning";
constexpr const char* kCapabilities = "capabilities";
constexpr const char* kBtf = "BTF";
constexpr const char* kProbes = "probes";
constexpr const char* kSchedIdle = "sched_idle";

// -- Helpers ----------------------------------------------------------------------------------------------------------

std::optional<std::string> first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!file) return std::nullopt;
  std::getline(file, line);
  return line;
}

bool exists(const char* path) { return ::access(path, F_OK) == 0; }

// As the runtime sees them: a variable that is empty is not set.
const char* variable(const char* name) {
  const char* const value = std::getenv(name);
  return value && *value ? value : nullptr;
}

check_state yes_if(bool good) { return good ? check_state::yes : check_state::no; }

// f's answer, from a thread of its own; none where there can be no other thread.
template <class F>
auto on_own_thread(F f) {
  std::optional<decltype(f())> answer;
  try {
    std::thread([&] { answer = f(); }).join();
  } catch (const std::system_error&) {
  }
  return answer;
}

struct kernel_version {
  int major = 0, minor = 0, patch = 0;

  bool is_known() const { return major != 0; }
  bool is_before(int a, int b) const { return std::pair(major, minor) < std::pair(a, b); }

  static kernel_version running() {
    kernel_version v;
    utsname name{};
    if (::uname(&name) == 0) std::sscanf(name.release, "%d.%d.%d", &v.major, &v.minor, &v.patch);
    return v;
  }
};

std::string bytes_text(rlim_t bytes) {
  if (bytes == RLIM_INFINITY) return "unlimited";
  if (bytes < 1 << 20) return fmt::format("{} KiB", bytes >> 10);
  return fmt::format("{} MiB", bytes >> 20);
}

// -- The tier bpf -----------------------------------------------------------------------------------------------------

check examine_kernel() {
  const kernel_version v = kernel_version::running();
  check c{.name = "kernel", .gives = "all that weft is made for: Linux 5.10 or newer"};
  if (!v.is_known()) return c;
  c.state = yes_if(!v.is_before(5, 10));
  c.value = fmt::format("{}.{}.{}", v.major, v.minor, v.patch);
  if (c.state == check_state::no) c.advice = "run a newer kernel; what it cannot do, weft goes on without";
  return c;
}

check examine_btf() {
  check c{.name = kBtf, .gives = "the probes fit themselves to this kernel"};
  const bool readable = ::access(kKernelTypes, R_OK) == 0, sysfs = exists("/sys/kernel");
  if (readable || sysfs) c.state = yes_if(readable);
  if (!sysfs) c.advice = "mount sysfs: it is in /sys that the kernel describes its types";
  if (sysfs && !readable)
    c.advice = fmt::format("run a kernel with CONFIG_DEBUG_INFO_BTF=y, and let {} be read", kKernelTypes);
  return c;
}

check examine_capabilities() {
  check c{.name = kCapabilities, .gives = "loading the probes: CAP_BPF and CAP_PERFMON"};
  c.state = yes_if(bpf::may_load());
  if (c.state == check_state::no)
    c.advice = fmt::format("{}; in a container: --cap-add BPF --cap-add PERFMON", kSetcap);
  return c;
}

// Where it is the privilege that is missing, that has a row of its own.
std::string advice_on_probes(const std::string& why_not) {
  if (why_not.starts_with("built without")) return "install clang, bpftool and libbpf-dev, and build weft again";
  if (!bpf::may_load()) return {};
  if (why_not.find("bpf() refused") != std::string::npos)
    return "let the sandbox, container or security module allow bpf(); see also RLIMIT_MEMLOCK";
  if (::access(kKernelTypes, R_OK) != 0) return {};
  return "report this, with the version of the kernel, as a bug of weft";
}

check examine_probes() {
  const bool handed_over = std::getenv("WEFT_BPF_FDS") && !bpf::may_load();
  check c{.name = kProbes, .gives = "the kernel says which thread has blocked, and why"};
  std::string why_not;
  c.state = yes_if(bpf::probes::load(1, why_not) != nullptr);
  c.value = handed_over ? "by WEFT_BPF_FDS" : "";
  if (c.state == check_state::yes) return c;
  c.value = printable(why_not);
  c.advice = advice_on_probes(why_not);
  return c;
}

check examine_unprivileged_bpf() {
  check c{.name = "unprivileged_bpf", .gives = "kernel.unprivileged_bpf_disabled: any value will do"};
  const std::optional<std::string> disabled = first_line("/proc/sys/kernel/unprivileged_bpf_disabled");
  if (!disabled) return c;
  c.state = check_state::value;
  c.value = *disabled == "0" ? "not disabled (0)" : fmt::format("disabled ({})", *disabled);
  return c;
}

check examine_memlock() {
  check c{.name = "RLIMIT_MEMLOCK", .gives = "memory for the probes, before Linux 5.11 only"};
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return c;
  c.value = bytes_text(limit.rlim_cur);
  const kernel_version v = kernel_version::running();
  const bool matters = v.is_known() && v.is_before(5, 11);
  c.state = matters ? yes_if(limit.rlim_cur >= kProbesMemory) : check_state::value;
  if (c.state == check_state::no) c.advice = "ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit";
  return c;
}

// -- The tier sentinel ------------------------------------------------------------------------------------------------

struct idle_class {
  int entered = EPERM, left = EPERM;  // an errno, 0 for success
};

idle_class try_idle_class() {
  const sched_param none{};
  idle_class tried;
  tried.entered = ::sched_setscheduler(0, SCHED_IDLE, &none) == 0 ? 0 : errno;
  if (tried.entered == 0) tried.left = ::sched_setscheduler(0, SCHED_OTHER, &none) == 0 ? 0 : errno;
  return tried;
}

check sched_idle_check(const std::optional<idle_class>& tried) {
  check c{.name = kSchedIdle, .gives = "a sentinel on each CPU, for when a thread blocks"};
  if (!tried) return c;
  c.state = yes_if(tried->entered == 0);
  if (c.state == check_state::yes) return c;
  c.value = std::strerror(tried->entered);
  c.advice = fmt::format(kFilter, "sched_setscheduler()");
  return c;
}

check nice_check(const std::optional<idle_class>& tried) {
  check c{.name = "RLIMIT_NICE", .gives = "a thread may leave SCHED_IDLE again (not used yet)"};
  rlimit limit{};
  if (!tried || tried->entered != 0 || ::getrlimit(RLIMIT_NICE, &limit) != 0) return c;
  c.state = yes_if(tried->left == 0);
  c.value = limit.rlim_cur == RLIM_INFINITY ? "unlimited" : std::to_string(limit.rlim_cur);
  if (c.state == check_state::yes) return c;
  c.advice = fmt::format("as root: prlimit --nice={0} --pid $$; or LimitNICE={0} in the systemd unit", kNormalNice);
  return c;
}

struct free_cpu_set {
  void operator()(cpu_set_t* set) const { CPU_FREE(set); }
};

// As the runtime does it: to one CPU of those that are allowed.
int try_pinning(int cpu) {
  const auto count = static_cast<std::size_t>(cpu) + 1;
  const std::unique_ptr<cpu_set_t, free_cpu_set> set(CPU_ALLOC(count));
  if (!set) return ENOMEM;
  CPU_ZERO_S(CPU_ALLOC_SIZE(count), set.get());
  CPU_SET_S(static_cast<std::size_t>(cpu), CPU_ALLOC_SIZE(count), set.get());
  return ::sched_setaffinity(0, CPU_ALLOC_SIZE(count), set.get()) == 0 ? 0 : errno;
}

check examine_pinning(const numa::topology* machine) {
  check c{.name = kPinning, .gives = "threads stay on their CPUs, as both tiers need it"};
  if (!machine) return c;
  const std::optional<int> error = on_own_thread([&] { return try_pinning(machine->cpus().front()); });
  if (!error) return c;
  c.state = yes_if(*error == 0);
  if (c.state == check_state::yes) return c;
  c.value = std::strerror(*error);
  c.advice = fmt::format(kFilter, "sched_setaffinity()");
  return c;
}

bool pinning_is_off() {
  const char* const debug = variable("WEFT_DEBUG");
  return debug && fmt::format(",{},", debug).find(",pin=0,") != std::string::npos;
}

// The state is what the environment leaves: all tiers, some, or none.
check examine_environment() {
  check c{
      .name = kEnvironment, .state = check_state::yes, .value = "auto", .gives = "the tiers that are not ruled out"};
  if (const char* const assist = variable("WEFT_KERNEL_ASSIST")) {
    const std::string_view wanted = assist;
    const bool all = wanted == "auto" || wanted == "bpf";
    c.value = printable(fmt::format("WEFT_KERNEL_ASSIST={}", wanted));
    if (wanted == "bpf") c.gives = "only tier bpf: else programs end with status 2";
    c.state = all ? check_state::yes : wanted == "sentinel" ? check_state::partly : check_state::no;
    if (!all) c.advice = "unset WEFT_KERNEL_ASSIST, or make it auto";
    if (c.state == check_state::no && wanted != "off") c.advice += "; as it is, weft programs end with status 2";
  }
  if (c.state != check_state::no && pinning_is_off()) {
    c.state = check_state::no;
    c.value = "WEFT_DEBUG has pin=0";
    c.advice = "take pin=0 out of WEFT_DEBUG";
  }
  return c;
}

// -- Stacks, waiting, counting ----------------------------------------------------------------------------------------

bool try_guard() {
  const auto page = static_cast<std::size_t>(::getpagesize());
  void* const at = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return false;
  const bool installed = ::madvise(at, page, MADV_GUARD_INSTALL) == 0;
  ::munmap(at, page);
  return installed;
}

check examine_guard() {
  check c{.name = "MADV_GUARD", .gives = "guard pages of goroutine stacks without limit"};
  c.state = yes_if(try_guard());
  if (c.state == check_state::no) c.advice = "run Linux 6.13 or newer; until then, vm.max_map_count is the limit";
  return c;
}

// A guard that is not MADV_GUARD's takes two mappings.
check examine_max_map_count() {
  check c{.name = "vm.max_map_count", .gives = "two mappings for each goroutine's guard page"};
  const std::optional<std::string> count = first_line("/proc/sys/vm/max_map_count");
  if (!count) return c;
  c.state = check_state::value;
  c.value = *count;
  c.advice = "for more than half as many goroutines at a time: sysctl -w vm.max_map_count=1048576";
  return c;
}

// An invalid descriptor: where the call exists, that is what it complains of.
check examine_epoll_pwait2() {
  check c{.name = "epoll_pwait2", .gives = "waits for I/O to the nanosecond (not used yet)"};
  epoll_event event{};
  const timespec at_once{};
  const bool there = ::syscall(SYS_epoll_pwait2, -1, &event, 1, &at_once, nullptr, 0) >= 0 || errno == EBADF;
  c.state = yes_if(there);
  if (there) return c;
  c.value = std::strerror(errno);
  c.advice = kernel_version::running().is_before(5, 11) ? "run Linux 5.11 or newer" : fmt::format(kFilter, "it");
  return c;
}

int try_io_uring() {
  io_uring_params parameters{};
  const long fd = ::syscall(SYS_io_uring_setup, 1, &parameters);
  if (fd < 0) return errno;
  ::close(static_cast<int>(fd));
  return 0;
}

check examine_io_uring() {
  check c{.name = "io_uring", .gives = "file I/O without threads that block (not used yet)"};
  const int error = try_io_uring();
  c.state = yes_if(error == 0);
  if (error == 0) return c;
  c.value = std::strerror(error);
  const std::string disabled = first_line("/proc/sys/kernel/io_uring_disabled").value_or("0");
  c.advice = disabled == "0" ? fmt::format(kFilter, "io_uring_setup()")
                             : fmt::format("sysctl -w kernel.io_uring_disabled=0 (it is {})", disabled);
  return c;
}

std::string advice_on_refused_counter() {
  const std::optional<std::string> paranoid = first_line("/proc/sys/kernel/perf_event_paranoid");
  if (!paranoid || std::atoi(paranoid->c_str()) <= 2) return fmt::format(kFilter, "perf_event_open()");
  return fmt::format("sysctl -w kernel.perf_event_paranoid=2 (it is {})", *paranoid);
}

check examine_pmu() {
  check c{.name = "PMU", .gives = "counts of TLB misses, with the kernel's costs"};
  const int error = bpf::try_event(bpf::tlb_misses().front());
  c.state = yes_if(error == 0);
  if (error == 0) return c;
  const bool refused = error == EACCES || error == EPERM;
  c.value = refused ? std::strerror(error) : "no such counter";
  c.advice = refused ? advice_on_refused_counter() : "in a virtual machine, have the host pass the PMU through";
  return c;
}

// -- CPUs -------------------------------------------------------------------------------------------------------------

std::optional<numa::topology> discover() {
  try {
    return numa::topology::discover();
  } catch (const std::system_error&) {
    return std::nullopt;
  }
}

check examine_numa(const numa::topology* machine) {
  check c{.name = "NUMA", .gives = "goroutines are stolen and woken within a node first"};
  if (!machine || !exists("/sys/devices/system")) return c;
  const auto n = std::count_if(machine->nodes().begin(), machine->nodes().end(),
                               [](const numa::node& node) { return !node.cpus.empty(); });
  c.state = check_state::value;
  c.value = n <= 1 ? "1 node with CPUs" : fmt::format("{} nodes with CPUs", n);
  return c;
}

check examine_quota(const numa::topology* machine) {
  check c{.name = "cgroup CPU quota"};
  const std::size_t cpus = machine ? machine->cpus().size() : 0;
  const int ps = machine ? numa::default_gomaxprocs(*machine) : 1;
  c.gives = fmt::format("GOMAXPROCS is {} by default, of {} allowed CPU{}", ps, cpus, cpus == 1 ? "" : "s");
  if (!machine || !first_line("/proc/self/cgroup")) return c;
  const double quota = numa::cpu_quota();
  c.state = check_state::value;
  c.value = std::isinf(quota) ? "none" : fmt::format("{:.3g} CPUs", quota);
  return c;
}

std::vector<int> allowed_of(std::vector<int> listed, const numa::topology& machine) {
  std::erase_if(listed, [&](int cpu) { return std::ranges::find(machine.cpus(), cpu) == machine.cpus().end(); });
  return listed;
}

check examine_nohz_full(const numa::topology* machine) {
  check c{.name = "nohz_full CPUs", .gives = "an armed sentinel ends tickless operation on its CPU"};
  if (!machine || !exists("/sys/devices/system/cpu")) return c;
  c.state = check_state::value;
  c.value = "none";
  const std::string list = first_line("/sys/devices/system/cpu/nohz_full").value_or("");
  if (allowed_of(numa::parse_cpu_list(list), *machine).empty()) return c;
  c.state = check_state::partly;
  c.value = list;
  c.advice = "keep these CPUs out of the program's (taskset), or WEFT_KERNEL_ASSIST=off";
  return c;
}

// -- The tier ---------------------------------------------------------------------------------------------------------

const check* find(const std::vector<check>& checks, std::string_view name) {
  const auto found = std::ranges::find(checks, name, &check::name);
  return found == checks.end() ? nullptr : &*found;
}

check_state state_of(const std::vector<check>& checks, std::string_view name) {
  const check* const found = find(checks, name);
  return found ? found->state : check_state::no;
}

}  // namespace

std::vector<check> examine() {
  const std::optional<numa::topology> found = discover();
  const numa::topology* const machine = found ? &*found : nullptr;
  const std::optional<idle_class> idle = on_own_thread(try_idle_class);
  std::vector<check> checks = {
      examine_environment(),  examine_kernel(),           examine_btf(),     examine_capabilities(),
      examine_probes(),       examine_unprivileged_bpf(), examine_memlock(), examine_pinning(machine),
      sched_idle_check(idle), nice_check(idle),           examine_pmu(),     examine_guard()};
  if (checks.back().state == check_state::no) checks.push_back(examine_max_map_count());
  std::ranges::move(std::vector<check>{examine_epoll_pwait2(), examine_io_uring(), examine_numa(machine),
                                       examine_quota(machine), examine_nohz_full(machine)},
                    std::back_inserter(checks));
  return checks;
}

// The runtime asks for pinned threads first, whatever the tier.
tier tier_of(const std::vector<check>& checks) {
  const auto has = [&](const char* name) { return state_of(checks, name) == check_state::yes; };
  const check_state environment = state_of(checks, kEnvironment);
  if (!has(kPinning) || environment == check_state::no) return tier::off;
  if (has(kProbes) && environment == check_state::yes) return tier::bpf;
  return has(kSchedIdle) ? tier::sentinel : tier::off;
}

std::string advice_for_better_tier(const std::vector<check>& checks) {
  if (tier_of(checks) == tier::bpf) return {};
  const bool for_off = tier_of(checks) == tier::off;
  for (const char* name : {kEnvironment, kPinning, kSchedIdle, kCapabilities, kBtf, kProbes}) {
    if (name == kSchedIdle && !for_off) continue;
    const check* const c = find(checks, name);
    if (c && !c->advice.empty()) return c->advice;
  }
  return {};
}

std::string_view name_of(tier which) {
  switch (which) {
    case tier::off: return "off";
    case tier::sentinel: return "sentinel";
    case tier::bpf: return "bpf";
  }
  return "";
}

std::string_view state_text(const check& c) {
  switch (c.state) {
    case check_state::yes: return "yes";
    case check_state::partly: return "partly";
    case check_state::no: return "no";
    case check_state::unknown: return "not known";
    case check_state::value: return c.value;
  }
  return "";
}

}  // namespace weft::tools
