// SPDX-License-Identifier: Apache-2.0
// Preemption: a goroutine that calls nothing loses its P all the same. Go: preemptone, asyncPreempt; the way of it is
// Shiina's KLT-switching (PPoPP 2021).
//
// The P is taken by the protocol of claim.h and handed on at once, so those that wait need not wait for a signal. What
// is left is a thread that runs user code without a P, beside the one that has it now. SIGURG stops it: the handler
// parks the M, with its goroutine on it, wherever that was: in malloc, with a foreign lock held, in the middle of
// throwing. So the goroutine is bound to its M until it has run on: it waits in the global queue as one that is locked
// to its thread does (lockedm.cpp), and who finds it there gives its P to that M, which returns from the handler. If
// the handler comes too late, in the runtime, or never, the M gives way at its next runtime call (regain_p).
//
// A signal interrupts a blocking call, so it is sent to a thread that runs, and to no other. One that has blocked
// without a word (sentinel.cpp) runs again some time, without a P, and takes turns with the M that has it now. So while
// there are such strays, an M looks for them when it comes to the scheduler (stop_strays_at), and sysmon round by
// round.
//
// A parked M may hold a lock that the runtime itself needs: the allocator's, the dynamic linker's (a new thread takes
// it). Whoever then blocks in user code is no problem, its P moves on. One that blocks inside the runtime keeps its P,
// and if no other is left, nobody would ever run the M that has the lock. So when sysmon, which takes no foreign locks,
// sees an M or the template thread asleep inside the runtime, it lets all parked Ms go on without a P (free_bound), and
// stops none until that is over: one that is stopped again before it has given its lock back would never do so.
//
// The handler runs on the M's signal stack and calls nothing that takes a foreign lock or allocates. It interrupts user
// code only, where the M holds no lock of the runtime's (an entry has one begin and end in the runtime), so those it
// may take.
//
// A program that has a SIGURG handler of its own when run() begins gets all signals that are not ours passed on; one
// that installs its own later switches the handler off, and M's give way at their next call.
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cerrno>

#include "runtime/barrier.h"
#include "runtime/proc.h"
#include "runtime/switch.h"

namespace weft::rt {
namespace {

constexpr int kSignal = SIGURG;                 // Go's: a spurious one is harmless, and hardly anybody uses it
constexpr std::int64_t kStrayLookNs = 100'000;  // a look costs up to 0.5 us, a signal as much
constexpr std::uint32_t kStrayLookMs = 64;
struct sigaction earlier;

// Its address says that a signal is ours.
char mark;

// False: it is none.
bool stop_stray(const m* mp) {
  if (!mp->claim.taken() || mp->claim.look().at != place::user) return false;
  if (mp->parked.load(std::memory_order_relaxed)) return false;  // and if it leaves the handler, it says so
  if (look_at(mp) != thread_state::running) return true;
  siginfo_t info{};
  info.si_signo = kSignal;
  info.si_code = SI_QUEUE;
  info.si_value.sival_ptr = &mark;
  syscall(SYS_rt_tgsigqueueinfo, getpid(), mp->tid.load(std::memory_order_relaxed), kSignal, &info);
  return true;
}

// A goroutine that has just got a P while its M was parked in the handler goes on. False: its run() is over, and the P
// perhaps no more.
bool take_over(m* mp) {
  p* const pp = mp->next_p;
  {
    const visit inside;
    if (!inside.welcome) return false;
    acquirep(mp, pp);
    full_fence();  // pairs with the heavy barrier in stop_ms(): it sees the owner, or we see the run's end
    if (left_behind(mp->run)) {
      releasep(mp);
      return false;
    }
  }
  end_handoff(pp);
  settle_home(pp, mp->curg);
  begin_run(pp, mp->curg, false);
  trace_switch(mp, &mp->g0, mp->curg);
  return true;
}

void park_in_handler(m* mp, const void* interrupted) {
  g* const gp = mp->curg;
  mp->held = nullptr;
  mp->interrupted.store(interrupted, std::memory_order_release);  // read by frames_of()
  mp->parked.store(true, std::memory_order_relaxed);              // seen by whoever finds the goroutine in the queue
  gp->lockedm.store(mp, std::memory_order_relaxed);
  gp->cause = ready_cause::requeued;
  gp->status.store(g_status::preempted, std::memory_order_relaxed);
  std::uint32_t woken = kWakeToLook;
  if (globrunqput_bound(gp)) {
    wakep_foreign(node_at(gp->home));
    sched.busy.settle();  // not the last: the goroutine is in the queue
    // One that had the watch may be told to look at the timers: the goroutine is still in the queue then.
    do {
      woken = mp->sleep();
    } while (woken == kWakeToLook && !left_behind(mp->run));
  }
  // Of a goroutine whose run() is over others may still want to know: it may be in the queue, or in their hands.
  if (woken != kWakeToLook && !mp->lockedg.load(std::memory_order_relaxed))
    gp->lockedm.store(nullptr, std::memory_order_relaxed);
  const bool resumed = woken == kWakeWithP && take_over(mp);
  if (resumed) mp->claim.resume();
  mp->parked.store(false, std::memory_order_relaxed);
  if (!resumed) sched.strays.store(true, std::memory_order_release);  // pairs with stop_strays(): it is not parked
}

// Not in the child of a fork, which is no M: ThreadSanitizer hands it there what has come to its parent.
bool may_be_parked(const m* mp) {
  return mp->claim.look().at == place::user && mp->claim.taken() && !left_behind(mp->run) &&
         mp->tid.load(std::memory_order_relaxed) == gettid();
}

void on_signal(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  m* const mp = this_m();
  if (mp && may_be_parked(mp)) park_in_handler(mp, context);
  errno = saved;
  if (info->si_code == SI_QUEUE && info->si_value.sival_ptr == &mark) return;
  if ((earlier.sa_flags & SA_SIGINFO) != 0)
    earlier.sa_sigaction(signal, info, context);
  else if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN)
    earlier.sa_handler(signal);
}

}  // namespace

