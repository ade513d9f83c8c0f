// SPDX-License-Identifier: Apache-2.0
// The machine changes while we run: affinity, cpuset, CPUs that are switched on or off, the cgroup's quota. Go 1.25:
// sysmonUpdateGOMAXPROCS.
//
// sysmon asks for a look once a second; the template thread looks, for it may allocate and read files, and its affinity
// is that of run()'s caller: it was started before the first M was pinned, so whoever changes the process's affinity or
// cpuset changes its. If what it finds differs from the map in use, a new map is made and the Ps follow
// (gomaxprocs.cpp); the Ms are pinned anew, since the kernel undoes that when it takes a thread's CPU away, or
// (before 6.2) when it changes a cpuset. A number of Ps that was asked for stays; the default follows the CPUs and the
// quota.
//
// How often and for how long the cgroups throttled us is read at the same time.
#include <algorithm>
#include <atomic>
#include <memory>
#include <system_error>

#include "numa/cgroup.h"
#include "numa/topology.h"
#include "runtime/auto_mode.h"
#include "runtime/gomaxprocs.h"
#include "runtime/machine_watch.h"
#include "runtime/proc.h"
#include "runtime/ps_trial.h"
#include "runtime/report.h"

namespace weft::rt {
namespace {

std::atomic<bool> look_wanted{false};
std::atomic<std::uint64_t> throttled_periods{0}, throttled_ns{0};

struct watched {
  std::unique_ptr<numa::limits> limits;
  numa::throttling at_start;
};
auto& now = *new watched;  // the template thread's, but for the start

std::vector<int> sorted(std::vector<int> cpus) {
  std::sort(cpus.begin(), cpus.end());
  return cpus;
}

void read_throttling() {
  const numa::throttling t = now.limits->throttled();
  throttled_periods.store(t.periods - now.at_start.periods, std::memory_order_relaxed);
  throttled_ns.store(t.ns - now.at_start.ns, std::memory_order_relaxed);
}

// Which CPUs are online shows in the affinity: the kernel gives no others.
bool has_changed() {
  const numa::topology& known = machine().machine;
  return numa::allowed_cpus() != sorted(known.cpus()) || now.limits->quota() != known.cpu_quota();
}

}  // namespace

void start_watching_machine() {
  now.limits = std::make_unique<numa::limits>("");
  now.at_start = now.limits->throttled();
  look_wanted.store(false, std::memory_order_relaxed);
  throttled_periods.store(0, std::memory_order_relaxed);
  throttled_ns.store(0, std::memory_order_relaxed);
}

void ask_to_look_at_machine() {
  look_wanted.store(true, std::memory_order_release);
  wake_template_thread();
}

void look_at_machine() {
  if (!look_wanted.exchange(false, std::memory_order_acquire)) return;
  read_throttling();
  report_metrics();
  end_ps_trial_if_due();
  adapt_ps();
  if (!sched.pinned || !sched.active.load(std::memory_order_acquire)) return;
  const visit inside;
  if (!inside.welcome) return;
  try {
    if (!has_changed()) return;
    follow_machine(numa::topology::discover());
  } catch (const std::system_error&) {
    return;  // the affinity could not be read: everything stays as it is
  }
  pin_again();
  wakep_everywhere();
}

std::uint64_t periods_throttled() { return throttled_periods.load(std::memory_order_relaxed); }
std::uint64_t ns_throttled() { return throttled_ns.load(std::memory_order_relaxed); }

}  // namespace weft::rt
