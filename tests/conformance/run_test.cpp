// SPDX-License-Identifier: Apache-2.0
// run() and go(): starting and ending the runtime and goroutines, their ids, goexit and goroutine-local values.
#include <weft/runtime.h>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/fixture.h"

namespace {

using namespace weft;
using namespace weft::test;

class running : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(running);
class starting : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(starting);
class ending : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(ending);
class local_value : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(local_value);

// Goroutines that wait, wake each other and end.
void mix() {
  constexpr int kGoroutines = 20;
  wait_group done;
  const auto in = make_chan<int>(), out = make_chan<int>(3);
  for (int i = 0; i < kGoroutines; ++i)
    done.go([=] {
      out.send(in.recv().value_or(0) + 1);
      yield();
    });
  go([in] {
    for (int i = 0; i < kGoroutines; ++i) in.send(i);
  });
  int sum = 0;
  for (int i = 0; i < kGoroutines; ++i) sum += out.recv().value_or(0);
  EXPECT_EQ(sum, kGoroutines * (kGoroutines + 1) / 2);
  done.wait();
}

// -- run()
// -------------------------------------------------------------------------------------------------------------

TEST_P(running, run_returns_what_main_returns) {
  EXPECT_EQ(run(options(), [] { return 42; }), 42);
  EXPECT_EQ(run(options(), [] { return -1; }), -1);
  EXPECT_EQ(run(options(), [] {}), 0);
  int calls = 0;
  const auto counting = [&calls] { ++calls; };
  run(options(), counting);
  EXPECT_EQ(calls, 1);
}

TEST_P(running, main_may_be_a_move_only_function_object_that_changes) {
  struct counter {
    std::unique_ptr<int> n = std::make_unique<int>(0);
    int operator()() { return ++*n; }
  } f;
  EXPECT_EQ(run(options(), f), 1);
  EXPECT_EQ(run(options(), f), 2);
  EXPECT_EQ(run(options(), counter{}), 1);
}

TEST_P(running, options_set_the_number_of_ps) {
  EXPECT_EQ(run(options(), [] { return gomaxprocs(); }), ps());
}

TEST_P(running, run_can_be_called_again_and_again) {
  for (int i = 0; i < scaled(50); ++i) in_main(mix);
}

TEST_P(running, run_can_be_called_from_any_thread) {
  for (int i = 0; i < scaled(20); ++i) {
    std::thread thread([] { in_main(mix); });
    thread.join();
  }
  in_main(mix);
}

TEST_P(running, main_starts_on_the_calling_thread_and_its_affinity_comes_back) {
  cpu_set_t before, after;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  const pid_t caller = gettid();
  in_main([caller] {
    EXPECT_EQ(gettid(), caller);
    mix();
  });
  ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST_P(running, a_second_run_during_one_throws) {
  in_main([] {
    EXPECT_THROW(run([] {}), error);
    std::thread thread([] { EXPECT_THROW(run([] {}), error); });
    blocking([&thread] { thread.join(); });
    wait_group done;
    done.go([] { EXPECT_THROW(run([] {}), error); });
    done.wait();
    mix();
  });
}

TEST_P(running, go_outside_of_a_run_throws) {
  EXPECT_THROW(go([] {}), error);
  in_main([] { mix(); });
  EXPECT_THROW(go([] {}), error);
}

TEST_P(running, outside_of_a_goroutine_there_is_no_id_and_no_p) {
  const auto expect_outside = [] {
    EXPECT_EQ(current_goroutine_id(), 0u);
    EXPECT_EQ(current_p(), -1);
    EXPECT_EQ(current_node(), -1);
  };
  expect_outside();
  in_main([&] {
    std::thread thread(expect_outside);
    blocking([&thread] { thread.join(); });
  });
  expect_outside();
}

TEST_P(running, calls_that_mean_nothing_outside_of_a_goroutine_do_nothing) {
  yield();
  lock_os_thread();
  unlock_os_thread();
  EXPECT_EQ(blocking([] { return 5; }), 5);
  EXPECT_THROW(goexit(), error);
}

TEST_P(running, current_p_is_one_of_those_there_are) {
  in_main([] {
    wait_group done;
    for (int i = 0; i < 100; ++i)
      done.go([] {
        EXPECT_GE(current_p(), 0);
        EXPECT_LT(current_p(), gomaxprocs());
        yield();
        EXPECT_GE(current_node(), 0);
      });
    done.wait();
    EXPECT_GE(num_cpu(), 1);
    EXPECT_GE(num_node(), 1);
  });
}

TEST_P(running, run_returns_while_goroutines_are_parked) {
  const auto c = make_chan<int>();
  for (int i = 0; i < scaled(10); ++i) {
    leaving_goroutines([&c] {
      for (int n = 0; n < 20; ++n)
        go([c] {
          c.recv();
          ADD_FAILURE() << "a goroutine of an earlier run() went on";
        });
      for (int n = 0; n < 5; ++n) yield();
      mix();
    });
  }
}

TEST_P(running, run_returns_while_goroutines_have_not_started) {
  const auto owned = std::make_shared<int>(0);
  for (int i = 0; i < scaled(10); ++i) {
    leaving_goroutines([&owned] {
      for (int n = 0; n < 1000; ++n) go([owned] {});
    });
    EXPECT_TRUE(eventually([&] { return owned.use_count() == 1; })) << owned.use_count() - 1 << " are left";
    in_main(mix);
  }
}

// Each that go() has accepted runs in that run() or is destroyed; none is left to the next.
TEST_P(running, what_foreign_threads_start_while_it_ends_runs_in_it_or_is_destroyed) {
  const auto owned = std::make_shared<int>(0);
  std::atomic<bool> stop{false};
  std::atomic<int> accepted{0}, refused{0}, in_another_run{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      while (!stop) {
        if (owned.use_count() > 1000) sched_yield();
        try {
          go([&in_another_run, owned] {
            const rt::m* const mp = rt::this_m();
            if (mp->run != mp->curg->run) ++in_another_run;
          });
          ++accepted;
        } catch (const error&) {
          ++refused;
        }
      }
    });
  // Goroutines that were interrupted when their run() ended leave their stacks, of which ThreadSanitizer can bear 8128.
  for (int round = 0; round < scaled(kThreadSanitizer ? 20 : 100); ++round)
    leaving_goroutines([&, round] {
      const int before = accepted;
      EXPECT_TRUE(eventually([&] { return accepted > before + round % 7; }));
    });
  stop = true;
  for (std::thread& t : threads) t.join();
  EXPECT_TRUE(eventually([&] { return owned.use_count() == 1; })) << owned.use_count() - 1 << " are left";
  EXPECT_EQ(in_another_run, 0);
  EXPECT_GT(refused, 0);
  in_main([] { EXPECT_EQ(num_goroutine(), 1); });
}

TEST_P(running, run_returns_while_goroutines_compute) {
  std::atomic<bool> stop{false};
  std::atomic<int> running_now{0};
  for (int round = 0; round < 2; ++round) {
    leaving_goroutines([&] {
      // At one P a goroutine that computes leaves main no P.
      for (int i = 1; i < ps(); ++i)
        go([&] {
          ++running_now;
          while (!stop) sched_yield();
          --running_now;
        });
      const int wanted = (round + 1) * (ps() - 1);
      EXPECT_TRUE(eventually([&] { return running_now == wanted; }));
    });
  }
  in_main(mix);
  EXPECT_EQ(running_now, 2 * (ps() - 1));
  stop = true;
  EXPECT_TRUE(eventually([&] { return running_now == 0; }));
}

TEST_P(running, run_returns_while_goroutines_are_in_blocking_calls) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  std::atomic<int> inside{0}, back{0};
  for (int round = 0; round < 2; ++round) {
    leaving_goroutines([&] {
      for (int i = 0; i < 5; ++i)
        go([&] {
          blocking([&] {
            ++inside;
            char byte;
            EXPECT_EQ(read(ends[0], &byte, 1), 1);
            ++back;
          });
          ADD_FAILURE() << "a goroutine of an earlier run() went on";
        });
      EXPECT_TRUE(eventually([&] { return inside == 5 * (round + 1); }));
    });
  }
  in_main([&] {
    EXPECT_EQ(write(ends[1], "0123456789", 10), 10);
    EXPECT_TRUE(eventually([&] { return back == 10; }));
    mix();
  });
  close(ends[0]);
  close(ends[1]);
}

