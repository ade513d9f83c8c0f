// SPDX-License-Identifier: Apache-2.0
// What the scheduler measured: latency histograms and counters, readable at any time from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace weft::detail {
struct counter_cells;
}

/// What the scheduler measured.
namespace weft::metrics {

/// A log-linear histogram of durations: sixteen equal buckets to each power of two of nanoseconds, so a value is known
/// within 1/16. A plain value: copy it, merge it, read it at leisure.
class histogram {
 public:
  /// Buckets from 0 ns to 2^42 ns (73 minutes); longer durations are counted in the last one.
  static constexpr int kSubBits = 4;
  static constexpr int kMaxBits = 42;  ///< see kSubBits
  /// How many buckets that makes.
  static constexpr int kBuckets = (kMaxBits - kSubBits + 1) << kSubBits;

  /// A bucket that counted something.
  struct bucket {
    double lower;         ///< seconds: the least value that belongs here
    double upper;         ///< seconds: the least that does not any more
    std::uint64_t count;  ///< values
  };

  static int bucket_of(std::uint64_t ns) noexcept;     ///< the bucket that counts this duration
  static std::uint64_t lower_ns(int bucket) noexcept;  ///< bucket may be kBuckets: the end of the last

  /// Counts `count` values in a bucket; together they are sum_ns nanoseconds.
  void add(int bucket, std::uint64_t count, std::uint64_t sum_ns) noexcept;
  /// max() is at least this many nanoseconds.
  void add_max(std::uint64_t ns) noexcept {
    if (ns > max_ns_) max_ns_ = ns;
  }
  /// Adds all that the other counted.
  void merge(const histogram& other) noexcept;
  /// What was counted since this histogram was `earlier`. Its max() is known within a bucket only.
  histogram since(const histogram& earlier) const;

  std::uint64_t count() const noexcept { return count_; }                      ///< values
  double sum() const noexcept { return static_cast<double>(sum_ns_) * 1e-9; }  ///< seconds
  double max() const noexcept { return static_cast<double>(max_ns_) * 1e-9; }  ///< seconds
  /// The value in seconds below which a share q (0 to 1) of the values lies, linear within a bucket; 0 when empty.
  double quantile(double q) const noexcept;
  /// The buckets that counted something, in order.
  std::vector<bucket> buckets() const;

 private:
  std::vector<std::uint64_t> counts_ = std::vector<std::uint64_t>(kBuckets);
  std::uint64_t count_ = 0, sum_ns_ = 0, max_ns_ = 0;
};

/// A P at one time.
struct p_snapshot {
  int p = 0;                 ///< its number
  int node = 0;              ///< where it is bound to
  int cpu = 0;               ///< where it is bound to
  std::string state{};       ///< "running" (an M has it), "idle", "surplus" (GOMAXPROCS has no room for it)
  std::uint64_t queued = 0;  ///< goroutines in its run queue
  std::map<std::string, std::uint64_t> counters{};  ///< its share of some of the snapshot's
};

/// A NUMA node at one time.
struct node_snapshot {
  int node = 0;                                     ///< the machine's number
  int gomaxprocs = 0;                               ///< Ps wanted there
  int idle_ps = 0;                                  ///< Ps without work
  int spinning = 0;                                 ///< threads that look for work
  std::uint64_t queued = 0;                         ///< goroutines in its global run queue
  std::map<std::string, histogram> histograms{};    ///< of its Ps together
  std::map<std::string, std::uint64_t> counters{};  ///< what its cost model decided
  /// Goroutine stacks of the default size: "used", "warm" (free, with their memory), "cold" (free, without).
  std::map<std::string, std::uint64_t> stacks{};
};

/// All histograms and counters at one time, by name. Histograms: "runq_wait" (runnable to running), "wakeup_to_run"
/// (readied by another goroutine, thread or timer to running), "handoff" (a P taken from a blocked M to the next
/// goroutine on it), "blocked" (a thread's stay in the kernel in which it lost its P), all in seconds. With the probes
/// (counter "kernel_assist": 0 off, 1 sentinel, 2 bpf) also "kernel_blocked" (a thread asleep in the kernel) and
/// "kernel_runq_wait" (runnable, until the kernel gave it a CPU), and the counters "kernel_…", "minor_faults",
/// "major_faults" of the runtime's threads; "probe_runs_…" and "probe_ns_…" are what the probes themselves cost, while
/// the kernel counts that (sysctl kernel.bpf_stats_enabled). "takes" counts Ps taken from threads that had blocked or
/// computed for too long, "handoffs" those of them that went on to run another goroutine. "steals" counts how often an
/// idle P took work from another: "core_steals" of the same core, "cache_steals" of one that shares its cache,
/// "node_steals" of its node, "far_steals" of another; "robberies" what it took that was to run next there,
/// "node_moves" how many goroutines came to another node than their own by the latter. "cgroup_throttled_periods" and
/// "cgroup_throttled_ns": how often and for how long CPU quotas stopped the process's cgroup since run() began, as of a
/// second ago. With the probes "blocked_times_in_read" and the like are how often a thread lost its P in that call, and
/// "blocked_ns_in_read" how long it was away. Those that begin with "handoff_" and "handoffs_at_once" tell what the
/// cost model decided, see costs().
struct snapshot {
  std::map<std::string, histogram> histograms;    ///< by name
  std::map<std::string, std::uint64_t> counters;  ///< by name
  std::vector<node_snapshot> nodes;               ///< each node that has or had Ps in this run()
  std::vector<p_snapshot> ps;                     ///< each P, by number
  /// How many there are by what they do: "running", "runnable", "syscall" (in a blocking call), "preempted" (in
  /// mid-code), or what they wait for, in Go's words ("chan receive"). Counting them takes some nanoseconds each.
  std::map<std::string, std::uint64_t> goroutines;
  std::map<std::string, std::uint64_t>
      threads;  ///< Ms by state: "running", "spinning", "idle", "blocked" (without a P)
};

/// A counter of the program's own, such as requests answered: in read() by its name, since the program began, beside
/// the runtime's. `weft tune --metric NAME` makes it grow as fast as possible. Counters of one name are one; take a
/// name that the runtime does not use. For what happens up to some million times a second: an atomic addition, on a
/// line of the node's own. Any thread.
class counter {
 public:
  /// Its name is a word.
  explicit counter(const std::string& name);
  /// Counts n more.
  void add(std::uint64_t n = 1) noexcept;

