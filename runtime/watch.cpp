// SPDX-License-Identifier: Apache-2.0
// What idle Ms do: all but one sleep on the stack of their CPU until they are given a P, or are to take one from an M
// that has blocked there; the one that has the watch sleeps until the next timer is due, or a file is ready, or it is
// given a P. Go: stopm, notewakeup, and the M that blocks in netpoll at the end of findRunnable.
//
// Whoever goes idle takes the watch if nobody has it, some P is idle, and there is something to watch; without an idle
// P those that run look for themselves, and sysmon does (find.cpp, sysmon.cpp). There is one watch for all nodes. Who
// has it is not on the stack meanwhile, so it can itself go on with an idle P of its CPU when something happens. If its
// CPU has no idle P, another one's M is woken for it, on the node of the timer; files that are ready wait in the
// poller's list then.
//   Watcher: 1. watch_until = the first timer; 2. heavy barrier; 3. looks at the timers again; sleeps until then
//   Who starts a timer that is the first: 1. puts it into its heap; 2. light barrier; 3. due before watch_until? Then
//            it tells the watcher; or, if there is none and it is due soon, or sysmon is fast asleep, wakes somebody
//            who will find the watch vacant
// watch_until is kNever while there is no timer, so the first one is always told, and the barrier can be left out then.
// A file that is ready is remembered by the kernel, so nothing has to be looked at again for that. Who registers the
// first file tells the watcher, which may sleep where files cannot wake it.
//
// The watcher is given a P, as the last M of its CPU that can be, by claiming it (note::claim): it stays the watcher
// until it is awake, so the poller's interrupts are for one M at a time. The sentinel claims nobody: it may be stopped
// for long before it posts what it has to say, and a watcher must not wait for that.
//
// When the watcher goes off with a P, nobody is woken to take its place at once, unless a timer is due within
// kBeforeLong: waking a thread for each request costs more than the request. If the watch stays vacant for longer
// sysmon stands in: it polls itself, and calls somebody when a timer comes near.
#include <algorithm>

#include "runtime/barrier.h"
#include "runtime/clock.h"
#include "runtime/netpoll.h"
#include "runtime/park.h"

