// SPDX-License-Identifier: Apache-2.0
// The poller: an epoll instance a NUMA node, edge triggered, in one of which each file is registered once, when a
// goroutine first waits for it: that of the goroutine's home. Go: netpoll, netpoll_epoll.go, which has one for all.
//
// Who looks:
//   an M with a P, without waiting, at its own node's: when it has nothing else to run, and every kPollEveryNs while it
//   has; and at the others' before it goes idle (find.cpp);
//   an idle M, waiting for all of them, while some P is idle: it has the watch (watch.cpp);
//   sysmon, waiting for those at which the first two have not looked for a while: all Ps there compute (sysmon.cpp).
// Of the first kind one looks at a time, and none while an M waits here: two would only stand in each other's way in
// the kernel. It is no rule for correctness; the kernel gives each event to one of them.
//
// Who waits for several waits in ppoll(2). An instance that holds the others would be told of each of their events, and
// so be a line that all nodes write.
//
// Who holds a P puts what has become ready into its queue, the first to run at once; but what ran on another NUMA node
// last goes home. Who has none leaves it in the list `ready`, where the first kind of look begins. At most kPollBatch
// events are taken at a time.
//
// A program without sockets pays for one load of `registered`, where an M looks for work.
#pragma once

#include <sys/epoll.h>
#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "runtime/cache_line.h"
#include "runtime/costs.h"
#include "runtime/futex.h"
#include "runtime/g.h"
#include "runtime/lock.h"

namespace weft::rt {

struct p;

constexpr int kPollBatch = 128;                // Go's
constexpr std::int64_t kPollEveryNs = 50'000;  // how long busy Ps let a ready socket wait

/// Goroutines that have become ready; an event may be for a reader and a writer.
struct harvest {
  std::array<g*, 2 * kPollBatch> gs;
  std::size_t n = 0;
  void add(g* gp) { gs[n++] = gp; }
};

/// The files of whose goroutines: a node without Ps is everybody's.
enum class poll_reach : bool { node, machine };

class poller {
 public:
  /// Whether a look may find anything.
  bool active(std::memory_order order = std::memory_order_relaxed) const { return registered_.load(order) != 0; }

  /// An errno, or 0: it is open now, for the nodes that are known.
  int open();
  /// Where the files of a node's goroutines are registered. Nodes that became known later share the first's.
  int share_of(int node) const;
  /// An errno, or 0.
  int add(int fd, std::uint64_t tag, std::uint32_t events, int where);
  /// Nothing in a child of the process that has opened it: the registrations are the parent's.
  void remove(int fd, int where);
  /// Since it was opened last; 0: never.
  std::uint32_t generation() const { return generation_.load(std::memory_order_acquire); }
  /// A child of fork() must not share its parent's.
  void leave_parents();

  /// By who has the watch: waits until something is there, interrupt() is called (true), or the time has come.
  bool wait(std::int64_t deadline, harvest& ready);
  /// Once for each wait, by who has been told to by that one's note.
  void interrupt();
  /// An interrupt() is under way, for a wait that is over.
  void await_interrupt();
  /// While an M waits here the others need not look.
  void set_watched(bool watched) { watched_.store(watched, std::memory_order_seq_cst); }

  /// By sysmon: are there files at which nobody has looked since it was asked last?
  bool find_neglected();
  /// By sysmon: waits for these without taking anything; interrupted by interrupt_nap().
  void nap(std::int64_t deadline);
  void interrupt_nap();
  /// By sysmon: takes what is there.
  void look_at_neglected(harvest& ready);

  /// Without a P: leaves them for the next that looks.
  void put_ready(const harvest& gs);
  bool any_ready() const { return nready_.load(std::memory_order_acquire) != 0; }
  /// A run() begins.
  void forget_ready();
  /// With a P: into its queue.
  void put_to_work(p* pp, const harvest& gs);
  /// With a P: what is there, the first of which is to run now (null: nothing for this node); the others are in pp's
  /// queue.
  g* work(p* pp, poll_reach reach);

 private:
  struct alignas(kLinePair) share {
    int epoll = -1;
    std::atomic<int> registered{0};
    std::atomic<bool> looking{false};
    std::atomic<std::uint32_t> looks{0};  // by who has a P; inexact
    // Sysmon's.
    std::uint32_t looks_seen = 0;
    bool neglected = false;
  };

  std::span<share> shares();
  static void close_all(std::span<share> all, int event, int nap_event);
  bool take(std::span<const epoll_event> events, harvest& ready);
  bool look(share& at, harvest& ready);
  void try_look(share& at, harvest& ready);
  void try_look_around(int node, poll_reach reach, harvest& ready);
  void take_ready(harvest& gs);

  std::atomic<int> registered_{0};  // with all shares
  std::atomic<bool> watched_{false};
  std::atomic<int> nshares_{0};              // 0: not open; what follows, and their epoll, was written before it
  int interrupt_ = -1, interrupt_nap_ = -1;  // eventfds
  int opened_by_ = 0;                        // the process
  std::atomic<std::uint32_t> generation_{0};
  std::array<share, kMaxNodes> shares_;
  core_lock opening_;
  core_lock lock_;  // of the list
  g* first_ WEFT_GUARDED_BY(lock_) = nullptr;
  g* last_ WEFT_GUARDED_BY(lock_) = nullptr;
  std::atomic<int> nready_{0};
};

/// The one there is.
extern poller& netpoll;

/// Goroutines that wait for files. Exact while nothing is busy (wake.h). For the deadlock detector, which looks at
/// any_ready() afterwards: who has been woken without a P is in the list before it ceases to count here.
std::int64_t poll_waiters();
/// A goroutine of pp is about to wait; gs have been woken, by who holds pp, or no P (null).
void count_poll_wait(p* pp);
void count_poll_wakes(p* pp, std::size_t gs);

}  // namespace weft::rt
