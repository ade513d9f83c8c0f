// SPDX-License-Identifier: Apache-2.0
// "All goroutines are asleep". Go: checkdead.
//
// Called by whoever brought sched.busy to zero: no P is held, no M is blocked in an announced call. Then
// only these can make a goroutine runnable: work that is already queued (seen by the second look before), a timer, a
// file that a goroutine waits for, or a thread that is no M. Threads of the process that are neither ours nor asleep in
// one of our queues may call into the runtime at any time, whether they have done so before or not; so while there is
// one, there is no deadlock. sysmon looks again, after 1 ms, 2 ms … 1 s, because such a thread may end without a word.
//
// From the first look to the last nobody may have been busy, not for a moment (times_busy). An M that wakes in between
// may carry a timer, which is then in no heap, to its goroutine, or wake a foreign thread that was counted as asleep,
// and be asleep again before the last look. So only foreign threads can have acted between the looks, and those are
// looked at first: once none is left, what the queues show is final.
#include <sys/stat.h>

#include "runtime/file_ring.h"
#include "runtime/netpoll.h"
#include "runtime/proc.h"

namespace weft::rt {
namespace {

constexpr int kUnknown = 1 << 20;

int threads_of_process() {
  struct stat status;
  // A directory's link count is 2 and one for each subdirectory, of which /proc/self/task has one a thread.
  // Without /proc nobody knows: there may be any number.
  return stat("/proc/self/task", &status) == 0 ? static_cast<int>(status.st_nlink) - 2 : kUnknown;
}

int own_threads() {
  int n = sched.nms.load(std::memory_order_acquire) + 2;  // sysmon, the template thread
  for (int i = 0, cpus = sched.ncpus.load(std::memory_order_acquire); i < cpus; ++i)
    n += cpu_at(i).has_sentinel.load(std::memory_order_acquire) ? 1 : 0;
  return n + threads_of_file_ring();
}

bool all_asleep() {
  if (!sched.active.load(std::memory_order_acquire) || sched.main_done.load(std::memory_order_acquire)) return false;
  const std::uint32_t times_busy = sched.busy.times();
  if (sched.busy.now() != 0 || next_timer() != kNever || poll_waiters() != 0) return false;
  const std::uint64_t changes = sched.foreign_changes.load(std::memory_order_seq_cst);
  const int waiting = sched.nforeign_waiting.load(std::memory_order_seq_cst);
  if (threads_of_process() - own_threads() - sched.baseline_threads - waiting > 0) return false;
  if (sched.foreign_changes.load(std::memory_order_seq_cst) != changes) return false;  // counted while one moved
  return !any_work() && next_timer() == kNever && sched.busy.times() == times_busy;
}

}  // namespace

void check_dead() {
  if (!all_asleep()) return;
  fatal(count_goroutines() == 0 ? "no goroutines (main called runtime.Goexit) - deadlock!"
                                : "all goroutines are asleep - deadlock!");
}

}  // namespace weft::rt
