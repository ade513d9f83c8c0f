// SPDX-License-Identifier: Apache-2.0
// Ms as threads: making them, pinning them, ending them. Go: newm, templateThread, mexit, checkmcount.
//
// A new thread inherits its maker's signal mask, namespaces, and more, and making it takes foreign locks. So only the
// template thread does it, and others ask it to (request_m). Signals are blocked meanwhile, until the thread has its
// signal stack.
//
// Idle Ms end after a while, but for a few on each CPU (retire_idle_ms, by sysmon). Their structs are used again.
#include <cxxabi.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <new>
#include <vector>

#include "runtime/barrier.h"
#include "runtime/proc.h"
#include "runtime/sanitizer.h"

namespace weft::rt {
namespace {

constexpr int kKeptIdleMs = 4;  // on each CPU
constexpr std::size_t kThreadStack = 256 << 10;

// Initial-exec: one instruction to reach, also from a shared library. Only here.
__attribute__((tls_model("initial-exec"))) thread_local m* current_m = nullptr;

void note_stack_bounds(m* mp) {
  if constexpr (!kAddressSanitizer) return;
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return;
  void* low;
  std::size_t size;
  pthread_attr_getstack(&attributes, &low, &size);
  pthread_attr_destroy(&attributes);
  mp->g0_stack.base = static_cast<std::byte*>(low);
  mp->g0_stack.size = size;
  register_roots(low, size);  // exit() may come while a goroutine runs here: LeakSanitizer then scans that one's stack
}

// The thread ends: who frees the struct?
void end_thread(m* mp) {
  cease_to_be_m(mp);
  p* orphan = nullptr;
  bool own = false;
  {
    lock_guard hold(sched.lock);
    if (p* const pp = mp->held) {
      mp->held = nullptr;
      pp->owner.store(nullptr, std::memory_order_release);
      if (pp->dropped) orphan = pp;
    }
    own = mp->zombie;
    if (!own && !left_behind(mp->run)) {  // retired, or a locked goroutine ended: nobody will join it
      pthread_detach(pthread_self());
      mp->dead = true;
      sched.nms.fetch_sub(1, std::memory_order_relaxed);
      sched.nms_leaving.fetch_sub(1, std::memory_order_release);
      sched.dead_ms.push(mp->id);
    }
  }
  if (orphan) delete_p(orphan);
  if (!own) return;
  { lock_guard wait(sched.ending_lock); }  // start_lockedm() may be looking
  delete mp;
}

// Did stop_ms() find this M in user code? Then nobody waits for it. If not, m0 is there until this thread ends: from
// schedule() on `scheduling` is set.
bool is_zombie(m* mp) {
  lock_guard hold(sched.lock);
  return mp->zombie;
}

void* m_main(void* argument) {
  m* const mp = static_cast<m*>(argument);
  become_m(mp);
  if (mp->next_p) {
    acquirep(mp, mp->next_p);
    mp->spinning = mp->woken_to_spin = mp->next_spinning;
  } else {
    mp->c->coming_ms.fetch_sub(1, std::memory_order_relaxed);  // here, so no sentinel of this CPU runs before it sleeps
  }
  schedule(mp);
  if (mp->held && !left_behind(mp->run)) handoffp(releasep(mp));
  if (mp->ran_main && !is_zombie(mp)) {  // m0 may have seen the run()'s end by itself
    if (mp->held) releasep(mp);
    sched.m0->rouse(kWakeToLook);
  }
  end_thread(mp);
  return nullptr;
}

// Where a thread may run. Takes no memory: neither who starts nor who gives a P (lockedm.cpp) must wait for the
// allocator's locks.
class cpu_mask {
 public:
  static cpu_mask of(int tid) {
    cpu_mask mask;
    syscall(SYS_sched_getaffinity, tid, sizeof mask.words_, mask.words_.data());
    return mask;
  }
  static cpu_mask only(int cpu) {
    cpu_mask mask;
    mask.words_[word_of(cpu)] = bit_of(cpu);
    return mask;
  }
  bool has(int cpu) const { return (words_[word_of(cpu)] & bit_of(cpu)) != 0; }
  bool operator==(const cpu_mask&) const = default;
  bool give_to(int tid) const { return syscall(SYS_sched_setaffinity, tid, sizeof words_, words_.data()) == 0; }