namespace weft::rt {
namespace {

constexpr std::int64_t kTimerRetryNs = 100'000;
constexpr std::int64_t kBeforeLongNs = 20'000'000;  // sysmon looks twice meanwhile

bool due_before_long(std::int64_t when) { return when != kNever && when - nanotime() < kBeforeLongNs; }

bool stays(const m* mp) { return !left_behind(mp->run) && !mp->told_to_exit.load(std::memory_order_acquire); }

// Some node whose P has timers that are due; else that of the M.
node& node_of_due_timers(const m* mp) {
  const std::int64_t now = nanotime();
  for (int i = 0, n = sched.nps.load(std::memory_order_acquire); i < n; ++i)
    if (p_at(i)->timers.first_when() <= now) return nearest_with_ps(*p_at(i)->home);
  return nearest_with_ps(*mp->c->home);
}

bool take_the_watch(m* mp) {
  if (sched.idle_nodes.load(std::memory_order_acquire) <= 0) return false;
  const std::int64_t when = next_timer();
  if (when == kNever && !netpoll.active(std::memory_order_seq_cst)) return false;
  m* holder = nullptr;
  if (sched.watcher.compare_exchange_strong(holder, mp, std::memory_order_seq_cst)) return true;
  if (when < sched.watch_until.load(std::memory_order_acquire)) holder->rouse_if_not_yet(kWakeToLook);
  return false;
}

void give_up_the_watch() {
  sched.watch_until.store(kNever, std::memory_order_release);
  sched.watcher.store(nullptr, std::memory_order_seq_cst);
}

std::int64_t publish_first_timer() {
  std::int64_t when = next_timer();
  if (when == kNever) return kNever;
  sched.watch_until.store(when, std::memory_order_seq_cst);
  hardware::heavy_barrier();  // pairs with the light barrier in poke_watcher(): a timer added now is seen here or there
  when = next_timer();
  sched.watch_until.store(when, std::memory_order_release);
  return when;
}

// What it has been told, or nothing: the time has come, or files are ready.
std::uint32_t sleep_on_watch(m* mp, std::int64_t until, harvest& files) {
  const idle_mark mark(mp);
  // seq_cst: the first file is seen here, or who registers it sees the watcher, and tells it.
  if (!netpoll.active(std::memory_order_seq_cst)) return mp->wake.wait_claimable(until);
  if (!mp->wake.begin_elsewhere()) return mp->wake.wait();
  netpoll.set_watched(true);
  const bool interrupted = netpoll.wait(until, files);
  netpoll.set_watched(false);
  const std::uint32_t told = mp->wake.end_elsewhere();
  if (told != note::kNothing && !interrupted) netpoll.await_interrupt();
  return told;
}

void start_with(m* mp, p* pp) {
  acquirep(mp, pp);
  if (sched.sysmon_asleep.load(std::memory_order_relaxed)) call_sysmon();
}

void take_given_p(m* mp) {
  if (mp->next_spinning) mp->c->costs->wake.add(ticks_to_ns(cputicks() - mp->woken_ticks));
  start_with(mp, mp->next_p);
  mp->spinning = mp->woken_to_spin = mp->next_spinning;
}

// An idle P of the M's CPU, which counts as busy from now on; null: there is none.
p* take_idle_p_here(m* mp) {
  const int n = mp->c->nps.load(std::memory_order_acquire);
  for (int i = 0; i < n; ++i) {
    p* const pp = mp->c->ps[static_cast<std::size_t>(i)].load(std::memory_order_acquire);
    if (!surplus(pp) && pp->home->gate.take_idle(pp->id)) return pp;
  }
  return nullptr;
}

// Sleeps once, as the watcher. `not_before`: timers that are due are somebody else's until then.
void keep_watch(m* mp, std::int64_t& not_before) {
  harvest files;
  const std::int64_t until = std::max(publish_first_timer(), not_before);
  const std::uint32_t told = sleep_on_watch(mp, until, files);
  give_up_the_watch();
  const bool timers_due = until != kNever && nanotime() >= until;
  const bool wanted = timers_due || files.n != 0;
  p* const idle = wanted && told == note::kNothing && stays(mp) ? take_idle_p_here(mp) : nullptr;
  if (told == kWakeWithP)
    take_given_p(mp);
  else if (idle)
    start_with(mp, idle);
  if (mp->held) return netpoll.put_to_work(mp->held, files);
  netpoll.put_ready(files);
  not_before = timers_due ? nanotime() + kTimerRetryNs : 0;
  // Perhaps another CPU's P is idle; if not, those that run will see to it.
  if (wanted) wake_spinner(timers_due ? node_of_due_timers(mp) : nearest_with_ps(*mp->c->home), mp->c);
}

// Until it has a P, or is to look for the watch again.
void sleep_on_stack(m* mp) {
  mp->c->idle_ms.push(mp->id);
  while (stays(mp)) {
    const std::uint32_t told = mp->sleep();
    if (told == kWakeWithP) return take_given_p(mp);
    if (told == kWakeToTake) {
      take_as_told(mp);
      return;
    }
  }
}

}  // namespace

void m::rouse(std::uint32_t what) {
  if (wake.post(what)) netpoll.interrupt();
}

void m::rouse_if_not_yet(std::uint32_t what) {
  if (wake.post_if_empty(what)) netpoll.interrupt();
}

void stopm(m* mp) {
  cpu& c = *mp->c;
  c.nidle_ms.fetch_add(1, std::memory_order_relaxed);
  bool had_watch = false;
  std::int64_t not_before = 0;
  while (!mp->held && stays(mp)) {
    if (take_the_watch(mp)) {
      had_watch = true;
      keep_watch(mp, not_before);
    } else {
      sleep_on_stack(mp);
    }
  }
  c.nidle_ms.fetch_sub(1, std::memory_order_relaxed);
  if (had_watch && !mp->spinning && due_before_long(next_timer())) wakep_foreign(nearest_with_ps(*mp->c->home));
}

bool give_to_watcher(p* pp, bool spinning) {
  m* const watcher = sched.watcher.load(std::memory_order_acquire);
  if (!watcher || watcher->c != pp->c || !watcher->wake.claim()) return false;
  give_p(watcher, pp, spinning);
  return true;
}

void poke_watcher(std::int64_t when) {
  hardware::light_barrier();  // pairs with the heavy barrier in publish_first_timer()
  if (when >= sched.watch_until.load(std::memory_order_acquire)) return;
  const visit inside;  // the watcher may be of a run() that has just ended
  if (!inside.welcome) return;
  if (m* const watcher = sched.watcher.load(std::memory_order_acquire))
    watcher->rouse_if_not_yet(kWakeToLook);
  else if (due_before_long(when) || sched.sysmon_asleep.load(std::memory_order_seq_cst))
    wakep_foreign(node_of_thread());  // sysmon has chosen how long to sleep without this timer
}

void poke_watcher() {
  const visit inside;
  if (!inside.welcome) return;
  // seq_cst, with who takes the watch and then looks for files.
  if (m* const watcher = sched.watcher.load(std::memory_order_seq_cst)) watcher->rouse_if_not_yet(kWakeToLook);
}

void call_watch() {
  if (sched.watcher.load(std::memory_order_seq_cst)) return;
  if (netpoll.active() || due_before_long(next_timer())) wakep_foreign(node_of_thread());
}

}  // namespace weft::rt
