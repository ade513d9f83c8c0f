// SPDX-License-Identifier: Apache-2.0
// mutex: what it waits with. The protocol is in mutex_state.h.
#include "runtime/mutex_state.h"

#include "runtime/barrier.h"
#include "runtime/clock.h"
#include "runtime/sema.h"
#include "weft/sync.h"

namespace weft::rt {
namespace {

constexpr std::int64_t kStarvingNs = 1'000'000;   // Go's
constexpr int kSpinRounds = 4, kSpinPauses = 30;  // Go's; 4 us here

class mutex_waiter {
 public:
  explicit mutex_waiter(sema& s) : sema_(s) {}

  // A holder that runs on another P of this node may be done soon. With idle or searching Ps instead, or work at hand,
  // it pays to let go of the CPU.
  bool may_spin(int round) const {
    if (!who_.mp || round >= kSpinRounds) return false;
    const node& home = *who_.mp->held->home;
    const int ps = home.ps.load(std::memory_order_relaxed);
    return ps > 1 && home.gate.nidle() + home.gate.nspinning() + 1 < ps && who_.mp->held->runq.empty();
  }
  static void spin() {
    for (int i = 0; i < kSpinPauses; ++i) cpu_relax();
  }
  void wait() {
    const bool again = since_ != 0;
    if (!again) since_ = nanotime();
    sem_acquire(who_, sema_, self_, again, wait_reason::mutex_lock);
    sema_.woken_run.store(0, std::memory_order_relaxed);
  }
  bool starved() const { return nanotime() - since_ > kStarvingNs; }

 private:
  entry who_{kNoPark};
  sema& sema_;
  waiter self_;
  std::int64_t since_ = 0;  // nanotime() when it began to wait
};

}  // namespace
}  // namespace weft::rt

namespace weft {

void detail::scheduling_point() { const rt::entry here; }

void mutex::lock_slow() {
  rt::mutex_waiter self(sema_);
  rt::mutex_lock_slow(word_, self);
}

void mutex::unlock_slow(std::uint32_t left) {
  const bool was_locked = ((left + word_.kLocked) & word_.kLocked) != 0;
  if (!was_locked) rt::fatal("sync: unlock of unlocked mutex");
  rt::mutex_unlock_slow(word_, left, [this](bool hand_over) { rt::sem_release(sema_, hand_over); });
}

}  // namespace weft
