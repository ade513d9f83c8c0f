// SPDX-License-Identifier: Apache-2.0
// Waiting for the disk without a thread for each call: one thread hands what goroutines ask for to io_uring(7), and
// wakes them when it is done.
//
// The ring has a thread of its own for the kernel's sake: it does part of the work of an asynchronous read in the
// thread that has asked for it, as soon as that one can be interrupted, and an M of ours is not to be.
//
// A request stands on its goroutine's stack. It goes from stage to stage, under the ring's lock:
//   none -> queued      by its goroutine, which parks under the lock: so nobody takes it before that one has stopped
//   queued -> kernel    by the ring's thread, as many as there is room for
//   kernel -> none      by the ring's thread, when the kernel has answered, which then makes the goroutine ready
//   queued -> none      by who cancels it, or by the end of the run(), which leaves its goroutine where it is
// The thread sleeps in the ring, which watches an eventfd too. Who queues:  1. puts the request into the queue;
// 2. writes to the eventfd, if the queue was empty. The thread:  1. has the ring watch the eventfd, if it does not;
// 2. takes from the queue; 3. sleeps. So either it finds the request, or the watch finds the event, which stays there
// until it is read, and that comes before the next look. What it has left in the queue, for want of room, it takes when
// the kernel answers one of those that take the room.
//
// Who queues looks first, under the lock, whether its run() is over; the end of the run() empties the queue under it.
// So an M that could not be stopped, and comes late, leaves nothing in the queue of the next run().
//
// A request counts as busy (wake.h) from its queueing until its goroutine is ready again. At the end of a run() those
// that are queued are dropped; those in the kernel are cancelled and awaited, since it writes into what belongs to
// goroutines.
//
// Where the kernel refuses the ring, callers are told so, for the rest of the run(), and wait in the call themselves.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>

namespace weft::detail {
struct goroutine;
}

namespace weft::rt {

enum class ring_call : std::uint8_t { read, write, sync, cancel };

constexpr long kNoRing = LONG_MIN;

struct ring_request {
  ring_call what;
  int fd = -1;
  void* at = nullptr;  // or the request to cancel
  std::size_t size = 0;
  std::uint64_t offset = 0;

  // The ring's.
  enum class stage : std::uint8_t { none, queued, kernel };
  stage at_stage = stage::none;
  bool cancelled = false;
  detail::goroutine* waiting = nullptr;
  long result = kNoRing;
  ring_request *next = nullptr, *previous = nullptr;
};

/// By a goroutine, from user code: the call's result, or minus its errno. kNoRing: it has not been made, since the
/// caller is no goroutine, or there is no ring. Once for each request.
long call_by_ring(ring_request& r);
/// By another goroutine, while the request exists: its call, or a later one, returns -ECANCELED as soon as may be,
/// unless it is done before that.
void cancel_ring_call(ring_request& r);

/// By the template thread: the first request has come.
void start_wanted_file_ring();
/// At the end of a run(), when no M of it is left.
void stop_file_ring();
/// For the deadlock detector: its thread, and those that the kernel has made for it.
int threads_of_file_ring();
/// How many calls it has made in this process. For tests.
std::uint64_t calls_by_ring();

}  // namespace weft::rt
