// SPDX-License-Identifier: Apache-2.0
// A goroutine's life: go, its first frame, its end; and the loop that each M runs on g0. Go: newproc, goexit0,
// schedule.
//
// A stack has one frame at its bottom for ever, goroutine_loop(): it runs the goroutine that the M switched to, and at
// that one's end looks for the next. If that one has not started yet, it gets this very stack and runs at once, without
// a switch. So a burst of short goroutines costs one stack and no context switch.
#include "runtime/park.h"

#include <algorithm>
#include <memory>
#include <new>

#include "runtime/goexit.h"
#include "runtime/metrics.h"

namespace weft::rt {
namespace {

constexpr std::uint64_t kIdBatch = 16;  // Go's

// Nothing here catches but goexit(): an exception that no handler takes must reach std::terminate() with its stack
// still there, for the backtrace.
[[gnu::noinline]] void run_closure(g* gp) {
  try {
    gp->fn(gp->closure, detail::closure_op::run);
  } catch (const goexit_signal&) {
  }
}

struct local_value {
  const void* key;
  void* value;
  void (*destroy)(void*);
  local_value* next;
};

void destroy_locals(void*& head) {
  while (auto* local = static_cast<local_value*>(head)) {
    head = local->next;
    local->destroy(local->value);
    delete local;
  }
}

void free_closure(g* gp) {
  if (gp->closure != gp->inline_closure.data()) ::operator delete (gp->closure, std::align_val_t{gp->closure_align});
  gp->closure = nullptr;
}

void set_id(p* pp, g* gp) {
  if (!pp) {
    gp->id.store(sched.next_id.fetch_add(1, std::memory_order_relaxed), std::memory_order_relaxed);
    return;
  }
  if (pp->next_id == pp->end_id) {
    pp->next_id = sched.next_id.fetch_add(kIdBatch, std::memory_order_relaxed);
    pp->end_id = pp->next_id + kIdBatch;
  }
  gp->id.store(pp->next_id++, std::memory_order_relaxed);
}

// The goroutine on this stack has ended. Returns on the same stack when it has the next one to run.
m* end_goroutine(m* mp) {
  g* const gp = mp->curg;
  p* const pp = mp->held;
  stack* const stk = gp->stk;
  const bool ordinary = gp->stack_size == 0;
  pp->ended.add(1);
  gp->status.store(g_status::dead, std::memory_order_relaxed);
  gp->stk = nullptr;
  if (mp->lockedg == gp) {
    mp->lockedg = nullptr;
    mp->lock_count = 0;
    gp->lockedm.store(nullptr, std::memory_order_relaxed);
    mp->through_scheduler = true;
    if (!mp->is_m0) tell_to_exit(mp);
  }
  gfput(pp, gp);
  g* next = next_local(mp);
  if (next && !next->stk && ordinary && next->stack_size == 0) {
    next->stk = stk;
    mp->curg = next;
    trace_switch(mp, &mp->ended, next);
    return mp;
  }
  if (!next) next = &mp->g0;
  // The ended G may be used again from here on: the switch is made in the name of the stack.
  mp->ended.stk = stk;
  mp->dead_stack = stk;
  mp->after = after_switch::drop_stack;
  return switch_to(mp, &mp->ended, next);
}

[[noreturn]] void goroutine_loop(boost::context::detail::transfer_t arrived) {
  m* mp = finish_switch(arrived);
  for (;;) {
    g* const gp = mp->curg;
    mp->claim.to_user();
    run_closure(gp);
    gp->goexiting = false;  // all unwound: destructors of locals may call anything
    destroy_locals(gp->locals);
    free_closure(gp);
    mp = end_goroutine(come_in(this_m()));
  }
}

}  // namespace

void bind_stack(m* mp, g* gp) {
  stack* const s = gp->stack_size == 0 ? stack_get(mp->held) : stack_alloc(gp->stack_size, mp->held->home_index);
  if (!s)
    fatal_throw("", "out of memory: no stack of " +
                        std::to_string(gp->stack_size ? gp->stack_size : default_stack_size()) +
                        " bytes for goroutine " + std::to_string(gp->id.load()) + " (" +
                        std::to_string(count_goroutines()) + " goroutines)");
  if (!s->context)
    s->context = boost::context::detail::make_fcontext(stack_top(s), s->size - stack_guard_size(), goroutine_loop);
  gp->stk = s;
  gp->context = s->context;
}

void newproc_ready(p* pp, g* gp, detail::closure_fn fn) {
  gp->fn = fn;
  gp->goexiting = gp->is_main = false;
  gp->locals = nullptr;
  set_id(pp, gp);
  if (!pp) return gp->status.store(g_status::runnable, std::memory_order_relaxed);
  pp->created.add(1);
  note_ready(pp, gp, ready_cause::started);
}

// `scheduling` tells stop_ms() which Ms are in here, and so leave by themselves, and which run user code. Either it
// sees the flag as it is, or we see that the run() is over.
void schedule(m* mp) {
  for (;;) {
    mp->scheduling.store(true, std::memory_order_release);
    hardware::light_barrier();  // pairs with the heavy barrier in stop_ms()
    g* gp;
    bool inherits;
    if (!find_runnable(mp, gp, inherits)) return;
    if (m* const locked = gp->lockedm.load(std::memory_order_relaxed); locked && locked != mp) {
      start_lockedm(mp, locked);
      continue;
    }
    p* const pp = mp->held;
    end_handoff(pp);
    mp->scheduling.store(false, std::memory_order_relaxed);
    hardware::light_barrier();  // the same
    if (left_behind(mp->run)) {
      mp->scheduling.store(true, std::memory_order_release);
      discard(gp);
      return;
    }
    settle_home(pp, gp);
    begin_run(pp, gp, inherits);
    mp->after = after_switch::nothing;
    switch_to(mp, &mp->g0, gp);
  }
}

// As by a foreign thread: what is destroyed may wait for something, and this M has nothing to switch to any more.
void discard(g* gp) {
  if (gp->stk) return;
  m* const mp = this_m();
  set_this_m(nullptr);
  gp->fn(gp->closure, detail::closure_op::destroy);
  free_closure(gp);
  gp->status.store(g_status::dead, std::memory_order_relaxed);
  gfput(nullptr, gp);
  set_this_m(mp);
}

void destroy_thread_locals(void*& head) { destroy_locals(head); }

}  // namespace weft::rt

