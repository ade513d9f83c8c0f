// SPDX-License-Identifier: Apache-2.0
// Contexts: making, context_ending and asking them. Go: context.go. How they live and end is told in context.h.
#include "runtime/context.h"

#include "runtime/chan_ops.h"
#include "runtime/clock.h"

namespace weft::detail {

using namespace weft::rt;

struct after_node final : context_child {
  after_node(context_ref up, call_ptr f) : context_child(std::move(up), nullptr), call(std::move(f)) {}
  void context_ended(context_end how) noexcept;
  bool stop() noexcept;

  enum class state : std::uint8_t { pending, started, forgotten, stopped };
  std::atomic<state> now{state::pending};
  call_ptr call;  // whoever takes it out of pending: its
};

namespace {

context_ref share(context_node* n) {
  n->references.fetch_add(1, std::memory_order_relaxed);
  return context_ref(n);
}

bool try_share(context_node* n) {
  std::uint32_t count = n->references.load(std::memory_order_relaxed);
  while (count != 0)
    if (n->references.compare_exchange_weak(count, count + 1, std::memory_order_relaxed)) return true;
  return false;
}

// -- The list of children ---------------------------------------------------------------------------------------------

// Both under up.done.lock.
void enlist(cancel_node& up, context_child& c) {
  c.listed = true;
  c.next = up.children;
  if (c.next) c.next->prev = &c;
  up.children = &c;
}

void delist(cancel_node& up, context_child& c) {
  (c.prev ? c.prev->next : up.children) = c.next;
  if (c.next) c.next->prev = c.prev;
  c.next = c.prev = nullptr;
  c.listed = false;
}

// How `up` has ended; if it has not, c is in its list now.
context_end join(cancel_node& up, context_child& c) {
  const entered_lock hold(up.done.lock);
  if (up.how == context_end::none) enlist(up, c);
  return up.how;
}

// True: it was in the list.
bool leave(cancel_node* up, context_child& c) {
  if (!up) return false;
  const entered_lock hold(up->done.lock);
  const bool was_in = c.listed;
  if (was_in) delist(*up, c);
  return was_in;
}

// The first child, with a reference to it. A canceller stays in the list until all below it has
// ended, unless the end is none; all else is taken out. Children that nobody refers to are on their way to leave().
context_child* next_child(cancel_node& up) {
  const entered_lock hold(up.done.lock);
  while (context_child* const c = up.children) {
    const bool alive = try_share(c);
    if (!alive || !c->itself || up.how == context_end::never) delist(up, *c);
    if (alive) return c;
  }
  return nullptr;
}

// -- Ending -----------------------------------------------------------------------------------------------------------

// The cause goes into the node before anybody can see it there, and nobody else keeps it: the last to let go of it does
// so with the last reference to the node. ThreadSanitizer sees that order, and not libstdc++'s count.
void end_one(cancel_node& n, context_end how, std::exception_ptr cause) {
  const entry who(kNoPark);
  wake_list wake;
  {
    rt::lock_guard hold(n.done.lock);
    if (n.how != context_end::none) return;
    n.how = how;
    if (how != context_end::never) {
      n.cause.swap(cause);
      n.done.closed.store(true, std::memory_order_release);
      wake.add_all(n.done.receivers);
    }
  }
  wake.ready_all(who);
  if (n.timer) call_timer_stop(n.timer.get());
}

// The canceller to go down to; null: there is none here.
cancel_node* end_child(const cancel_node& up, context_child* c) {
  context_ref taken(c);
  if (!c->itself) {
    static_cast<after_node*>(c)->context_ended(up.how);
    return nullptr;
  }
  const bool may_end_yet =
      up.how == context_end::never && c->itself->sources.fetch_sub(1, std::memory_order_acq_rel) != 1;
  if (may_end_yet) return nullptr;
  end_one(*c->itself, up.how, up.cause);
  taken.detach();
  return c->itself;
}

// Depth first: `now` goes down to the first child and, when nothing is left below, up again, along the links that
// are there anyway. There is a reference to each node on the path; the caller has one to the first.
void end_all(cancel_node& first, context_end how, std::exception_ptr cause = nullptr) noexcept {
  end_one(first, how, std::move(cause));
  for (cancel_node* now = &first;;) {
    if (context_child* const c = next_child(*now)) {
      if (cancel_node* const down = end_child(*now, c)) now = down;
      continue;
    }
    leave(now->above, *now);
    if (now == &first) return;
    cancel_node* const up = now->above;
    context_release(now);
    now = up;
  }
}

void end_if_late(cancel_node& n) {
  if (n.when != kNever && !n.over() && n.when <= nanotime()) end_all(n, context_end::timed_out);
}

void lose_source(cancel_node& n) {
  if (n.sources.fetch_sub(1, std::memory_order_acq_rel) == 1 && !n.over()) end_all(n, context_end::never);
}

// An end may come from a destructor of a goroutine that is on its way out after goexit(). Starting a goroutine would
// throw at it again; that has to wait.
class goexit_waits {
 public:
  goexit_waits() : gp_(entry(kNoPark).gp), was_(std::exchange(gp_->goexiting, false)) {}
  ~goexit_waits() { gp_->goexiting = was_; }
  goexit_waits(const goexit_waits&) = delete;
  goexit_waits& operator=(const goexit_waits&) = delete;

