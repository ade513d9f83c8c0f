// SPDX-License-Identifier: Apache-2.0
// wait_group. Go: waitgroup.go.
//
// One word:    | counter, 32 bits | number of waiters, 32 bits |
// and a semaphore (sema.h). wait() counts itself as a waiter while the counter is not zero. Who brings the counter to
// zero with waiters there owns the word from then on: it must not change any more (misuse otherwise), is set to zero,
// and each waiter is released once. Without waiters the last done() touches nothing after its addition, with waiters
// nothing after the last release; so the group may be destroyed when wait() has returned.
#include "runtime/sema.h"
#include "weft/sync.h"

namespace weft {
namespace {

[[noreturn]] void throw_misuse() { throw error("sync: WaitGroup misuse: Add called concurrently with Wait"); }

}  // namespace

void wait_group::add(int n) {
  const std::uint64_t change = static_cast<std::uint64_t>(static_cast<std::int64_t>(n)) << 32;
  const std::uint64_t now = state_.fetch_add(change, std::memory_order_acq_rel) + change;
  const auto counter = static_cast<std::int32_t>(now >> 32);
  const auto waiters = static_cast<std::uint32_t>(now);
  if (counter < 0) throw error("sync: negative WaitGroup counter");
  if (waiters != 0 && n > 0 && counter == n) throw_misuse();
  if (counter > 0 || waiters == 0) return;
  if (state_.load(std::memory_order_relaxed) != now) throw_misuse();
  state_.store(0, std::memory_order_release);
  rt::sem_release_all(sema_, waiters);
}

void wait_group::wait() {
  rt::entry who;
  std::uint64_t now = state_.load(std::memory_order_acquire);
  while (now >> 32 != 0) {
    if (!state_.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    rt::waiter self;
    rt::sem_acquire(who, sema_, self, false, rt::wait_reason::wait_group_wait);
    if (state_.load(std::memory_order_acquire) != 0)
      throw error("sync: WaitGroup is reused before previous Wait has returned");
    return;
  }
}

}  // namespace weft