 private:
  static constexpr std::size_t kBits = 8 * sizeof(unsigned long);
  static std::size_t word_of(int cpu) { return static_cast<std::size_t>(cpu) / kBits; }
  static unsigned long bit_of(int cpu) { return 1ul << static_cast<std::size_t>(cpu) % kBits; }

  std::array<unsigned long, 8192 / kBits> words_{};
};

void too_many_ms() {
  fatal("thread exhaustion", "runtime: program exceeds " + std::to_string(sched.debug.max_ms) + "-thread limit\n");
}

bool make_thread(m* mp) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes,
                            std::max<std::size_t>(kThreadStack, PTHREAD_STACK_MIN) * (kAddressSanitizer ? 8 : 1));
  const int failed = create_thread(mp->thread, &attributes, m_main, mp);
  pthread_attr_destroy(&attributes);
  if (failed == 0) return true;
  static std::atomic<bool> said{false};
  if (!said.exchange(true))
    std::fprintf(stderr,
                 "weft: no new thread (have %d already): %s; going on with those there are (ulimit -u, "
                 "kernel.threads-max, pids.max)\n",
                 sched.nms.load(), std::strerror(failed));
  return false;
}

}  // namespace

[[gnu::noinline]] m* this_m() noexcept {
  asm volatile("");  // never folded into one call over a switch
  return current_m;
}

[[gnu::noinline]] void set_this_m(m* mp) noexcept {
  asm volatile("");
  current_m = mp;
}

[[gnu::noinline]] void set_errno(int value) noexcept {
  asm volatile("");
  errno = value;
}

std::atomic<std::uint32_t>& m_link::operator()(std::uint32_t id) const {
  return sched.allm[id].load(std::memory_order_acquire)->idle_link;
}

bool is_on(const cpu& c) { return sched_getcpu() == c.number; }

bool is_bound_to(int tid, const cpu& c) {
  const int cpu = c.number;
  return cpu >= 0 && cpu_mask::of(tid) == cpu_mask::only(cpu);
}

bool pin_thread(int tid, int cpu) { return cpu >= 0 && cpu_mask::only(cpu).give_to(tid); }

bool come_home(int cpu) { return cpu >= 0 && cpu_mask::of(0).has(cpu) && pin_thread(0, cpu); }

// Under the lock, a thread whose M is not dead has not ended, so its number is its own.
void pin_again() {
  for (std::uint32_t id = 0, n = sched.nms_ever.load(std::memory_order_acquire); id < n; ++id) {
    lock_guard hold(sched.lock);
    m* const mp = sched.allm[id].load(std::memory_order_acquire);
    if (!mp || mp->dead || mp->zombie || mp->tid.load(std::memory_order_relaxed) == 0) continue;
    mp->pinned.store(pin_thread(mp->tid, mp->c->number), std::memory_order_relaxed);
  }
  pin_sentinels_again();
}

int create_thread(pthread_t& thread, const pthread_attr_t* attributes, void* (*main)(void*), void* argument) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int failed = pthread_create(&thread, attributes, main, argument);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return failed;
}

// A struct of a thread that has ended, or a new one.
m* make_m() {
  std::uint32_t id = sched.dead_ms.pop();
  if (id != idle_stack<m_link>::kNone) {
    m* const mp = sched.allm[id].load(std::memory_order_relaxed);
    lock_guard hold(sched.lock);
    mp->reset();
    return mp;
  }
  id = sched.nms_ever.load(std::memory_order_relaxed);
  if (id >= sched.allm.size()) too_many_ms();
  m* const mp = new (std::nothrow) m(id);
  if (!mp) return nullptr;
  sched.allm[id].store(mp, std::memory_order_release);
  sched.nms_ever.store(id + 1, std::memory_order_release);
  return mp;
}