 private:
  g* const gp_;
  const bool was_;
};

}  // namespace

void after_node::context_ended(context_end how) noexcept {
  state expected = state::pending;
  const bool start = how != context_end::never;
  if (now.compare_exchange_strong(expected, start ? state::started : state::forgotten, std::memory_order_acq_rel)) {
    const goexit_waits until_started;
    if (start) call_timer_fire(call.get());
    call.reset();
  }
  context_release(this);  // the list's; the caller has one
}

bool after_node::stop() noexcept {
  const state before = now.exchange(state::stopped, std::memory_order_acq_rel);
  if (before == state::pending) {
    call.reset();
    if (leave(canceller, *this)) context_release(this);
  }
  return before == state::pending || before == state::forgotten;
}

// -- Making -----------------------------------------------------------------------------------------------------------

namespace {

// The timer's function.
class at_deadline {
 public:
  explicit at_deadline(cancel_node* n) : n_(n) { n->memory.fetch_add(1, std::memory_order_relaxed); }
  at_deadline(at_deadline&& other) noexcept : n_(std::exchange(other.n_, nullptr)) {}
  ~at_deadline() {
    if (n_) n_->release_memory();
  }
  void operator()() const {
    if (!try_share(n_)) return;
    const context_ref shared(n_);
    end_all(*n_, context_end::timed_out);
  }

