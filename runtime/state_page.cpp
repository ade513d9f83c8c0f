// SPDX-License-Identifier: Apache-2.0
// Who has which slot of the state page. Slots are few (a page of them costs the kernel 4 KB each): a thread that gets
// none is looked at through /proc, as on the tier sentinel.
//
// The page lives as long as the process: loading takes 15 ms, and an M that its run() has left behind still has a slot.
// The child of a fork begins with a page of its own.
#include "runtime/state_page.h"

#include <signal.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <vector>

#include "bpf/capabilities.h"
#include "bpf/pmu.h"
#include "runtime/idle_stack.h"
#include "runtime/scheduler.h"

namespace weft::rt {
namespace {

constexpr std::uint32_t kSlots = 1024;

struct slot_link {
  std::atomic<std::uint32_t>& operator()(std::uint32_t number) const;
};

// Statics that outlive every thread.
struct state_page {
  bpf::probes* probes = nullptr;
  pid_t owner = 0;
  std::vector<bpf::probes*> inherited;  // of the parents of a forked process, which would feel their end
  std::array<std::atomic<std::uint32_t>, kSlots> links{};
  idle_stack<slot_link> returned;
  std::atomic<std::uint32_t> used{0};  // slots ever taken
};

auto& page = *new state_page;
auto& tlb_misses = *new bpf::pmu(bpf::tlb_misses());

std::atomic<std::uint32_t>& slot_link::operator()(std::uint32_t number) const { return page.links[number]; }

// kNone if all are in use.
std::uint32_t free_slot() {
  const std::uint32_t returned = page.returned.pop();
  if (returned != idle_stack<slot_link>::kNone) return returned;
  std::uint32_t next = page.used.load(std::memory_order_relaxed);
  while (next < std::min<std::size_t>(page.probes->size(), kSlots))
    if (page.used.compare_exchange_weak(next, next + 1, std::memory_order_relaxed)) return next;
  return idle_stack<slot_link>::kNone;
}

// What a slot counts for the metrics, by name.
constexpr std::pair<const char*, __u32 bpf::slot::*> kCounters[] = {
    {"kernel_blocks", &bpf::slot::blocks},           {"kernel_preemptions", &bpf::slot::preemptions},
    {"kernel_mm_switches", &bpf::slot::mm_switches}, {"kernel_migrations", &bpf::slot::migrations},
    {"minor_faults", &bpf::slot::minor_faults},      {"major_faults", &bpf::slot::major_faults}};

// Sums over all slots.
struct durations {
  std::array<std::uint64_t, WEFT_BPF_BUCKETS> counts{};
  std::uint64_t ns = 0;

  void add(const std::uint32_t* of_slot, std::uint64_t slot_ns) {
    for (std::size_t i = 0; i < counts.size(); ++i) counts[i] += __atomic_load_n(of_slot + i, __ATOMIC_RELAXED);
    ns += slot_ns;
  }
  void add_to(metrics::histogram& total, const durations& before) const {
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const auto bucket = static_cast<int>(i);
      if (counts[i] == before.counts[i]) continue;
      total.add(bucket, counts[i] - before.counts[i], 0);
      total.add_max(metrics::histogram::lower_ns(bucket + 1));
    }
    total.add(0, 0, ns - before.ns);
  }
};

struct kernel_counts {
  std::array<std::uint64_t, std::size(kCounters)> counters{};
  durations blocked, runq_wait;
};

kernel_counts sum_up() {
  kernel_counts sum;
  const std::uint32_t used = page.used.load(std::memory_order_relaxed);
  for (std::uint32_t n = 0; n < used; ++n) {
    const bpf::slot& s = page.probes->at(n);
    for (std::size_t i = 0; i < sum.counters.size(); ++i)
      sum.counters[i] += __atomic_load_n(&(s.*kCounters[i].second), __ATOMIC_RELAXED);
    const bpf::histograms& h = page.probes->histograms_of(n);
    sum.blocked.add(h.blocked, __atomic_load_n(&h.blocked_ns, __ATOMIC_RELAXED));
    sum.runq_wait.add(h.runq_wait, __atomic_load_n(&h.runq_wait_ns, __ATOMIC_RELAXED));
  }
  return sum;
}

// The verifier gives up when a signal is pending, and libbpf tries but a few times.
class undisturbed {
 public:
  undisturbed() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~undisturbed() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  undisturbed(const undisturbed&) = delete;
  undisturbed& operator=(const undisturbed&) = delete;

 private:
  sigset_t before_;
};

std::unique_ptr<bpf::probes> load_undisturbed(std::string& why_not) {
  const undisturbed loading;
  return bpf::probes::load(kSlots, why_not);
}

// By their place in bpf/slot.h.
constexpr std::array kSwitches{"switch_same_mm", "switch_lazy_tlb", "switch_other_mm"};
constexpr std::array kWakes{"wake_same_cpu", "wake_cross_cpu"};
constexpr std::array kFlushes{"tlb_flushes_task_switch", "tlb_flushes_remote_shootdown", "tlb_flushes_local_shootdown",
                              "tlb_flushes_local_mm_shootdown", "tlb_flushes_remote_send_ipi"};

// Since the process began: they are measured now and then only.
void add_measured_now_and_then(metrics::snapshot& all) {
  const bpf::cost_counters costs = page.probes->cost();
  for (std::size_t i = 0; i < kFlushes.size(); ++i) all.counters[kFlushes[i]] = costs.tlb_flushes[i];
  bpf::faults faults{};
  const std::uint32_t used = page.used.load(std::memory_order_relaxed);
  for (std::uint32_t n = 0; n < used; ++n) {
    const bpf::faults one = page.probes->faults_of(n);
    faults.reads += one.reads;
    faults.writes += one.writes;
    faults.instructions += one.instructions;
  }
  all.counters["page_faults_read"] = faults.reads;
  all.counters["page_faults_write"] = faults.writes;
  all.counters["page_faults_instruction"] = faults.instructions;
  for (const bpf::pmu::count& each : tlb_misses.read()) all.counters[each.name] = each.times;
}

metrics::cost mean_of(const weft_bpf_sum& sum) {
  const auto samples = static_cast<std::uint32_t>(std::min<std::uint64_t>(sum.timed, UINT32_MAX));
  return {samples != 0 ? static_cast<double>(sum.ns) / static_cast<double>(sum.timed) * 1e-9 : 0, samples};
}

// As the last run() began: slots of threads that live on cannot be cleared.
auto& before = *new kernel_counts;

}  // namespace

