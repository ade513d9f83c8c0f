// SPDX-License-Identifier: Apache-2.0
// The semaphore that a mutex and a wait_group wait on. Go: sema.go.
#pragma once

#include "runtime/park.h"

namespace weft::rt {

using detail::sema;

/// Waits for a release that nobody else has got; `first`: before all others. Go: semacquire1.
void sem_acquire(caller& who, sema& s, waiter& self, bool first, wait_reason reason);
/// Wakes one that waits, or lets one through that is to come. With hand_over the caller's goroutine yields to it, which
/// runs in what is left of the time slice. The last that is touched is the lock. Go: semrelease1.
///
/// Waiters whose run() is over are passed over. They still count in a mutex, where each lets one that comes later
/// through at once, to try again. A wake-up whose goroutine did not run before the end of its run() goes to the next
/// that comes: for that who is woken clears woken_run.
void sem_release(sema& s, bool hand_over);
/// The same n times, without hand-over, for n that wait or are to come, whether their run() is over or not.
void sem_release_all(sema& s, std::uint32_t n);

}  // namespace weft::rt
