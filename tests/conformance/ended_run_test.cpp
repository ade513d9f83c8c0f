// SPDX-License-Identifier: Apache-2.0
// Objects that outlive a run(): those of its goroutines that were left waiting take nothing from those of the next.
#include <weft/sync.h>

#include <array>
#include <functional>
#include <memory>
#include <shared_mutex>

#include "runtime/sema.h"
#include "tests/fixture.h"
#include "tests/unchecked_locks.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

class ended_run : public every_runtime {
 protected:
  /// A run() that leaves n goroutines behind, which wait in wait() for `reason`.
  static void leave_waiting(wait_reason reason, int n, const std::function<void()>& wait) {
    leaving_goroutines([&] {
      const int before = parked(reason);
      for (int i = 0; i < n; ++i)
        go([wait] {
          wait();
          ADD_FAILURE() << "a goroutine of an earlier run() went on";
        });
      EXPECT_TRUE(eventually_parked(reason, before, n));
    });
  }
};
WEFT_ON_EVERY_RUNTIME(ended_run);

TEST_P(ended_run, leaves_a_mutex_to_those_of_the_next) {
  mutex m;
  int counter = 0;
  for (int round = 0; round < 3; ++round) {
    m.lock();
    leave_waiting(wait_reason::mutex_lock, 3, [&m] { m.lock(); });
    m.unlock();
    in_main([&] {
      // Each of them waits in the queue, too.
      m.lock();
      const int before = parked(wait_reason::mutex_lock);
      wait_group done;
      for (int i = 0; i < 5; ++i)
        done.go([&] {
          const std::lock_guard hold(m);
          ++counter;
        });
      EXPECT_TRUE(eventually_parked(wait_reason::mutex_lock, before, 5));
      m.unlock();
      done.wait();
      for (int i = 0; i < 5; ++i)
        done.go([&] {
          for (int n = 0; n < 100; ++n) {
            const std::lock_guard hold(m);
            ++counter;
            if (n % 16 == 0) yield();
          }
        });
      done.wait();
      const std::lock_guard hold(m);
    });
  }
  EXPECT_EQ(counter, 3 * 505);
}

