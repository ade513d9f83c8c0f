// SPDX-License-Identifier: Apache-2.0
// The scheduler's shared state. Go: runtime.sched, allp, allm.
#pragma once

#include <sched.h>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/costs.h"
#include "runtime/globq.h"
#include "runtime/idle_stack.h"
#include "runtime/lock.h"
#include "runtime/m.h"
#include "runtime/p.h"
#include "runtime/wake.h"

namespace weft::rt {

constexpr int kMaxMs = 10'000;                        // Go's limit
constexpr std::int64_t kForcePreemptNs = 10'000'000;  // Go's time slice; marked by sysmon, so up to twice as long

enum class assist : std::uint8_t { off, sentinel, bpf };

struct m_link {
  std::atomic<std::uint32_t>& operator()(std::uint32_t id) const;
};

/// A CPU that Ps are bound to: its Ps, its sleeping Ms, its sentinel.
struct cpu {
  int number = -1;  // -1: Ms are not pinned
  int node = 0;
  node_costs* costs = nullptr;
  idle_stack<m_link> idle_ms;
  std::atomic<int> nps{0};
  std::array<std::atomic<p*>, kMaxPs> ps{};  // the first nps; an entry may be null (retired)
  // The sentinel: 1 while it is to watch. See sentinel.cpp.
  alignas(64) std::atomic<std::uint32_t> armed{0};
  pthread_t sentinel{};
  std::atomic<bool> has_sentinel{false};
  std::atomic<std::uint32_t> sentinel_number{0};  // of the one that is to look
  std::atomic<int> visiting{0};  // sentinels that look around: this one, and one of the last run() that ends
  note sentinel_verdict;         // of the new thread: kIdleClass or kNoIdleClass
  bool sentinel_failed = false;  // the template thread's
  std::atomic<bool> wants_sentinel{false};
  std::atomic<bool> wants_m{false};  // one that goes idle
};

struct debug_settings {
  std::int64_t schedtrace_ms = 0;
  std::uint64_t chaos_seed = 0;
  bool chaos = false;
  int max_ms = kMaxMs;
};

struct scheduler {
  // Read by every goroutine operation, written rarely.
  std::atomic<int> gomaxprocs{0};
  std::atomic<int> nps{0};  // entries of allp in use: Ps of this run(), some of them perhaps retired
  std::array<std::atomic<p*>, kMaxPs> allp{};
  std::atomic<std::uint32_t> run{1};      // number of the current run(); goes up the moment that its main has returned
  std::atomic<std::uint32_t> gone{0};     // the last run() whose goroutines no M switches to any more
  std::atomic<bool> active{false};        // goroutines may be started
  std::atomic<bool> frozen{false};        // nobody runs goroutines any more: the process is dying
  std::atomic<assist> tier{assist::off};  // sysmon lowers it if the probes are lost
  bool pinned = true;
  debug_settings debug;
  // Never destroyed, like all that threads still use while the process exits.
  std::vector<std::unique_ptr<cpu>>& cpus = *new std::vector<std::unique_ptr<cpu>>;
  std::atomic<std::int64_t> coarse_now{0};  // nanotime() within a sysmon round, for wait times in dumps

  wake_gate<kMaxPs> gate;
  std::atomic<int> wake_backoff{0};  // see wakep_slow()
  std::atomic<int> visitors{0};      // see visit in proc.h

  // The global queue.
  alignas(64) core_lock lock;
  g_ring global;
  std::atomic<g*> first_bound{nullptr};  // see globq.cpp
  g* last_bound = nullptr;
  bool bound_turn = false;
  std::atomic<int> global_size{0};

  // Ms. Numbers of dead ones are used again.
  std::array<std::atomic<m*>, kMaxMs + 1> allm{};
  std::atomic<std::uint32_t> nms_ever{0};
  std::atomic<int> nms{0};  // threads that are Ms
  std::atomic<int> nidle_ms{0};
  idle_stack<m_link> dead_ms;
  core_lock ending_lock;  // held while an M that its run() may leave behind is looked at, and before it frees itself
  m* m0 = nullptr;
  std::atomic<bool> main_done{false};
  sigset_t sigmask{};  // of run()'s caller: what goroutines have

  // The idle M that wakes up for timers and files; see watch.cpp.
  std::atomic<m*> watcher{nullptr};
  std::atomic<std::int64_t> watch_until{kNever};

  // sysmon.
  pthread_t sysmon_thread{};
  note sysmon_note;
  std::atomic<bool> sysmon_asleep{false};
  std::atomic<int> nstrays{0};
  std::atomic<bool> sysmon_stop{false};
  std::atomic<bool> dump_wanted{false};

  // Deadlock detection.
  std::atomic<int> nforeign_waiting{0};
  std::atomic<std::uint64_t> foreign_changes{0};  // of nforeign_waiting
  int baseline_threads = 1;

  std::atomic<std::uint64_t> next_id{1};
  std::atomic<std::int64_t> created_elsewhere{0};  // goroutines started by foreign threads
};

extern scheduler sched;

/// Whether the run() that this M, goroutine or number belongs to is over.
inline bool left_behind(std::uint32_t run) { return run != sched.run.load(std::memory_order_acquire); }

}  // namespace weft::rt
