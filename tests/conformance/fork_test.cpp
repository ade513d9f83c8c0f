// SPDX-License-Identifier: Apache-2.0
// fork() in a goroutine: the parent's goroutines go on; the child has this one thread and nothing of the runtime. It
// may exec, _exit, and call what is safe in a signal handler; if it calls into weft, it ends with a word.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <regex>
#include <string>

#include "runtime/sanitizer.h"
#include "tests/child.h"
#include "tests/fixture.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

int without_leak_check = 0;

// The run()s are in children: this process stays without threads.
class fork_of : public every_runtime {
 protected:
  /// Runs body() in main, among goroutines that compute, sleep, block with and without a word, and pass messages.
  template <class F>
  static void amid_work(F body, const char* expected_err = "") {
    const auto r = in_child([&] {
      in_main([&] {
        const std::uint64_t tier = metrics::read().counters["kernel_assist"];
        std::atomic<bool> over{false};
        wait_group all;
        work(all, over);
        body();
        over = true;
        all.wait();
        EXPECT_EQ(metrics::read().counters["kernel_assist"], tier);
      });
    });
    EXPECT_TRUE(r.exited(0)) << r;
    EXPECT_EQ(without_remarks(r.err), expected_err) << r;
  }

 private:
  // LeakSanitizer, where the child exits, misses the threads that only the parent has.
  static std::string without_remarks(const std::string& err) {
    static const std::regex remark(R"(==\d+==Running thread \d+ was not suspended\. False leaks are possible\.\n)");
    return rt::kAddressSanitizer ? std::regex_replace(err, remark, "") : err;
  }

  static void work(wait_group& all, std::atomic<bool>& over) {
    const auto numbers = make_chan<long>();
    const pid_t self = getpid();
    const auto repeat = [&, self](auto step) {
      all.go([&over, self, step] {
        while (!over) {
          step();
          if (getpid() != self) std::abort();
        }
      });
    };
    repeat([] { sleep_for(100us); });
    repeat([] { blocking([] { usleep(100); }); });
    repeat([] { usleep(100); });
    if (!kThreadSanitizer) repeat([] {});
    all.go([=, &over] {
      for (long n = 0; !over; ++n) numbers.send(n);
      numbers.close();
    });
    all.go([=] {
      long expected = 0;
      for (const long n : numbers) EXPECT_EQ(n, expected++);
    });
  }
};
WEFT_ON_EVERY_RUNTIME(fork_of);

int wait_for_end(pid_t child) {
  int status = -1;
  blocking([&] {
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
  });
  return status;
}

// Runs f() in a child of this goroutine's, and returns how that ended, as waitpid() tells it.
template <class F>
int forked(F f) {
  const pid_t child = fork();
  if (child != 0) return wait_for_end(child);
  f();
  _exit(0);
}

int exit_status(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }

// -- What works in a child --------------------------------------------------------------------------------------------

TEST_P(fork_of, a_goroutine_may_exec) {
  amid_work([] {
    for (int i = 0; i < scaled(20); ++i) {
      const int status = forked([] {
        execlp("sh", "sh", "-c", "exit 7", nullptr);
        _exit(99);
      });
      EXPECT_EQ(exit_status(status), 7);
    }
  });
}

TEST_P(fork_of, many_goroutines_at_once_is_as_good) {
  amid_work([] {
    wait_group all;
    for (int i = 0; i < 8; ++i)
      all.go([i] {
        for (int n = 0; n < scaled(20); ++n) EXPECT_EQ(exit_status(forked([=] { _exit(i + n); })), i + n);
      });
    all.wait();
  });
}