void become_m(m* mp) {
  current_m = mp;
  mp->tid = static_cast<int>(syscall(SYS_gettid));
  mp->pinned.store(pin_thread(0, mp->c->number), std::memory_order_relaxed);
  prctl(PR_SET_TIMERSLACK, 1);
  mp->eh = reinterpret_cast<eh_globals*>(abi::__cxa_get_globals());
  note_stack_bounds(mp);
  mp->g0_stack.fiber = current_fiber();
  mp->g0.stk = &mp->g0_stack;
  mp->curg = &mp->g0;
  give_signal_stack(mp);
  mp->slot.take();
  if (!mp->is_m0) {
    char name[16];
    std::snprintf(name, sizeof name, "weft-m%u", mp->id % 100000);
    prctl(PR_SET_NAME, name);
    pthread_sigmask(SIG_SETMASK, &sched.sigmask, nullptr);
  }
}

void cease_to_be_m(m* mp) {
  if (mp->g0_stack.base) unregister_roots(mp->g0_stack.base, mp->g0_stack.size);
  take_signal_stack(mp);
  mp->slot.give_back();
  current_m = nullptr;
}

void tell_to_exit(m* mp) {
  sched.nms_leaving.fetch_add(1, std::memory_order_relaxed);
  mp->told_to_exit.store(true, std::memory_order_release);
}

namespace {

// A new M on c with its thread, for pp (null: it goes idle). False: refused by the system, or the run() is over.
bool newm(cpu& c, p* pp, bool spinning) {
  const std::uint32_t run = sched.run.load(std::memory_order_acquire);  // before `active`
  if (!sched.active.load(std::memory_order_acquire)) return false;
  const int leaving = sched.nms_leaving.load(std::memory_order_acquire);  // on a busy CPU that may take them a while
  if (sched.nms.load(std::memory_order_relaxed) - leaving >= sched.debug.max_ms) too_many_ms();
  m* const mp = make_m();
  if (!mp) return false;
  mp->run = run;
  mp->c = &c;
  mp->next_p = pp;
  mp->next_spinning = spinning;
  if (pp) pp->owner.store(mp, std::memory_order_release);  // sysmon sees if it gets stuck before it can take pp
  if (!pp) c.coming_ms.fetch_add(1, std::memory_order_relaxed);
  if (make_thread(mp)) {
    sched.nms.fetch_add(1, std::memory_order_relaxed);  // now: deadlock.cpp must not count more Ms than threads
    return true;
  }
  if (pp)
    pp->owner.store(nullptr, std::memory_order_release);
  else
    c.coming_ms.fetch_sub(1, std::memory_order_relaxed);
  lock_guard hold(sched.lock);
  mp->dead = true;
  sched.dead_ms.push(mp->id);
  return false;
}

void start_new_m(p* pp, bool spinning) {
  if (give_to_idle_m(pp, spinning) || newm(*pp->c, pp, spinning)) return;
  if (sched.nms.load(std::memory_order_relaxed) <= 1 && sched.active.load(std::memory_order_relaxed))
    fatal_throw(
        "runtime: failed to create new OS thread (m0 alone cannot go on)\n"
        "runtime: may need to increase max user processes (ulimit -u)\n",
        "newosproc");
  // No thread to be had: the P waits in the idle set for an M that comes back from a blocking call.
  put_away(pp, spinning);
  if (sched.busy.settle()) check_dead();
}

}  // namespace

void request_m(cpu& c, p* pp, bool spinning) {
  if (pp)
    pp->wants_m.store(spinning ? 2 : 1, std::memory_order_release);
  else
    c.wants_m.store(true, std::memory_order_release);
  wake_template_thread();
}

