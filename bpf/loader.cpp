// SPDX-License-Identifier: Apache-2.0
//
// From the skeletons to descriptors. libbpf's objects live only as long as it takes to load them: its copy of the
// kernel's types is megabytes.
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "bpf/capabilities.h"
#include "bpf/fds.h"
#include "bpf/slot.h"
#include "bpf/stack_sample.h"
// The skeletons name types of these headers.
#include "bpf/cost.skel.h"
#include "bpf/slots.skel.h"
#include "bpf/stack_sampler.skel.h"

namespace weft::bpf {
namespace {

constexpr const char* kKernelTypes = "/sys/kernel/btf/vmlinux";

// -- libbpf's messages ------------------------------------------------------------------------------------------------

std::mutex printing;
std::string printed;

int collect(libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN) return 0;
  va_list again;
  va_copy(again, arguments);
  const int n = vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (n <= 0) return 0;
  const std::size_t before = printed.size();
  printed.resize(before + static_cast<std::size_t>(n) + 1);
  vsnprintf(printed.data() + before, static_cast<std::size_t>(n) + 1, format, arguments);
  printed.pop_back();
  return n;
}

// While one lives, libbpf's messages are collected instead of printed; one at a time.
class messages {
 public:
  messages() : lock_(printing), before_(libbpf_set_print(collect)) { printed.clear(); }
  ~messages() { libbpf_set_print(before_); }
  messages(const messages&) = delete;
  messages& operator=(const messages&) = delete;

  // The verifier's verdict, which is the last line of its log but one, or else the first line that there is.
  static std::string first_useful_line() {
    std::istringstream lines(printed);
    std::string first, before;
    for (std::string line; std::getline(lines, line); before = line) {
      if (line.starts_with("processed ")) return before;
      if (first.empty()) first = line;
    }
    constexpr std::string_view kPrefix = "libbpf: ";
    return first.starts_with(kPrefix) ? first.substr(kPrefix.size()) : first;
  }

 private:
  std::lock_guard<std::mutex> lock_;
  libbpf_print_fn_t before_;
};

struct destroy {
  void operator()(slots_bpf* skeleton) const { slots_bpf__destroy(skeleton); }
  void operator()(cost_bpf* skeleton) const { cost_bpf__destroy(skeleton); }
  void operator()(stack_sampler_bpf* skeleton) const { stack_sampler_bpf__destroy(skeleton); }
};
using slots_object = std::unique_ptr<slots_bpf, destroy>;
using cost_object = std::unique_ptr<cost_bpf, destroy>;
using sampler_object = std::unique_ptr<stack_sampler_bpf, destroy>;

fd copy_of(int number) { return fd(fcntl(number, F_DUPFD_CLOEXEC, 3)); }
fd copy_of(const bpf_map* map) { return copy_of(bpf_map__fd(map)); }
fd copy_of(const bpf_program* program) { return copy_of(bpf_program__fd(program)); }

// -- What this kernel is ----------------------------------------------------------------------------------------------

struct kernel_version {
  int major = 0, minor = 0;