namespace weft::detail {

using namespace weft::rt;

namespace {

std::uint16_t home_of_new(const m* mp, int wanted_node) {
  if (wanted_node < 0 && mp) [[likely]]
    return mp->held->home_index;
  const visit inside;  // a foreign thread may come when the run() has just ended
  if (!inside.welcome) return 0;
  return static_cast<std::uint16_t>((wanted_node < 0 ? node_of_thread() : nearest_node(wanted_node)).index);
}

}  // namespace

new_goroutine newproc(const go_options& options, std::size_t size, std::size_t align) {
  const entry who;
  const std::uint32_t run = who.mp ? who.mp->run : sched.run.load(std::memory_order_acquire);  // before `active`
  if (!sched.active.load(std::memory_order_acquire)) throw error("go: no run() is active");
  if (options.stack_size != 0 && (options.stack_size < kMinStackSize || options.stack_size > kMaxStackSize))
    throw error("go: stack size out of range");
  const std::uint16_t home = home_of_new(who.mp, options.node);
  g* const gp = gfget(who.mp ? who.mp->held : nullptr, home);
  gp->run = run;
  gp->home = home;
  gp->stack_size = static_cast<std::uint32_t>((options.stack_size + 4095) & ~std::size_t{4095});
  if (gp->stack_size == default_stack_size()) gp->stack_size = 0;
  gp->name.store(options.name, std::memory_order_relaxed);
  gp->creator_pc = reinterpret_cast<std::uintptr_t>(__builtin_return_address(0));
  gp->creator_id = who.gp->id.load(std::memory_order_relaxed);
  gp->closure = gp->inline_closure.data();
  if (size > gp->inline_closure.size() || align > alignof(std::max_align_t)) {
    gp->closure_align = std::max(align, alignof(std::max_align_t));
    gp->closure = ::operator new (size, std::align_val_t{gp->closure_align}, std::nothrow);
    if (!gp->closure) {
      gfput(nullptr, gp);
      throw std::bad_alloc();
    }
  }
  return {gp, gp->closure};
}

void newproc_abort(goroutine* gp) noexcept {
  const entry who(kNoPark);
  free_closure(gp);
  gfput(nullptr, gp);
}

void newproc_start(goroutine* gp, closure_fn fn) noexcept {
  const entry who(kNoPark);
  p* const pp = who.mp ? who.mp->held : nullptr;
  newproc_ready(pp, gp, fn);
  if (!pp) return wakep_foreign(globrunqput_new(gp));
  if (gp->home != pp->home_index) [[unlikely]]
    return ready_far(pp, gp);
  if (g* kicked = pp->runq.put_next(gp)) runqput(pp, kicked);
  wakep(pp);
}

void* goroutine_local_get(const void* key, void* (*create)(), void (*destroy)(void*)) {
  g* const gp = entry(kNoPark).gp;  // its own locals need no P, and create() may do anything
  for (auto* local = static_cast<local_value*>(gp->locals); local; local = local->next)
    if (local->key == key) return local->value;
  auto owner = std::make_unique<local_value>();
  *owner = {key, create(), destroy, static_cast<local_value*>(gp->locals)};
  gp->locals = owner.get();
  return owner.release()->value;
}

}  // namespace weft::detail

namespace weft {

void goexit() {
  {
    const rt::entry who(rt::kNoPark);
    if (!who.mp) throw error("goexit: not in a goroutine");
    who.gp->goexiting = true;
  }
  throw rt::goexit_signal{};
}

std::uint64_t current_goroutine_id() {
  const rt::m* const mp = rt::this_m();
  return mp ? mp->curg->id.load(std::memory_order_relaxed) : 0;
}

int current_p() {
  const rt::entry who(rt::kNoPark);
  return who.mp ? who.mp->held->id : -1;
}

int current_node() {
  const rt::entry who(rt::kNoPark);
  return who.mp ? std::max(who.mp->held->home->id, 0) : -1;
}

int num_goroutine() { return rt::read_goroutine_count(); }

}  // namespace weft