void install_preemption() {
  struct sigaction ours {};
  ours.sa_sigaction = on_signal;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigfillset(&ours.sa_mask);
  sigdelset(&ours.sa_mask, SIGSEGV);
  sigdelset(&ours.sa_mask, SIGBUS);
  sigaction(kSignal, &ours, &earlier);
}

void remove_preemption() { sigaction(kSignal, &earlier, nullptr); }

bool take_p_in_user_code(p* pp, m* victim, whereabouts seen, loss why, bool same_cpu) {
  if (!take_p(pp, victim, seen, why, same_cpu)) return false;
  sched.strays.store(true, std::memory_order_release);  // pairs with stop_strays(): it sees that the P is taken
  return true;
}

void free_bound() {
  for (;;) {
    sched.busy.begin();  // its M, as after take_p(): before the goroutine is in no queue
    g* const gp = globrunqget_bound();
    if (!gp) break;
    m* const mp = gp->lockedm.load(std::memory_order_relaxed);
    gp->status.store(g_status::running, std::memory_order_relaxed);
    mp->wake.post(kWakeToGoOn);
  }
  if (sched.busy.settle()) check_dead();
}

void free_left_behind() {
  settle_global_queues();  // whoever has queued its goroutine is seen; the others see that the run() is over
  const std::uint32_t ms = sched.nms_ever.load(std::memory_order_acquire);
  for (std::uint32_t id = 0; id < ms; ++id) {
    m* const mp = sched.allm[id].load(std::memory_order_acquire);
    if (mp && mp->parked.load(std::memory_order_relaxed)) mp->wake.post_if_empty(kWakeToLook);
  }
}

// The next of all Ms, a few at a time: with thousands of blocked ones sysmon's rounds must do.
void stop_strays_at(p* pp, std::int64_t now) {
  if (now < pp->strays_next) return;
  pp->strays_next = now + kStrayLookNs;
  const visit inside;
  if (!inside.welcome || sched.stuck.load(std::memory_order_relaxed)) return;
  const std::uint32_t ms = sched.nms_ever.load(std::memory_order_acquire);
  for (std::uint32_t n = std::min(ms, kStrayLookMs); n > 0; --n) {
    const m* const mp = sched.allm[pp->stray_look++ % ms].load(std::memory_order_acquire);
    if (mp) stop_stray(mp);
  }
}

bool preempt_p(p* pp) {
  m* const victim = pp->owner.load(std::memory_order_acquire);
  if (!victim) return false;
  const whereabouts seen = victim->claim.look();
  if (seen.at != place::user || !take_p_in_user_code(pp, victim, seen, loss::computed, false)) return false;
  pp->preemptions.add(1);
  stop_stray(victim);
  handoffp(pp);
  return true;
}

void stop_strays() {
  if (!sched.strays.exchange(false, std::memory_order_acquire)) return;
  bool left = false;
  const std::uint32_t ms = sched.nms_ever.load(std::memory_order_acquire);
  for (std::uint32_t id = 0; id < ms; ++id) {
    const m* const mp = sched.allm[id].load(std::memory_order_acquire);
    left |= mp && stop_stray(mp);
  }
  if (left) sched.strays.store(true, std::memory_order_relaxed);
}

}  // namespace weft::rt