  bool before(int a, int b) const { return major < a || (major == a && minor < b); }
  static kernel_version running() {
    kernel_version v;
    utsname name{};
    if (uname(&name) == 0) std::sscanf(name.release, "%d.%d", &v.major, &v.minor);
    return v;
  }
};

// THREAD_SIZE where bpf_task_pt_regs() is not to be had.
std::uint32_t kernel_stack_size() {
  constexpr std::uint32_t kLeast = 16384;
#ifdef __aarch64__
  return std::max(kLeast, static_cast<std::uint32_t>(getpagesize()));
#else
  return kLeast;
#endif
}

// Before 5.11 maps and programs count as locked memory of the user, those of processes that have just ended too. libbpf
// does the same, but not soon enough for us.
void raise_memlock_limit() {
  rlimit limit;
  if (!kernel_version::running().before(5, 11) || getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return;
  const rlimit none{RLIM_INFINITY, RLIM_INFINITY};
  if (setrlimit(RLIMIT_MEMLOCK, &none) == 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_MEMLOCK, &limit);
}

// bpf(2) itself, without libbpf's explanations: may a map be made?
int bpf_refused() {
  bpf_attr attributes{};
  attributes.map_type = BPF_MAP_TYPE_ARRAY;
  attributes.key_size = attributes.value_size = sizeof(std::uint32_t);
  attributes.max_entries = 1;
  const fd map(static_cast<int>(syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes)));
  return map ? 0 : errno;
}

// -- The always-on programs -------------------------------------------------------------------------------------------

struct recipe {
  const char* program;
  const char* tracepoint;  // null: the program knows it
  bool has_prev_state, tid_hash;
};

constexpr recipe kTyped{"switch_btf", nullptr, true, false};
constexpr recipe kTypedByTid{"switch_btf", nullptr, false, true};
constexpr recipe kRaw{"switch_raw", "sched_switch", false, true};

// Kernels before 5.19 may have task storage, but only a tid hash can be written from sched_switch, which registration
// without capabilities takes there.
std::vector<recipe> recipes_for(variant wanted, kernel_version kernel) {
  switch (wanted) {
    case variant::typed: return {kTyped};
    case variant::typed_by_tid: return {kTypedByTid};
    case variant::raw: return {kRaw};
    case variant::best: break;
  }
  if (kernel.before(5, 19)) return {kTypedByTid, kRaw};
  return {kTyped, kTypedByTid, kRaw};
}

slots_object open_slots(const recipe& v, std::size_t slots, kernel_version kernel) {
  slots_object skeleton(slots_bpf__open());
  if (!skeleton) return nullptr;
  const auto entries = static_cast<std::uint32_t>(slots);
  skeleton->rodata->tid_hash = v.tid_hash;
  skeleton->rodata->has_prev_state = v.has_prev_state;
  skeleton->rodata->has_task_pt_regs = !kernel.before(5, 15);
  skeleton->rodata->stack_size = kernel_stack_size();
  skeleton->rodata->slot_count = entries;
  skeleton->bss->control.magic = WEFT_BPF_MAGIC;
  skeleton->bss->control.version = WEFT_BPF_VERSION;
  skeleton->bss->control.slots = entries;
  skeleton->bss->control.tid_hash = v.tid_hash;
  bpf_map__set_max_entries(skeleton->maps.slots, entries);
  bpf_map__set_max_entries(skeleton->maps.histograms, entries);
  if (v.tid_hash) bpf_map__set_max_entries(skeleton->maps.thread_of_tid, entries);
  bpf_map__set_autocreate(skeleton->maps.thread_of_task, !v.tid_hash);
  bpf_map__set_autocreate(skeleton->maps.thread_of_tid, v.tid_hash);
  bpf_program__set_autoload(bpf_object__find_program_by_name(skeleton->obj, v.program), true);
  return skeleton;
}

probe_fds fds_of(const slots_bpf& skeleton, const recipe& v) {
  probe_fds fds;
  fds.slots = copy_of(skeleton.maps.slots);
  fds.histograms = copy_of(skeleton.maps.histograms);
  fds.control = copy_of(skeleton.maps.bss);
  fds.threads = copy_of(v.tid_hash ? skeleton.maps.thread_of_tid : skeleton.maps.thread_of_task);
  fds.registration = copy_of(skeleton.progs.register_thread);
  fds.on_switch = copy_of(bpf_object__find_program_by_name(skeleton.obj, v.program));
  return fds;
}

std::string why_load_failed(int error) {
  if (error == EPERM) return refusal(error);
  if (access(kKernelTypes, R_OK) != 0)
    return std::string("this kernel does not describe its types (") + kKernelTypes + ": " + strerror(errno) + ")";
  const std::string said = messages::first_useful_line();
  return "the probes do not load: " + (said.empty() ? std::string(strerror(error)) : said);
}

}  // namespace

std::string refusal(int error) {
  std::string text = std::string("bpf() refused: ") + strerror(error);
  if (error != EPERM && error != EACCES && error != ENOSYS) return text;
  return text + (may_load()
                     ? " (the capabilities are there: RLIMIT_MEMLOCK, a filter of system calls, a security module?)"
                     : " (needs CAP_BPF and CAP_PERFMON)");
}

fd attach(const fd& program, const char* tracepoint, std::string& why_not) {
  fd link(bpf_raw_tracepoint_open(tracepoint, program.get()));
  if (!link) why_not = refusal(errno);
  return link;
}

bool load_probes(std::size_t slots, variant wanted, probe_fds& loaded, std::string& why_not) {
  raise_memlock_limit();
  if (const int error = bpf_refused()) {
    why_not = refusal(error);
    return false;
  }
  const messages collected;
  const kernel_version kernel = kernel_version::running();
  std::string first_reason;
  for (const recipe& v : recipes_for(wanted, kernel)) {
    printed.clear();
    const slots_object skeleton = open_slots(v, slots, kernel);
    const int error = skeleton ? -slots_bpf__load(skeleton.get()) : errno;
    if (error == 0) {
      loaded = fds_of(*skeleton, v);
      loaded.link = attach(loaded.on_switch, v.tracepoint, why_not);
      return static_cast<bool>(loaded.link);
    }
    if (first_reason.empty()) first_reason = why_load_failed(error);
    if (error == EPERM) break;
  }
  why_not = first_reason;
  return false;
}

// -- The cost programs ------------------------------------------------------------------------------------------------

