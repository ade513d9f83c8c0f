// SPDX-License-Identifier: Apache-2.0
// fork() while a run() is active: what is left of the runtime in the child.
//
// Nothing. Of all threads only the one that forked lives on: no other M, no sysmon, no sentinel; the locks that they
// held are held for ever, and each goroutine would run a second time if anything ran it. So, as POSIX has it for any
// process of several threads, the child may call what is safe in a signal handler, exec, and _exit. To call into weft
// ends it with a word (status 2), where it would hang, or do the parent's work again.
//
// To find that out costs nobody anything: in the child the P of the M that forked counts as taken (claim.h), so its
// next entry into the runtime comes to regain_p(); a thread that is no M comes by when it is to wait. The run() counts
// as over, and signals are as they were before it, so that no handler waits for an M that is not there.
//
// The state page is shared with the parent. The child's threads have no slots, and the M writes its own, which is the
// parent's, only when it sleeps: it never comes to that.
#include <pthread.h>
#include <unistd.h>
#include <string_view>

#include "runtime/proc.h"

namespace weft::rt {
namespace {

std::atomic<bool> forked{false};  // set before the child runs anything else

void in_child() {
  if (!sched.m0) return;
  forked.store(true, std::memory_order_relaxed);
  sched.active.store(false, std::memory_order_relaxed);
  sched.run.fetch_add(1, std::memory_order_relaxed);
  if (m* const mp = this_m()) mp->claim.lose();
  remove_preemption();
  restore_handlers();
}

}  // namespace

void watch_forks() {
  static const int failed = pthread_atfork(nullptr, nullptr, in_child);
  (void)failed;  // no memory: then a child hangs where it would have been told
}

bool is_forked_child() { return forked.load(std::memory_order_relaxed); }

// No stdio: what its buffers hold is the parent's to write.
void end_forked_child() {
  constexpr std::string_view kText =
      "fatal error: weft was called in the child of a fork() made while run() was active: there, only exec, _exit and "
      "what is safe in a signal handler work\n";
  (void)!write(STDERR_FILENO, kText.data(), kText.size());
  _exit(2);
}

}  // namespace weft::rt