TEST_P(running, channels_of_an_earlier_run_still_work) {
  chan<int> c;
  in_main([&c] {
    c = make_chan<int>(1);
    c.send(1);
  });
  in_main([&c] {
    EXPECT_EQ(c.recv(), 1);
    go([c] { c.send(2); });
    EXPECT_EQ(c.recv(), 2);
  });
}

// -- go()
// --------------------------------------------------------------------------------------------------------------

TEST_P(starting, main_is_goroutine_1_and_all_ids_differ) {
  for (int round = 0; round < 2; ++round) {
    in_main([] {
      EXPECT_EQ(current_goroutine_id(), 1u);
      constexpr int kGoroutines = 1000;
      const auto ids = make_chan<std::uint64_t>(kGoroutines);
      for (int i = 0; i < kGoroutines; ++i)
        go([ids] {
          const std::uint64_t id = current_goroutine_id();
          yield();
          EXPECT_EQ(current_goroutine_id(), id);
          ids.send(id);
        });
      std::set<std::uint64_t> seen{0, 1};
      for (int i = 0; i < kGoroutines; ++i) EXPECT_TRUE(seen.insert(ids.recv().value()).second);
      EXPECT_EQ(current_goroutine_id(), 1u);
    });
  }
}

TEST_P(starting, arguments_are_copied_and_moved_as_std_thread_does) {
  in_main([] {
    wait_group done;
    done.add(5);
    std::string text = "before";
    go(
        [&done](const std::string& s) {
          EXPECT_EQ(s, "before");
          done.done();
        },
        text);
    text = "after";
    go(
        [&done](std::unique_ptr<int> p) {
          EXPECT_EQ(*p, 3);
          done.done();
        },
        std::make_unique<int>(3));
    go([&done, p = std::make_unique<int>(4)] {
      EXPECT_EQ(*p, 4);
      done.done();
    });
    int changed = 0;
    go(
        [&done](int& n) {
          n = 6;
          done.done();
        },
        std::ref(changed));
    struct object {
      int value;
      void expect(int wanted, wait_group* group) const {
        EXPECT_EQ(value, wanted);
        group->done();
      }
    } const seven{7};
    go(&object::expect, &seven, 7, &done);
    done.wait();
    EXPECT_EQ(changed, 6);
  });
}

