// SPDX-License-Identifier: Apache-2.0
// How a process ends that waits for ever on one of sync.h's, and one in which a function of a wait_group throws. Each
// case runs in a child process.
#include <weft/sync.h>

#include <mutex>
#include <regex>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/traceback.h"
#include "tests/child.h"
#include "tests/fixture.h"
#include "tests/foreign.h"
#include "tests/unchecked_locks.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

constexpr int kFatalStatus = 2;

class dying : public every_runtime {
 protected:
  // Reading debug information takes long, so it is done once and not in each child.
  static void SetUpTestSuite() { rt::symbolize_inlined(reinterpret_cast<std::uintptr_t>(&SetUpTestSuite)); }

  template <class F>
  static child_result run_in_child(F main_fn) {
    return in_child([&main_fn] { return weft::run(options(), main_fn); });
  }

  // The report of a deadlock shows goroutines in these states.
  template <class F>
  static void expect_deadlock(std::vector<std::string> states, F main_fn) {
    const child_result r = run_in_child(main_fn);
    EXPECT_TRUE(r.exited(kFatalStatus)) << r;
    EXPECT_TRUE(r.err.starts_with("fatal error: all goroutines are asleep - deadlock!\n\ngoroutine ")) << r;
    std::sort(states.begin(), states.end());
    EXPECT_EQ(states_of(parse_dump(r.err)), states) << r;
  }
};

class sync_deadlock : public dying {};
WEFT_ON_FEW_RUNTIMES(sync_deadlock);
class sync_panic : public dying {};
WEFT_ON_FEW_RUNTIMES(sync_panic);

TEST_P(sync_deadlock, a_mutex) {
  expect_deadlock({"sync.Mutex.Lock", "sync.Mutex.Lock"}, [] {
    mutex m;
    m.lock();
    go([&m] { m.lock(); });
    m.lock();
  });
}

TEST_P(sync_deadlock, a_shared_mutex_that_is_locked_again) {
  expect_deadlock({"sync.RWMutex.Lock", "sync.RWMutex.RLock"}, [] {
    shared_mutex m;
    m.lock();
    go([&m] { m.lock_shared(); });
    m.lock();
  });
}

TEST_P(sync_deadlock, a_reader_that_reads_again_while_a_writer_waits) {
  expect_deadlock({"sync.RWMutex.Lock", "sync.RWMutex.RLock"}, [] {
    shared_mutex m;
    const std::shared_lock hold(m);
    go([&m] { m.lock(); });
    EXPECT_TRUE(eventually_parked(wait_reason::rw_lock, 0, 1));
    m.lock_shared();
  });
}

TEST_P(sync_deadlock, a_condition_variable) {
  expect_deadlock({"sync.Cond.Wait", "sync.Cond.Wait"}, [] {
    mutex m;
    condition_variable changed;
    go([&] {
      std::unique_lock lock(m);
      changed.wait(lock, [] { return false; });
    });
    std::unique_lock lock(m);
    changed.wait_for(lock, std::chrono::hours::max());
  });
}

TEST_P(sync_deadlock, a_semaphore_and_a_wait_group) {
  expect_deadlock({"semacquire", "sync.WaitGroup.Wait"}, [] {
    wait_group group;
    group.go([] {
      semaphore none(0);
      none.acquire();
    });
    group.wait();
  });
}

TEST_P(sync_deadlock, a_barrier) {
  expect_deadlock({"barrier wait", "barrier wait"}, [] {
    barrier b(3);
    go([&b] { b.arrive_and_wait(); });
    b.arrive_and_wait();
  });
}

TEST_P(sync_deadlock, once_inside_itself) {
  expect_deadlock({"sync.Mutex.Lock"}, [] {
    once o;
    o.call([&o] { o.call([] {}); });
  });
}

TEST_P(sync_deadlock, a_foreign_thread_waits_too) {
  expect_deadlock({"sync.Mutex.Lock"}, [] {
    mutex m;
    m.lock();
    foreign_threads threads;
    threads.start([&m] { m.lock(); });
    m.lock();
  });
}

TEST_P(sync_deadlock, there_is_none_while_a_wait_has_a_time_limit) {
  const child_result r = run_in_child([] {
    mutex m;
    condition_variable changed;
    semaphore s(0);
    std::unique_lock lock(m);
    EXPECT_FALSE(changed.wait_for(lock, 20ms));
    EXPECT_FALSE(s.acquire_for(20ms));
    go([&] {
      sleep_for(20ms);
      s.release();
    });
    s.acquire();
    return 3;
  });
  EXPECT_TRUE(r.exited(3)) << r;
  EXPECT_EQ(r.err, "") << r;
}

// Go's issue 76126.
TEST_P(sync_panic, wait_does_not_return_when_a_function_of_the_group_throws) {
  for (int round = 0; round < 3; ++round) {
    const child_result r = run_in_child([round] {
      wait_group group;
      const auto fail = [round] {
        if (round == 1) yield();
        throw std::runtime_error("task failed");
      };
      if (round == 2)
        group.go([fail]() noexcept { fail(); });
      else
        group.go(fail);
      group.wait();
      std::puts("wait returned");
    });
    EXPECT_TRUE(r.exited(kFatalStatus)) << r;
    EXPECT_TRUE(r.err.starts_with("panic: std::runtime_error: task failed\n\ngoroutine ")) << r;
    EXPECT_EQ(r.out, "") << r;
  }
}

// The same if the exception came while goexit() was held up.
TEST_P(sync_panic, nor_when_one_throws_that_has_caught_its_goexit) {
  const child_result r = run_in_child([] {
    wait_group group;
    group.go([] {
      try {
        goexit();
      } catch (...) {
      }
      throw std::runtime_error("task failed");
    });
    group.wait();
    std::puts("wait returned");
  });
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_TRUE(r.err.starts_with("panic: std::runtime_error: task failed\n\ngoroutine ")) << r;
  EXPECT_EQ(r.out, "") << r;
}

TEST_P(sync_panic, a_wait_group_that_is_counted_below_zero_by_a_goroutine) {
  const child_result r = run_in_child([] {
    wait_group group;
    go([&group] { group.done(); });
    sleep_for(1h);
  });
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_TRUE(r.err.starts_with("panic: weft::error: sync: negative WaitGroup counter\n\ngoroutine ")) << r;
}

}  // namespace