 private:
  detail::counter_cells* cells_;  // for ever
};

/// A cost as measured of late: a moving average.
struct cost {
  double seconds;         ///< a default if there are no samples
  std::uint32_t samples;  ///< how many there have been
};

/// How long threads stayed blocked in one kind of call, and what the runtime makes of it.
struct block_costs {
  int syscall = 0;           ///< its number; -1: a page fault. Without meaning for idle threads
  std::uint32_t blocks = 0;  ///< decisions made about such blocks
  double wait = 0;           ///< seconds: how long the next one is waited for before its P is handed on
  /// Blocks that ended within a time.
  struct share {
    double limit;         ///< seconds; infinity for the last
    std::uint32_t count;  ///< blocks, old ones counting less
  };
  std::vector<share> lasted;  ///< of blocks that were waited for, which some of all kinds are, to learn
};

/// The cost model of a node.
struct node_costs {
  int node = 0;                       ///< its number
  std::map<std::string, cost> costs;  ///< "handoff": taking a P to its next goroutine; "wake": waking an idle thread
  std::vector<block_costs> blocks;    ///< by kind
  block_costs idle;                   ///< threads without work: how soon some came, and how long they look for it
};

/// The live cost model, of every node that goroutines have run on in this process. Only on the tier bpf are handoffs
/// decided by it. Any thread, any time. The snapshot's counters tell how they turned out: "handoffs_at_once" and
/// "handoff_waits_lost" handed the P on, "handoff_waits_won" got the thread back in time; "handoff_regret_ns" is what
/// knowing the future would have saved. On every tier "spins_won" and "spins_lost" count idle threads that went on
/// looking for work and found some in time or did not, and "spin_regret_ns" the time of the latter.
std::vector<node_costs> costs();

/// Switches on or off that the kernel's own costs are measured: context switches by what becomes of the page table,
/// wake-ups on the same CPU and across (costs(): "switch_…", "wake_…", without samples where this kernel, before 6.14,
/// does not tell when a switch ends), TLB flushes by reason and page faults by kind (read(): "tlb_flushes_…",
/// "page_faults_…"; of the runtime's threads, as long as it was on), and, where there is a PMU that may be used, what
/// was in no TLB ("dtlb_load_misses", "dtlb_store_misses", "itlb_misses"; in user code of the whole process; on x86
/// each is a page walk). Off at first: while on, each of these costs the whole machine 60 to 150 ns more, the PMU's
/// nothing. Needs the tier bpf, and the capabilities CAP_BPF and CAP_PERFMON at that time, or the programs loaded at
/// the start: WEFT_DEBUG=kernelcosts=1 (on from the start), `weft run --costs`. Empty: done; else why it cannot be, in
/// one line. Any thread, any time.
std::string measure_kernel(bool on);

/// What the runtime has measured since the last run() began. Run-queue histograms are sampled without bias at high
/// rates: each sample counts for as many as it stands for. Any thread, any time.
snapshot read();

/// read() as OpenMetrics 1.0 text: what an HTTP answer of the type
/// "application/openmetrics-text; version=1.0.0; charset=utf-8" consists of. weft(1) tells what each metric means.
std::string openmetrics();
/// Serves openmetrics() over HTTP at this address ("127.0.0.1:9464", see net.h; port 0 is a free one) until main
/// returns: GET /metrics, on a goroutine; any other path is 404. Up to 64 connections at a time, kept alive for 30 s.
/// Throws std::system_error if the address cannot be had, weft::error if no run() is active. WEFT_METRICS=HOST:PORT
/// does the same from outside.
void serve(std::string_view address);
/// The same in Prometheus' older text format ("text/plain; version=0.0.4"), as node_exporter's textfile collector and
/// `promtool check metrics` read it.
std::string prometheus();

}  // namespace weft::metrics
