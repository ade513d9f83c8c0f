// SPDX-License-Identifier: Apache-2.0
// Goroutines that call nothing: the others run all the same.
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <mutex>
#include <thread>

#include "tests/fixture.h"

namespace {

using namespace weft;
using namespace weft::test;

// ThreadSanitizer keeps a signal back until the thread calls something.
#define WEFT_SKIP_WITHOUT_SIGNALS() \
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer delivers signals only at calls"

class preemption : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(preemption);

// Never a call into the runtime.
void compute_until(const std::atomic<bool>& stop) {
  while (!stop.load(std::memory_order_relaxed)) {
  }
}

// One goroutine a P, and one more, that run `body` until main, which needs a P for that, ends them.
template <class F>
void with_busy_ps(F body) {
  std::atomic<bool> stop{false};
  wait_group loops;
  const int n = gomaxprocs() + 1;
  for (int i = 0; i < n; ++i) loops.go([&] { body(stop); });
  for (int i = 0; i < scaled(50); ++i) {
    yield();
    sleep_for(std::chrono::microseconds(100));
  }
  stop = true;
  loops.wait();
}

TEST_P(preemption, of_tight_loops) {
  WEFT_SKIP_WITHOUT_SIGNALS();
  in_main([] { with_busy_ps(compute_until); });
}

TEST_P(preemption, all_loops_advance) {
  WEFT_SKIP_WITHOUT_SIGNALS();
  in_main([] {
    constexpr int kLoops = 12;
    std::array<std::atomic<long>, kLoops> turns{};
    std::atomic<bool> stop{false};
    wait_group loops;
    for (auto& count : turns)
      loops.go([&] {
        while (!stop.load(std::memory_order_relaxed)) count.fetch_add(1, std::memory_order_relaxed);
      });
    EXPECT_TRUE(eventually([&] {
      return std::all_of(turns.begin(), turns.end(), [](const auto& count) { return count.load() > 1000; });
    }));
    stop = true;
    loops.wait();
  });
}

TEST_P(preemption, inside_malloc) {
  in_main([] {
    with_busy_ps([](const std::atomic<bool>& stop) {
      while (!stop)
        for (std::size_t size = 1; size < 100'000; size *= 3) {
          auto* p = new char[size];
          p[0] = 1;
          asm volatile("" ::"r"(p) : "memory");
          delete[] p;
        }
    });
  });
}

TEST_P(preemption, inside_stdio) {
  in_main([] {
    std::FILE* const sink = std::fopen("/dev/null", "w");
    ASSERT_TRUE(sink);
    with_busy_ps([sink](const std::atomic<bool>& stop) {
      for (int i = 0; !stop; ++i) std::fprintf(sink, "%d %s %f\n", i, "text", i / 3.0);
    });
    std::fclose(sink);
  });
}

TEST_P(preemption, while_exceptions_are_thrown_and_caught) {
  in_main([] {
    with_busy_ps([](const std::atomic<bool>& stop) {
      for (int i = 0; !stop; ++i) {
        try {
          try {
            throw i;
          } catch (int) {
            throw std::string("again");
          }
        } catch (const std::string& s) {
          if (s != "again") std::abort();
        }
      }
    });
  });
}

TEST_P(preemption, inside_dlopen) {
  in_main([] {
    with_busy_ps([](const std::atomic<bool>& stop) {
      while (!stop) {
        void* const library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
        if (!library || !dlsym(library, "cos")) std::abort();
        dlclose(library);
      }
    });
  });
}

TEST_P(preemption, while_a_foreign_lock_is_held) {
  in_main([] {
    std::mutex lock;
    long shared = 0;
    std::atomic<long> counted{0};
    with_busy_ps([&](const std::atomic<bool>& stop) {
      while (!stop) {
        const std::lock_guard hold(lock);
        ++shared;
        counted.fetch_add(1, std::memory_order_relaxed);
      }
    });
    EXPECT_EQ(shared, counted);
  });
}

// Moving it takes a lock of the program's, in whatever the runtime moves it for.
struct guarded {
  explicit guarded(std::mutex& guard) : lock(&guard) {}
  guarded(guarded&& from) noexcept : lock(from.lock) { const std::lock_guard hold(*lock); }
  guarded& operator=(guarded&& from) noexcept {
    lock = from.lock;
    return *this;
  }
  std::mutex* lock;
};

TEST_P(preemption, lets_the_holder_of_a_lock_go_on_that_is_wanted_inside_the_runtime) {
  WEFT_SKIP_WITHOUT_SIGNALS();
  in_main([] {
    for (int round = 0; round < scaled(3) + 1; ++round) {
      std::mutex lock;
      std::atomic<bool> held{false}, waits{false};
      wait_group all;
      auto c = make_chan<guarded>(1);
      all.go([&] {
        const std::lock_guard hold(lock);
        held = true;
        while (!waits.load(std::memory_order_relaxed)) {
        }
        volatile int work = 0;
        for (int i = 0; i < 20'000'000; ++i) work = work + 1;
      });
      all.go([&] {
        while (!held) yield();
        waits = true;
        c.send(guarded(lock));
      });
      all.wait();
    }
  });
}

TEST_P(preemption, leaves_a_goroutine_on_its_thread_and_errno_alone) {
  in_main([] {
    std::atomic<int> moved{0};
    with_busy_ps([&](const std::atomic<bool>& stop) {
      const pthread_t self = pthread_self();
      errno = 4711;
      while (!stop) {
        for (int i = 0; i < 1000; ++i) asm volatile("");
        if (pthread_self() != self || errno != 4711) ++moved;
      }
    });
    EXPECT_EQ(moved, 0);
  });
}

TEST_P(preemption, of_goroutines_that_are_locked_to_their_thread) {
  WEFT_SKIP_WITHOUT_SIGNALS();
  in_main([] {
    with_busy_ps([](const std::atomic<bool>& stop) {
      lock_os_thread();
      const pthread_t self = pthread_self();
      compute_until(stop);
      yield();
      EXPECT_TRUE(pthread_equal(self, pthread_self()));
      unlock_os_thread();
    });
  });
}

TEST_P(preemption, a_sleeper_wakes_up_beside_a_loop_on_each_p) {
  WEFT_SKIP_WITHOUT_SIGNALS();
  in_main([] {
    std::atomic<bool> stop{false};
    wait_group loops;
    for (int i = 0; i < gomaxprocs(); ++i) loops.go([&] { compute_until(stop); });
    for (int i = 0; i < scaled(100); ++i) sleep_for(std::chrono::milliseconds(1));
    stop = true;
    loops.wait();
  });
}

TEST_P(preemption, gomaxprocs_may_change_beside_loops) {
  WEFT_SKIP_WITHOUT_SIGNALS();
  in_main([] {
    std::atomic<bool> stop{false};
    wait_group loops;
    for (int i = 0; i < 6; ++i) loops.go([&] { compute_until(stop); });
    for (int i = 0; i < scaled(40); ++i) {
      gomaxprocs(1 + i % 4);
      sleep_for(std::chrono::microseconds(300));
    }
    stop = true;
    loops.wait();
  });
}

TEST_P(preemption, a_run_may_end_beside_loops) {
  WEFT_SKIP_WITHOUT_SIGNALS();
  static std::atomic<bool> stop;
  static std::atomic<int> running;
  for (int round = 0; round < scaled(20); ++round) {
    stop = false;
    running = 0;
    leaving_goroutines([round] {
      for (int i = 0; i < 4; ++i)
        go([] {
          ++running;
          compute_until(stop);
          --running;
        });
      sleep_for(std::chrono::microseconds(200 * round));
    });
    stop = true;
    EXPECT_TRUE(eventually([] { return running == 0; }));
  }
}

std::atomic<int> foreign_signals;

TEST_P(preemption, a_signal_handler_of_the_programs_own_gets_its_signals) {
  WEFT_SKIP_WITHOUT_SIGNALS();
  struct sigaction own {
  }, before;
  own.sa_handler = [](int) { ++foreign_signals; };
  sigaction(SIGURG, &own, &before);
  foreign_signals = 0;
  in_main([] {
    with_busy_ps(compute_until);
    EXPECT_EQ(foreign_signals, 0) << "preemption is none of the program's business";
    for (int i = 1; i <= 10; ++i) {
      raise(SIGURG);
      // While one of ours is pending the kernel drops it, as it drops a second one of any such signal; ours do not come
      // that often.
      if (foreign_signals < i) raise(SIGURG);
      EXPECT_EQ(foreign_signals, i);
    }
  });
  raise(SIGURG);
  EXPECT_EQ(foreign_signals, 11);
  sigaction(SIGURG, &before, nullptr);
}

// -- Blocking without a word ------------------------------------------------------------------------------------------

class unannounced : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(unannounced);

TEST_P(unannounced, a_plain_read_does_not_stop_the_others) {
  in_main([] {
    int fds[2];
    ASSERT_EQ(pipe(fds), 0);
    for (int i = 0; i < scaled(50); ++i) {
      wait_group reader;
      std::atomic<bool> begun{false};
      reader.go([&] {
        char c = 0;
        begun = true;
        EXPECT_EQ(read(fds[0], &c, 1), 1);
        EXPECT_EQ(c, 'x');
      });
      while (!begun) yield();
      yield();
      EXPECT_EQ(write(fds[1], "x", 1), 1);
      reader.wait();
    }
    close(fds[0]);
    close(fds[1]);
  });
}

TEST_P(unannounced, a_foreign_lock_does_not_stop_its_holder) {
  in_main([] {
    for (int i = 0; i < scaled(20); ++i) {
      std::mutex lock;
      int holders = 0;
      wait_group all;
      for (int n = 0; n < 4; ++n)
        all.go([&] {
          lock_os_thread();  // whose lock it is
          lock.lock();
          ++holders;
          for (int k = 0; k < 20; ++k) yield();  // others run into the lock meanwhile, on this P too
          lock.unlock();
        });
      all.wait();
      EXPECT_EQ(holders, 4);
    }
  });
}

TEST_P(unannounced, many_sleepers_in_the_kernel_at_once) {
  in_main([] {
    wait_group all;
    for (int i = 0; i < 32; ++i)
      all.go([] {
        for (int k = 0; k < scaled(10); ++k) usleep(100);
      });
    all.wait();
  });
}

}  // namespace