 private:
  cancel_node* n_;
};

cancel_node* canceller_of(const context& c) {
  context_node* const n = context_access::node(c);
  return n ? n->canceller : nullptr;
}

// The parent is one of n's sources as long as n is in its list.
void join_parent(cancel_node& n) {
  if (!n.above) return;
  n.sources.fetch_add(1, std::memory_order_relaxed);
  const context_end parents = join(*n.above, n);
  if (parents != context_end::none) n.sources.fetch_sub(1, std::memory_order_relaxed);
  if (parents == context_end::canceled || parents == context_end::timed_out) end_all(n, parents, n.above->cause);
  if (n.over()) leave(n.above, n);
}

// Referred to once, as by its first cancel_handle.
context_ref make_until(context parent, std::int64_t when) {
  const cancel_node* const above = canceller_of(parent);
  const std::int64_t parents = above ? above->when : kNever;
  auto* const n = new cancel_node(context_access::take(std::move(parent)), std::min(when, parents));
  context_ref made(n);
  const bool own_deadline = when < parents, late = own_deadline && when <= nanotime();
  if (own_deadline && !late) {
    n->sources.fetch_add(1, std::memory_order_relaxed);
    n->timer = make_call(at_deadline(n));
    call_timer_reset(n->timer.get(), when);
  }
  join_parent(*n);
  if (late) end_all(*n, context_end::timed_out);
  return made;
}

void release_done(hchan* c) noexcept { context_release(static_cast<done_chan*>(c)->node); }

constexpr element_type kDoneType = {sizeof(unit), alignof(unit), nullptr, nullptr, release_done};

}  // namespace

done_chan::done_chan(cancel_node* n) : node(n) {
  references.store(0, std::memory_order_relaxed);
  capacity = 0;
  type = &kDoneType;
  buffer = nullptr;
}

void cancel_node::dispose() noexcept {
  leave(above, *this);
  if (timer) call_timer_stop(timer.get());
  timer = nullptr;
  cause = nullptr;
  release_memory();
}

// A loop, as a chain may be long. Values are destroyed here, without a lock.
void context_release(context_node* n) noexcept {
  while (n && n->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    context_node* const parent = n->parent.detach();
    n->dispose();
    n = parent;
  }
}

cancel_handle::cancel_handle(const cancel_handle& other) noexcept : node_(other.node_) {
  if (node_.get()) node_.get()->canceller->sources.fetch_add(1, std::memory_order_relaxed);
}

cancel_handle::~cancel_handle() {
  if (node_.get()) lose_source(*node_.get()->canceller);
}

void cancel_handle::cancel(std::exception_ptr cause) const noexcept {
  const context_ref keep = node_;  // who learns of the end may destroy this handle
  if (keep.get()) end_all(*keep.get()->canceller, context_end::canceled, std::move(cause));
}

cancelable context_until(context parent, std::int64_t when) {
  context_ref made = make_until(std::move(parent), when);
  return {context_access::make(made), context_access::func<cancel_func>(cancel_handle(std::move(made)))};
}

stop_func context_after(const context& ctx, call_ptr f) {
  cancel_node* const above = canceller_of(ctx);
  context_node* const parent = context_access::node(ctx);
  auto* const n = new after_node(parent ? share(parent) : context_ref(), std::move(f));
  auto stop = context_access::func<stop_func>(context_ref(n));
  if (!above) return stop;
  end_if_late(*above);
  share(n).detach();  // for the list
  const context_end parents = join(*above, *n);
  if (parents != context_end::none) n->context_ended(parents);
  return stop;
}

}  // namespace weft::detail

namespace weft {

using namespace detail;

recv_chan<unit> context::done() const {
  cancel_node* const n = canceller_of(*this);
  if (!n) return {};
  end_if_late(*n);
  if (n->done.references.fetch_add(1, std::memory_order_relaxed) == 0) share(n).detach();
  return chan_access::make<unit>(chan_ref(&n->done));
}

std::error_code context::err() const {
  cancel_node* const n = canceller_of(*this);
  if (!n) return {};
  if (!n->over()) {
    scheduling_point();
    end_if_late(*n);
    if (!n->over()) return {};
  }
  return std::make_error_code(n->how == context_end::timed_out ? std::errc::timed_out : std::errc::operation_canceled);
}

std::optional<time_point> context::deadline() const {
  const cancel_node* const n = canceller_of(*this);
  if (!n || n->when == rt::kNever) return std::nullopt;
  return time_point(std::chrono::nanoseconds(n->when));
}

const void* context::find(const std::type_info& type) const noexcept {
  for (const context_node* n = node_.get(); n; n = n->parent.get())
    if (const void* const value = n->value_of(type)) return value;
  return nullptr;
}

bool stop_func::operator()() const noexcept { return static_cast<after_node*>(node_.get())->stop(); }

cancelable with_cancel(context parent) { return context_until(std::move(parent), rt::kNever); }

cause_cancelable with_cancel_cause(context parent) {
  context_ref made = make_until(std::move(parent), rt::kNever);
  return {context_access::make(made), context_access::func<cancel_cause_func>(cancel_handle(std::move(made)))};
}

context without_cancel(context parent) {
  struct wall final : context_node {
    explicit wall(context_ref up) : context_node(std::move(up)) { canceller = nullptr; }
  };
  return context_access::make(context_ref(new wall(context_access::take(std::move(parent)))));
}

std::exception_ptr cause(const context& ctx) {
  const std::error_code err = ctx.err();
  if (!err) return nullptr;
  const cancel_node& n = *canceller_of(ctx);
  return n.cause ? n.cause : std::make_exception_ptr(std::system_error(err));
}

}  // namespace weft
