// SPDX-License-Identifier: Apache-2.0
// p_claim: an M leaves its P, for an announced call or for user code in turn, and comes back, again and again, while
// two takers go for the P. A taker that has got it uses it and hands it back through a mailbox. An M in user code may
// find that out there, in its signal handler, and go on with the P that it is given before it enters.
//
//   - The P has exactly one owner: its plain data is written by every owner, without a race and without a surprise.
//   - The M has lost the P exactly when one taker took it.
//   - A verdict about a call takes the P only during that very call: the takers hold their verdicts back as long as
//     the search likes, and the number of the call is part of the P's data.
// On one_cpu the takers share the M's CPU and leave out the heavy barrier.
//
// Mutations that it catches (mutations.sh): the light or the heavy barrier left out; the second look at where or
// at the sequence left out; leave() releases nothing; the commit or the M's answer without a CAS; requests without
// tokens; the sequence counted after where is set; a taken claim that the M does not reset.
#include "tests/model/model.h"

#include "runtime/claim.h"

namespace weft::rt {
inline std::ostream& operator<<(std::ostream& out, place at) { return out << static_cast<unsigned>(at); }  // for Relacy
}  // namespace weft::rt

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
      owner.set(kNobody);
      if (i % 2 == 0) {
        c.to_user();
        if (c.taken()) {
          get_p_back();
          c.resume();
        }
      } else {
        call.set(c.sequence() + 1);
        c.leave();
      }
      if (!c.enter()) get_p_back();
      require(owner.get() == kNobody, "a P that comes back is free");
      owner.set(kM);
    }
  }
  void get_p_back() {
    ++lost;
    while (mailbox.load(std::memory_order_acquire) == 0) Policy::relax();
    mailbox.store(0, std::memory_order_relaxed);
  }
  void run_taker(int me) {
    for (int attempt = 0; attempt < Calls; ++attempt) {
      const weft::rt::whereabouts seen = c.look();
      const auto token = static_cast<std::uint32_t>(me);
      if (c.take(
              seen, token, [] { return SameCpu; }, [] { return true; }) != claim::result::taken)
        continue;
      require(owner.get() == kNobody, "a P that is taken was left");
      if (seen.at == weft::rt::place::call) require(call.get() == seen.call, "a stale verdict takes nothing");
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