bool open_state_page(bool with_costs, std::string& why_not) {
  if (page.probes && page.owner == getpid()) return true;
  std::unique_ptr<bpf::probes> loaded = load_undisturbed(why_not);
  if (!loaded) return false;
  if (page.probes) page.inherited.push_back(page.probes);
  page.probes = loaded.release();
  page.owner = getpid();
  page.returned.reset();
  page.used.store(0, std::memory_order_relaxed);
  tlb_misses.stop();  // of the parent
  if (with_costs)
    if (const std::string refused = measure_kernel(true); !refused.empty())
      std::fprintf(stderr, "weft: what the kernel charges is not measured: %s\n", refused.c_str());
  bpf::drop_capabilities();
  return true;
}

void slot_lease::take(bpf::doing what) {
  if (!page.probes || sched.tier.load(std::memory_order_relaxed) != assist::bpf) return;
  const std::uint32_t number = free_slot();
  if (number == idle_stack<slot_link>::kNone) return;
  std::string ignored;
  if (!page.probes->register_current_thread(number, ignored)) return page.returned.push(number);
  number_ = number;
  bpf::slot& s = page.probes->at(number);
  bpf::announce(s, what);
  slot_.store(&s, std::memory_order_release);
}

void slot_lease::give_back() {
  if (!slot_.exchange(nullptr, std::memory_order_acq_rel)) return;
  std::string ignored;
  if (page.probes->unregister_current_thread(ignored)) page.returned.push(number_);
}

const bpf::slot* slot_of(const m* mp) {
  return sched.tier.load(std::memory_order_relaxed) == assist::bpf ? mp->slot.get() : nullptr;
}

thread_state look_at(const m* mp) {
  if (const bpf::slot* const s = slot_of(mp)) switch (bpf::read_event(*s).state()) {
      case bpf::state::running:
      case bpf::state::preempted: return thread_state::running;
      case bpf::state::blocked: return thread_state::blocked;
      case bpf::state::no_thread: break;
    }
  return state_of_thread(mp->tid);
}

void reset_kernel_metrics() {
  if (page.probes) before = sum_up();
}

void add_kernel_metrics(metrics::snapshot& all) {
  if (!page.probes || sched.tier.load(std::memory_order_relaxed) != assist::bpf) return;
  const kernel_counts now = sum_up();
  for (std::size_t i = 0; i < now.counters.size(); ++i)
    all.counters[kCounters[i].first] = now.counters[i] - before.counters[i];
  add_measured_now_and_then(all);
  now.blocked.add_to(all.histograms["kernel_blocked"], before.blocked);
  now.runq_wait.add_to(all.histograms["kernel_runq_wait"], before.runq_wait);
  for (const bpf::program_statistics& program : page.probes->statistics()) {
    all.counters["probe_runs_" + program.name] = program.runs;
    all.counters["probe_ns_" + program.name] = program.ns;
  }
}

void add_kernel_costs(metrics::node_costs& shown) {
  if (!page.probes) return;
  const auto add = [](weft_bpf_sum& total, const weft_bpf_sum& one) {
    total.timed += one.timed;
    total.ns += one.ns;
  };
  bpf::cost_counters total{};
  for (int n = 0; n < sched.ncpus.load(std::memory_order_acquire); ++n) {
    const cpu& c = cpu_at(n);
    if (c.home->id != shown.node) continue;
    const bpf::cost_counters one = page.probes->cost_of(static_cast<std::size_t>(c.id));
    for (std::size_t i = 0; i < kSwitches.size(); ++i) add(total.switches[i], one.switches[i]);
    for (std::size_t i = 0; i < kWakes.size(); ++i) add(total.wakes[i], one.wakes[i]);
  }
  for (std::size_t i = 0; i < kSwitches.size(); ++i) shown.costs[kSwitches[i]] = mean_of(total.switches[i]);
  for (std::size_t i = 0; i < kWakes.size(); ++i) shown.costs[kWakes[i]] = mean_of(total.wakes[i]);
}

std::string measure_kernel(bool on) {
  if (!page.probes) return "there are no probes";
  const undisturbed loading;
  if (!on) {
    tlb_misses.stop();
    page.probes->cost_off();
    return "";
  }
  std::string why_not;
  if (!page.probes->cost_on(why_not)) return why_not;
  tlb_misses.start();  // where there is no PMU, the counters are missing; `weft doctor` says why
  return "";
}

}  // namespace weft::rt

namespace weft::metrics {

std::string measure_kernel(bool on) { return rt::measure_kernel(on); }

}  // namespace weft::metrics
