// SPDX-License-Identifier: Apache-2.0
// task_group.
#include <weft/task_group.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

#include <weft/select.h>
#include <weft/sync.h>

#include "tests/fixture.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

class task_groups : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(task_groups);

/// What wait() throws.
std::string failure_of(task_group& group) {
  try {
    group.wait();
  } catch (const std::runtime_error& e) {
    return e.what();
  }
  return "none";
}

TEST_P(task_groups, wait_waits_for_all) {
  in_main([] {
    task_group group;
    std::atomic<int> ended{0};
    for (int i = 0; i < scaled(1000); ++i)
      group.go([&ended, i] {
        for (int n = i % 5; n > 0; --n) yield();
        ++ended;
      });
    group.wait();
    EXPECT_EQ(ended, scaled(1000));
    EXPECT_FALSE(group.ctx().err());
  });
}

TEST_P(task_groups, without_tasks_there_is_nothing_to_wait_for) {
  in_main([] {
    task_group group;
    group.wait();
    group.wait();
  });
}

TEST_P(task_groups, tasks_may_take_the_groups_context_and_return_anything) {
  in_main([] {
    struct user {
      int id;
    };
    task_group group(with_value(context::background(), user{7}));
    std::atomic<int> sum{0};
    group.go([&sum](const context& ctx) { return sum += ctx.value<user>()->id; });
    group.go([&sum](context ctx) { sum += ctx.value<user>()->id; });
    group.go([&sum] { return sum += 1; });
    group.go([&sum, p = std::make_unique<int>(2)] { sum += *p; });
    group.wait();
    EXPECT_EQ(sum, 17);
  });
}

TEST_P(task_groups, the_first_exception_comes_out_of_every_wait) {
  in_main([] {
    task_group group;
    group.go([] { throw std::runtime_error("first"); });
    EXPECT_EQ(failure_of(group), "first");
    group.go([] { throw std::runtime_error("second"); });
    EXPECT_EQ(failure_of(group), "first");
    group.go([] {});
    EXPECT_EQ(failure_of(group), "first");
  });
}

TEST_P(task_groups, the_first_exception_cancels_the_context_and_is_its_cause) {
  in_main([] {
    task_group group;
    for (int i = 0; i < 5; ++i)
      group.go([](const context& ctx) {
        EXPECT_EQ(ctx.done().recv(), std::nullopt);
        EXPECT_EQ(ctx.err(), kCanceled);
      });
    EXPECT_FALSE(group.ctx().err());
    group.go([] { throw std::runtime_error("failed"); });
    EXPECT_EQ(failure_of(group), "failed");
    EXPECT_EQ(group.ctx().err(), kCanceled);
    EXPECT_THROW(std::rethrow_exception(cause(group.ctx())), std::runtime_error);
  });
}

TEST_P(task_groups, one_of_many_exceptions_is_the_first) {
  in_main([] {
    for (int round = 0; round < scaled(100); ++round) {
      task_group group;
      for (int i = 0; i < 20; ++i)
        group.go([i] {
          if (i % 2 == 0) yield();
          throw std::runtime_error(std::to_string(i));
        });
      const std::string first = failure_of(group);
      EXPECT_GE(std::stoi(first), 0);
      EXPECT_EQ(failure_of(group), first);
    }
  });
}

TEST_P(task_groups, an_exception_is_no_reason_not_to_wait) {
  in_main([] {
    task_group group;
    const auto go_on = make_chan<int>();
    std::atomic<bool> ended{false};
    group.go([&, go_on] {
      go_on.recv();
      ended = true;
    });
    group.go([] { throw std::runtime_error("early"); });
    go([&group, go_on] {
      group.ctx().done().recv();
      go_on.send(1);
    });
    EXPECT_EQ(failure_of(group), "early");
    EXPECT_TRUE(ended);
  });
}

TEST_P(task_groups, a_cancelled_parent_cancels_the_context_and_is_no_failure) {
  in_main([] {
    const auto [parent, cancel] = with_cancel(context::background());
    task_group group(parent);
    group.go([](const context& ctx) { ctx.done().recv(); });
    cancel();
    group.wait();
    EXPECT_EQ(group.ctx().err(), kCanceled);
  });
}

