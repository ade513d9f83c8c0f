// SPDX-License-Identifier: Apache-2.0
// The monitor thread: no P, no goroutines; what nobody else looks after in time. Go: sysmon, retake.
//
// Each round: takes Ps from Ms that are away in a blocking call (tier off: this is how they are found at all; tier
// others: those whose sentinel is starved, and those that blocked without a word, too), and from those that have run a
// goroutine for a slice (kForcePreemptNs) while others wait, or timers are due, or files are ready; stops Ms that run
// without a P, and lets go on those that must (preempt.cpp); wakes an idle P when work waits that nobody was woken for;
// gives back what is not used (cold stacks, idle Ms); has questions from outside answered (export.h). It takes no
// foreign locks: no allocation, no stdio.
//
// Rounds come every 20 us (tier off) or 1 ms (sentinel) while they find something to do, half as often each time after
// 50 that did not, every 10 ms at least. While everything is idle it sleeps until it is called, or for a second.
//
// When no M has looked for ready files since the round before, because all Ps compute or nobody has the watch
// (watch.cpp), it spends its pause in the poller. What it finds goes to an idle P, or to one that has computed for
// kMinNap at least.
//
// It keeps out of the way of what it watches. An M that begins to run goroutines after all was idle does not wake it
// but sets its alarm for the end of the first round; waking it at once let it run before the M's own sentinel, 15 to 20
// us each time. Nor does it wake for a timer that the watcher wakes for.
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "runtime/clock.h"
#include "runtime/export.h"
#include "runtime/netpoll.h"
#include "runtime/proc.h"
#include "runtime/trace.h"

