// SPDX-License-Identifier: Apache-2.0
// p_claim: an M leaves its P and comes back, again and again, while two takers go for the P. A taker that has got it
// uses it and hands it back through a mailbox.
//
//   - The P has exactly one owner: its plain data is written by every owner, without a race and without a surprise.
//   - The M has lost the P exactly when one taker took it.
//   - A verdict about a call takes the P only during that very call: the takers hold their verdicts back as long as
//     the search likes, and the number of the call is part of the P's data.
// On one_cpu the takers share the M's CPU and leave out the heavy barrier.
//
// Mutations that it catches (mutations.sh): the light or the heavy barrier left out; the second look at in_runtime or
// at the sequence left out; leave() releases nothing; the commit or the M's answer without a CAS; requests without
// tokens; the sequence counted after in_runtime is cleared; a taken claim that the M does not reset.
#include "tests/model/model.h"

#include "runtime/claim.h"

namespace {

using namespace weft::model;

constexpr int kNobody = 0, kM = 1;

template <class Policy, int Takers, int Calls, bool SameCpu>
struct contention : suite<contention<Policy, Takers, Calls, SameCpu>, 1 + Takers> {
  using claim = weft::rt::p_claim<Policy>;
  claim c;
  typename Policy::template atomic<int> mailbox;  // 1: a taker has left the P here

  // The state of the P, its owner's alone.
  var<int> owner{kM};
  var<std::uint32_t> call;
  var<int> taken;

  int lost = 0;  // the M's

  void thread(unsigned index) {
    if (index == 0) return run_m();
    run_taker(static_cast<int>(index));
  }
  void run_m() {
    for (std::uint32_t i = 1; i <= Calls; ++i) {
      require(owner.get() == kM, "the M has its P");
      call.set(i);
      owner.set(kNobody);
      c.leave();
      if (!c.enter()) {
        ++lost;
        while (mailbox.load(std::memory_order_acquire) == 0) Policy::relax();
        mailbox.store(0, std::memory_order_relaxed);
      }
      require(owner.get() == kNobody, "a P that comes back is free");
      owner.set(kM);
    }
  }
  void run_taker(int me) {
    for (int attempt = 0; attempt < Calls; ++attempt) {
      const std::uint32_t sequence = c.sequence();
      const auto token = static_cast<std::uint32_t>(me);
      if (c.take(sequence, token, SameCpu) != claim::result::taken) continue;
      require(owner.get() == kNobody, "a P that is taken was left");
      require(call.get() == sequence, "a stale verdict takes nothing");
      owner.set(1 + me);
      taken.set(taken.get() + 1);
      owner.set(kNobody);
      mailbox.store(1, std::memory_order_release);
    }
  }
  void after() {
    require(owner.get() == kM, "the P ends with its M");
    require(taken.get() == lost, "a P is lost as often as it is taken");
    require(!c.taken() && !c.away(), "the claim is reset");
  }
};

}  // namespace

int main(int argc, char** argv) {
  checker check("claim", argc, argv);
  check.random<contention<fences, 2, 3, false>>("fences", 100000);
  check.random<contention<membarrier, 2, 3, false>>("membarrier", 100000);
  check.random<contention<one_cpu, 2, 3, true>>("one CPU", 50000);
  check.full<contention<fences, 1, 1, false>>("fences, all");
  check.full<contention<membarrier, 1, 1, false>>("membarrier, all");
  return check.finish();
}