TEST_P(starting, functions_and_literals_decay) {
  in_main([] {
    static std::atomic<int> sum;
    sum = 0;
    struct plain {
      static void add(const char* text) { sum += static_cast<int>(std::string(text).size()); }
    };
    go(plain::add, "four");
    go(&plain::add, "seventy");
    EXPECT_TRUE(eventually([] { return sum == 11; }));
  });
}

TEST_P(starting, closures_may_be_large_or_overaligned) {
  in_main([] {
    wait_group done;
    std::array<int, 3000> many{};
    many.back() = 9;
    done.go([many] { EXPECT_EQ(many.back(), 9); });
    struct alignas(256) aligned {
      int value = 3;
    };
    done.add(1);
    go(
        [&done](const aligned& a) {
          EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&a) % 256, 0u);
          EXPECT_EQ(a.value, 3);
          done.done();
        },
        aligned{});
    done.wait();
  });
}

TEST_P(starting, what_a_goroutine_was_given_is_destroyed_when_it_ends) {
  in_main([] {
    const auto owned = std::make_shared<int>(0);
    for (int i = 0; i < 100; ++i) go([owned] { yield(); });
    EXPECT_TRUE(eventually([&] { return owned.use_count() == 1; }));
  });
}

struct throws_when_copied {
  throws_when_copied() = default;
  throws_when_copied(const throws_when_copied&) { throw std::runtime_error("copied"); }
  void operator()() const { ADD_FAILURE() << "must not run"; }
};

