// SPDX-License-Identifier: Apache-2.0
// Contexts: cancelling, deadlines, values, and that nothing is left of them.
#include <weft/context.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <weft/select.h>
#include <weft/sync.h>

#include "runtime/context.h"
#include "runtime/lock.h"
#include "tests/fixture.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

class contexts : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(contexts);

const std::error_code kTimedOut = std::make_error_code(std::errc::timed_out);

bool is_done(const context& ctx) { return ctx.done().try_recv().status == recv_status::closed; }

void expect_alive(const context& ctx) {
  EXPECT_FALSE(ctx.err()) << ctx.err().message();
  EXPECT_EQ(cause(ctx), nullptr);
  if (ctx.done()) {
    EXPECT_EQ(ctx.done().try_recv().status, recv_status::empty);
  }
}

void expect_ended(const context& ctx, std::error_code how) {
  EXPECT_EQ(ctx.err(), how);
  EXPECT_TRUE(is_done(ctx));
  EXPECT_EQ(ctx.done().recv(), std::nullopt);
}

std::string text_of(const std::exception_ptr& e) {
  if (!e) return "none";
  try {
    std::rethrow_exception(e);
  } catch (const std::system_error& s) {
    return s.code() == kCanceled ? "canceled" : s.code() == kTimedOut ? "timed out" : "?";
  } catch (const std::exception& s) {
    return s.what();
  }
}

std::exception_ptr error_of(const char* what) { return std::make_exception_ptr(std::runtime_error(what)); }

/// How many contexts and functions are in its list.
int children(const context& ctx) {
  detail::cancel_node& n = *detail::context_access::node(ctx)->canceller;
  rt::lock_guard hold(n.done.lock);
  int count = 0;
  for (const detail::context_child* c = n.children; c; c = c->next) ++count;
  return count;
}

/// Tells when the last copy is gone.
std::shared_ptr<int> tracer(std::weak_ptr<int>& trace) {
  auto made = std::make_shared<int>(0);
  trace = made;
  return made;
}

// -- Cancelling -------------------------------------------------------------------------------------------------------

TEST_P(contexts, the_background_never_ends) {
  in_main([] {
    const context background = context::background();
    EXPECT_FALSE(background.done());
    EXPECT_FALSE(background.err());
    EXPECT_EQ(background.deadline(), std::nullopt);
    EXPECT_EQ(background.value<int>(), nullptr);
    EXPECT_EQ(cause(background), nullptr);
    EXPECT_EQ(background, context());
    EXPECT_FALSE(with_value(background, 1).done()) << "a value alone makes nothing that could be cancelled";
  });
}

TEST_P(contexts, a_cancelled_context_is_done_and_says_so) {
  in_main([] {
    const auto [ctx, cancel] = with_cancel(context::background());
    EXPECT_TRUE(ctx.done());
    EXPECT_EQ(ctx.done(), ctx.done());
    EXPECT_EQ(ctx.deadline(), std::nullopt);
    expect_alive(ctx);
    cancel();
    expect_ended(ctx, kCanceled);
    EXPECT_EQ(text_of(cause(ctx)), "canceled");
  });
}

TEST_P(contexts, cancelling_again_and_by_copies_changes_nothing) {
  in_main([] {
    const auto [ctx, cancel] = with_cancel(context::background());
    const cancel_func copy = cancel, nothing;
    nothing();
    expect_alive(ctx);
    copy();
    cancel();
    copy();
    expect_ended(ctx, kCanceled);
  });
}

