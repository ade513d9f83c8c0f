// SPDX-License-Identifier: Apache-2.0
// A discrete-event simulation of Ps that run tasks on a NUMA machine, for what no machine at hand can show.
//
// Two schedulers share everything but their policy: weft's, which decides by the scheduler's own code (run_queue,
// wake_gate, node_costs, the orders of steal.h, wake_order.h and numa/nearness.h), and Go's: one global queue, random
// victims, whichever P has been idle for the shortest time. What things cost is the same for both (see `costs`).
//
// The model. A P of each CPU runs tasks one after the other. A task computes for some time where its memory is, and for
// `remote` times as long on any other node; memory is where the task first ran, or where the workload puts it. Taking
// from somebody's queue, and a queue's lock, cost more from far by the same factor; a lock is held by one at a time.
// Time is simulated: one thread, no clock, all chance from one seed, so the same setup gives the same result on every
// machine.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <string>
#include <string_view>
#include <vector>

#include "numa/nearness.h"
#include "runtime/rng.h"
#include "runtime/runq.h"
#include "runtime/wake.h"
#include "weft/metrics.h"

namespace weft::sim {

using ns = std::int64_t;

/// What things cost on a machine of today, in ns, and within a node where it depends on the distance.
struct costs {
  static constexpr ns kSwitch = 50;
  static constexpr ns kStart = 100;       // go()
  static constexpr ns kLook = 4;          // at a queue: mostly an unchanged cache line
  static constexpr ns kSteal = 150;       // from another P's ring
  static constexpr ns kRob = 3000;        // from its private part: the heavy barrier
  static constexpr ns kLock = 40;         // a global queue's lock, held
  static constexpr ns kWakeCall = 1500;   // what the waker pays
  static constexpr ns kWake = 5000;       // until the woken M looks for work
  static constexpr ns kRoundPause = 500;  // between two rounds of a spinning M
};

/// The scheduler's lock-free classes in one thread.
struct sequential {
  template <class T>
  using atomic = std::atomic<T>;
  static void light_barrier() {}
  static void heavy_barrier() {}
  static void relax() {}
};

struct task {
  int memory = -1;  // node; -1: it has not run yet
  int home = 0;     // node
  int role = 0;     // the workload's
  ns ready_at = 0;
};

/// A queue's lock: who comes while it is held waits.
struct serial {
  ns free_at = 0;
  int last_node = 0;
};

struct setup {
  int nodes = 1;
  int ps_per_node = 4;
  double remote = 2;  // what computing far from one's memory costs
  std::string work = "server";
  std::string policy = "weft";
  std::uint64_t seed = 1;
  ns duration = 20'000'000;  // after a tenth of it, to warm up
};

struct result {
  double throughput = 0;              // of the workload's units, a second
  double home_share = 0;              // of runs, on the node where the memory is
  double idle_beside_work = 0;        // share of the Ps' time in which one slept though a task waited for a P
  double wait_p50 = 0, wait_p99 = 0;  // seconds from runnable to running
  std::uint64_t runs = 0, steals = 0, far_steals = 0;
  std::uint64_t lost = 0;    // made runnable, and never run, also when nothing new came
  std::uint64_t digest = 0;  // of all that happened: equal if and only if (but for chance) the same happened
};

class simulation;

/// What tasks do.
class workload {
 public:
  virtual ~workload() = default;
  /// Starts the first tasks, from P 0.
  virtual void begin(simulation& world) = 0;
  /// How long the task computes at home until its next scheduling point.
  virtual ns compute(simulation& world, task& t) = 0;
  /// It has done so. True: it computes on; false: it is parked, or has ended.
  virtual bool done(simulation& world, task& t) = 0;
};

/// Who runs what. Ps are numbered by their place in the row (numa/nearness.h).
class policy {
 public:
  virtual ~policy() = default;
  virtual void ready(int p, task& t) = 0;
  virtual void ready_from_outside(task& t) = 0;
  /// One round of looking for work with nothing spent on waiting. Null: there is none.
  virtual task* find(int p) = 0;
  /// Nothing was found. True: look again soon; false: the P sleeps now.
  virtual bool look_again(int p) = 0;
  /// sysmon's.
  virtual void watch() {}
};

std::unique_ptr<workload> make_workload(std::string_view name);  // null: there is none of that name
const std::vector<std::string>& workload_names();
std::unique_ptr<policy> make_weft_policy(simulation& world);
std::unique_ptr<policy> make_go_policy(simulation& world);

class simulation {
 public:
  explicit simulation(const setup& wanted);
  result run();

