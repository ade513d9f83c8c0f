// SPDX-License-Identifier: Apache-2.0
// What the classes of weft/sync.h wait and wake with, beside park.h. Go: sema.go.
#pragma once

#include "runtime/park.h"

namespace weft::rt {

using detail::sema;

/// Waiters that have been won and wait to be made ready; on one P they run in the order in which they were added.
class woken_waiters {
 public:
  void add(waiter* w) {
    w->next = nullptr;
    (last_ ? last_->next : first_) = w;
    last_ = w;
  }
  void add_all(wait_queue& q) {
    while (waiter* const w = take_first(q)) add(w);
  }
  /// Calls wake(w) for each. The first comes last: what is readied last runs next.
  template <class Wake>
  void wake_all(Wake wake) const {
    if (!first_) return;
    for (waiter* w = first_->next; w;) {
      waiter* const next = w->next;
      wake(w);
      w = next;
    }
    wake(first_);
  }
  /// No lock may be held.
  void ready_all() const {
    if (!first_) return;
    const caller who = enter_nopark();
    wake_all([who](waiter* w) { ready(who, w->g); });
  }

 private:
  waiter* first_ = nullptr;
  waiter* last_ = nullptr;
};

/// Waits for a release that nobody else has got; `first`: before all others. Go: semacquire1.
void sem_acquire(caller who, sema& s, waiter& self, bool first, wait_reason reason);
/// Wakes one that waits, or lets one through that is to come. With hand_over the caller's goroutine yields to it, which
/// runs in what is left of the time slice. The last that is touched is the lock. Go: semrelease1.
void sem_release(sema& s, bool hand_over);
/// The same n times, without hand-over.
void sem_release_all(sema& s, std::uint32_t n);

}  // namespace weft::rt
