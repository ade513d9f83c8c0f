// SPDX-License-Identifier: Apache-2.0
// run(): sets the scheduler up, runs main, takes everything down again. Go: schedinit, runtime.main.
//
// The end of a run() is the moment that sched.run goes up, right after main has returned. From then on every M, P and
// goroutine that has the old number is left behind: it is never scheduled again, waking it does nothing, and its M
// leaves at its next runtime call. So run() need not wait for goroutines that compute or are blocked, and the next
// run() is not disturbed by them. Parked ones keep their stacks for ever: other objects may still point there.
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "bpf/capabilities.h"
#include "numa/topology.h"
#include "runtime/auto_mode.h"
#include "runtime/barrier.h"
#include "runtime/clock.h"
#include "runtime/env.h"
#include "runtime/export.h"
#include "runtime/file_ring.h"
#include "runtime/flight_recorder.h"
#include "runtime/gomaxprocs.h"
#include "runtime/metrics.h"
#include "runtime/netpoll.h"
#include "runtime/park.h"
#include "runtime/poll_desc.h"
#include "runtime/report.h"
#include "runtime/trace_file.h"

namespace weft::rt {

scheduler sched;

namespace {

std::atomic<bool> entered{false};
std::atomic<int> allowed_cpus{0}, allowed_nodes{0};

// TSan starts a thread of its own beside the first of ours.
#if defined(__SANITIZE_THREAD__)
constexpr int kSanitizerThreads = 1;
#else
constexpr int kSanitizerThreads = 0;
#endif

// Threads that were there before main(). They never call into weft.
int count_threads() {
  struct stat status;
  return stat("/proc/self/task", &status) == 0 ? static_cast<int>(status.st_nlink) - 2 : 1;
}
const int kThreadsAtStart = count_threads();

std::unique_ptr<const numa::topology>& described = *new std::unique_ptr<const numa::topology>;

int nodes_with_cpus(const numa::topology& machine) {
  int n = 0;
  for (const numa::node& node : machine.nodes()) n += node.cpus.empty() ? 0 : 1;
  return std::max(n, 1);
}

// An empty mask is never taken, but is refused in another way where no mask is. No real one is tried: this thread is to
// keep what it has, for those that it starts (see machine_watch.cpp).
bool can_pin() {
  const cpu_set_t none{};
  return sched_setaffinity(0, sizeof none, &none) == 0 || errno == EINVAL;
}

bool are_there(const std::vector<int>& cpus) {
  const std::vector<int> allowed = numa::allowed_cpus();
  return std::all_of(cpus.begin(), cpus.end(),
                     [&](int number) { return std::binary_search(allowed.begin(), allowed.end(), number); });
}

// Where Ms are not pinned nothing is known of who is where.
numa::topology as_one_cpu(const numa::topology& machine) {
  const int first = machine.cpus().front();
  return numa::topology({.nodes = {{machine.node_of_cpu(first), {}, 0}}, .cpus = {*machine.find_cpu(first)}});
}

// Nodes that the environment names and that are not there: said once, then the others count.
void report_unknown_nodes(const numa::ps_wish& wish, const numa::topology& machine) {
  for (const numa::node_ps& each : wish.on_nodes)
    if (!numa::has_cpus(machine, each.node))
      std::fprintf(stderr, "weft: GOMAXPROCS: node%d has no CPUs for us: going on without it\n", each.node);
}

// Whoever asks for the probes by name does not want to go on without. Whoever has not asked, and has never had a chance
// to get them, is not told.
void choose_tier(settings& wanted) {
  if (wanted.tier != assist::bpf) return;
  std::string why_not;
  const bool had_a_chance = bpf::may_load() || std::getenv("WEFT_BPF_FDS");  // loading changes both
  if (open_state_page(wanted.debug.kernel_costs, why_not)) return;
  wanted.tier = assist::sentinel;
  if (wanted.tier_by_name) insist(why_not);
  if (had_a_chance)
    std::fprintf(stderr, "weft: kernel assist: no probes, going on with sentinels alone: %s\n", why_not.c_str());
}

void set_up_machine(settings& wanted) {
  const numa::topology machine = described ? *described : numa::topology::discover();
  if (described && !are_there(machine.cpus())) {
    wanted.pin = false;
    wanted.tier = assist::off;
  }
  if (wanted.pin && !can_pin()) {
    if (wanted.tier == assist::bpf && wanted.tier_by_name) insist("sched_setaffinity is refused");
    std::fputs("weft: sched_setaffinity is refused: threads are not pinned, kernel assist is off\n", stderr);
    wanted.pin = false;
    wanted.tier = assist::off;
  }
  allowed_cpus.store(static_cast<int>(machine.cpus().size()));
  allowed_nodes.store(nodes_with_cpus(machine));
  report_unknown_nodes(wanted.ps, machine);
  if (!wanted.pin && !described) wanted.ps = {numa::count_ps(numa::placement_of(wanted.ps, machine)), {}};
  forget_machine();
  use_machine(wanted.pin || described ? machine : as_one_cpu(machine), wanted.pin);
}

void set_up(settings& wanted) {
  init_clock();
  open_report();
  init_barriers();
  set_default_stack_size(wanted.stack_size ? wanted.stack_size : kDefaultStackSize);
  set_up_machine(wanted);
  choose_tier(wanted);
  sched.tier.store(wanted.tier);
  reset_kernel_metrics();
  sched.pinned = wanted.pin;
  sched.debug = wanted.debug;
  write_metrics_to(wanted.metrics_file);
  sched.baseline_threads = std::max(kThreadsAtStart - 1, kSanitizerThreads);
  sched.busy.reset();
  sched.idle_nodes.store(0);
  sched.strays.store(false);
  sched.stuck.store(false);
  sched.nms.store(0);
  sched.nms_leaving.store(0);
  sched.nms_ever.store(0);
  sched.dead_ms.reset();
  sched.watcher.store(nullptr);
  sched.watch_until.store(kNever);
  netpoll.leave_parents();
  netpoll.forget_ready();
  sched.next_id.store(1);
  sched.created_elsewhere.store(0);
  sched.main_done.store(false);
  start_watching_machine();
  start_adapting();
  place_ps(wanted.ps);
}

struct main_call {
  void (*fn)(void*);
  void* argument;
  const std::string* metrics_address;
};

// The last thing that main's goroutine does: the run() is over.
void main_returned() {
  wait_for_panics();
  wait_if_dying();
  m* const mp = come_in(this_m());
  sched.active.store(false, std::memory_order_seq_cst);
  sched.main_done.store(true, std::memory_order_seq_cst);
  sched.run.fetch_add(1, std::memory_order_seq_cst);
  mp->ran_main = true;
  mp->through_scheduler = true;  // not to the next goroutine: this M leaves
}

void main_goroutine(void* storage, detail::closure_op op) {
  if (op != detail::closure_op::run) return;
  const main_call call = *static_cast<main_call*>(storage);
  serve_metrics_at(*call.metrics_address);
  call.fn(call.argument);
  stop_serving_metrics();
  main_returned();
}

// m0 gets the P of number 0 and main as the goroutine to begin with: through no queue, where an idle M could get at it.
void start_main(m* m0, const settings& wanted, main_call call) {
  p* const pp = p_at(0);
  pp->home->gate.take_idle(0);
  m0->c = pp->c;
  become_m(m0);
  acquirep(m0, pp);
  sched.active.store(true, std::memory_order_release);
  go_options options;
  options.stack_size = wanted.stack_size ? wanted.stack_size : kMainStackSize;
  const detail::new_goroutine fresh = detail::newproc(options, sizeof(main_call), alignof(main_call));
  fresh.g->creator_pc = 0;
  ::new (fresh.storage) main_call(call);
  newproc_ready(pp, fresh.g, main_goroutine);
  fresh.g->is_main = true;
  m0->next_g = fresh.g;
}

void take_down(m* m0) {
  free_left_behind();  // what they hold may be waited for
  stop_export();
  stop_template_thread();
  stop_tracing();
  stop_sysmon();
  stop_sentinels();
  stop_ms();
  stop_file_ring();  // before stacks are given back that the kernel may write to
  if (m0->held) releasep(m0);
  free_turns_left_behind();
  sched.gone.store(m0->run, std::memory_order_release);
  cease_to_be_m(m0);
  drop_global_queues();
  delete_ps_keeping_metrics();
  write_last_metrics();
}

// What run() changes about the calling thread, and gives back: its CPUs and its timer slack.
class thread_state_guard {
 public:
  thread_state_guard() : slack_(prctl(PR_GET_TIMERSLACK)) {
    while (sched_getaffinity(0, CPU_ALLOC_SIZE(cpus_), mask()) != 0 && cpus_ < (1u << 20)) {
      cpus_ *= 2;
      words_.assign(CPU_ALLOC_SIZE(cpus_) / sizeof(unsigned long), 0);
    }
  }
  ~thread_state_guard() {
    sched_setaffinity(0, CPU_ALLOC_SIZE(cpus_), mask());
    if (slack_ > 0) prctl(PR_SET_TIMERSLACK, slack_);
  }

