// SPDX-License-Identifier: Apache-2.0
// The context switch, from one goroutine straight to the next. Go: mcall, gogo, and Linux's finish_task_switch.
//
// Go switches twice, goroutine to g0 to goroutine. Here a goroutine that parks picks the next one itself and jumps to
// it with one jump_fcontext; only if its P has nothing at hand, or it is time for the rarer duties (next_local()
// returns null), does it jump to g0, where schedule() goes on.
//
// What remains to be done for the goroutine that was left cannot be done before its registers are saved, for at that
// moment another M may run it. So it is done after the jump, by whoever runs then, in finish_switch(): saving its
// context first, then releasing the lock under which it queued itself, or putting it into a run queue, or giving its
// stack back. A waker takes the lock before it can see the waiter, so it never sees one without a context.
//
// jump_fcontext hands the M over as an argument, so nobody reads a thread-local after a switch.
#pragma once

#include <boost/context/detail/fcontext.hpp>

#include "runtime/sanitizer.h"
#include "runtime/scheduler.h"
#include "runtime/trace.h"

namespace weft::rt {

/// Finishes what an M has left: `arrived` is what jump_fcontext (or a new context's entry) got. Returns the M.
/// Not analysed: it releases a lock that the goroutine took which has been left.
m* finish_switch(boost::context::detail::transfer_t arrived) WEFT_NO_THREAD_SAFETY_ANALYSIS;

/// Gives a goroutine that starts a stack and a context that runs it. Out of memory is fatal.
void bind_stack(m* mp, g* gp);

/// Counts how long gp, whose turn was sampled, has waited to run.
void record_wait(p* pp, g* gp);

/// Notes that gp runs now, on pp, which the caller holds.
inline void begin_run(p* pp, g* gp, bool inherits) {
  if (!inherits) pp->schedtick.store(pp->schedtick.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  gp->status.store(g_status::running, std::memory_order_relaxed);
  if (gp->ready_ticks != 0) [[unlikely]]
    record_wait(pp, gp);
}

/// The exception state belongs to the goroutine, not to the thread. Almost always all of it is zero.
inline void swap_exception_state(m* mp, g* from, g* to) {
  eh_globals& eh = *mp->eh;
  if ((reinterpret_cast<std::uintptr_t>(eh.caught) | eh.uncaught | reinterpret_cast<std::uintptr_t>(to->eh_caught) |
       to->eh_uncaught) == 0) [[likely]]
    return;
  from->eh_caught = eh.caught;
  from->eh_uncaught = static_cast<std::uint16_t>(eh.uncaught);
  eh.caught = to->eh_caught;
  eh.uncaught = to->eh_uncaught;
  to->eh_caught = nullptr;
  to->eh_uncaught = 0;
}

/// Boost.Context's jump_fcontext, entered by a jump instead of a call. It leaves by a jump too, so a call would leave
/// one return address too many in the CPU's return stack at each switch, and every return of the goroutine that goes on
/// would be mispredicted (measured: a yield of 49 ns instead of 17). Needs -mno-red-zone in the files that inline it.
inline boost::context::detail::transfer_t jump(void* to, m* mp) {
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
  void* context;
  void* data;
  void* argument = mp;
  asm volatile(
      "leaq 1f(%%rip), %%rax\n\t"
      "pushq %%rax\n\t"
      "jmp jump_fcontext@PLT\n"
      "1:"
      : "=a"(context), "=d"(data), "+D"(to), "+S"(argument)
      :
      : "rcx", "r8", "r9", "r10", "r11", "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
        "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  return {context, data};
#else
  return boost::context::detail::jump_fcontext(to, mp);
#endif
}

/// switch_to() for an M that has lost its P.
inline m* switch_without_p(m* mp, g* from, g* to) {
  if (!to->stk) [[unlikely]]
    bind_stack(mp, to);
  swap_exception_state(mp, from, to);
  mp->previous = from;
  mp->curg = to;
  before_switch_stack(mp->after == after_switch::drop_stack ? nullptr : &from->stk->fake_stack, to->stk->base,
                      to->stk->size);
  before_switch_fiber(to->stk->fiber);
  return finish_switch(jump(to->context, mp));
}

/// Jumps from `from`, which runs on mp, to `to`. mp->after says what to do for `from`. Returns when `from` runs again,
/// with the M that it then runs on.
inline m* switch_to(m* mp, g* from, g* to) {
  trace_switch(mp, from, to);
  return switch_without_p(mp, from, to);
}

/// The next goroutine of this P if it can be switched to directly; null: go through the scheduler.
inline g* next_local(m* mp) {
  p* const pp = mp->held;
  const int left = pp->switches_left.load(std::memory_order_relaxed) - 1;
  pp->switches_left.store(left, std::memory_order_relaxed);
  if (left <= 0 || pp->preempt.load(std::memory_order_relaxed) || mp->through_scheduler) [[unlikely]]
    return nullptr;
  const auto [gp, inherits] = pp->runq.get();
  if (!gp) return nullptr;
  if (gp->lockedm.load(std::memory_order_relaxed)) [[unlikely]] {
    mp->next_g = gp;
    mp->next_inherits = inherits;
    return nullptr;
  }
  if (g* after = pp->runq.peek()) __builtin_prefetch(after);
  begin_run(pp, gp, inherits);
  return gp;
}

}  // namespace weft::rt