bool load_cost(const probe_fds& probes, std::size_t slots, bool tid_hash, cost_fds& loaded, std::string& why_not) {
  if (const int error = bpf_refused()) {
    why_not = refusal(error);
    return false;
  }
  const messages collected;
  const std::unique_ptr<btf, decltype(&btf__free)> kernel_types(btf__load_vmlinux_btf(), btf__free);
  const cost_object skeleton(cost_bpf__open());
  if (!kernel_types || !skeleton) {
    why_not = why_load_failed(errno);
    return false;
  }
  bpf_program* const programs[kCostPrograms] = {skeleton->progs.on_switch, skeleton->progs.on_switched,
                                                skeleton->progs.on_waking, skeleton->progs.on_tlb_flush,
                                                skeleton->progs.on_page_fault};
  for (std::size_t i = 0; i < kCostPrograms; ++i) {
    const std::string type = std::string("btf_trace_") + kCostHooks[i];
    bpf_program__set_autoload(programs[i],
                              btf__find_by_name_kind(kernel_types.get(), type.c_str(), BTF_KIND_TYPEDEF) > 0);
  }
  if (!bpf_program__autoload(programs[0])) {
    why_not = std::string("this kernel does not describe its tracepoints (") + kKernelTypes + ")";
    return false;
  }
  skeleton->rodata->tid_hash = tid_hash;
  bpf_map* const threads = tid_hash ? skeleton->maps.thread_of_tid : skeleton->maps.thread_of_task;
  bpf_map__set_autocreate(tid_hash ? skeleton->maps.thread_of_task : skeleton->maps.thread_of_tid, false);
  bpf_map__set_max_entries(skeleton->maps.cpu_costs, static_cast<std::uint32_t>(libbpf_num_possible_cpus()));
  bpf_map__set_max_entries(skeleton->maps.faults, static_cast<std::uint32_t>(slots));
  int error = bpf_map__reuse_fd(threads, probes.threads.get());
  if (!error) error = bpf_map__reuse_fd(skeleton->maps.bss, probes.control.get());
  if (!error) error = cost_bpf__load(skeleton.get());
  if (error) {
    why_not = why_load_failed(-error);
    return false;
  }
  loaded.cpu_costs = copy_of(skeleton->maps.cpu_costs);
  loaded.faults = copy_of(skeleton->maps.faults);
  for (std::size_t i = 0; i < kCostPrograms; ++i)
    if (bpf_program__autoload(programs[i])) loaded.programs[i] = copy_of(programs[i]);
  return true;
}

// -- The profiler's programs ------------------------------------------------------------------------------------------

namespace {

// Of the programs for threads off their CPUs, the iterator can be done without: it needs 5.18.
struct sampler_recipe {
  bool has_prev_state, has_iterator;
};

std::vector<sampler_recipe> sampler_recipes(bool on_cpu) {
  if (on_cpu) return {{false, false}};
  return {{true, true}, {true, false}, {false, false}};
}

sampler_object open_sampler(bool on_cpu, std::size_t ring_bytes, sampler_recipe v) {
  sampler_object skeleton(stack_sampler_bpf__open());
  if (!skeleton) return nullptr;
  skeleton->rodata->has_prev_state = v.has_prev_state;
  bpf_map__set_max_entries(skeleton->maps.samples, static_cast<std::uint32_t>(ring_bytes));
  bpf_program__set_autoload(skeleton->progs.on_cpu, on_cpu);
  bpf_program__set_autoload(skeleton->progs.on_switch, !on_cpu);
  bpf_program__set_autoload(skeleton->progs.already_off, v.has_iterator);
  return skeleton;
}

}  // namespace

bool load_sampler(bool on_cpu, std::size_t ring_bytes, sampler_fds& loaded, std::string& why_not) {
  raise_memlock_limit();
  if (const int error = bpf_refused()) {
    why_not = refusal(error);
    return false;
  }
  if (kernel_version::running().before(5, 15)) {
    why_not = "stacks are sampled from Linux 5.15 on";
    return false;
  }
  const messages collected;
  why_not.clear();
  for (const sampler_recipe v : sampler_recipes(on_cpu)) {
    printed.clear();
    const sampler_object skeleton = open_sampler(on_cpu, ring_bytes, v);
    const int error = skeleton ? -stack_sampler_bpf__load(skeleton.get()) : errno;
    if (error != 0) {
      if (why_not.empty()) why_not = why_load_failed(error);
      continue;
    }
    loaded.targets = copy_of(skeleton->maps.targets);
    loaded.samples = copy_of(skeleton->maps.samples);
    loaded.globals = copy_of(skeleton->maps.bss);
    if (on_cpu) loaded.on_cpu = copy_of(skeleton->progs.on_cpu);
    if (!on_cpu) loaded.on_switch = copy_of(skeleton->progs.on_switch);
    if (v.has_iterator) loaded.already_off = copy_of(skeleton->progs.already_off);
    return true;
  }
  return false;
}

}  // namespace weft::bpf