  // For workloads.
  task& make(int role, int home, int memory = -1);
  /// Makes t runnable: by the task that runs now, or from outside, as a poller does, after some time.
  void ready(task& t);
  void ready_later(task& t, ns after);
  void started() { spend(costs::kStart); }
  void count_unit() { units_ += now_ >= warm_at_ ? 1u : 0u; }
  /// Exponentially distributed, at least 1 ns.
  ns random_time(ns mean);
  bool closing() const { return closing_; }
  const setup& wanted() const { return wanted_; }
  int ps() const { return static_cast<int>(ps_.size()); }

  // For policies.
  const numa::neighbourhood& near() const { return near_; }
  int node_of(int p) const { return ps_[static_cast<std::size_t>(p)].node; }
  int distance(int from, int to) const { return machine_.distance(from, to); }
  ns now() const { return now_ + spent_; }
  /// When that P will next change goroutines, or look for work.
  ns next_change(int p) const { return ps_[static_cast<std::size_t>(p)].busy_until; }
  rt::rng& random() { return random_; }
  /// What the P at work spends on that, within its node or with another.
  void spend(ns time) { spent_ += time; }
  void spend(ns time, int from, int to) { spent_ += from_far(time, from, to); }
  void lock(serial& held, int by_node);
  /// Has a sleeping P look for work.
  void wake(int p);
  void count_steal(int thief, int victim);

 private:
  enum class what : std::uint8_t { look, ended, arrival, watch };
  struct event {
    ns at;
    std::uint64_t order;
    what kind;
    int p;
    task* t;
    bool operator>(const event& other) const { return at != other.at ? at > other.at : order > other.order; }
  };
  struct processor {
    int node = 0;
    task* running = nullptr;
    ns busy_until = 0;
    bool asleep = true;
  };

  static numa::topology machine_of(const setup& wanted);
  ns from_far(ns time, int from, int to) const { return time * distance(from, to) / numa::kLocalDistance; }
  void post(ns after, what kind, int p, task* t = nullptr);
  void advance(ns to);
  void note_ready(task& t);
  void look_for_work(int p);
  void begin_slice(int p, task& t);
  void end_slice(int p);
  void handle(const event& e);
  void run_until(ns end);
  void mix(std::uint64_t value) { digest_ = (digest_ ^ value) * 0x100000001b3u; }

  const setup wanted_;
  const numa::topology machine_;
  const numa::neighbourhood near_;
  rt::rng random_;
  std::vector<processor> ps_;
  std::vector<std::unique_ptr<task>> tasks_;
  std::priority_queue<event, std::vector<event>, std::greater<>> events_;
  std::uint64_t order_ = 0;
  ns now_ = 0, spent_ = 0, warm_at_ = 0;
  int at_work_ = -1;  // the P that acts now; -1: the outside
  int sleeping_ = 0;
  std::int64_t waiting_ = 0;  // tasks
  bool closing_ = false;
  std::uint64_t units_ = 0, home_runs_ = 0, digest_ = 0xcbf29ce484222325u;
  double slept_beside_work_ = 0;  // ns
  metrics::histogram waits_;
  result counts_;
  std::unique_ptr<workload> work_;
  std::unique_ptr<policy> policy_;
};

inline result simulate(const setup& wanted) { return simulation(wanted).run(); }

}  // namespace weft::sim
