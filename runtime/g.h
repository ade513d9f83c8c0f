// SPDX-License-Identifier: Apache-2.0
// G: a goroutine. Go: runtime.g.
//
// A G is small (256 bytes) and has no stack until it first runs: a million Gs that wait for their first turn cost a
// million Gs, not a million stacks. It gets a stack from its P's cache when it starts and gives it back when it ends;
// a G that ends passes its stack straight on to a G that starts, without a context switch.
//
// Who may touch a G: whoever holds it. A running G is held by the M that runs it, a runnable one by the queue it is
// in, a waiting one by the object it waits on (its lock), a free one by its free list. The fields that others may read
// at any time (dumps, sysmon) are relaxed atomics. Gs are never given back to the system (type-stable).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>

#include "runtime/stack.h"
#include "runtime/wait_reason.h"
#include "weft/runtime.h"

namespace weft::rt {

struct m;

// State            may become                          by
// idle             runnable (newproc_start)            the M or thread that runs go()
// runnable         running (execute)                   the M that took it out of its queue
// running          waiting (park), runnable (yield),   the M that runs it
//                  syscall (entersyscall), dead (end)
// syscall          running (exitsyscall with a P),     the M that runs it
//                  runnable (exitsyscall without)
// waiting          runnable (ready)                    whoever took it off what it waited on
// dead             idle (newproc)                      the M that takes it off a free list
// preempted        running (take_over)                 the M it is bound to, in its signal handler
enum class g_status : std::uint8_t { idle, runnable, running, syscall, waiting, dead, preempted };

/// How a G became runnable, for the histograms.
enum class ready_cause : std::uint8_t { started, readied, requeued };

constexpr std::size_t kInlineClosure = 128;

}  // namespace weft::rt

namespace weft::detail {

struct alignas(64) goroutine {
  // What a switch touches.
  void* context = nullptr;         // Boost.Context's fcontext_t, while it does not run
  goroutine* schedlink = nullptr;  // the next in the queue or free list that holds it
  rt::stack* stk = nullptr;        // null: has not started, or has ended
  std::uint64_t ready_ticks = 0;   // cputicks() when it became runnable, if this time is sampled
  std::atomic<rt::g_status> status{rt::g_status::idle};
  std::atomic<rt::wait_reason> reason{rt::wait_reason::none};
  rt::ready_cause cause = rt::ready_cause::started;
  bool foreign = false;    // stands for a thread that is no M (see foreign.h)
  bool goexiting = false;  // goexit() has been called
  bool is_main = false;
  std::uint16_t ready_weight = 0;  // what the sample counts for
  void* eh_caught = nullptr;       // the C++ runtime's exception globals, while it does not run
  std::uint16_t eh_uncaught = 0;
  std::uint16_t home = 0;                // the node (its index) on which it ran last, or is to start
  std::uint32_t run = 0;                 // the number of the run() it belongs to
  std::atomic<rt::m*> lockedm{nullptr};  // lock_os_thread(), or preempted on it; written by who runs it, read by dumps
  // What starting and ending touch.
  std::atomic<std::uint64_t> id{0};
  closure_fn fn = nullptr;
  void* closure = nullptr;        // inline_closure, or on the heap
  std::size_t closure_align = 0;  // of a closure on the heap
  std::atomic<const char*> name{nullptr};
  std::uintptr_t creator_pc = 0;
  std::uint64_t creator_id = 0;
  void* locals = nullptr;                   // goroutine_local values
  std::uint32_t stack_size = 0;             // wanted; 0: the default
  std::uint16_t store = 0;                  // the node (its index) whose free list it belongs to
  std::atomic<std::int64_t> wait_since{0};  // coarse nanotime() (see sched.coarse_now) when it last parked
  alignas(16) std::array<std::byte, rt::kInlineClosure - 16> inline_closure;
};

/// One goroutine's (or foreign thread's) place in a queue; lives on its stack while it is parked. One that waits in
/// several queues (select), or not for ever, has a `race`: whoever would wake it must first be the one that sets it
/// from null to this waiter (or to &timed_out). Go: runtime.sudog.
struct waiter {
  goroutine* g = nullptr;
  void* element = nullptr;  // what is sent, or where to receive
  waiter* next = nullptr;
  waiter* prev = nullptr;
  std::atomic<waiter*>* race = nullptr;
  std::exception_ptr* failure = nullptr;  // where a sender learns what moving its element threw
  std::int64_t since = 0;                 // nanotime() at the first park, where fairness needs it
  bool queued = false;
  bool success = false;  // woken by a partner or a grant, not by close
  bool again = false;    // won, but then the element's move threw: it must begin anew
};

inline constinit waiter timed_out;

}  // namespace weft::detail

namespace weft::rt {

using g = detail::goroutine;
using detail::waiter;
static_assert(sizeof(g) == 256);

}  // namespace weft::rt