TEST_P(starting, a_copy_that_throws_starts_nothing) {
  in_main([] {
    const throws_when_copied f;
    for (int i = 0; i < 100; ++i) {
      EXPECT_THROW(go(f), std::runtime_error);
      EXPECT_THROW(go([](const throws_when_copied&) {}, f), std::runtime_error);
    }
    EXPECT_EQ(num_goroutine(), 1);
    mix();
  });
}

TEST_P(starting, foreign_threads_start_goroutines) {
  in_main([] {
    std::atomic<int> ran{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&ran] {
        for (int i = 0; i < scaled(500); ++i)
          go([&ran] {
            EXPECT_GT(current_goroutine_id(), 1u);
            yield();
            ++ran;
          });
      });
    EXPECT_TRUE(eventually([&] { return ran == 4 * scaled(500); }));
    for (std::thread& t : threads) blocking([&t] { t.join(); });
  });
}

TEST_P(starting, foreign_threads_come_and_go) {
  in_main([] {
    const auto c = make_chan<int>();
    const int n = scaled(100);
    go([c, n] {
      wait_group started;
      for (int i = 0; i < n; ++i) {
        started.add(1);
        std::thread thread([c, i, &started] {
          c.send(i);
          go([c, &started] {
            c.send(-1);
            started.done();
          });
        });
        blocking([&thread] { thread.join(); });
      }
      started.wait();
      c.close();
    });
    int from_threads = 0, from_goroutines = 0;
    for (const int value : c) {
      EXPECT_TRUE(value == -1 || value == from_threads);
      ++(value == -1 ? from_goroutines : from_threads);
    }
    EXPECT_EQ(from_threads, n);
    EXPECT_EQ(from_goroutines, n);
  });
}

TEST_P(starting, options_give_one_goroutine_a_stack_and_a_name) {
  in_main([] {
    wait_group done;
    done.add(2);
    go_options large;
    large.stack_size = 1 << 20;
    large.name = "large";
    go(large, [&done] {
      std::array<char, 800 << 10> used;
      volatile char* const p = used.data();
      for (std::size_t i = 0; i < used.size(); i += 1024) p[i] = 1;
      yield();
      for (std::size_t i = 0; i < used.size(); i += 1024) EXPECT_EQ(p[i], 1);
      done.done();
    });
    go(
        go_options{.name = "adder"},
        [&done](int a, int b) {
          EXPECT_EQ(a + b, 5);
          done.done();
        },
        2, 3);
    done.wait();
    EXPECT_THROW(go(go_options{.stack_size = 1}, [] {}), error);
  });
}

// -- goexit()
// ----------------------------------------------------------------------------------------------------------

struct set_at_end {
  std::atomic<bool>* flag;
  ~set_at_end() { *flag = true; }
};

[[noreturn]] void exit_below(int depth, std::atomic<int>& destroyed) {
  struct count {
    std::atomic<int>* n;
    ~count() { ++*n; }
  } const counted{&destroyed};
  if (depth == 0) goexit();
  exit_below(depth - 1, destroyed);
}

TEST_P(ending, goexit_runs_destructors_and_nothing_after) {
  in_main([] {
    std::atomic<int> destroyed{0};
    wait_group done;
    for (int i = 0; i < 10; ++i)
      done.go([&destroyed] {
        exit_below(9, destroyed);
        ADD_FAILURE() << "goexit() returned";
      });
    done.wait();
    EXPECT_EQ(destroyed, 100);
  });
}

