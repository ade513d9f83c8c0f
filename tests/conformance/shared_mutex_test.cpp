// SPDX-License-Identifier: Apache-2.0
// shared_mutex.
#include <weft/sync.h>

#include <memory>
#include <mutex>
#include <shared_mutex>

#include "tests/fixture.h"
#include "tests/foreign.h"
#include "tests/unchecked_locks.h"

namespace {

using namespace weft;
using namespace weft::test;

class shared_mutex_test : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(shared_mutex_test);

TEST_P(shared_mutex_test, readers_are_inside_at_the_same_time) {
  in_main([] {
    constexpr int kReaders = 10;
    shared_mutex m;
    barrier all_inside(kReaders);
    wait_group done;
    for (int i = 0; i < kReaders; ++i)
      done.go([&] {
        const std::shared_lock hold(m);
        all_inside.arrive_and_wait();
      });
    done.wait();
    EXPECT_TRUE(m.try_lock());
    m.unlock();
  });
}

TEST_P(shared_mutex_test, a_writer_is_inside_alone) {
  in_main([] {
    shared_mutex m;
    int value = 0;
    std::atomic<int> readers{0}, writers{0};
    wait_group done;
    const auto write = [&] {
      const std::lock_guard hold(m);
      EXPECT_EQ(++writers, 1);
      EXPECT_EQ(readers, 0);
      ++value;
      if (value % 8 == 0) yield();
      --writers;
    };
    const auto read = [&] {
      const std::shared_lock hold(m);
      ++readers;
      EXPECT_EQ(writers, 0);
      const int seen = value;
      if (seen % 4 == 0) yield();
      EXPECT_EQ(value, seen);
      --readers;
    };
    for (int i = 0; i < 10; ++i)
      done.go([&, i] {
        for (int n = 0; n < scaled(1000); ++n) {
          if (i < 2)
            write();
          else
            read();
        }
      });
    done.wait();
    EXPECT_EQ(value, 2 * scaled(1000));
  });
}

TEST_P(shared_mutex_test, try_lock_tells_who_is_inside) {
  in_main([] {
    shared_mutex m;
    EXPECT_TRUE(m.try_lock());
    EXPECT_FALSE(m.try_lock());
    EXPECT_FALSE(m.try_lock_shared());
    m.unlock();
    EXPECT_TRUE(m.try_lock_shared());
    EXPECT_TRUE(m.try_lock_shared());
    EXPECT_FALSE(m.try_lock());
    m.unlock_shared();
    EXPECT_FALSE(m.try_lock());
    m.unlock_shared();
    EXPECT_TRUE(m.try_lock());
    m.unlock();
  });
}

TEST_P(shared_mutex_test, a_writer_that_waits_keeps_new_readers_out) {
  in_main([] {
    shared_mutex m;
    const auto order = make_chan<char>(2);
    const int writers = parked(wait_reason::rw_lock), readers = parked(wait_reason::rw_rlock);
    m.lock_shared();
    go([&m, order] {
      const std::lock_guard hold(m);
      order.send('w');
    });
    EXPECT_TRUE(eventually_parked(wait_reason::rw_lock, writers, 1));
    EXPECT_FALSE(m.try_lock_shared());
    EXPECT_FALSE(m.try_lock());
    go([&m, order] {
      const std::shared_lock hold(m);
      order.send('r');
    });
    EXPECT_TRUE(eventually_parked(wait_reason::rw_rlock, readers, 1));
    EXPECT_EQ(order.len(), 0u);
    m.unlock_shared();
    EXPECT_EQ(order.recv(), 'w');
    EXPECT_EQ(order.recv(), 'r');
  });
}

TEST_P(shared_mutex_test, readers_that_wait_go_before_the_next_writer) {
  in_main([] {
    shared_mutex m;
    const auto order = make_chan<char>(5);
    const int writers = parked(wait_reason::rw_lock), readers = parked(wait_reason::rw_rlock);
    m.lock();
    go([&m, order] {
      const std::lock_guard hold(m);
      order.send('w');
    });
    EXPECT_TRUE(eventually_parked(wait_reason::rw_lock, writers, 1));
    barrier together(3);
    for (int i = 0; i < 3; ++i)
      go([&m, &together, order] {
        const std::shared_lock hold(m);
        together.arrive_and_wait();
        order.send('r');
      });
    EXPECT_TRUE(eventually_parked(wait_reason::rw_rlock, readers, 3));
    m.unlock();
    for (const char next : {'r', 'r', 'r', 'w'}) EXPECT_EQ(order.recv(), next);
  });
}

TEST_P(shared_mutex_test, writers_go_in_order_of_arrival) {
  in_main([] {
    shared_mutex m;
    const auto order = make_chan<int>(20);
    const int before = parked(wait_reason::rw_lock);
    m.lock();
    for (int i = 0; i < 20; ++i) {
      go([&m, order, i] {
        const std::lock_guard hold(m);
        order.send(i);
      });
      EXPECT_TRUE(eventually_parked(wait_reason::rw_lock, before, i + 1));
    }
    m.unlock();
    for (int i = 0; i < 20; ++i) EXPECT_EQ(order.recv(), i);
  });
}

// Four goroutines hold it the one way again and again; one more gets it the other way, many times. Of readers one is
// always inside: each yields there.
template <class Others, class Mine>
void get_in_among_those_that_never_cease() {
  shared_mutex m;
  std::atomic<bool> stop{false};
  wait_group done;
  for (int i = 0; i < 4; ++i)
    done.go([&] {
      while (!stop) {
        const Others hold(m);
        yield();
      }
    });
  for (int n = 0; n < scaled(200); ++n) {
    const Mine hold(m);
    yield();
  }
  stop = true;
  done.wait();
}

using reading = std::shared_lock<shared_mutex>;
using writing = std::lock_guard<shared_mutex>;

TEST_P(shared_mutex_test, a_writer_gets_in_among_readers_that_never_cease) {
  in_main(get_in_among_those_that_never_cease<reading, writing>);
}

TEST_P(shared_mutex_test, a_reader_gets_in_among_writers_that_never_cease) {
  in_main(get_in_among_those_that_never_cease<writing, reading>);
}

TEST_P(shared_mutex_test, foreign_threads_and_goroutines_share_it) {
  in_main([] {
    shared_mutex m;
    int value = 0;
    const auto work = [&] {
      for (int n = 0; n < scaled(500); ++n) {
        if (n % 5 == 0) {
          const std::lock_guard hold(m);
          ++value;
        } else {
          const std::shared_lock hold(m);
          const int seen = value;
          EXPECT_EQ(value, seen);
        }
      }
    };
    in_goroutines_and_threads(3, work);
    EXPECT_EQ(value, 6 * ((scaled(500) + 4) / 5));
  });
}

TEST(shared_mutex_between_threads, works_without_a_run) {
  shared_mutex m;
  int value = 0;
  foreign_threads threads;
  for (int i = 0; i < 4; ++i)
    threads.start([&] {
      for (int n = 0; n < scaled(2000); ++n) {
        if (n % 2 == 0) {
          const std::lock_guard hold(m);
          ++value;
        } else {
          const std::shared_lock hold(m);
          EXPECT_GT(value, 0);
        }
      }
    });
  threads.join();
  EXPECT_EQ(value, 2 * scaled(2000));
}

TEST_P(shared_mutex_test, the_last_holder_may_destroy_it) {
  in_main([] {
    struct shared {
      shared_mutex m;
      std::atomic<int> left{5};
    };
    for (int round = 0; round < scaled(1000); ++round) {
      auto* const s = new shared;
      wait_group done;
      for (int i = 0; i < 5; ++i)
        done.go([s, i] {
          const bool reads = i % 2 == 0;
          if (reads)
            s->m.lock_shared();
          else
            s->m.lock();
          if (i == 2) yield();
          // Readers count at the same time, so the last to count must get the mutex alone once more.
          const bool last = --s->left == 0;
          if (reads)
            s->m.unlock_shared();
          else
            s->m.unlock();
          if (!last) return;
          s->m.lock();
          s->m.unlock();
          delete s;
        });
      done.wait();
    }
  });
}

TEST(shared_mutex_misuse, unlock_of_an_unlocked_one_is_fatal) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto in_run = [](auto misuse) {
    run([&misuse] {
      shared_mutex m;
      try {
        misuse(m);
      } catch (...) {
      }
    });
  };
  constexpr const char* kUnlock = "^fatal error: sync: Unlock of unlocked RWMutex\n";
  constexpr const char* kRUnlock = "^fatal error: sync: RUnlock of unlocked RWMutex\n";
  EXPECT_EXIT(in_run([](shared_mutex& m) { m.unlock(); }), testing::ExitedWithCode(2), kUnlock);
  EXPECT_EXIT(in_run([](shared_mutex& m) {
                m.lock_shared();
                m.unlock();
              }),
              testing::ExitedWithCode(2), kUnlock);
  EXPECT_EXIT(in_run([](shared_mutex& m) {
                m.lock();
                m.unlock();
                m.unlock();
              }),
              testing::ExitedWithCode(2), kUnlock);
  EXPECT_EXIT(in_run([](shared_mutex& m) { m.unlock_shared(); }), testing::ExitedWithCode(2), kRUnlock);
  EXPECT_EXIT(in_run([](shared_mutex& m) {
                m.lock();
                m.unlock_shared();
              }),
              testing::ExitedWithCode(2), kRUnlock);
}

}  // namespace