namespace weft::rt {
namespace {

constexpr std::int64_t kMicrosecond = 1000, kMillisecond = 1'000'000, kSecond = 1'000'000'000;
constexpr std::int64_t kMinNap = 50 * kMicrosecond;
constexpr std::int64_t kFirstPollLook = 100 * kMicrosecond;
constexpr std::int64_t kMaxDelay = 10 * kMillisecond;
constexpr std::uint64_t kSlice = 100 * kMicrosecond;  // the shortest that Linux grants
constexpr int kPatientRounds = 50;
constexpr long kUnseenSleeps = 5;
constexpr int kRegistrations = 5;
constexpr std::size_t kScavengeAtOnce = 8192;
constexpr std::int64_t kLongestWhileWatched = 20 * kMillisecond;  // somebody looks at us and waits

std::atomic<bool> trace_wanted{false}, probes_lost{false};
std::atomic<std::int64_t> sysmon_started{0};

struct p_watch {
  std::uint32_t schedtick = 0, call = 0;
  std::int64_t schedtick_since = 0, call_since = 0;
};

struct monitor {
  slot_lease slot;
  bpf::event last_event{0};               // of that slot
  long sleeps_then = 0;                   // when it was new
  int failed_registrations = 0;           // in a row
  std::int64_t dead_look = kMillisecond;  // until the next look for a deadlock while everything sleeps
  std::vector<p_watch> watches = std::vector<p_watch>(kMaxPs);
  std::int64_t delay = 0, next_trace = 0, next_tidy = 0;
  int idle_rounds = 0;
  bool computing = false;               // some goroutine has run since the last round
  bool poller_alone = false;            // nobody has looked there since the last round
  std::int64_t poll_delay = kMaxDelay;  // until the next look at whether somebody has
  int next_victim = 0;
};

// Not on its thread's stack: a leak checker in a forked child, which has no such thread, would call it lost.
auto& self = *new std::unique_ptr<monitor>;

std::int64_t first_delay() {
  return sched.tier.load(std::memory_order_relaxed) == assist::off ? 20 * kMicrosecond : kMillisecond;
}

// Go's rule: at the second look at the same call, unless nobody would run anything on that P for now.
bool retake(p* pp, const m* owner, p_watch& watch, std::int64_t now) {
  const std::uint32_t call = owner->claim.sequence();
  if (watch.call != call || watch.call_since == 0) {
    watch.call = call;
    watch.call_since = now;
    return false;
  }
  const bool others_can = pp->home->gate.nspinning() + pp->home->gate.nidle() > 0;
  if (pp->runq.empty() && (others_can || !any_work(*pp->home)) && now - watch.call_since < kForcePreemptNs)
    return false;
  if (!take_p_in_call(pp, false)) return false;
  handoffp(pp);
  return true;
}

// One that has blocked without a word, and whose sentinel is starved.
bool retake_unannounced(p* pp, m* owner) {
  if (sched.tier.load(std::memory_order_relaxed) == assist::off) return false;
  const whereabouts seen = owner->claim.look();
  if (seen.at != place::user || look_at(owner) != thread_state::blocked) return false;
  if (!take_p_in_user_code(pp, owner, seen, loss::blocked, false)) return false;
  handoffp(pp);
  return true;
}

// Busy meanwhile, for the deadlock detector: what is taken out of a heap is nowhere for a moment.
void run_others_timers(timer_heap& heap, std::int64_t now) {
  if (heap.first_when() > now - kMillisecond) return;
  sched.busy.begin();
  run_timers(heap, now);
  if (sched.busy.settle()) check_dead();
}

// Idle Ps would see to it otherwise.
bool others_wait_for(const p* pp) {
  if (surplus(pp)) return true;
  const node& home = *pp->home;
  return home.gate.nidle() == 0 && (!pp->runq.empty() || home.global_size.load(std::memory_order_acquire) != 0);
}

// Whether pp still runs the slice of the last round: nobody has come out of its queue since, or that was empty. A
// goroutine that has had its slice while others wait loses the P, and so does one that computes while timers are due,
// or files ready: no other P is free for them. So does one whose P somebody has begun to trace.
bool watch_slice(p* pp, p_watch& watch, std::int64_t now, bool& files_ready) {
  const std::uint32_t tick =
      pp->schedtick.load(std::memory_order_relaxed) - pp->out_of_turn.load(std::memory_order_relaxed);
  if (watch.schedtick != tick || watch.schedtick_since == 0) {
    watch.schedtick = tick;
    watch.schedtick_since = now;
    return false;
  }
  const bool used_up = now - watch.schedtick_since >= kForcePreemptNs;
  const bool timers_due = pp->timers.first_when() <= now;
  const bool wanted = timers_due || files_ready || trace_awaits(pp);
  if (used_up || wanted) pp->preempt.store(true, std::memory_order_relaxed);
  if ((wanted || (used_up && others_wait_for(pp))) && preempt_p(pp)) files_ready = false;  // one P is enough
  return true;
}

// Whether it waits inside the runtime, perhaps for a lock that is none of ours.
bool is_stuck(const m* owner, std::int64_t slice) {
  if (owner->claim.look().at != place::runtime) return false;
  return slice >= kForcePreemptNs || look_at(owner) == thread_state::blocked;  // such a lock may not sleep
}

bool watch_ps(monitor& mon, std::int64_t now) {
  bool useful = false;
  mon.computing = false;
  run_others_timers(foreign_heap, now);
  // See preempt.cpp: somebody is stopped, or is to be, and somebody waits for what that one may hold.
  const bool stops = any_bound() || sched.strays.load(std::memory_order_relaxed);
  bool stuck = stops && template_thread_is_stuck(now);
  const int n = sched.nps.load(std::memory_order_acquire);
  bool files_ready = netpoll.any_ready() && nidle_ps() == 0;
  if (files_ready) ++mon.next_victim;
  for (int k = 0; k < n; ++k) {
    const int i = (mon.next_victim + k) % n;
    p* const pp = p_at(i);
    p_watch& watch = mon.watches[static_cast<std::size_t>(i)];
    m* const owner = pp->owner.load(std::memory_order_acquire);
    if (!owner) {
      watch.call_since = 0;
    } else {
      const bool same_slice = watch_slice(pp, watch, now, files_ready);
      mon.computing |= same_slice;
      if (same_slice) {
        stuck |= stops && is_stuck(owner, now - watch.schedtick_since);
        useful |= retake_unannounced(pp, owner);
      }
      if (owner->claim.away()) useful |= retake(pp, owner, watch, now);
    }
  }
  sched.stuck.store(stuck, std::memory_order_relaxed);
  if (stuck)
    free_bound();
  else
    stop_strays();
  if (node* const neglected = neglected_node())
    wakep_foreign(*neglected);
  else
    call_watch();
  return useful;
}

// How often the kernel says that this thread has gone to sleep.
long sleeps_so_far() {
  rusage used{};
  getrusage(RUSAGE_THREAD, &used);
  return used.ru_nvcsw;
}

void lose_probes() {
  sched.tier.store(assist::sentinel, std::memory_order_relaxed);
  probes_lost.store(true, std::memory_order_release);
  wake_template_thread();
}

// The probes are believed for as long as they see sysmon's own sleeps. Not every kernel shows them every switch, so it
// takes a few in a row to lose faith. Ms are then judged through /proc.
void check_probes(monitor& mon) {
  const bpf::slot* const slot = mon.slot.get();
  if (!slot || sched.tier.load(std::memory_order_relaxed) != assist::bpf) return;
  const bpf::event now = bpf::read_event(*slot);
  const long sleeps = sleeps_so_far();
  if (now != mon.last_event) {
    mon.last_event = now;
    mon.sleeps_then = sleeps;
  } else if (sleeps - mon.sleeps_then >= kUnseenSleeps) {
    lose_probes();
  }
}

// Without a slot nobody would find out that the probes are lost.
void get_slot(monitor& mon) {
  if (mon.slot.get() || sched.tier.load(std::memory_order_relaxed) != assist::bpf) return;
  mon.slot.take(bpf::doing::idle);
  mon.failed_registrations = mon.slot.get() ? 0 : mon.failed_registrations + 1;
  if (mon.failed_registrations == kRegistrations) lose_probes();
}

int global_size() {
  int sum = 0;
  for (int i = 0, n = sched.nnodes.load(std::memory_order_acquire); i < n; ++i)
    sum += node_at(i).global_size.load(std::memory_order_relaxed);
  return sum;
}

void tidy(monitor& mon) {
  scavenge_stacks(kScavengeAtOnce);
  retire_idle_ms();
  get_slot(mon);
  ask_to_look_at_machine();
}

bool everything_idle() {
  return nidle_ps() >= sched.gomaxprocs.load(std::memory_order_relaxed) && sched.debug.schedtrace_ms == 0;
}

bool set_alarm(std::int64_t delay) {
  const itimerspec once{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = delay}};
  return timerfd_settime(sched.sysmon_alarm, 0, &once, nullptr) == 0;
}

// Until it is woken or called. Without the alarm, whoever calls wakes it. A note posted before the alarm was reset is
// seen here, and who posts later sets the alarm again.
void wait_for_call(std::int64_t until) {
  if (sched.sysmon_note.take() != note::kNothing) return;
  pollfd alarm{.fd = sched.sysmon_alarm, .events = POLLIN, .revents = 0};
  const std::int64_t rest = std::max<std::int64_t>(until - nanotime(), 0);
  const timespec timeout{.tv_sec = rest / kSecond, .tv_nsec = rest % kSecond};
  const bool polled = alarm.fd >= 0 && (ppoll(&alarm, 1, &timeout, nullptr) >= 0 || errno == EINTR);  // a debugger
  if (!polled || (alarm.revents & POLLNVAL) != 0)
    sched.sysmon_note.wait(until);
  else
    sched.sysmon_note.take();
}

// Until something calls for sysmon, a timer is long due (the watcher should have seen to it), or a second has passed.
void sleep_deeply(monitor& mon) {
  set_alarm(0);
  sched.sysmon_asleep.store(true, std::memory_order_seq_cst);
  const bool all_asleep = sched.busy.now() == 0;
  const std::int64_t usual = all_asleep ? mon.dead_look : kSecond;
  const std::int64_t longest = export_in_use(nanotime()) ? std::min(usual, kLongestWhileWatched) : usual;
  if (everything_idle()) wait_for_call(std::min(next_timer(), nanotime() + longest - kMaxDelay) + kMaxDelay);
  mon.dead_look = all_asleep ? std::min(mon.dead_look * 2, kSecond) : kMillisecond;
  if (sched.busy.now() == 0) check_dead();
  sched.sysmon_asleep.store(false, std::memory_order_seq_cst);
  mon.idle_rounds = 0;
  mon.delay = first_delay();
}

// Timers of a P whose goroutine computes are nobody's but sysmon's; so are files that are ready.
std::int64_t nap_end(const monitor& mon) {
  const std::int64_t now = nanotime(), usual = now + std::min(mon.delay, mon.poll_delay);
  if (!mon.computing) return usual;
  return netpoll.any_ready() ? now + kMinNap : std::clamp(next_timer(), now + kMinNap, usual);
}

// Who has served a file in this way is soon looked at again: perhaps it computes on. If others look, ever more rarely.
void watch_poller(monitor& mon) {
  mon.poller_alone = netpoll.find_neglected();
  if (!mon.poller_alone) mon.poll_delay = std::min(mon.poll_delay * 2, kMaxDelay);
}

bool nap_in_poller(monitor& mon, std::int64_t end) {
  // Who has just begun to compute is left alone for that long.
  if (sched.sysmon_note.wait(nanotime() + kMinNap) != note::kNothing) return true;
  if (!sched.sysmon_note.begin_elsewhere()) return true;
  netpoll.nap(end);
  const bool told = sched.sysmon_note.end_elsewhere() != note::kNothing;
  harvest files;
  netpoll.look_at_neglected(files);
  netpoll.put_ready(files);
  if (files.n != 0) mon.poll_delay = kFirstPollLook;
  return told;
}

void nap(monitor& mon, bool useful) {
  mon.idle_rounds = useful ? 0 : mon.idle_rounds + 1;
  if (mon.idle_rounds == 0)
    mon.delay = first_delay();
  else if (mon.idle_rounds > kPatientRounds)
    mon.delay = std::min(mon.delay * 2, kMaxDelay);
  const std::int64_t end = nap_end(mon);
  const bool in_poller = mon.poller_alone && !netpoll.any_ready();
  if (in_poller ? nap_in_poller(mon, end) : sched.sysmon_note.wait(end) != note::kNothing) mon.idle_rounds = 0;
}

// Once for a process: Ms of an ended run() may still call. A child of fork() would share its parent's.
void make_alarm() {
  static pid_t owner = 0;
  if (sched.sysmon_alarm >= 0 && owner == getpid()) return;
  if (sched.sysmon_alarm >= 0) close(sched.sysmon_alarm);
  sched.sysmon_alarm = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  owner = getpid();
}

// sched_setattr(2)'s. The C libraries have it from glibc 2.41 on, and linux/sched/types.h is at odds with sched.h.
struct sched_attributes {
  std::uint32_t size, policy;
  std::uint64_t flags;
  std::int32_t nice;
  std::uint32_t priority;
  std::uint64_t runtime, deadline, period;
};

// Among threads that compute, who wants little at a time is let in early (from Linux 6.12 on): a sleeper beside a loop
// on each P was woken 3.8 ms late (p99), and is 1.6 ms late.
void ask_for_short_slices() {
  if (sched_getscheduler(0) != SCHED_OTHER) return;  // a real-time program's is let in anyway
  sched_attributes wanted{};
  wanted.size = sizeof wanted;
  wanted.policy = SCHED_OTHER;
  wanted.nice = getpriority(PRIO_PROCESS, 0);
  wanted.runtime = kSlice;
  syscall(SYS_sched_setattr, 0, &wanted, 0);
}

void* sysmon_main(void*) {
  prctl(PR_SET_NAME, "weft-sysmon");
  prctl(PR_SET_TIMERSLACK, 1);
  ask_for_short_slices();
  self = std::make_unique<monitor>();
  monitor& mon = *self;
  mon.delay = first_delay();
  get_slot(mon);
  bool useful = true;
  while (!sched.sysmon_stop.load(std::memory_order_acquire)) {
    if (everything_idle())
      sleep_deeply(mon);
    else
      nap(mon, useful);
    const std::int64_t now = nanotime();
    sched.coarse_now.store(now, std::memory_order_relaxed);
    check_probes(mon);
    lose_patience_with_panics();
    if (export_wanted()) wake_template_thread();
    watch_poller(mon);
    useful = watch_ps(mon, now);
    if (sched.debug.schedtrace_ms > 0 && now >= mon.next_trace) {
      if (mon.next_trace != 0) {
        trace_wanted.store(true, std::memory_order_release);
        wake_template_thread();
      }
      mon.next_trace = now + sched.debug.schedtrace_ms * kMillisecond;
    }
    if (now >= mon.next_tidy) {
      if (mon.next_tidy != 0) tidy(mon);
      mon.next_tidy = now + kSecond;
    }
  }
  mon.slot.give_back();
  self.reset();
  return nullptr;
}

}  // namespace