 private:
  cpu_set_t* mask() { return reinterpret_cast<cpu_set_t*>(words_.data()); }
  int slack_;
  std::size_t cpus_ = 1024;
  std::vector<unsigned long> words_ = std::vector<unsigned long>(CPU_ALLOC_SIZE(1024) / sizeof(unsigned long));
};

}  // namespace

void pretend_machine(const numa::topology* wanted) {
  described = wanted ? std::make_unique<const numa::topology>(*wanted) : nullptr;
}

int num_allowed_cpus() {
  if (allowed_cpus.load() == 0) allowed_cpus.store(static_cast<int>(numa::topology::discover().cpus().size()));
  return allowed_cpus.load();
}

int num_allowed_nodes() {
  if (allowed_nodes.load() == 0) allowed_nodes.store(nodes_with_cpus(numa::topology::discover()));
  return allowed_nodes.load();
}

}  // namespace weft::rt

namespace weft::detail {

using namespace weft::rt;

void run_main(const run_options& options, void (*main_fn)(void*), void* argument) {
  if (is_forked_child()) end_forked_child();
  if (this_m() || entered.exchange(true)) throw error("run: a run() is active already");
  watch_forks();
  settings wanted = read_settings(options);
  const thread_state_guard calling_thread;
  set_up(wanted);
  pthread_sigmask(SIG_SETMASK, nullptr, &sched.sigmask);
  m* const m0 = make_m();
  if (!m0) throw std::bad_alloc();
  m0->run = sched.run.load();
  m0->is_m0 = m0->through_scheduler = true;
  sched.m0 = m0;
  sched.nms.store(1);
  install_handlers();
  install_preemption();
  start_export();
  start_recorder(wanted.recorder);
  start_template_thread();  // these two before this thread is pinned: they are not to be
  start_sysmon();
  start_main(m0, wanted, {main_fn, argument, &wanted.metrics_address});
  wake_sysmon();
  schedule(m0);
  take_down(m0);
  report_metrics();
  stop_recorder();
  remove_preemption();
  restore_handlers();
  delete m0;
  sched.m0 = nullptr;
  wait_if_dying();
  entered.store(false);
}

}  // namespace weft::detail
