// SPDX-License-Identifier: Apache-2.0
// C++ exceptions and errno belong to the goroutine: whatever it waits for, whichever thread it goes on.
#include <weft/runtime.h>

#include <cerrno>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include <unistd.h>

#include "tests/fixture.h"

namespace {

using namespace weft;
using namespace weft::test;

class exception_state : public every_runtime {
 protected:
  // Runs body(i) in many goroutines at once, beside one that takes every P that a blocked one leaves.
  template <class F>
  static void in_many(F body) {
    in_main([&body] {
      std::atomic<bool> stop{false};
      wait_group others, done;
      others.go([&stop] {
        while (!stop) yield();
      });
      for (int i = 0; i < scaled(100); ++i) done.go([&body, i] { body(i); });
      done.wait();
      stop = true;
      others.wait();
    });
  }
};
WEFT_ON_EVERY_RUNTIME(exception_state);

class errno_value : public exception_state {};
WEFT_ON_EVERY_RUNTIME(errno_value);

// Waits in every way there is; the goroutine often goes on on another thread.
void wander(int seed) {
  switch (seed % 4) {
    case 0: yield(); break;
    case 1: sleep_for(std::chrono::microseconds(50)); break;
    case 2: blocking([] { usleep(50); }); break;
    default: {
      const auto c = make_chan<int>();
      go([c] { c.send(1); });
      c.recv();
    }
  }
}

// Waits until the goroutine runs on another thread. It needs another one that takes its P meanwhile.
void change_thread() {
  const pid_t before = gettid();
  useconds_t us = 50;  // longer each time, until whoever looks for blocked threads sees it
  EXPECT_TRUE(eventually([&] {
    blocking([us] { usleep(us); });
    us = std::min<useconds_t>(2 * us, 20'000);
    return gettid() != before;
  }));
}

std::string text_of_current() {
  try {
    throw;
  } catch (const std::exception& e) {
    return e.what();
  }
}

TEST_P(exception_state, an_exception_is_caught_where_its_goroutine_goes_on) {
  in_many([](int i) {
    for (int round = 0; round < 10; ++round) {
      try {
        wander(i + round);
        throw std::runtime_error(std::to_string(i));
      } catch (const std::runtime_error& e) {
        EXPECT_EQ(e.what(), std::to_string(i));
      }
    }
  });
}

TEST_P(exception_state, a_handler_may_wait_and_throw_again) {
  in_many([](int i) {
    const std::string text = std::to_string(i);
    try {
      try {
        throw std::runtime_error(text);
      } catch (...) {
        for (int round = 0; round < 8; ++round) {
          wander(i + round);
          EXPECT_EQ(text_of_current(), text);
        }
        throw;
      }
    } catch (const std::runtime_error& e) {
      EXPECT_EQ(e.what(), text);
    }
    EXPECT_EQ(std::current_exception(), nullptr);
  });
}

TEST_P(exception_state, a_handler_may_go_on_on_another_thread) {
  in_many([](int i) {
    const std::string text = std::to_string(i);
    try {
      throw std::runtime_error(text);
    } catch (const std::runtime_error& e) {
      change_thread();
      EXPECT_EQ(e.what(), text);
      EXPECT_EQ(text_of_current(), text);
      change_thread();
      EXPECT_EQ(text_of_current(), text);
    }
    EXPECT_EQ(std::current_exception(), nullptr);
  });
}

void nest(int depth, int seed, std::vector<std::string>& seen) {
  try {
    throw std::runtime_error(std::to_string(seed) + "." + std::to_string(depth));
  } catch (const std::runtime_error& e) {
    wander(seed + depth);
    if (depth > 0) nest(depth - 1, seed, seen);
    wander(seed - depth + 8);
    seen.push_back(text_of_current());
    EXPECT_EQ(seen.back(), e.what());
  }
}

TEST_P(exception_state, handlers_nest_while_they_wait) {
  in_many([](int i) {
    std::vector<std::string> seen;
    nest(5, i, seen);
    for (int depth = 0; depth <= 5; ++depth)
      EXPECT_EQ(seen.at(static_cast<std::size_t>(depth)), std::to_string(i) + "." + std::to_string(depth));
    EXPECT_EQ(std::current_exception(), nullptr);
  });
}

TEST_P(exception_state, a_handler_may_replace_its_exception_after_waiting) {
  in_many([](int i) {
    try {
      try {
        throw std::runtime_error("inner");
      } catch (const std::runtime_error&) {
        wander(i);
        std::throw_with_nested(std::logic_error("outer"));
      }
    } catch (const std::logic_error& outer) {
      wander(i + 1);
      EXPECT_STREQ(outer.what(), "outer");
      try {
        std::rethrow_if_nested(outer);
        ADD_FAILURE();
      } catch (const std::runtime_error& inner) {
        wander(i + 2);
        EXPECT_STREQ(inner.what(), "inner");
      }
    }
  });
}

TEST_P(exception_state, destructors_may_wait_while_the_stack_is_unwound) {
  in_many([](int i) {
    struct waits {
      int seed;
      int* uncaught;
      ~waits() {
        for (int round = 0; round < 4; ++round) {
          EXPECT_EQ(std::uncaught_exceptions(), 1);
          wander(seed + round);
        }
        try {
          [[maybe_unused]] const waits_quietly inner{seed};
          throw std::logic_error("while unwinding");
        } catch (const std::logic_error& e) {
          wander(seed);
          EXPECT_STREQ(e.what(), "while unwinding");
        }
        *uncaught = std::uncaught_exceptions();
      }
      struct waits_quietly {
        int seed;
        ~waits_quietly() {
          EXPECT_EQ(std::uncaught_exceptions(), 2);
          wander(seed);
          EXPECT_EQ(std::uncaught_exceptions(), 2);
        }
      };
    };
    EXPECT_EQ(std::uncaught_exceptions(), 0);
    int uncaught = 0;
    try {
      const waits w{i, &uncaught};
      throw std::runtime_error(std::to_string(i));
    } catch (const std::runtime_error& e) {
      EXPECT_EQ(e.what(), std::to_string(i));
      EXPECT_EQ(std::uncaught_exceptions(), 0);
    }
    EXPECT_EQ(uncaught, 1);
  });
}

TEST_P(exception_state, a_destructor_that_unwinding_runs_may_change_the_thread) {
  in_many([](int i) {
    struct moves {
      ~moves() {
        change_thread();
        EXPECT_EQ(std::uncaught_exceptions(), 1);
      }
    };
    try {
      const moves m;
      throw std::runtime_error(std::to_string(i));
    } catch (const std::runtime_error& e) {
      EXPECT_EQ(e.what(), std::to_string(i));
    }
    EXPECT_EQ(std::uncaught_exceptions(), 0);
  });
}

TEST_P(exception_state, exceptions_of_other_goroutines_are_not_seen) {
  in_many([](int i) {
    if (i % 2 == 0) {
      for (int round = 0; round < 10; ++round) {
        EXPECT_EQ(std::current_exception(), nullptr);
        EXPECT_EQ(std::uncaught_exceptions(), 0);
        wander(i + round);
      }
    } else {
      try {
        throw std::runtime_error("mine");
      } catch (...) {
        for (int round = 0; round < 10; ++round) wander(i + round);
        EXPECT_EQ(text_of_current(), "mine");
      }
    }
  });
}

TEST_P(exception_state, new_goroutines_start_without_one) {
  in_main([] {
    wait_group done;
    try {
      throw std::runtime_error("main's");
    } catch (...) {
      for (int i = 0; i < 50; ++i)
        done.go([] {
          EXPECT_EQ(std::current_exception(), nullptr);
          EXPECT_EQ(std::uncaught_exceptions(), 0);
        });
      done.wait();
      EXPECT_EQ(text_of_current(), "main's");
    }
  });
}

TEST_P(exception_state, an_exception_ptr_carries_an_exception_to_another_goroutine) {
  in_many([](int i) {
    const auto c = make_chan<std::exception_ptr>();
    // ThreadSanitizer does not see the reference count inside libstdc++: one side has to let go before the other.
    const auto let_go = make_chan<int>();
    go([c, let_go, i] {
      try {
        throw std::runtime_error(std::to_string(i));
      } catch (...) {
        wander(i);
        c.send(std::current_exception());
        wander(i + 1);
        EXPECT_EQ(text_of_current(), std::to_string(i));
        let_go.recv();
      }
    });
    try {
      std::exception_ptr received = c.recv().value();
      wander(i + 2);
      std::rethrow_exception(std::move(received));
    } catch (const std::runtime_error& e) {
      wander(i + 3);
      EXPECT_EQ(e.what(), std::to_string(i));
    }
    let_go.close();
  });
}

TEST_P(exception_state, an_exception_leaves_a_blocking_call) {
  in_many([](int i) {
    try {
      blocking([i] {
        usleep(50);
        throw std::runtime_error(std::to_string(i));
      });
      ADD_FAILURE();
    } catch (const std::runtime_error& e) {
      wander(i);
      EXPECT_EQ(e.what(), std::to_string(i));
    }
  });
}

TEST_P(exception_state, an_exception_comes_through_many_frames_that_wait) {
  struct frames {
    static void go_down(int depth, int seed) {
      struct waits_at_end {
        int seed;
        ~waits_at_end() { wander(seed); }
      } const guard{seed + depth};
      if (depth == 0) throw std::runtime_error(std::to_string(seed));
      go_down(depth - 1, seed);
    }
  };
  in_many([](int i) {
    try {
      frames::go_down(10, i);
      ADD_FAILURE();
    } catch (const std::runtime_error& e) {
      EXPECT_EQ(e.what(), std::to_string(i));
    }
  });
}

// Out of line: a caller may keep the address that errno had on the thread before.
[[gnu::noinline]] int read_errno() {
  asm volatile("");
  return errno;
}

[[gnu::noinline]] void write_errno(int value) {
  asm volatile("");
  errno = value;
}

TEST_P(errno_value, it_comes_out_of_a_blocking_call) {
  in_many([](int i) {
    for (int round = 0; round < 10; ++round) {
      const int value = 1 + i + round;
      blocking([value] {
        usleep(value % 3 == 0 ? 100 : 0);
        write_errno(value);
      });
      EXPECT_EQ(read_errno(), value);
    }
  });
}

TEST_P(errno_value, a_failed_system_call_in_a_blocking_call_is_told) {
  in_many([](int) {
    const auto [n, error] = blocking([] {
      usleep(50);
      char byte;
      const ssize_t got = read(-1, &byte, 1);
      return std::pair(got, errno);
    });
    const int after = read_errno();
    EXPECT_EQ(n, -1);
    EXPECT_EQ(error, EBADF);
    EXPECT_EQ(after, EBADF);
  });
}

}  // namespace
