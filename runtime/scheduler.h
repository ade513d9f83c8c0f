// SPDX-License-Identifier: Apache-2.0
// The scheduler's shared state. Go: runtime.sched, allp, allm.
#pragma once

#include <sched.h>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/m.h"
#include "runtime/nodes.h"
#include "runtime/p.h"

namespace weft::rt {

constexpr int kMaxMs = 10'000;                        // Go's limit
constexpr std::int64_t kForcePreemptNs = 10'000'000;  // Go's time slice; marked by sysmon, so up to twice as long

enum class assist : std::uint8_t { off, sentinel, bpf };

struct debug_settings {
  std::int64_t schedtrace_ms = 0;
  std::uint64_t chaos_seed = 0;
  bool chaos = false;
  bool kernel_costs = false;
  bool file_ring = true;
  int max_ms = kMaxMs;
};

// Grouped by who writes when: what every goroutine operation reads shares no line with what is written often. What all
// nodes write is that by intent, and rare: see layout_test.cpp.
struct scheduler {
  // Read by every goroutine operation, written rarely.
  std::atomic<int> gomaxprocs{0};
  std::atomic<int> nps{0};  // entries of allp in use: Ps of this run(), some of them perhaps benched
  std::array<std::atomic<p*>, kMaxPs> allp{};
  std::atomic<std::uint32_t> run{1};   // number of the current run(); goes up the moment that its main has returned
  std::atomic<std::uint32_t> gone{0};  // the last run() whose goroutines no M switches to any more
  std::atomic<bool> active{false};     // goroutines may be started
  std::atomic<bool> frozen{false};     // nobody runs goroutines any more: the process is dying
  std::atomic<bool> main_done{false};
  std::atomic<bool> strays{false};  // some M may run user code without a P
  std::atomic<bool> stuck{false};   // and none is to be stopped for now: see preempt.cpp
  std::atomic<bool> sysmon_asleep{false};
  std::atomic<assist> tier{assist::off};  // sysmon lowers it if the probes are lost
  bool pinned = true;
  debug_settings debug;
  std::atomic<std::int64_t> coarse_now{0};  // nanotime() within a sysmon round, for wait times in dumps

  // The machine; see nodes.h. Written by run(), and later by the template thread.
  std::array<std::atomic<node*>, kMaxNodes> nodes{};
  std::atomic<int> nnodes{0};
  std::array<std::atomic<cpu*>, kMaxCpus> cpus{};
  std::atomic<int> ncpus{0};
  std::atomic<const machine_map*> map{nullptr};

  busy_count<> busy;                                  // see wake.h
  alignas(kLinePair) std::atomic<int> idle_nodes{0};  // with an idle P; see wake.h

  // The idle M that wakes up for timers and files; see watch.cpp.
  alignas(kLinePair) std::atomic<m*> watcher{nullptr};
  std::atomic<std::int64_t> watch_until{kNever};

  // By threads that are no Ms, and for batches of numbers.
  alignas(kLinePair) std::atomic<std::uint64_t> next_id{1};
  std::atomic<std::int64_t> created_elsewhere{0};  // goroutines started by foreign threads
  std::atomic<int> foreign_visitors{0};            // see visit in proc.h
  // Deadlock detection.
  std::atomic<int> nforeign_waiting{0};
  std::atomic<std::uint64_t> foreign_changes{0};  // of nforeign_waiting
  int baseline_threads = 1;

  alignas(kLinePair) core_lock lock;  // see m.h and p.h

  // Ms. Numbers of dead ones are used again.
  std::array<std::atomic<m*>, kMaxMs + 1> allm{};
  std::atomic<std::uint32_t> nms_ever{0};
  std::atomic<int> nms{0};          // threads that are Ms
  std::atomic<int> nms_leaving{0};  // of them, those that run nothing any more
  idle_stack<m_link> dead_ms;
  core_lock ending_lock;  // held while an M that its run() may leave behind is looked at, and before it frees itself
  m* m0 = nullptr;
  sigset_t sigmask{};  // of run()'s caller: what goroutines have

  // sysmon.
  pthread_t sysmon_thread{};
  note sysmon_note;
  int sysmon_alarm = -1;  // a timerfd, for calls that are not urgent; -1: none. Set before its thread is started
  std::atomic<bool> sysmon_stop{false};
  std::atomic<bool> dump_wanted{false};
};

extern scheduler sched;

inline node& node_at(int index) {
  return *sched.nodes[static_cast<std::size_t>(index)].load(std::memory_order_acquire);
}
inline cpu& cpu_at(int index) { return *sched.cpus[static_cast<std::size_t>(index)].load(std::memory_order_acquire); }
inline p* p_at(int id) { return sched.allp[static_cast<std::size_t>(id)].load(std::memory_order_acquire); }
inline const machine_map& machine() { return *sched.map.load(std::memory_order_acquire); }

/// Sums over the nodes.
inline int nidle_ps() {
  int sum = 0;
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i) sum += node_at(i).gate.nidle();
  return sum;
}
inline int nspinning_ms() {
  int sum = 0;
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i) sum += node_at(i).gate.nspinning();
  return sum;
}

inline int nidle_ms() {
  int sum = 0;
  for (int i = 0, n = sched.ncpus.load(std::memory_order_acquire); i < n; ++i)
    sum += cpu_at(i).nidle_ms.load(std::memory_order_relaxed);
  return sum;
}

/// Whether the run() that this M, goroutine or number belongs to is over.
inline bool left_behind(std::uint32_t run) { return run != sched.run.load(std::memory_order_acquire); }

}  // namespace weft::rt