TEST_P(task_groups, a_failing_group_leaves_its_parent_alone) {
  in_main([] {
    const auto [parent, cancel] = with_cancel(context::background());
    {
      task_group group(parent);
      group.go([] { throw std::runtime_error("failed"); });
      EXPECT_EQ(failure_of(group), "failed");
    }
    EXPECT_FALSE(parent.err());
  });
}

TEST_P(task_groups, goexit_ends_a_task_without_an_error) {
  in_main([] {
    task_group group;
    std::atomic<bool> unwound{false};
    group.go([&unwound] {
      struct at_end {
        std::atomic<bool>& flag;
        ~at_end() { flag = true; }
      } sets{unwound};
      goexit();
    });
    group.wait();
    EXPECT_TRUE(unwound);
    EXPECT_FALSE(group.ctx().err());
  });
}

TEST_P(task_groups, a_task_is_destroyed_before_it_counts_as_done) {
  in_main([] {
    for (int i = 0; i < scaled(200); ++i) {
      const auto held = std::make_shared<int>(0);
      task_group group;
      group.go([held] {});
      group.go([held] { goexit(); });
      group.go([held] { throw std::runtime_error("failed"); });
      EXPECT_EQ(failure_of(group), "failed");
      EXPECT_EQ(held.use_count(), 1);
    }
  });
}

TEST_P(task_groups, the_destructor_cancels_and_waits) {
  in_main([] {
    std::atomic<int> ended{0};
    {
      task_group group;
      for (int i = 0; i < 5; ++i)
        group.go([&ended](const context& ctx) {
          ctx.done().recv();
          yield();
          ++ended;
        });
      group.go([] { throw std::runtime_error("nobody asks for it"); });
    }
    EXPECT_EQ(ended, 5);
  });
}

TEST_P(task_groups, the_destructor_waits_while_an_exception_or_goexit_unwinds) {
  in_main([] {
    std::atomic<int> ended{0};
    const auto leave_by = [&ended](auto how) {
      task_group group;
      group.go([&ended](const context& ctx) {
        ctx.done().recv();
        ++ended;
      });
      how();
    };
    try {
      leave_by([] { throw std::logic_error("out"); });
    } catch (const std::logic_error&) {
    }
    EXPECT_EQ(ended, 1);
    wait_group done;
    done.go([&] { leave_by([] { goexit(); }); });
    done.go([&] {
      leave_by([] {
        try {
          goexit();
        } catch (...) {
        }
      });
    });
    done.wait();
    EXPECT_EQ(ended, 3);
  });
}

TEST_P(task_groups, tasks_may_start_tasks_while_others_wait) {
  in_main([] {
    task_group group;
    std::atomic<int> leaves{0};
    const auto split = [&](const auto& self, int depth) -> void {
      if (depth == 0) {
        ++leaves;
        return;
      }
      for (int i = 0; i < 2; ++i) group.go([&self, depth] { self(self, depth - 1); });
    };
    split(split, 8);
    wait_group waiters;
    for (int i = 0; i < 3; ++i)
      waiters.go([&] {
        group.wait();
        EXPECT_EQ(leaves, 256);
      });
    group.wait();
    EXPECT_EQ(leaves, 256);
    waiters.wait();
  });
}

TEST_P(task_groups, a_group_may_be_used_again) {
  in_main([] {
    task_group group;
    int sum = 0;
    for (int i = 0; i < scaled(200); ++i) {
      group.go([&sum](const context& ctx) { sum += ctx.err() ? 1000 : 1; });
      group.wait();
    }
    EXPECT_EQ(sum, scaled(200));
  });
}

TEST_P(task_groups, a_limit_holds) {
  in_main([] {
    for (const int limit : {1, 3}) {
      task_group group;
      group.set_limit(limit);
      std::atomic<int> running{0}, most{0};
      for (int i = 0; i < scaled(300); ++i)
        group.go([&] {
          const int now = ++running;
          int seen = most;
          while (now > seen && !most.compare_exchange_weak(seen, now)) {
          }
          yield();
          --running;
        });
      group.wait();
      EXPECT_LE(most, limit);
      EXPECT_GE(most, 1);
    }
  });
}