TEST_P(ending, catch_all_holds_goexit_up_to_the_next_runtime_call_at_most) {
  in_main([] {
    std::atomic<bool> caught{false}, ended{false}, went_on{false};
    go([&] {
      const set_at_end at_end{&ended};
      try {
        goexit();
      } catch (...) {
        caught = true;
      }
      yield();
      went_on = true;
    });
    EXPECT_TRUE(eventually(ended));
    EXPECT_TRUE(caught);
    EXPECT_FALSE(went_on);
  });
}

TEST_P(ending, catch_all_may_pass_goexit_on) {
  in_main([] {
    std::atomic<bool> ended{false};
    go([&ended] {
      const set_at_end at_end{&ended};
      try {
        goexit();
      } catch (...) {
        throw;
      }
    });
    EXPECT_TRUE(eventually(ended));
  });
}

TEST_P(ending, handlers_for_exceptions_do_not_see_goexit) {
  in_main([] {
    std::atomic<bool> ended{false};
    go([&ended] {
      const set_at_end at_end{&ended};
      try {
        goexit();
      } catch (const std::exception&) {
        ADD_FAILURE();
      }
    });
    EXPECT_TRUE(eventually(ended));
  });
}

TEST_P(ending, goexit_while_an_exception_is_handled_ends_the_goroutine) {
  in_main([] {
    std::atomic<bool> ended{false};
    go([&ended] {
      const set_at_end at_end{&ended};
      try {
        throw std::runtime_error("handled");
      } catch (const std::exception&) {
        goexit();
      }
    });
    EXPECT_TRUE(eventually(ended));
  });
}

TEST_P(ending, destructors_that_goexit_runs_may_wait) {
  in_main([] {
    struct waits {
      chan<int> c;
      ~waits() {
        yield();
        c.send(1);
        c.recv();
      }
    };
    const auto c = make_chan<int>();
    std::atomic<bool> ended{false};
    go([&ended, c] {
      const set_at_end at_end{&ended};
      const waits w{c};
      goexit();
    });
    EXPECT_EQ(c.recv(), 1);
    EXPECT_FALSE(ended);
    c.send(2);
    EXPECT_TRUE(eventually(ended));
  });
}

TEST_P(ending, destructors_that_goexit_runs_may_throw_and_catch) {
  in_main([] {
    struct throws {
      ~throws() {
        try {
          yield();
          throw std::runtime_error("inside");
        } catch (const std::runtime_error& e) {
          EXPECT_STREQ(e.what(), "inside");
        }
      }
    };
    std::atomic<bool> ended{false};
    go([&ended] {
      const set_at_end at_end{&ended};
      const throws t;
      goexit();
    });
    EXPECT_TRUE(eventually(ended));
  });
}

TEST_P(ending, a_wait_group_counts_goexit_as_done) {
  in_main([] {
    wait_group group;
    for (int i = 0; i < 100; ++i)
      group.go([i] {
        if (i % 2 == 0) goexit();
        yield();
        goexit();
      });
    group.wait();
  });
}

TEST_P(ending, goroutines_that_goexit_are_used_again_cleanly) {
  in_main([] {
    for (int round = 0; round < scaled(200); ++round) {
      wait_group group;
      for (int i = 0; i < 10; ++i)
        group.go([i] {
          try {
            if (i % 2 == 0) goexit();
            yield();
          } catch (...) {
            EXPECT_EQ(i % 2, 0);
          }
        });
      group.wait();
      mix();
    }
  });
}

using ending_death = ending;

TEST_P(ending_death, other_goroutines_go_on_when_main_calls_goexit) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto program = [] {
    run(options(), [] {
      go([] {
        for (int i = 0; i < 100; ++i) yield();
        mix();
        _exit(7);
      });
      goexit();
    });
    _exit(1);
  };
  EXPECT_EXIT(program(), testing::ExitedWithCode(7), "");
}

TEST_P(ending_death, when_main_called_goexit_and_all_others_have_ended_nobody_is_left) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto program = [] {
    run(options(), [] {
      go([] { mix(); });
      goexit();
    });
    _exit(1);
  };
  EXPECT_EXIT(program(), testing::ExitedWithCode(2),
              "fatal error: no goroutines \\(main called runtime.Goexit\\) - deadlock!");
}

