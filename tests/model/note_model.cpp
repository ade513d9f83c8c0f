// SPDX-License-Identifier: Apache-2.0
// note: a sleeper that waits elsewhere (the watcher in the poller, watch.cpp), is told to look, and is claimed.
//
//   sleeper  begin_elsewhere(); waits for the event, or for as long as it likes; end_elsewhere(); if it has been told
//            something and has not seen the event, it awaits that. Or wait_claimable(). Until it has been given a P.
//   looker   post_if_empty(kLook); if it is told to, sends the event
//   claimer  claim(); if it has the sleeper: writes what it gives, post(kWithP), the event if it is told to; else it
//            tries again
//
// Who is claimed comes back with what the claimer posts, and sees what it wrote; nobody else wakes it. Each event is
// taken in the sleep for which it was sent: none is left over for a later one.
//
// Mutations that it catches (mutations.sh): a post that does not tell that the sleeper is elsewhere, or forgets one
// that was claimed; one that releases nothing; a sleeper that comes back though it was claimed; one that does not await
// the event; a claim of one that does not sleep.
#include "tests/model/model.h"

#include "runtime/futex.h"

namespace {

using namespace weft::model;

constexpr int kLook = 1, kWithP = 2;

template <bool Elsewhere, int Lookers>
struct watching : suite<watching<Elsewhere, Lookers>, 2 + Lookers> {
  template <class T>
  using atomic = checked_atomic<T, false>;

  weft::rt::basic_note<atomic<int>> wake;
  atomic<int> event;
  var<int> given;

  void thread(unsigned index) {
    if (index == 0) return sleep_until_given();
    if (index == 1) return claim();
    if (wake.post_if_empty(kLook)) send_event();
  }
  void after() { require(event.load(std::memory_order_relaxed) == 0, "no event is left over"); }

  void send_event() {
    event.fetch_add(1, std::memory_order_acq_rel);
    futex_wake(event);
  }
  void await_event() {
    while (event.load(std::memory_order_acquire) == 0) futex_wait(event, 0);
    event.exchange(0, std::memory_order_acquire);
  }

  void sleep_until_given() {
    std::uint32_t told = 0;
    while (told != kWithP) told = Elsewhere ? sleep_elsewhere() : wake.wait_claimable(0);
    require(given.get() == 1, "what was given is there");
  }
  std::uint32_t sleep_elsewhere() {
    if (!wake.begin_elsewhere()) return wake.wait();
    bool interrupted = false;
    if (rl::rand(2)) {
      await_event();
      interrupted = true;
    } else {
      fences::relax();
      interrupted = event.exchange(0, std::memory_order_acquire) != 0;
    }
    const std::uint32_t told = wake.end_elsewhere();
    require(!interrupted || told != 0, "an event comes with what is told");
    if (told != 0 && !interrupted) await_event();
    return told;
  }

  void claim() {
    while (!wake.claim()) fences::relax();
    given.set(1);
    if (wake.post(kWithP)) send_event();
  }
};

}  // namespace

int main(int argc, char** argv) {
  checker check("note", argc, argv);
  check.random<watching<true, 1>>("elsewhere", 60000);
  check.random<watching<true, 2>>("elsewhere, two that tell", 60000);
  check.random<watching<false, 2>>("here", 60000);
  return check.finish();
}