// All of them get it while others compete for it.
void lock_in_turns(mutex& m) {
  int counter = 0;
  wait_group done;
  for (int i = 0; i < 5; ++i)
    done.go([&] {
      for (int n = 0; n < 20; ++n) {
        const std::lock_guard hold(m);
        ++counter;
        yield();
      }
    });
  done.wait();
  EXPECT_EQ(counter, 100);
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

// Main has it in the end; the others wait, have just been woken up, or wait so long that it is to be handed over.
TEST_P(ended_run, leaves_a_mutex_that_was_fought_for_to_those_of_the_next) {
  for (int round = 0; round < scaled(20); ++round) {
    mutex m;
    std::atomic<bool> stop{false};
    leaving_goroutines([&] {
      m.lock();
      const int before = parked(wait_reason::mutex_lock);
      for (int i = 0; i < 3; ++i)
        go([&] {
          while (!stop) {
            m.lock();
            sleep_for(std::chrono::microseconds(round * 100));
            m.unlock();
          }
        });
      EXPECT_TRUE(eventually_parked(wait_reason::mutex_lock, before, 3));
      m.unlock();
      for (int i = 0; i < 5; ++i) {
        m.lock();
        if (i == 4) break;
        m.unlock();
        sleep_for(std::chrono::microseconds(round * 100));
      }
    });
    stop = true;
    m.unlock();
    in_main([&m] { lock_in_turns(m); });
  }
}

TEST_P(ended_run, keeps_no_wake_up_that_came_too_late) {
  if (ps() > 1 || chaos()) return;  // who is woken might run
  mutex m;
  rt::sema s;
  leaving_goroutines([&] {
    m.lock();
    const int before = parked(wait_reason::mutex_lock);
    go([&m] { m.lock(); });
    go([&s] {
      rt::entry who;
      rt::waiter self;
      rt::sem_acquire(who, s, self, false, wait_reason::mutex_lock);
    });
    EXPECT_TRUE(eventually_parked(wait_reason::mutex_lock, before, 2));
    m.unlock();
    rt::sem_release(s, false);
  });
  in_main([&] {
    lock_in_turns(m);
    rt::entry who;
    rt::waiter self;
    rt::sem_acquire(who, s, self, false, wait_reason::mutex_lock);
  });
}

TEST_P(ended_run, leaves_a_shared_mutex_to_those_of_the_next) {
  shared_mutex m;
  m.lock();
  leave_waiting(wait_reason::rw_lock, 2, [&m] { m.lock(); });
  leave_waiting(wait_reason::rw_rlock, 2, [&m] { m.lock_shared(); });
  m.unlock();
  EXPECT_TRUE(m.try_lock());
  m.unlock();
  m.lock_shared();
  leave_waiting(wait_reason::rw_lock, 2, [&m] { m.lock(); });
  in_main([&] {
    const int before = parked(wait_reason::rw_lock);
    wait_group done;
    done.go([&m] { const std::lock_guard hold(m); });
    EXPECT_TRUE(eventually_parked(wait_reason::rw_lock, before, 1));
    m.unlock_shared();
    done.wait();
    const std::shared_lock hold(m);
  });
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

TEST_P(ended_run, leaves_a_semaphore_to_those_of_the_next) {
  semaphore s(0);
  leave_waiting(wait_reason::semaphore_acquire, 2, [&s] { s.acquire(); });
  leave_waiting(wait_reason::semaphore_acquire, 2, [&s] { s.acquire_for(1h); });
  in_main([&] {
    const int before = parked(wait_reason::semaphore_acquire);
    wait_group done;
    for (int i = 0; i < 2; ++i) done.go([&s] { s.acquire(); });
    EXPECT_TRUE(eventually_parked(wait_reason::semaphore_acquire, before, 2));
    for (int i = 0; i < 3; ++i) s.release();
    done.wait();
    EXPECT_TRUE(s.try_acquire());
    EXPECT_FALSE(s.try_acquire());
  });
}

void wait_for_one_notify(condition_variable& changed) {
  mutex m;
  const int before = parked(wait_reason::cond_wait);
  wait_group done;
  done.go([&] {
    std::unique_lock hold(m);
    changed.wait(hold);
  });
  EXPECT_TRUE(eventually_parked(wait_reason::cond_wait, before, 1));
  changed.notify_one();
  done.wait();
}

TEST_P(ended_run, takes_no_notify) {
  mutex m;
  condition_variable changed;
  leave_waiting(wait_reason::cond_wait, 2, [&] {
    std::unique_lock hold(m);
    changed.wait(hold);
  });
  leave_waiting(wait_reason::cond_wait, 2, [&] {
    std::unique_lock hold(m);
    changed.wait_for(hold, 1h);
  });
  in_main([&] {
    wait_for_one_notify(changed);
    changed.notify_all();
  });
}

// It has a place in the queue, but has not parked for it: it waits in unlock().
TEST_P(ended_run, takes_no_notify_before_it_has_parked) {
  struct slow_lock {
    chan<unit> never = make_chan<unit>();
    void lock() {}
    void unlock() { never.recv(); }
  };
  condition_variable changed;
  leave_waiting(wait_reason::chan_receive, 1, [&changed] {
    slow_lock l;
    changed.wait(l);
  });
  in_main([&] { wait_for_one_notify(changed); });
}

TEST_P(ended_run, has_not_arrived_at_a_barrier) {
  barrier b(3);
  leave_waiting(wait_reason::barrier_wait, 2, [&b] { b.arrive_and_wait(); });
  in_main([&] {
    for (int generation = 0; generation < 2; ++generation) {
      const int before = parked(wait_reason::barrier_wait);
      std::atomic<int> through{0};
      wait_group done;
      for (int i = 0; i < 2; ++i)
        done.go([&] {
          b.arrive_and_wait();
          ++through;
        });
      EXPECT_TRUE(eventually_parked(wait_reason::barrier_wait, before, 2));
      EXPECT_EQ(through, 0);
      b.arrive_and_wait();
      done.wait();
    }
  });
}

TEST_P(ended_run, does_not_count_as_a_waiter_of_a_wait_group) {
  wait_group g;
  for (int round = 0; round < 3; ++round) {
    g.add(1);
    leave_waiting(wait_reason::wait_group_wait, 2, [&g] { g.wait(); });
    if (round % 2 == 0) g.done();
    in_main([&] {
      if (round % 2 != 0) g.done();
      g.wait();
      std::atomic<bool> did{false};
      g.add(1);
      const int before = parked(wait_reason::wait_group_wait);
      wait_group done;
      done.go([&] {
        g.wait();
        EXPECT_TRUE(did);
      });
      EXPECT_TRUE(eventually_parked(wait_reason::wait_group_wait, before, 1));
      did = true;
      g.done();
      done.wait();
    });
  }
}

TEST_P(ended_run, takes_no_place_in_a_task_group) {
  task_group group;
  group.set_limit(0);
  leave_waiting(wait_reason::semaphore_acquire, 2, [&group] { group.go([] {}); });
  group.set_limit(1);
  in_main([&] {
    std::atomic<int> ran{0};
    for (int i = 0; i < 3; ++i) group.go([&ran] { ++ran; });
    group.wait();
    EXPECT_EQ(ran, 3);
  });
}

TEST_P(ended_run, waits_for_a_once_that_others_go_on_to_use) {
  once o;
  o.call([&] { leave_waiting(wait_reason::mutex_lock, 2, [&o] { o.call([] { FAIL(); }); }); });
  in_main([&o] { o.call([] { FAIL(); }); });
}

// What it sends is there to be received; what it was to receive goes to others.
TEST_P(ended_run, takes_no_value_and_may_have_sent_one) {
  const auto c = make_chan<int>(), values = make_chan<int>();
  leave_waiting(wait_reason::chan_receive, 2, [c] { c.recv(); });
  leave_waiting(wait_reason::chan_send, 1, [values] { values.send(7); });
  EXPECT_FALSE(c.try_send(1));
  in_main([&] {
    go([&c] { c.send(2); });
    EXPECT_EQ(c.recv(), 2);
    EXPECT_EQ(values.recv(), 7);
    EXPECT_EQ(values.try_recv().status, recv_status::empty);
  });
}

}  // namespace