void serve_m_requests() {
  const int n = sched.nps.load(std::memory_order_acquire);
  for (int i = 0; i < n; ++i) {
    p* const pp = sched.allp[static_cast<std::size_t>(i)].load(std::memory_order_acquire);
    const std::uint32_t wanted = pp->wants_m.exchange(0, std::memory_order_acq_rel);
    if (wanted != 0) start_new_m(pp, wanted == 2);
  }
  // One that is on its way is enough: beside other programs it takes a while, in which the sentinel asks many times
  // (and got all the threads that there may be).
  for (int i = 0, cpus = sched.ncpus.load(std::memory_order_acquire); i < cpus; ++i)
    if (cpu& c = cpu_at(i); c.wants_m.exchange(false, std::memory_order_acq_rel) && c.idle_ms.empty() &&
                            c.coming_ms.load(std::memory_order_relaxed) == 0)
      newm(c, nullptr, false);
}

// Half of what is above the kept ones each time, so a burst's threads go within a minute.
void retire_idle_ms() {
  const int cpus = sched.ncpus.load(std::memory_order_acquire);
  int spare = nidle_ms() - kKeptIdleMs * cpus;
  for (int i = 0; i < cpus; ++i) {
    for (; spare > 0; spare -= 2) {
      const std::uint32_t id = cpu_at(i).idle_ms.pop();
      if (id == idle_stack<m_link>::kNone) break;
      m* const mp = sched.allm[id].load(std::memory_order_acquire);
      tell_to_exit(mp);
      mp->rouse_if_not_yet(kWakeToLook);
    }
  }
}

// Everything that runs goroutines of the run() that has just ended is stopped, as far as it can be: an M inside the
// runtime leaves as soon as it sees the new run number, and is joined; one in user code or in a blocking call cannot be
// stopped: it is detached, and leaves when it next calls into the runtime, with its P. The template thread has ended,
// so no more come.
void stop_ms() {
  std::vector<m*> to_join;
  std::uint32_t ms = 0;
  while (any_visitor()) sched_yield();  // later ones look at no M
  {
    ms = sched.nms_ever.load(std::memory_order_acquire);
    hardware::heavy_barrier();  // from here on: an M that takes a P sees the run's end, or we see it as the owner
    const int n = sched.nps.load(std::memory_order_acquire);
    for (int i = 0; i < n; ++i) {
      p* const pp = sched.allp[static_cast<std::size_t>(i)].load(std::memory_order_acquire);
      pp->preempt.store(true, std::memory_order_relaxed);
      take_p_in_call(pp, false);  // an M in a blocking call finds at its end that it has nothing to come back to
    }
    lock_guard hold(sched.lock);
    for (int i = 0; i < n; ++i) {
      p* const pp = sched.allp[static_cast<std::size_t>(i)].load(std::memory_order_acquire);
      m* const owner = pp->owner.load(std::memory_order_acquire);
      if (!owner || owner == sched.m0 || owner->scheduling.load(std::memory_order_acquire)) continue;
      owner->zombie = true;
    }
    for (std::uint32_t id = 0; id < ms; ++id) {
      m* const mp = sched.allm[id].load(std::memory_order_acquire);
      if (!mp || mp->dead || mp == sched.m0) continue;
      if (mp->claim.taken()) mp->zombie = true;
      if (mp->zombie) {
        pthread_detach(mp->thread);
        mp->rouse_if_not_yet(kWakeToLook);                         // it may be parked in a signal handler
        sched.allm[id].store(nullptr, std::memory_order_relaxed);  // it frees itself
        continue;
      }
      to_join.push_back(mp);
      mp->told_to_exit.store(true, std::memory_order_release);
    }
  }
  for (m* mp : to_join) {
    mp->rouse(kWakeToLook);
    pthread_join(mp->thread, nullptr);
  }
  for (std::uint32_t id = 0; id < ms; ++id)
    if (m* const mp = sched.allm[id].exchange(nullptr, std::memory_order_relaxed); mp && mp != sched.m0) delete mp;
}

}  // namespace weft::rt