TEST_P(ending_death, an_exception_that_leaves_a_goroutine_ends_the_process) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto program = [] {
    run(options(), [] {
      wait_group group;
      group.go([] { throw std::runtime_error("nobody catches this"); });
      group.wait();
    });
  };
  EXPECT_EXIT(program(), testing::ExitedWithCode(2), "panic: std::runtime_error: nobody catches this");
}

INSTANTIATE_TEST_SUITE_P(on, ending_death, testing::Values(setup{1, "off", 0}, setup{2, "sentinel", 0}),
                         weft::test::name_of);

// -- goroutine_local
// ---------------------------------------------------------------------------------------------------

TEST_P(local_value, each_goroutine_has_its_own_and_it_starts_at_zero) {
  in_main([] {
    goroutine_local<int> value;
    wait_group done;
    for (int i = 1; i <= 200; ++i)
      done.go([&value, i] {
        EXPECT_EQ(*value, 0);
        *value = i;
        for (int n = 0; n < 10; ++n) {
          yield();
          EXPECT_EQ(*value, i);
        }
      });
    EXPECT_EQ(*value, 0);
    *value = -1;
    done.wait();
    EXPECT_EQ(*value, -1);
  });
}

TEST_P(local_value, several_live_side_by_side) {
  in_main([] {
    goroutine_local<int> number;
    goroutine_local<std::string> text;
    wait_group done;
    for (int i = 0; i < 50; ++i)
      done.go([&, i] {
        *number = i;
        text->append(std::to_string(i));
        yield();
        EXPECT_EQ(*text, std::to_string(*number));
      });
    done.wait();
    EXPECT_TRUE(text->empty());
  });
}

TEST_P(local_value, values_are_destroyed_at_the_goroutines_end_in_reverse_order_of_first_use) {
  in_main([] {
    static mutex lock;
    static std::vector<int> destroyed;
    destroyed.clear();
    struct noting {
      int number = 0;
      ~noting() {
        const std::lock_guard hold(lock);
        destroyed.push_back(number);
      }
    };
    goroutine_local<noting> a, b, c;
    for (const bool by_goexit : {false, true}) {
      go([&, by_goexit] {
        b->number = 2;
        yield();
        a->number = 1;
        c->number = 3;
        if (by_goexit) goexit();
      });
      EXPECT_TRUE(eventually([] { return num_goroutine() == 1; }));
    }
    const std::lock_guard hold(lock);
    EXPECT_EQ(destroyed, (std::vector<int>{3, 1, 2, 3, 1, 2}));
  });
}

TEST_P(local_value, destructors_of_values_may_wait_and_use_others) {
  in_main([] {
    static goroutine_local<int> plain;
    static std::atomic<int> seen;
    seen = 0;
    struct waits {
      int unused = 0;
      ~waits() {
        yield();
        seen += *plain;
      }
    };
    static goroutine_local<waits> value;
    for (int i = 0; i < 30; ++i)
      go([i] {
        *plain = 5;
        value->unused = 1;
        if (i % 3 == 0) return;
        try {
          goexit();
        } catch (...) {
          if (i % 3 == 1) throw;
        }
      });
    EXPECT_TRUE(eventually([] { return num_goroutine() == 1; }));
    EXPECT_EQ(seen, 150);
  });
}

TEST_P(local_value, a_foreign_thread_has_one_too) {
  in_main([] {
    static goroutine_local<std::shared_ptr<int>> value;
    const auto owned = std::make_shared<int>(1);
    *value = nullptr;
    std::thread thread([&owned] {
      EXPECT_EQ(*value, nullptr);
      *value = owned;
      EXPECT_EQ(owned.use_count(), 2);
    });
    blocking([&thread] { thread.join(); });
    EXPECT_EQ(owned.use_count(), 1);
    EXPECT_EQ(*value, nullptr);
  });
}

}  // namespace