TEST_P(contexts, cancelling_wakes_all_that_wait) {
  in_main([] {
    const auto [ctx, cancel] = with_cancel(context::background());
    const auto never = make_chan<int>();
    const int receivers = parked(wait_reason::chan_receive), selects = parked(wait_reason::select);
    std::atomic<int> ended{0};
    wait_group done;
    for (int i = 0; i < 10; ++i) {
      done.go([&ended, ctx = ctx] {
        EXPECT_EQ(ctx.done().recv(), std::nullopt);
        ended += ctx.err() == kCanceled ? 1 : 0;
      });
      done.go([&ended, never, ctx = ctx] {
        EXPECT_EQ(select(on_recv(never), on_recv(ctx.done())), 1U);
        ended += ctx.err() == kCanceled ? 1 : 0;
      });
    }
    EXPECT_TRUE(eventually_parked(wait_reason::chan_receive, receivers, 10));
    EXPECT_TRUE(eventually_parked(wait_reason::select, selects, 10));
    cancel();
    done.wait();
    EXPECT_EQ(ended, 20);
  });
}

TEST_P(contexts, a_parent_takes_all_its_descendants_along) {
  in_main([] {
    const auto [parent, cancel] = with_cancel(context::background());
    std::vector<cancelable> family;
    context last = parent;
    for (int i = 0; i < 20; ++i) {
      family.push_back(with_cancel(with_value(i % 3 == 0 ? parent : last, i)));
      last = family.back().ctx;
    }
    family.push_back(with_timeout(last, 1h));
    for (const cancelable& c : family) expect_alive(c.ctx);
    cancel();
    for (const cancelable& c : family) expect_ended(c.ctx, kCanceled);
  });
}

TEST_P(contexts, a_child_takes_neither_its_parent_nor_its_siblings_along) {
  in_main([] {
    const auto [parent, cancel_parent] = with_cancel(context::background());
    const auto [child, cancel_child] = with_cancel(parent);
    const auto [sibling, cancel_sibling] = with_cancel(parent);
    cancel_child();
    expect_ended(child, kCanceled);
    expect_alive(parent);
    expect_alive(sibling);
    cancel_parent();
    expect_ended(sibling, kCanceled);
  });
}

TEST_P(contexts, a_child_of_a_cancelled_parent_is_cancelled) {
  in_main([] {
    const auto [parent, cancel] = with_cancel_cause(context::background());
    cancel(error_of("why"));
    const auto [child, cancel_child] = with_cancel(with_value(parent, 1));
    expect_ended(child, kCanceled);
    EXPECT_EQ(text_of(cause(child)), "why");
    expect_ended(with_timeout(parent, 1h).ctx, kCanceled);
    expect_ended(with_timeout(parent, -1h).ctx, kCanceled);
    EXPECT_EQ(children(parent), 0);
  });
}

