// SPDX-License-Identifier: Apache-2.0
// One direction of a poll descriptor, reading or writing: whose turn it is, and whether to try or to wait. Go: rg and
// wg of pollDesc, netpollblock, netpollunblock, and the read and write locks of fdMutex.
//
// The poller is edge triggered: it tells each change once, to whoever waits then or comes next. So an edge that comes
// while nobody waits must be kept (ready), and one that somebody has already used up must not end the next wait at
// once, for ever. The states of a direction whose turn is taken:
//
//   state      ready  waiting  means                                        may become
//   trying     no     none     the holder is in its system call             edge kept (edge), waiting (must_wait)
//   edge kept  yes    none     an edge has come since the holder's look     trying (may_look)
//   waiting    no     holder   it is parked                                 trying (edge, give_up: it is woken)
//
//   Holder:  1. may_look(): forgets the edges of before; from here on an edge counts
//            2. the system call. If it got something, the turn goes on. It would block:
//            3. must_wait(): has an edge come since 1? Then begin again. Else it is waiting now, and parks
//   Poller:  edge(): keeps the edge, or takes out the one that waits, to make it ready
// All but the call is done under the descriptor's lock. The kernel announces a change after it has made it: what the
// call in 2 has not seen is announced after 1, so the edge is kept, or finds the holder waiting. No edge is lost.
//
// drained spares each request a system call: a stream that gave less than there was room for is empty, and the next
// reader need not be told so by a call that fails: it waits at once if no edge has come since 1.
//
// Go does this without a lock, at four locked instructions a wait (nil to wait, wait to G, the poller's G to nil, the
// last exchange) and two for the turn. Under a lock it is one for each of the two sides, and one for the turn; and one
// parks under a lock, as everywhere in this runtime (park.cpp).
//
// The turn makes sure that there is one holder, so one that waits: two that write do not mix what they write, several
// that accept are served in order. close() and deadlines wake the holder and all that wait for their turn without
// giving them anything; what those then do is the descriptor's business (poll_desc.h).
//
// A template, so that tests/model runs it on its own waiters, queues and checked fields.
#pragma once

#include "runtime/waitq.h"

namespace weft::rt {

template <class Waiter, class Queue, class Flag = bool, class Pointer = Waiter*>
struct poll_side {
  Flag taken{};       // somebody has the turn
  Flag ready{};       // an edge has come since may_look()
  Flag drained{};     // nothing was left when the last holder looked
  Pointer waiting{};  // the holder, while it waits
  Queue turns;        // those that wait for their turn

  /// False: w is queued, and is woken with success when it has the turn.
  bool take_turn(Waiter* w) {
    if (!taken) {
      taken = true;
      return true;
    }
    w->success = false;
    enqueue(turns, w);
    return false;
  }
  /// The holder is done; the next one, taken out of the queue, has the turn (null: nobody).
  void pass_turn(Waiter* next) {
    if (next)
      next->success = true;
    else
      taken = false;
  }

  /// Before the system call. False: it would find nothing.
  bool may_look() {
    if (drained && !ready) return false;
    drained = false;
    ready = false;
    return true;
  }
  /// False: may_look() again.
  bool must_wait(Waiter* w) {
    if (ready) return false;
    w->success = false;
    waiting = w;
    return true;
  }

  /// Returns the holder if it waited: it is to be woken, and may look.
  Waiter* edge() {
    Waiter* const w = give_up();
    if (w) {
      drained = false;
      w->success = true;
    } else {
      ready = true;
    }
    return w;
  }
  /// Returns the holder if it waited: it is to be woken, and gets nothing.
  Waiter* give_up() {
    Waiter* const w = waiting;
    waiting = nullptr;
    return w;
  }
};

}  // namespace weft::rt
