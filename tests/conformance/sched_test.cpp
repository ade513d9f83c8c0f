// SPDX-License-Identifier: Apache-2.0
// The scheduler: who runs, what nobody is lost by, changing GOMAXPROCS, locked threads, blocking calls.
#include <weft/runtime.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <csignal>

#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/fixture.h"

namespace {

using namespace weft;
using namespace weft::test;

class scheduling : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(scheduling);
class changing_gomaxprocs : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(changing_gomaxprocs);
class locked_thread : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(locked_thread);
class blocking_call : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(blocking_call);

void kernel_sleep_us(long us) {
  timespec left{us / 1'000'000, us % 1'000'000 * 1000};
  while (nanosleep(&left, &left) != 0) {
  }
}

// -- Everybody runs
// ----------------------------------------------------------------------------------------------------

// Each waits for its turn without giving its P up, so all must have a P at the same time.
void hand_a_counter_round(int goroutines, int rounds) {
  std::atomic<int> counter{0};
  wait_group done;
  for (int i = 0; i < goroutines; ++i)
    done.go([&counter, i, goroutines, rounds] {
      for (int round = 0; round < rounds; ++round) {
        while (counter.load() % goroutines != i) sched_yield();
        ++counter;
      }
    });
  done.wait();
  EXPECT_EQ(counter, goroutines * rounds);
}

TEST_P(scheduling, as_many_goroutines_as_ps_run_at_the_same_time) {
  in_main([] { hand_a_counter_round(ps(), scaled(30)); });
}

TEST_P(scheduling, goroutines_started_by_goroutines_run_at_the_same_time_after_a_burst_of_work) {
  in_main([] {
    wait_group burst;
    for (int i = 0; i < 10 * ps(); ++i)
      burst.go([] {
        for (int n = 0; n < 20; ++n) yield();
      });
    burst.wait();
    wait_group nested;
    nested.go([] { hand_a_counter_round(ps(), scaled(10)); });
    nested.wait();
  });
}

TEST_P(scheduling, one_that_yields_lets_others_go_on) {
  for (const bool locked : {false, true}) {
    in_main([locked] {
      const auto c = make_chan<int>();
      std::atomic<bool> stop{false};
      wait_group done;
      done.go([&, locked] {
        if (locked) lock_os_thread();
        while (!stop) {
          c.try_recv();
          yield();
        }
        if (locked) unlock_os_thread();
      });
      for (int i = 0; i < scaled(1000); ++i) {
        go([c] { c.send(1); });
        yield();
      }
      EXPECT_TRUE(eventually([] { return num_goroutine() == 2; }));
      stop = true;
      done.wait();
    });
  }
}

TEST_P(scheduling, two_that_call_the_runtime_without_pause_take_turns) {
  in_main([] {
    const auto c = make_chan<int>();
    std::atomic<int> turn{0};
    const auto take_turns = [&](int mine) {
      for (int i = 0; i < 3; ++i) {
        while (turn % 2 != mine) c.try_recv();
        ++turn;
      }
    };
    wait_group done;
    done.go([&] { take_turns(0); });
    done.go([&] { take_turns(1); });
    done.wait();
    EXPECT_EQ(turn, 6);
  });
}

TEST_P(scheduling, work_behind_one_that_yields_for_ever_is_done) {
  in_main([] {
    std::atomic<bool> stop{false};
    wait_group done;
    done.go([&stop] {
      while (!stop) yield();
    });
    const int n = scaled(2000);
    std::atomic<int> ran{0};
    for (int i = 0; i < n; ++i) go([&ran] { ++ran; });
    EXPECT_TRUE(eventually([&] { return ran == n; }));
    stop = true;
    done.wait();
  });
}

TEST_P(scheduling, goroutines_that_start_goroutines_are_all_run) {
  in_main([] {
    struct tree {
      std::atomic<int>* leaves;
      void grow(int depth) const {
        if (depth == 0) {
          ++*leaves;
          return;
        }
        for (int i = 0; i < 2; ++i) go([*this, depth] { grow(depth - 1); });
      }
    };
    std::atomic<int> leaves{0};
    const int depth = quick() ? 9 : 12;
    tree{&leaves}.grow(depth);
    EXPECT_TRUE(eventually([&] { return leaves == 1 << depth; }));
  });
}

TEST_P(scheduling, more_goroutines_than_a_run_queue_holds_all_run) {
  in_main([] {
    const int n = std::min(scaled(100'000), max_goroutines());
    std::atomic<int> ran{0};
    for (int i = 0; i < n; ++i) go([&ran] { ++ran; });
    EXPECT_TRUE(eventually([&] { return ran == n; }));
  });
}

TEST(scheduling_in_bulk, a_million_goroutines_started_by_one_all_run) {
  run_options one;
  one.gomaxprocs = 1;
  run(one, [] {
    const int n = kThreadSanitizer ? max_goroutines() : scaled(1'000'000);
    std::atomic<int> ran{0};
    for (int i = 0; i < n; ++i) go([&ran] { ++ran; });
    EXPECT_TRUE(eventually([&] { return ran == n; }));
    EXPECT_EQ(num_goroutine(), 1);
  });
}

TEST_P(scheduling, two_that_wake_each_other_do_not_starve_the_rest) {
  in_main([] {
    const auto ping = make_chan<int>(), pong = make_chan<int>();
    wait_group done;
    done.go([=] {
      for (const int value : ping) pong.send(value);
    });
    std::atomic<bool> stop{false};
    done.go([=, &stop] {
      while (!stop) {
        ping.send(1);
        pong.recv();
      }
      ping.close();
    });
    std::atomic<int> ran{0};
    for (int i = 0; i < 100; ++i) go([&ran] { ++ran; });
    EXPECT_TRUE(eventually([&] { return ran == 100; }));
    stop = true;
    done.wait();
  });
}

// -- Counting
// ----------------------------------------------------------------------------------------------------------

// How many goroutines a dump shows. ThreadSanitizer does not know that those that are shown stay parked meanwhile.
int stacks_in_dump() {
  if (kThreadSanitizer) return num_goroutine();
  const std::string dump = rt::format_all_goroutines();
  int n = 0;
  for (std::size_t at = dump.find("\ngoroutine "); at != dump.npos; at = dump.find("\ngoroutine ", at + 1)) ++n;
  return n;
}

TEST_P(scheduling, num_goroutine_counts_all_that_have_not_ended_and_a_dump_shows_just_them) {
  in_main([] {
    EXPECT_EQ(num_goroutine(), 1);
    const auto c = make_chan<int>();
    const int before = parked(wait_reason::chan_receive);
    for (int i = 1; i <= 20; ++i) {
      go([c] { c.recv(); });
      EXPECT_EQ(num_goroutine(), i + 1);
    }
    EXPECT_TRUE(eventually_parked(wait_reason::chan_receive, before, 20));
    EXPECT_EQ(num_goroutine(), 21);
    EXPECT_EQ(stacks_in_dump(), 21);
    c.close();
    EXPECT_TRUE(eventually([] { return num_goroutine() == 1; }));
    EXPECT_EQ(stacks_in_dump(), 1);
  });
}

TEST_P(scheduling, counters_of_metrics_add_up) {
  in_main([] {
    const auto started = [] { return metrics::read().counters.at("goroutines_created"); };
    const std::uint64_t before = started();
    wait_group done;
    for (int i = 0; i < 100; ++i) done.go([] { yield(); });
    done.wait();
    EXPECT_EQ(started(), before + 100);
    EXPECT_EQ(metrics::read().counters.at("gomaxprocs"), static_cast<std::uint64_t>(ps()));
    EXPECT_GT(metrics::read().histograms.at("runq_wait").count(), 0u);
  });
}

// -- Idleness
// ----------------------------------------------------------------------------------------------------------

TEST(idle_ps, no_m_spins_for_long_beside_a_single_busy_goroutine) {
  run_options wanted;
  wanted.gomaxprocs = 16;
  run(wanted, [] {
    wait_group done;
    for (int i = 0; i < 100; ++i) done.go([] { yield(); });
    done.wait();
    EXPECT_TRUE(eventually([] { return rt::nspinning_ms() == 0; }));
    int in_a_row = 0, longest = 0;
    for (int i = 0; i < scaled(2000); ++i) {
      in_a_row = rt::nspinning_ms() > 1 ? in_a_row + 1 : 0;
      longest = std::max(longest, in_a_row);
      yield();
      sched_yield();
    }
    EXPECT_LT(longest, scaled(2000) / 2);
  });
}

std::chrono::microseconds cpu_time() {
  rusage used;
  getrusage(RUSAGE_SELF, &used);
  const auto of = [](const timeval& t) {
    return std::chrono::seconds(t.tv_sec) + std::chrono::microseconds(t.tv_usec);
  };
  return of(used.ru_utime) + of(used.ru_stime);
}

TEST_P(scheduling, a_process_that_waits_uses_no_cpu) {
  in_main([] {
    wait_group done;
    for (int i = 0; i < 100; ++i) done.go([] { yield(); });
    done.wait();
    blocking([] { kernel_sleep_us(1000); });
    constexpr auto kWait = std::chrono::milliseconds(200);
    const auto before = cpu_time();
    sleep_for(kWait);
    EXPECT_LT(cpu_time() - before, kWait / 10);
  });
}

// -- GOMAXPROCS
// --------------------------------------------------------------------------------------------------------

TEST_P(changing_gomaxprocs, setting_returns_the_previous_value_and_less_than_1_only_reads) {
  in_main([] {
    EXPECT_EQ(gomaxprocs(), ps());
    EXPECT_EQ(gomaxprocs(3), ps());
    EXPECT_EQ(gomaxprocs(0), 3);
    EXPECT_EQ(gomaxprocs(-5), 3);
    EXPECT_EQ(gomaxprocs(1), 3);
    EXPECT_EQ(gomaxprocs(), 1);
    EXPECT_EQ(gomaxprocs(ps()), 1);
  });
}

TEST_P(changing_gomaxprocs, goroutines_run_at_the_same_time_on_ps_that_were_added) {
  in_main([] {
    gomaxprocs(ps() + 3);
    hand_a_counter_round(ps() + 3, scaled(10));
    gomaxprocs(1);
    hand_a_counter_round(1, 10);
    gomaxprocs(2);
    hand_a_counter_round(2, scaled(10));
  });
}

TEST_P(changing_gomaxprocs, a_thousand_goroutines_and_their_timers_survive_it) {
  in_main([] {
    const int n = scaled(1000);
    std::atomic<int> ran{0};
    wait_group done;
    for (int i = 0; i < n; ++i)
      done.go([&ran, i] {
        for (int round = 0; round < 5; ++round) {
          sleep_for(std::chrono::microseconds(i % 7 * 100));
          yield();
        }
        ++ran;
      });
    for (int i = 0; ran < n; ++i) {
      constexpr int kCounts[] = {8, 1, 4, 2, 16, 1, 3};
      gomaxprocs(kCounts[i % 7]);
      yield();
      if (i % 16 == 0) sleep_for(std::chrono::microseconds(500));
    }
    done.wait();
  });
}

TEST_P(changing_gomaxprocs, goroutines_may_change_it_all_at_once) {
  in_main([] {
    wait_group done;
    for (int i = 0; i < 8; ++i)
      done.go([i] {
        for (int round = 0; round < scaled(50); ++round) {
          gomaxprocs(1 + (i + round) % 8);
          yield();
        }
      });
    done.wait();
    EXPECT_GE(gomaxprocs(), 1);
    EXPECT_LE(gomaxprocs(), 8);
  });
}

TEST_P(changing_gomaxprocs, it_ends_beside_goroutines_that_call_the_runtime_without_pause) {
  in_main([] {
    const auto c = make_chan<int>();
    std::atomic<bool> stop{false};
    wait_group done;
    for (int i = 0; i < 4; ++i)
      done.go([&stop, c] {
        while (!stop) c.try_recv();
      });
    for (int i = 0; i < scaled(20); ++i) gomaxprocs(1 + i % 4);
    stop = true;
    done.wait();
  });
}

TEST(many_ps, a_thousand_and_24_start_on_any_machine) {
  run_options wanted;
  wanted.gomaxprocs = 1024;
  run(wanted, [] {
    EXPECT_EQ(gomaxprocs(), 1024);
    wait_group done;
    for (int i = 0; i < 5000; ++i) done.go([] { yield(); });
    done.wait();
    EXPECT_EQ(gomaxprocs(5000), 1024);
    EXPECT_EQ(gomaxprocs(), 1024);
    gomaxprocs(1);
    for (int i = 0; i < 100; ++i) done.go([] { yield(); });
    done.wait();
  });
}

// -- Locked threads
// ----------------------------------------------------------------------------------------------------

bool thread_exists(pid_t tid) { return access(("/proc/self/task/" + std::to_string(tid)).c_str(), F_OK) == 0; }

TEST_P(locked_thread, a_locked_goroutine_stays_on_its_thread) {
  in_main([] {
    wait_group done;
    const auto c = make_chan<int>();
    for (int i = 0; i < 4; ++i)
      done.go([c] {
        lock_os_thread();
        const pid_t tid = gettid();
        for (int round = 0; round < scaled(50); ++round) {
          yield();
          EXPECT_EQ(gettid(), tid);
          c.recv();
          EXPECT_EQ(gettid(), tid);
          if (round % 8 == 0) sleep_for(std::chrono::microseconds(50));
          EXPECT_EQ(gettid(), tid);
          blocking([tid] {
            EXPECT_EQ(gettid(), tid);
            kernel_sleep_us(10);
          });
          EXPECT_EQ(gettid(), tid);
        }
        unlock_os_thread();
      });
    for (int i = 0; i < 4 * scaled(50); ++i) c.send(i);
    done.wait();
  });
}

TEST_P(locked_thread, nobody_else_runs_on_the_thread_of_a_locked_goroutine) {
  in_main([] {
    std::atomic<pid_t> locked{0};
    std::atomic<bool> stop{false};
    wait_group done;
    done.go([&] {
      lock_os_thread();
      locked = gettid();
      while (!stop) yield();
      unlock_os_thread();
    });
    EXPECT_TRUE(eventually([&] { return locked != 0; }));
    for (int i = 0; i < scaled(200); ++i)
      done.go([&] {
        for (int n = 0; n < 5; ++n) {
          EXPECT_NE(gettid(), locked);
          yield();
        }
      });
    EXPECT_TRUE(eventually([] { return num_goroutine() == 2; }));
    stop = true;
    done.wait();
  });
}

TEST_P(locked_thread, main_may_lock_itself_to_the_calling_thread) {
  const pid_t caller = gettid();
  in_main([caller] {
    lock_os_thread();
    const auto c = make_chan<int>();
    for (int i = 0; i < 20; ++i) {
      go([c, caller] {
        EXPECT_NE(gettid(), caller);
        c.send(1);
      });
      c.recv();
      EXPECT_EQ(gettid(), caller);
      yield();
      EXPECT_EQ(gettid(), caller);
    }
    unlock_os_thread();
  });
}

TEST_P(locked_thread, locked_goroutines_talk_to_each_other) {
  in_main([] {
    const auto ping = make_chan<int>(), pong = make_chan<int>();
    wait_group done;
    done.go([=] {
      lock_os_thread();
      for (const int value : ping) pong.send(value + 1);
      unlock_os_thread();
    });
    done.go([=] {
      lock_os_thread();
      for (int i = 0; i < scaled(200); ++i) {
        ping.send(i);
        EXPECT_EQ(pong.recv(), i + 1);
      }
      ping.close();
      unlock_os_thread();
    });
    done.wait();
  });
}

TEST_P(locked_thread, its_thread_ends_with_a_goroutine_that_ends_locked) {
  in_main([] {
    for (int i = 0; i < scaled(20); ++i) {
      std::atomic<pid_t> tid{0};
      go([&tid, i] {
        lock_os_thread();
        lock_os_thread();
        unlock_os_thread();
        if (i % 2 == 0) yield();
        tid = gettid();
        if (i % 3 == 0) goexit();
      });
      EXPECT_TRUE(eventually([&tid] { return tid != 0 && !thread_exists(tid); }));
    }
  });
}

// One P has the next goroutine on the same thread for certain.
TEST(locked_thread_at_one_p, as_many_unlocks_as_locks_free_the_thread_and_more_do_nothing) {
  run_options one;
  one.gomaxprocs = 1;
  run(one, [] {
    const auto c = make_chan<pid_t>();
    unlock_os_thread();
    for (int i = 0; i < 10; ++i)
      go([c] {
        unlock_os_thread();
        lock_os_thread();
        lock_os_thread();
        unlock_os_thread();
        unlock_os_thread();
        unlock_os_thread();
        c.send(gettid());
      });
    std::set<pid_t> tids;
    for (int i = 0; i < 10; ++i) tids.insert(c.recv().value());
    EXPECT_EQ(tids.size(), 1u);
  });
}

TEST_P(locked_thread, what_a_locked_goroutine_did_to_its_thread_is_not_inherited) {
  in_main([] {
    char here[4096], there[4096];
    ASSERT_NE(getcwd(here, sizeof here), nullptr);
    std::atomic<bool> refused{false};
    wait_group done;
    const auto expect_here = [&] {
      // Many at once, so that the runtime needs new threads.
      wait_group readers;
      for (int i = 0; i < 8; ++i)
        readers.go([&here] {
          blocking([&here] {
            char cwd[4096];
            EXPECT_STREQ(getcwd(cwd, sizeof cwd), here);
            kernel_sleep_us(200);
          });
        });
      readers.wait();
    };
    done.go([&] {
      lock_os_thread();
      if (syscall(SYS_unshare, 0x00000200 /* CLONE_FS */) != 0 || chdir("/") != 0) {
        refused = true;
        unlock_os_thread();
        return;
      }
      EXPECT_STREQ(getcwd(there, sizeof there), "/");
      expect_here();
      yield();
      EXPECT_STREQ(getcwd(there, sizeof there), "/");
    });
    done.wait();
    if (refused) GTEST_SKIP() << "unshare(CLONE_FS) is not allowed here";
    expect_here();
  });
}

TEST_P(locked_thread, locking_races_with_changes_of_gomaxprocs) {
  for (int i = 0; i < scaled(30); ++i) {
    in_main([] {
      wait_group done;
      for (int n = 0; n < 2; ++n)
        done.go([] {
          for (int round = 0; round < 5; ++round) {
            lock_os_thread();
            yield();
            unlock_os_thread();
          }
        });
      gomaxprocs(1 + ps() % 3);
      gomaxprocs(ps());
      done.wait();
    });
  }
}

// -- Blocking calls
// ----------------------------------------------------------------------------------------------------

class pipe_ends {
 public:
  pipe_ends() { EXPECT_EQ(pipe(ends_), 0); }
  ~pipe_ends() {
    close(ends_[0]);
    close(ends_[1]);
  }
  pipe_ends(const pipe_ends&) = delete;
  pipe_ends& operator=(const pipe_ends&) = delete;

  char read_byte() const {
    char byte = 0;
    while (read(ends_[0], &byte, 1) < 0 && errno == EINTR) {
    }
    return byte;
  }
  void write_byte(char byte) const {
    while (write(ends_[1], &byte, 1) < 0 && errno == EINTR) {
    }
  }

 private:
  int ends_[2];
};

TEST_P(blocking_call, returns_what_the_function_returns) {
  in_main([] {
    EXPECT_EQ(blocking([] { return 3; }), 3);
    EXPECT_EQ(*blocking([] { return std::make_unique<int>(4); }), 4);
    int n = 5;
    int& same = blocking([&n]() -> int& { return n; });
    EXPECT_EQ(&same, &n);
    blocking([&n] { n = 6; });
    EXPECT_EQ(n, 6);
    EXPECT_THROW(blocking([]() -> int { throw std::runtime_error("inside"); }), std::runtime_error);
    yield();
  });
}

TEST_P(blocking_call, others_run_while_one_blocks) {
  in_main([] {
    for (int i = 0; i < scaled(50); ++i) {
      const pipe_ends p;
      go([&p] { p.write_byte('a'); });
      EXPECT_EQ(blocking([&p] { return p.read_byte(); }), 'a');
    }
  });
}

TEST_P(blocking_call, a_hundred_goroutines_blocked_in_reads_all_come_back) {
  in_main([] {
    constexpr int kReaders = 100;
    const std::vector<pipe_ends> pipes(kReaders);
    std::atomic<int> inside{0};
    wait_group done;
    for (int i = 0; i < kReaders; ++i)
      done.go([&, i] {
        for (int round = 0; round < 3; ++round)
          EXPECT_EQ(blocking([&] {
                      ++inside;
                      return pipes[static_cast<std::size_t>(i)].read_byte();
                    }),
                    static_cast<char>(i + round));
      });
    for (int round = 0; round < 3; ++round) {
      EXPECT_TRUE(eventually([&] { return inside == kReaders * (round + 1); }));
      for (int i = 0; i < kReaders; ++i) pipes[static_cast<std::size_t>(i)].write_byte(static_cast<char>(i + round));
    }
    done.wait();
  });
}

TEST_P(blocking_call, many_short_ones_all_come_back) {
  in_main([] {
    std::atomic<int> calls{0};
    wait_group done;
    for (int i = 0; i < 64; ++i)
      done.go([&calls] {
        for (int n = 0; n < scaled(20); ++n) {
          blocking([] { kernel_sleep_us(100); });
          ++calls;
        }
      });
    done.wait();
    EXPECT_EQ(calls, 64 * scaled(20));
  });
}

TEST_P(blocking_call, calls_of_different_lengths_share_the_ps) {
  in_main([] {
    for (const long us : {0, 10, 100, 1000}) {
      wait_group done;
      std::atomic<int> calls{0};
      for (int i = 0; i < 8; ++i)
        done.go([&calls, us] {
          for (int n = 0; n < scaled(10); ++n) {
            blocking([us] { kernel_sleep_us(us); });
            ++calls;
          }
        });
      done.wait();
      EXPECT_EQ(calls, 8 * scaled(10));
    }
  });
}

TEST_P(blocking_call, calls_that_do_not_block_are_many) {
  in_main([] {
    wait_group done;
    std::atomic<int> calls{0};
    for (int i = 0; i < 4; ++i)
      done.go([&calls] {
        for (int n = 0; n < scaled(20'000); ++n) blocking([&calls] { ++calls; });
      });
    done.wait();
    EXPECT_EQ(calls, 4 * scaled(20'000));
  });
}

TEST_P(blocking_call, the_runtime_may_be_called_inside_as_from_a_foreign_thread) {
  in_main([] {
    const auto c = make_chan<int>();
    const auto started = make_chan<std::uint64_t>();
    wait_group done;
    done.go([=] {
      blocking([=] {
        EXPECT_EQ(c.recv(), 1);
        c.send(2);
        blocking([] { kernel_sleep_us(10); });
        yield();
        go([started] { started.send(current_goroutine_id()); });
      });
      c.send(3);
    });
    c.send(1);
    EXPECT_EQ(c.recv(), 2);
    EXPECT_GT(started.recv().value(), 1u);
    EXPECT_EQ(c.recv(), 3);
    done.wait();
  });
}

TEST_P(blocking_call, the_goroutine_keeps_its_id_and_goes_on_after_a_handoff) {
  in_main([] {
    wait_group done;
    for (int i = 0; i < 30; ++i)
      done.go([] {
        const std::uint64_t id = current_goroutine_id();
        for (int n = 0; n < scaled(10); ++n) {
          blocking([] { kernel_sleep_us(200); });
          EXPECT_EQ(current_goroutine_id(), id);
          EXPECT_GE(current_p(), 0);
        }
      });
    done.wait();
  });
}

TEST_P(blocking_call, it_races_with_changes_of_gomaxprocs) {
  in_main([] {
    std::atomic<bool> stop{false};
    wait_group done;
    for (int i = 0; i < 8; ++i)
      done.go([&stop, i] {
        while (!stop) blocking([i] { kernel_sleep_us(i * 20); });
      });
    for (int i = 0; i < scaled(50); ++i) {
      gomaxprocs(1 + i % 5);
      blocking([] { kernel_sleep_us(100); });
    }
    stop = true;
    done.wait();
  });
}

// -- Signals
// -----------------------------------------------------------------------------------------------------------

// Sends a signal to every thread of the process, a thousand times a second.
class signal_storm {
 public:
  explicit signal_storm(int number) : number_(number) {
    struct sigaction action {};
    action.sa_handler = [](int) { received.fetch_add(1, std::memory_order_relaxed); };
    sigaction(number, &action, &before_);
    thread_ = std::thread([this] {
      sigset_t mine;
      sigemptyset(&mine);
      sigaddset(&mine, number_);
      pthread_sigmask(SIG_BLOCK, &mine, nullptr);
      while (!stop_) {
        send_to_all();
        kernel_sleep_us(1000);
      }
    });
  }
  ~signal_storm() {
    stop_ = true;
    thread_.join();
    sigaction(number_, &before_, nullptr);
  }
  signal_storm(const signal_storm&) = delete;
  signal_storm& operator=(const signal_storm&) = delete;

  static inline std::atomic<int> received{0};

 private:
  void send_to_all() const {
    for (const pid_t tid : threads_of(getpid()))
      if (tid != gettid()) syscall(SYS_tgkill, getpid(), tid, number_);
  }

  int number_;
  struct sigaction before_ {};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST_P(blocking_call, nothing_is_lost_in_a_storm_of_signals) {
  for (const int number : {SIGURG, SIGALRM}) {
    signal_storm::received = 0;
    const signal_storm storm(number);
    in_main([] {
      const auto c = make_chan<int>();
      wait_group done;
      for (int i = 0; i < 8; ++i)
        done.go([c] {
          const pipe_ends p;
          for (int n = 0; n < scaled(30); ++n) {
            const auto start = clock::now();
            sleep_for(std::chrono::microseconds(300));
            EXPECT_GE(clock::now() - start, std::chrono::microseconds(300));
            blocking([] { kernel_sleep_us(300); });
            p.write_byte('a');
            EXPECT_EQ(blocking([&p] { return p.read_byte(); }), 'a');
            c.send(1);
          }
        });
      int sum = 0;
      std::thread foreign([c, &sum] {
        for (const int value : c) sum += value;
      });
      done.wait();
      c.close();
      blocking([&foreign] { foreign.join(); });
      EXPECT_EQ(sum, 8 * scaled(30));
    });
    EXPECT_GT(signal_storm::received, 0);
  }
}

}  // namespace