TEST_P(contexts, a_chain_as_long_as_memory_allows_is_cancelled_and_freed) {
  in_main([] {
    const auto [parent, cancel] = with_cancel(context::background());
    cancelable last{parent, cancel};
    for (int i = 0; i < scaled(200'000); ++i) last = with_cancel(i % 2 == 0 ? with_value(last.ctx, i) : last.ctx);
    cancel();
    expect_ended(last.ctx, kCanceled);
  });
}

TEST_P(contexts, a_hundred_thousand_children_are_cancelled) {
  in_main([] {
    const auto [parent, cancel] = with_cancel(context::background());
    std::vector<cancelable> all(static_cast<std::size_t>(scaled(100'000)));
    for (cancelable& c : all) c = with_cancel(parent);
    EXPECT_EQ(children(parent), static_cast<int>(all.size()));
    cancel();
    for (const cancelable& c : all) ASSERT_EQ(c.ctx.err(), kCanceled);
    EXPECT_EQ(children(parent), 0);
  });
}

TEST_P(contexts, a_reason_and_a_closed_channel_are_seen_together) {
  in_main([] {
    for (int i = 0; i < scaled(1000); ++i) {
      const auto [ctx, cancel] = with_cancel(context::background());
      const auto done = ctx.done();
      go(cancel);
      if (i % 2 == 0) {
        while (!ctx.err())
          if (ps() == 1) yield();
        EXPECT_EQ(done.try_recv().status, recv_status::closed);
      } else {
        while (done.try_recv().status != recv_status::closed)
          if (ps() == 1) yield();
        EXPECT_EQ(ctx.err(), kCanceled);
      }
    }
  });
}

TEST_P(contexts, many_cancel_at_once_while_children_come_and_go) {
  in_main([] {
    for (int round = 0; round < scaled(100); ++round) {
      const auto [parent, cancel] = with_cancel_cause(context::background());
      wait_group done;
      for (int i = 0; i < 4; ++i)
        done.go([parent = parent] {
          while (!parent.err()) {
            const auto [child, cancel_child] = with_cancel(parent);
            const auto [grandchild, cancel_grandchild] = with_timeout(child, 1h);
            const auto [other, cancel_other] = with_cancel(with_value(parent, 1));
            after_func(grandchild, [] {});
            cancel_child();
            expect_ended(grandchild, kCanceled);
            yield();
          }
          expect_ended(with_cancel(parent).ctx, kCanceled);
        });
      for (int i = 0; i < 2; ++i)
        done.go([parent = parent, cancel = cancel, i] {
          for (int n = 0; n < 10; ++n) yield();
          cancel(error_of(std::to_string(i).c_str()));
          EXPECT_EQ(parent.err(), kCanceled);
        });
      done.wait();
      EXPECT_EQ(children(parent), 0);
    }
  });
}

// -- Nothing is left --------------------------------------------------------------------------------------------------

TEST_P(contexts, cancelled_children_leave_their_parent) {
  in_main([] {
    const auto [parent, cancel] = with_cancel(context::background());
    std::vector<context> kept;
    for (int i = 0; i < scaled(100'000); ++i) {
      const auto [child, cancel_child] = with_cancel(parent);
      cancel_child();
      if (i % 100 == 0) kept.push_back(child);
    }
    EXPECT_EQ(children(parent), 0);
    expect_alive(parent);
  });
}

TEST_P(contexts, dropped_children_leave_their_parent_without_being_cancelled) {
  in_main([] {
    const auto [parent, cancel] = with_cancel(context::background());
    std::weak_ptr<int> trace;
    {
      const context below = with_value(with_timeout(with_cancel(parent).ctx, 1h).ctx, tracer(trace));
      EXPECT_EQ(children(parent), 1);
      EXPECT_FALSE(trace.expired());
    }
    EXPECT_TRUE(trace.expired());
    EXPECT_EQ(children(parent), 0);
    expect_alive(parent);
  });
}

TEST_P(contexts, dropped_children_stop_their_timers) {
  in_main([] {
    const auto timers = [] {
      std::size_t due = 0;
      for (int i = 0; i < rt::sched.nps.load(); ++i) due += rt::heap_of_p(i).first_when() != rt::kNever ? 1 : 0;
      return due + (rt::foreign_heap.first_when() != rt::kNever ? 1 : 0);
    };
    EXPECT_EQ(timers(), 0U);
    {
      const auto [ctx, cancel] = with_timeout(context::background(), 1h);
      EXPECT_EQ(timers(), 1U);
    }
    EXPECT_EQ(timers(), 0U);
    const auto [ctx, cancel] = with_timeout(context::background(), 1h);
    EXPECT_EQ(timers(), 1U);
    cancel();
    EXPECT_EQ(timers(), 0U);
  });
}

TEST_P(contexts, a_done_channel_is_closed_though_nothing_else_is_kept) {
  in_main([] {
    const auto [parent, cancel] = with_cancel(context::background());
    auto done = with_cancel(with_value(parent, 1)).ctx.done();
    EXPECT_EQ(children(parent), 1);
    EXPECT_EQ(done.try_recv().status, recv_status::empty);
    cancel();
    EXPECT_EQ(done.recv(), std::nullopt);
    done = with_timeout(context::background(), 1ms).ctx.done();
    EXPECT_EQ(done.recv(), std::nullopt);
  });
}

TEST_P(contexts, a_done_channel_that_is_dropped_leaves_nothing) {
  in_main([] {
    const auto [parent, cancel] = with_cancel(context::background());
    std::weak_ptr<int> trace;
    recv_chan<unit> done, again;
    {
      const context ctx = with_cancel(with_value(parent, tracer(trace))).ctx;
      done = ctx.done();
      done = {};
      done = again = ctx.done();
    }
    done = {};
    EXPECT_FALSE(trace.expired());
    EXPECT_EQ(again.try_recv().status, recv_status::empty);
    again = {};
    EXPECT_TRUE(trace.expired());
    EXPECT_EQ(children(parent), 0);
  });
}

TEST_P(contexts, what_waits_for_an_end_that_cannot_come_is_let_go_of) {
  in_main([] {
    std::weak_ptr<int> first, second, third;
    {
      const auto [ctx, cancel] = with_cancel(context::background());
      const auto [child, cancel_child] = with_cancel(ctx);
      const auto must_not_run = [](const std::shared_ptr<int>&) { ADD_FAILURE() << "nobody cancelled it"; };
      after_func(ctx, [=, t = tracer(first), ctx = ctx] { must_not_run(t); });
      after_func(child, [=, t = tracer(second), child = child] { must_not_run(t); });
      after_func(with_value(child, 1), [=, t = tracer(third)] { must_not_run(t); });
    }
    EXPECT_TRUE(first.expired());
    EXPECT_TRUE(second.expired());
    EXPECT_TRUE(third.expired());
  });
}

TEST_P(contexts, a_function_keeps_nothing_that_can_end_by_its_own_cancel_only) {
  in_main([] {
    std::weak_ptr<int> trace;
    const auto [parent, cancel_parent] = with_cancel(context::background());
    cancelable child = with_cancel(parent);
    after_func(child.ctx, [t = tracer(trace), ctx = child.ctx] {});
    child = {};
    EXPECT_FALSE(trace.expired()) << "its parent may still be cancelled";
    EXPECT_EQ(children(parent), 1);
    cancel_parent();
    EXPECT_TRUE(eventually([&] { return trace.expired(); }));
    EXPECT_EQ(children(parent), 0);
  });
}

// -- Deadlines --------------------------------------------------------------------------------------------------------

TEST_P(contexts, a_deadline_ends_a_context_when_it_passes_and_not_before) {
  in_main([] {
    const time_point when = clock::now() + 2ms;
    const auto [ctx, cancel] = with_deadline(context::background(), when);
    EXPECT_EQ(ctx.deadline(), when);
    EXPECT_EQ(ctx.done().recv(), std::nullopt);
    EXPECT_GE(clock::now(), when);
    expect_ended(ctx, kTimedOut);
    EXPECT_EQ(text_of(cause(ctx)), "timed out");
    cancel();
    expect_ended(ctx, kTimedOut);
  });
}

TEST_P(contexts, a_timeout_is_a_deadline_from_now) {
  in_main([] {
    const time_point start = clock::now();
    const auto [ctx, cancel] = with_timeout(context::background(), 1500us);
    EXPECT_GE(*ctx.deadline() - start, 1500us);
    ctx.done().recv();
    EXPECT_GE(clock::now() - start, 1500us);
    expect_ended(ctx, kTimedOut);
  });
}

TEST_P(contexts, a_deadline_reaches_the_descendants) {
  in_main([] {
    const auto [parent, cancel_parent] = with_timeout(context::background(), 1ms);
    const auto [child, cancel_child] = with_cancel(with_value(parent, 1));
    EXPECT_EQ(child.deadline(), parent.deadline());
    EXPECT_EQ(child.done().recv(), std::nullopt);
    expect_ended(child, kTimedOut);
    EXPECT_EQ(text_of(cause(child)), "timed out");
  });
}

TEST_P(contexts, a_deadline_in_the_past_has_passed) {
  in_main([] {
    expect_ended(with_deadline(context::background(), clock::now() - 1h).ctx, kTimedOut);
    expect_ended(with_deadline(context::background(), time_point::min()).ctx, kTimedOut);
    expect_ended(with_timeout(context::background(), 0s).ctx, kTimedOut);
    expect_ended(with_timeout(context::background(), -1s).ctx, kTimedOut);
    expect_ended(with_timeout(context::background(), std::chrono::hours::min()).ctx, kTimedOut);
    const auto [parent, cancel] = with_cancel(context::background());
    expect_ended(with_timeout(parent, 0s).ctx, kTimedOut);
    EXPECT_EQ(children(parent), 0);
    expect_alive(parent);
  });
}

TEST_P(contexts, a_deadline_later_than_the_parents_is_the_parents) {
  in_main([] {
    const auto [parent, cancel_parent] = with_timeout(context::background(), 2ms);
    const auto [later, cancel_later] = with_timeout(parent, 1h);
    const auto [earlier, cancel_earlier] = with_timeout(parent, 1us);
    EXPECT_EQ(later.deadline(), parent.deadline());
    EXPECT_LT(*earlier.deadline(), *parent.deadline());
    EXPECT_EQ(earlier.done().recv(), std::nullopt);
    EXPECT_EQ(later.done().recv(), std::nullopt);
    expect_ended(later, kTimedOut);
    expect_ended(parent, kTimedOut);
  });
}

TEST_P(contexts, a_timeout_beyond_the_clock_is_none) {
  in_main([] {
    for (const auto& [ctx, cancel] : {with_timeout(context::background(), std::chrono::hours::max()),
                                      with_timeout(context::background(), std::chrono::duration<double>(1e300)),
                                      with_deadline(context::background(), time_point::max())}) {
      expect_alive(ctx);
      EXPECT_EQ(ctx.deadline(), std::nullopt);
      cancel();
      expect_ended(ctx, kCanceled);
    }
  });
}

TEST_P(contexts, cancelled_before_its_deadline_it_stays_cancelled) {
  in_main([] {
    const auto [ctx, cancel] = with_timeout(context::background(), 1ms);
    cancel();
    expect_ended(ctx, kCanceled);
    sleep_until(*ctx.deadline() + 1ms);
    expect_ended(ctx, kCanceled);
  });
}

TEST_P(contexts, a_loop_that_polls_sees_its_deadline_and_its_cancelling) {
  in_main([] {
    const auto [late, cancel_late] = with_timeout(context::background(), 1ms);
    while (!late.err()) {
    }
    EXPECT_EQ(late.err(), kTimedOut);
    const auto [ctx, cancel] = with_cancel(context::background());
    go([cancel = cancel] {
      sleep_for(1ms);
      cancel();
    });
    while (!ctx.err()) {
    }
    EXPECT_EQ(ctx.err(), kCanceled);
  });
}

TEST_P(contexts, many_deadlines_race_with_their_cancelling_and_their_end) {
  in_main([] {
    wait_group done;
    for (int i = 0; i < scaled(1000); ++i)
      done.go([i] {
        const auto d = std::chrono::microseconds(i * 7 % 300);
        const auto [ctx, cancel] = with_timeout(context::background(), d);
        const auto [child, cancel_child] = with_timeout(ctx, d / 2);
        with_timeout(ctx, d / 2).ctx.done();
        sleep_for(std::chrono::microseconds(i * 11 % 300));
        cancel();
        EXPECT_TRUE(ctx.err() == kCanceled || ctx.err() == kTimedOut);
        EXPECT_TRUE(is_done(ctx));
        EXPECT_EQ(child.done().recv(), std::nullopt);
      });
    done.wait();
  });
}

TEST_P(contexts, a_hundred_thousand_deadlines_pass_at_once) {
  in_main([] {
    const int n = std::min(scaled(100'000), max_goroutines());
    const time_point when = clock::now() + 100ms;
    std::vector<cancelable> all(static_cast<std::size_t>(n));
    for (cancelable& c : all) c = with_deadline(context::background(), when);
    for (const cancelable& c : all) ASSERT_EQ(c.ctx.done().recv(), std::nullopt);
    for (const cancelable& c : all) ASSERT_EQ(c.ctx.err(), kTimedOut);
  });
}

// -- Causes -----------------------------------------------------------------------------------------------------------

TEST_P(contexts, the_first_cause_counts_and_reaches_the_descendants) {
  in_main([] {
    const auto [parent, cancel] = with_cancel_cause(context::background());
    const auto [child, cancel_child] = with_cancel_cause(parent);
    const auto [grandchild, cancel_grandchild] = with_cancel(with_value(child, 1));
    EXPECT_EQ(cause(grandchild), nullptr);
    cancel_child(error_of("first"));
    cancel_child(error_of("second"));
    cancel(error_of("third"));
    EXPECT_EQ(text_of(cause(child)), "first");
    EXPECT_EQ(text_of(cause(grandchild)), "first");
    EXPECT_EQ(text_of(cause(parent)), "third");
    EXPECT_EQ(grandchild.err(), kCanceled);
  });
}

TEST_P(contexts, without_a_cause_it_is_the_error) {
  in_main([] {
    const auto [ctx, cancel] = with_cancel_cause(context::background());
    cancel();
    cancel(error_of("too late"));
    EXPECT_EQ(text_of(cause(ctx)), "canceled");
  });
}

// -- Functions --------------------------------------------------------------------------------------------------------

TEST_P(contexts, a_function_runs_once_in_a_goroutine_of_its_own) {
  in_main([] {
    const auto [ctx, cancel] = with_cancel(context::background());
    const auto runs = make_chan<std::uint64_t>(4);
    const stop_func stop = after_func(ctx, [runs, ctx = ctx] {
      EXPECT_EQ(ctx.err(), kCanceled);
      runs.send(current_goroutine_id());
    });
    yield();
    EXPECT_EQ(runs.len(), 0U);
    cancel();
    EXPECT_NE(runs.recv(), current_goroutine_id());
    cancel();
    EXPECT_FALSE(stop());
    EXPECT_TRUE(eventually([] { return num_goroutine() == 1; }));
    EXPECT_EQ(runs.len(), 0U);
  });
}

TEST_P(contexts, a_function_may_wait_while_cancel_returns) {
  in_main([] {
    const auto [ctx, cancel] = with_cancel(context::background());
    const auto go_on = make_chan<int>(), done = make_chan<int>();
    after_func(ctx, [=] {
      go_on.recv();
      done.close();
    });
    cancel();
    go_on.send(1);
    EXPECT_EQ(done.recv(), std::nullopt);
  });
}

TEST_P(contexts, a_function_of_a_cancelled_context_runs_at_once) {
  in_main([] {
    const auto [ctx, cancel] = with_cancel(context::background());
    cancel();
    const auto ran = make_chan<int>();
    const stop_func stop = after_func(ctx, [ran] { ran.send(1); });
    EXPECT_FALSE(stop());
    EXPECT_EQ(ran.recv(), 1);
  });
}

TEST_P(contexts, a_stopped_function_never_runs) {
  in_main([] {
    const auto [ctx, cancel] = with_cancel(context::background());
    std::weak_ptr<int> trace;
    const stop_func stop = after_func(ctx, [t = tracer(trace)] { ADD_FAILURE() << "it was stopped"; });
    const stop_func copy = stop;
    EXPECT_EQ(children(ctx), 1);
    EXPECT_TRUE(stop());
    EXPECT_TRUE(trace.expired());
    EXPECT_EQ(children(ctx), 0);
    EXPECT_FALSE(copy());
    cancel();
    EXPECT_FALSE(stop());
  });
}

TEST_P(contexts, a_function_runs_for_a_deadline_and_for_a_parent_though_nothing_is_kept) {
  in_main([] {
    const auto ran = make_chan<int>(2);
    after_func(with_timeout(context::background(), 1ms).ctx, [ran] { ran.send(1); });
    EXPECT_EQ(ran.recv(), 1);
    const auto [parent, cancel] = with_cancel(context::background());
    after_func(with_cancel(with_value(parent, 1)).ctx, [ran] { ran.send(2); });
    cancel();
    EXPECT_EQ(ran.recv(), 2);
  });
}

TEST_P(contexts, a_function_of_the_background_never_runs) {
  in_main([] {
    std::weak_ptr<int> trace;
    {
      const stop_func stop = after_func(context::background(), [t = tracer(trace)] { ADD_FAILURE(); });
      EXPECT_TRUE(stop());
      EXPECT_FALSE(stop());
    }
    EXPECT_TRUE(trace.expired());
    after_func(with_value(context::background(), 1), [t = tracer(trace)] { ADD_FAILURE(); });
    EXPECT_TRUE(trace.expired());
  });
}

TEST_P(contexts, a_function_is_run_or_stopped_and_never_both) {
  in_main([] {
    for (int round = 0; round < scaled(300); ++round) {
      const auto [ctx, cancel] = with_cancel(context::background());
      std::atomic<int> ran{0}, stopped{0};
      std::vector<stop_func> stops;
      for (int i = 0; i < 8; ++i) stops.push_back(after_func(ctx, [&ran] { ++ran; }));
      wait_group done;
      done.go(cancel);
      done.go([&] {
        for (const stop_func& stop : stops) stopped += stop() ? 1 : 0;
      });
      done.wait();
      EXPECT_TRUE(eventually([&] { return ran + stopped == 8; }));
    }
  });
}

TEST_P(contexts, cancel_and_stop_may_be_called_by_what_they_destroy) {
  in_main([] {
    struct owner {
      cancel_func cancel;
      std::weak_ptr<int> trace;
    };
    std::weak_ptr<int> trace;
    {
      auto [ctx, cancel] = with_cancel(context::background());
      const auto mine = std::make_shared<owner>(owner{cancel, {}});
      after_func(ctx, [mine, t = tracer(trace)] { mine->cancel(); });
      cancel();
    }
    EXPECT_TRUE(eventually([&] { return trace.expired(); }));
  });
}

TEST_P(contexts, cancelling_in_a_destructor_of_a_goroutine_that_exits) {
  in_main([] {
    const auto [ctx, cancel] = with_cancel(context::background());
    const auto ran = make_chan<int>();
    after_func(ctx, [ran] { ran.send(1); });
    go([cancel = cancel] {
      struct at_end {
        cancel_func cancel;
        ~at_end() { cancel(); }
      };
      const auto swallow = [] {
        try {
          goexit();
        } catch (...) {
        }
      };
      const at_end cancels{cancel};
      swallow();
    });
    EXPECT_EQ(ran.recv(), 1);
    expect_ended(ctx, kCanceled);
  });
}

// -- Without cancelling, and values -----------------------------------------------------------------------------------

TEST_P(contexts, without_cancel_keeps_the_values_and_nothing_else) {
  in_main([] {
    const auto [parent, cancel] = with_timeout(with_value(context::background(), 42), 1h);
    const context ctx = without_cancel(parent);
    EXPECT_FALSE(ctx.done());
    EXPECT_EQ(ctx.deadline(), std::nullopt);
    EXPECT_EQ(*ctx.value<int>(), 42);
    const auto [child, cancel_child] = with_cancel(ctx);
    cancel();
    EXPECT_FALSE(ctx.err());
    EXPECT_EQ(cause(ctx), nullptr);
    expect_alive(child);
    EXPECT_EQ(*child.value<int>(), 42);
    cancel_child();
    expect_ended(child, kCanceled);
  });
}

TEST_P(contexts, values_are_found_by_type_nearest_first) {
  in_main([] {
    struct user {
      std::string name;
    };
    struct other {};
    const context a = with_value(context::background(), user{"a"});
    const auto [b, cancel] = with_cancel(with_value(a, 7));
    const context c = with_value(with_value(b, user{"c"}), std::make_unique<int>(8));
    EXPECT_EQ(a.value<user>()->name, "a");
    EXPECT_EQ(a.value<int>(), nullptr);
    EXPECT_EQ(b.value<user>()->name, "a");
    EXPECT_EQ(*b.value<int>(), 7);
    EXPECT_EQ(c.value<user>()->name, "c");
    EXPECT_EQ(*c.value<int>(), 7);
    EXPECT_EQ(**c.value<std::unique_ptr<int>>(), 8);
    EXPECT_EQ(c.value<other>(), nullptr);
    EXPECT_EQ(c.done(), b.done());
    EXPECT_EQ(c.value<user>(), with_value(c, 1).value<user>());
  });
}

TEST_P(contexts, a_value_whose_copy_throws_leaves_nothing) {
  in_main([] {
    struct thrower {
      thrower() = default;
      thrower(const thrower&) { throw std::runtime_error("copy"); }
      thrower(thrower&&) { throw std::runtime_error("move"); }
    };
    std::weak_ptr<int> trace;
    EXPECT_THROW(static_cast<void>(with_value(with_value(context::background(), tracer(trace)), thrower())),
                 std::runtime_error);
    EXPECT_TRUE(trace.expired());
  });
}

// -- Foreign threads --------------------------------------------------------------------------------------------------

void use_everything() {
  const auto [parent, cancel_parent] = with_cancel_cause(context::background());
  const auto [late, cancel_late] = with_timeout(parent, 1ms);
  EXPECT_EQ(late.done().recv(), std::nullopt);
  expect_ended(late, kTimedOut);
  const auto [polled, cancel_polled] = with_timeout(parent, 1ms);
  while (!polled.err()) {
  }
  expect_ended(polled, kTimedOut);
  const auto ran = make_chan<int>();
  after_func(parent, [ran] { ran.send(1); });
  const auto [child, cancel_child] = with_cancel(with_value(parent, 1));
  std::thread canceller([cancel = cancel_parent] { cancel(error_of("a thread")); });
  EXPECT_EQ(child.done().recv(), std::nullopt);
  EXPECT_EQ(ran.recv(), 1);
  canceller.join();
  expect_ended(child, kCanceled);
  EXPECT_EQ(text_of(cause(child)), "a thread");
}

TEST_P(contexts, foreign_threads_use_everything) {
  in_main([] {
    std::thread thread(use_everything);
    blocking([&thread] { thread.join(); });
    blocking(use_everything);
  });
}

TEST(contexts_without_a_runtime, everything_works) { use_everything(); }

TEST_P(contexts, a_context_from_outside_is_used_in_a_runtime) {
  const auto [ctx, cancel] = with_cancel(context::background());
  const auto [late, cancel_late] = with_timeout(ctx, 2ms);
  in_main([late = late, cancel = cancel, ctx = ctx] {
    EXPECT_EQ(late.done().recv(), std::nullopt);
    expect_ended(late, kTimedOut);
    go(cancel);
    EXPECT_EQ(ctx.done().recv(), std::nullopt);
  });
  expect_ended(ctx, kCanceled);
}

TEST_P(contexts, a_deadline_of_a_runtime_that_is_over_is_still_one) {
  cancelable kept;
  in_main([&kept] { kept = with_timeout(context::background(), 1ms); });
  sleep_until(*kept.ctx.deadline());
  expect_ended(kept.ctx, kTimedOut);
}

}  // namespace