TEST_P(task_groups, go_waits_for_room_and_try_go_does_not) {
  in_main([] {
    task_group group;
    group.set_limit(1);
    const auto go_on = make_chan<int>();
    group.go([go_on] { go_on.recv(); });
    EXPECT_FALSE(group.try_go([] { ADD_FAILURE() << "there was no room"; }));
    const int before = parked(wait_reason::semaphore_acquire);
    std::atomic<bool> started{false};
    wait_group others;
    others.go([&] { group.go([&started] { started = true; }); });
    EXPECT_TRUE(eventually_parked(wait_reason::semaphore_acquire, before, 1));
    EXPECT_FALSE(started);
    go_on.send(1);
    others.wait();
    group.wait();
    EXPECT_TRUE(started);
    EXPECT_TRUE(group.try_go([] {}));
    group.wait();
  });
}

TEST_P(task_groups, a_limit_of_zero_lets_nobody_in_until_it_is_raised) {
  in_main([] {
    task_group group;
    group.set_limit(0);
    EXPECT_FALSE(group.try_go([] {}));
    const int before = parked(wait_reason::semaphore_acquire);
    wait_group others;
    std::atomic<int> ran{0};
    for (int i = 0; i < 3; ++i) others.go([&] { group.go([&ran] { ++ran; }); });
    EXPECT_TRUE(eventually_parked(wait_reason::semaphore_acquire, before, 3));
    group.set_limit(-1);
    others.wait();
    group.wait();
    EXPECT_EQ(ran, 3);
  });
}

TEST_P(task_groups, a_limit_is_not_changed_while_there_are_tasks) {
  in_main([] {
    task_group group;
    const auto go_on = make_chan<int>();
    for (int i = 0; i < 2; ++i) group.go([go_on] { go_on.recv(); });
    try {
      group.set_limit(3);
      ADD_FAILURE() << "the limit was changed";
    } catch (const error& e) {
      EXPECT_STREQ(e.what(), "errgroup: modify limit while 2 goroutines in the group are still active");
    }
    go_on.close();
    group.wait();
    group.set_limit(3);
  });
}

TEST_P(task_groups, a_task_that_cannot_be_started_is_none) {
  task_group group;
  EXPECT_THROW(group.go([] {}), error) << "there is no runtime";
  in_main([&group] {
    struct thrower {
      thrower() = default;
      thrower(const thrower&) { throw std::runtime_error("copy"); }
      void operator()() const {}
    };
    const thrower f;
    EXPECT_THROW(group.go(f), std::runtime_error);
    group.wait();
  });
}

TEST_P(task_groups, work_from_foreign_threads) {
  in_main([] {
    const auto use = [] {
      task_group group;
      group.set_limit(2);
      std::atomic<int> ended{0};
      for (int i = 0; i < 20; ++i)
        group.go([&ended] {
          yield();
          ++ended;
        });
      group.wait();
      EXPECT_EQ(ended, 20);
      group.go([](const context& ctx) { ctx.done().recv(); });
      group.go([] { throw std::runtime_error("failed"); });
      EXPECT_EQ(failure_of(group), "failed");
    };
    std::thread thread(use);
    blocking([&thread] { thread.join(); });
    blocking(use);
  });
}

TEST_P(task_groups, a_pipeline_stops_at_the_first_error) {
  in_main([] {
    for (int round = 0; round < scaled(50); ++round) {
      task_group group;
      const auto numbers = make_chan<int>();
      group.go([numbers](const context& ctx) {
        for (int i = 0;; ++i)
          if (select(on_send(numbers, i), on_recv(ctx.done())) == 1) return;
      });
      for (int i = 0; i < 4; ++i)
        group.go([numbers](const context& ctx) {
          for (;;) {
            std::optional<int> n;
            if (select(on_recv(numbers, [&n](std::optional<int> got) { n = got; }), on_recv(ctx.done())) == 1) return;
            if (n == 100) throw std::runtime_error("no hundreds");
          }
        });
      EXPECT_EQ(failure_of(group), "no hundreds");
    }
  });
}

}  // namespace