void report_lost_probes() {
  if (!probes_lost.exchange(false, std::memory_order_acquire)) return;
  std::fputs("weft: kernel assist: the probes have stopped, going on with sentinels alone\n", stderr);
}

void trace_if_wanted() {
  if (!trace_wanted.exchange(false, std::memory_order_acquire)) return;
  std::string queues, ticks;
  for (int i = 0, n = sched.nps.load(std::memory_order_acquire); i < n; ++i) {
    if (surplus(p_at(i))) continue;
    queues += " " + std::to_string(p_at(i)->runq.size());
    ticks += " " + std::to_string(p_at(i)->schedtick.load(std::memory_order_relaxed));
  }
  std::fprintf(stderr,
               "SCHED %lldms: gomaxprocs=%d idleprocs=%d threads=%d spinningthreads=%d needspinning=0 idlethreads=%d "
               "runqueue=%d [%s ] schedticks=[%s ]\n",
               static_cast<long long>((nanotime() - sysmon_started.load(std::memory_order_relaxed)) / kMillisecond),
               sched.gomaxprocs.load(), nidle_ps(), sched.nms.load() + 1, nspinning_ms(), nidle_ms(), global_size(),
               queues.c_str(), ticks.c_str());
}

void wake_sysmon() {
  if (sched.sysmon_note.post_if_empty(1)) netpoll.interrupt_nap();
  if (sched.sysmon_alarm >= 0) set_alarm(1);
}

void call_sysmon() {
  if (!sched.sysmon_asleep.exchange(false, std::memory_order_seq_cst)) return;
  if (sched.tier.load(std::memory_order_relaxed) == assist::off || !set_alarm(first_delay())) wake_sysmon();
}

void start_sysmon() {
  sched.sysmon_stop.store(false, std::memory_order_relaxed);
  sched.coarse_now.store(nanotime(), std::memory_order_relaxed);
  sysmon_started.store(nanotime(), std::memory_order_relaxed);
  make_alarm();
  if (const int failed = create_thread(sched.sysmon_thread, nullptr, sysmon_main, nullptr))
    fatal_throw("", std::string("cannot start the monitor thread: ") + std::strerror(failed));
}

void stop_sysmon() {
  sched.sysmon_stop.store(true, std::memory_order_release);
  wake_sysmon();
  pthread_join(sched.sysmon_thread, nullptr);
}

}  // namespace weft::rt