// It lives for a while, blocks and computes, and disturbs nobody; no goroutine runs in it (they would abort).
TEST_P(fork_of, a_goroutine_may_do_in_the_child_what_is_safe_in_a_signal_handler) {
  amid_work([] {
    for (int i = 0; i < scaled(20); ++i) {
      int ends[2];
      ASSERT_EQ(pipe(ends), 0);
      const int status = forked([&] {
        for (char byte = 'a'; byte < 'k'; ++byte) {
          const timespec moment{0, 100'000};
          nanosleep(&moment, nullptr);
          sched_yield();
          if (write(ends[1], &byte, 1) != 1) _exit(1);
        }
        raise(SIGURG);
        kill(getpid(), SIGTERM);
      });
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << status;
      char said[10];
      EXPECT_EQ(read(ends[0], said, sizeof said), 10);
      EXPECT_EQ(std::string(said, 10), "abcdefghij");
      close(ends[0]);
      close(ends[1]);
    }
  });
}

TEST_P(fork_of, the_child_may_be_made_inside_blocking_and_beside_others_that_are) {
  amid_work([] {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    wait_group readers;
    for (int i = 0; i < 4; ++i)
      readers.go([&] {
        char byte;
        EXPECT_EQ(blocking([&] { return read(ends[0], &byte, 1); }), 1);
      });
    for (int i = 0; i < scaled(20); ++i) {
      int status = -1;
      blocking([&] {
        const pid_t child = fork();
        if (child == 0) _exit(5);
        waitpid(child, &status, 0);
      });
      EXPECT_EQ(exit_status(status), 5);
    }
    EXPECT_EQ(write(ends[1], "wake", 4), 4);
    readers.wait();
    close(ends[0]);
    close(ends[1]);
  });
}

TEST_P(fork_of, a_goroutine_that_is_locked_to_its_thread) {
  amid_work([] {
    lock_os_thread();
    for (int i = 0; i < scaled(20); ++i) EXPECT_EQ(exit_status(forked([] { _exit(3); })), 3);
    unlock_os_thread();
  });
}

// exit() runs what the program registered, on the goroutine's stack.
TEST_P(fork_of, a_child_may_even_exit) {
  amid_work([] {
    EXPECT_EQ(exit_status(forked([] {
                without_leak_check = 1;
                std::exit(4);
              })),
              4);
  });
}

TEST_P(fork_of, programs_may_be_started_in_all_ways) {
  amid_work([] {
    for (int i = 0; i < scaled(10); ++i) {
      EXPECT_EQ(exit_status(std::system("exit 6")), 6);
      std::FILE* const from = popen("echo out", "r");
      ASSERT_TRUE(from);
      char line[10] = "";
      EXPECT_TRUE(std::fgets(line, sizeof line, from));
      EXPECT_STREQ(line, "out\n");
      EXPECT_EQ(pclose(from), 0);
      pid_t child = 0;
      char name[] = "sh", option[] = "-c", command[] = "exit 8";
      char* const arguments[] = {name, option, command, nullptr};
      ASSERT_EQ(posix_spawnp(&child, "sh", nullptr, nullptr, arguments, environ), 0);
      EXPECT_EQ(exit_status(wait_for_end(child)), 8);
    }
  });
}

// -- What does not ----------------------------------------------------------------------------------------------------

constexpr const char* kWord =
    "fatal error: weft was called in the child of a fork() made while run() was active: there, only exec, _exit and "
    "what is safe in a signal handler work\n";

struct wrong_call {
  const char* name;
  void (*call)();
};

const wrong_call kWrongCalls[] = {
    {"yield", [] { yield(); }},
    {"sleep", [] { sleep_for(1ms); }},
    {"go", [] { go([] {}); }},
    {"blocking", [] { blocking([] {}); }},
    {"receive", [] { make_chan<int>().recv(); }},
    {"lock", [] { mutex().lock(); }},
    {"run", [] { weft::run([] {}); }},
};

TEST_P(fork_of, a_child_that_calls_into_weft_ends_with_a_word) {
  for (const wrong_call& wrong : kWrongCalls) {
    SCOPED_TRACE(wrong.name);
    amid_work([&] { EXPECT_EQ(exit_status(forked(wrong.call)), 2); }, kWord);
  }
}

TEST_P(fork_of, a_child_whose_goroutine_returns_ends_with_a_word) {
  amid_work(
      [] {
        std::atomic<int> status{-1};
        wait_group done;
        done.go([&] {
          const pid_t child = fork();
          if (child == 0) return;
          status = wait_for_end(child);
        });
        done.wait();
        EXPECT_EQ(exit_status(status), 2);
      },
      kWord);
}

TEST_P(fork_of, a_child_that_returns_from_blocking_ends_with_a_word) {
  amid_work(
      [] {
        const pid_t self = getpid();
        const pid_t child = blocking([] { return fork(); });
        EXPECT_EQ(getpid(), self);
        EXPECT_EQ(exit_status(wait_for_end(child)), 2);
      },
      kWord);
}

// What the parent has printed, but not yet written, is the parent's.
TEST_P(fork_of, a_child_that_calls_into_weft_writes_nothing_of_the_parent_s) {
  const auto r = in_child([] {
    in_main([] {
      std::fputs("once\n", stdout);
      EXPECT_EQ(exit_status(forked([] { yield(); })), 2);
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.out, "once\n");
}

TEST_P(fork_of, a_child_dies_of_an_exception_as_without_weft) {
  const auto r = in_child([] {
    in_main([] {
      const int status = forked([] { throw 1; });
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) << status;
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err.find("goroutine"), std::string::npos) << r;
}

// -- Before and after a run() -----------------------------------------------------------------------------------------

TEST_P(fork_of, a_process_that_has_no_run_leaves_the_child_all_of_weft) {
  const auto r = in_child([] {
    in_main([] { yield(); });
    const pid_t child = fork();
    if (child == 0) {
      int sum = 0;
      in_main([&] {
        const auto numbers = make_chan<int>();
        go([=] {
          for (int i = 1; i <= 10; ++i) numbers.send(i);
          numbers.close();
        });
        for (const int n : numbers) sum += n;
      });
      _exit(sum);
    }
    int status = -1;
    waitpid(child, &status, 0);
    EXPECT_EQ(exit_status(status), 55);
    in_main([] { yield(); });
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "");
}

// -- The probes -------------------------------------------------------------------------------------------------------

TEST_P(fork_of, what_a_child_does_is_not_counted_as_its_parent_s) {
  if (std::string(GetParam().tier) != "bpf") GTEST_SKIP() << "no probes";
  const auto r = in_child([] {
    in_main([] {
      yield();
      const std::uint64_t before = metrics::read().counters["kernel_blocks"];
      EXPECT_EQ(exit_status(forked([] {
                  for (int i = 0; i < 500; ++i) usleep(10);
                })),
                0);
      EXPECT_LT(metrics::read().counters["kernel_blocks"], before + 400);
      for (int i = 0; i < 100; ++i) usleep(1000);
      EXPECT_GE(metrics::read().counters["kernel_blocks"], before + 80);  // not every kernel shows every switch
    });
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "");
}

}  // namespace

// AddressSanitizer asks, if there is such a function. At an exit it takes the locks of its allocator, which in a child
// may be those that another thread held at the fork: nobody gives them back.
extern "C" int __lsan_is_turned_off() { return without_leak_check; }
