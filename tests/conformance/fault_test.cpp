// SPDX-License-Identifier: Apache-2.0
// What others do to a process that runs goroutines: they stop it, look into it with a debugger, move its threads to
// other CPUs, or take the CPUs away. It goes on, loses nothing, reports no deadlock, and keeps its tier.
#include <elf.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#include <fstream>
#include <map>

#include "tests/victim.h"

namespace {

using namespace weft;
using namespace weft::test;

// The victims run in children: this process stays without threads.
class fault : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(fault);

// -- Stopped as a whole -----------------------------------------------------------------------------------------------

void stop(const victim& v) {
  int status = 0;
  EXPECT_EQ(kill(v.pid(), SIGSTOP), 0);
  EXPECT_EQ(waitpid(v.pid(), &status, WUNTRACED), v.pid());
  EXPECT_TRUE(WIFSTOPPED(status));
}

TEST_P(fault, stopped_and_continued_it_goes_on) {
  const int rounds = scaled(20);
  hold_out(options(), [=](const victim& v) {
    for (int i = 0; i < rounds; ++i) {
      stop(v);
      const long before = v.work_done();
      for (int n = 0; n < i % 4; ++n) nap();
      EXPECT_EQ(v.work_done(), before);
      kill(v.pid(), SIGCONT);
      EXPECT_TRUE(v.goes_on());
    }
  });
}

// As a user does who holds Ctrl-Z and fg down.
TEST_P(fault, stopped_again_before_it_has_gone_on) {
  const int rounds = scaled(500);
  hold_out(options(), [=](const victim& v) {
    for (int i = 0; i < rounds; ++i) {
      stop(v);
      kill(v.pid(), SIGCONT);
    }
  });
}

// Nobody is busy, a timer is due, and who would look at it is stopped: that is no deadlock.
TEST_P(fault, stopped_while_everything_sleeps) {
  const int rounds = scaled(30);
  const auto r = in_child([=] {
    const pid_t sleeper = fork();
    if (sleeper == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      weft::run(options(), [] {
        for (int i = 0; i < scaled(300); ++i) sleep_for(std::chrono::milliseconds(1));
      });
      _exit(0);
    }
    for (int i = 0; i < rounds; ++i) {
      kill(sleeper, SIGSTOP);
      nap();
      nap();
      kill(sleeper, SIGCONT);
      nap();
    }
    int status = 0;
    waitpid(sleeper, &status, 0);
    EXPECT_EQ(status, 0);
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "") << r;
}

// -- Under a debugger -------------------------------------------------------------------------------------------------

// Has all threads of a victim, as a debugger does: those that come later too. Signals are passed on.
class debugger {
 public:
  enum class way { seize, attach };

  debugger(const victim& v, way how) : victim_(v), how_(how) {
    // A thread that is made meanwhile is found at a second look.
    for (std::size_t known = ~std::size_t{0}; known != threads_.size();) {
      known = threads_.size();
      for (const pid_t tid : v.threads())
        if (!threads_.contains(tid)) begin(tid);
    }
    if (how == way::attach) wait_until_all_have_stopped();
  }
  debugger(const debugger&) = delete;
  debugger& operator=(const debugger&) = delete;

  /// Lets go of all threads, which must have stopped.
  void detach() {
    for (const auto& [tid, stopped] : threads_) EXPECT_EQ(ptrace(PTRACE_DETACH, tid, 0, 0), 0) << std::strerror(errno);
    threads_.clear();
  }

  /// Seized threads: all of them.
  void stop() {
    stopping_ = true;
    for (const auto& [tid, stopped] : threads_)
      if (!stopped) ptrace(PTRACE_INTERRUPT, tid, 0, 0);
    wait_until_all_have_stopped();
  }
  void go_on() {
    stopping_ = false;
    for (auto& [tid, stopped] : threads_) go_on(tid, 0);
  }

  /// Whether the registers of all threads can be read.
  bool sees_registers() const {
    for (const auto& [tid, stopped] : threads_) {
      user_regs_struct registers{};
      iovec to{&registers, sizeof registers};
      if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &to) != 0) return false;
    }
    return true;
  }

  /// What has happened to the threads since the last call.
  void look() {
    for (const auto& known = threads_; !known.empty();) {
      int status = 0;
      const pid_t tid = waitpid(-1, &status, __WALL | WNOHANG);
      if (tid <= 0) return;
      handle(tid, status);
    }
  }

 private:
  void begin(pid_t tid) {
    const long failed =
        how_ == way::seize ? ptrace(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACECLONE) : ptrace(PTRACE_ATTACH, tid, 0, 0);
    if (failed == 0)
      threads_[tid] = false;
    else if (errno == EPERM && threads_.empty())
      skip_in_child("may not trace a child");  // else: one that came with its maker, or has ended
  }

  void go_on(pid_t tid, int signal) {
    threads_[tid] = false;
    ptrace(PTRACE_CONT, tid, 0, signal);
  }

  void wait_until_all_have_stopped() {
    const auto some_run = [this] {
      return std::any_of(threads_.begin(), threads_.end(), [](const auto& thread) { return !thread.second; });
    };
    while (some_run()) {
      int status = 0;
      const pid_t tid = waitpid(-1, &status, __WALL);
      if (tid < 0) return;
      handle(tid, status);
    }
  }

  void handle(pid_t tid, int status) {
    if (!WIFSTOPPED(status)) {
      threads_.erase(tid);
      return;
    }
    const int signal = WSTOPSIG(status), event = status >> 16;
    if (event == PTRACE_EVENT_CLONE) {
      unsigned long made = 0;
      if (ptrace(PTRACE_GETEVENTMSG, tid, 0, &made) == 0) threads_.try_emplace(static_cast<pid_t>(made), false);
    }
    const bool by_us = event == PTRACE_EVENT_STOP || (how_ == way::attach && signal == SIGSTOP);
    if (by_us && (stopping_ || how_ == way::attach)) {
      threads_[tid] = true;
      return;
    }
    go_on(tid, by_us || event != 0 ? 0 : signal);
    if (stopping_) ptrace(PTRACE_INTERRUPT, tid, 0, 0);  // a stop of any kind takes away one that is to come
  }

  const victim& victim_;
  const way how_;
  bool stopping_ = false;
  std::map<pid_t, bool> threads_;  // has it stopped?
};

TEST_P(fault, a_debugger_stops_all_threads_again_and_again) {
  const int rounds = scaled(50);
  hold_out(options(), [=](const victim& v) {
    debugger d(v, debugger::way::seize);
    for (int i = 0; i < rounds; ++i) {
      EXPECT_TRUE(v.goes_on([&] { d.look(); })) << "traced";
      d.stop();
      EXPECT_TRUE(d.sees_registers());
      if (i + 1 < rounds) d.go_on();
    }
    d.detach();
  });
}

TEST_P(fault, debuggers_come_and_go) {
  const int rounds = scaled(50);
  hold_out(options(), [=](const victim& v) {
    for (int i = 0; i < rounds; ++i) {
      debugger d(v, debugger::way::attach);
      EXPECT_TRUE(d.sees_registers());
      d.detach();
      if (i % 5 == 0) {
        EXPECT_TRUE(v.goes_on());
      }
    }
  });
}

// -- Moved ------------------------------------------------------------------------------------------------------------

cpu_set_t allowed_cpus(pid_t thread = 0) {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(thread, sizeof set, &set);
  return set;
}

std::vector<int> numbers_in(const cpu_set_t& set) {
  std::vector<int> numbers;
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &set)) numbers.push_back(i);
  return numbers;
}

cpu_set_t only(int number) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(number, &set);
  return set;
}

// What taskset -ap does.
void move_all(const victim& v, const cpu_set_t& to) {
  for (const pid_t tid : v.threads()) sched_setaffinity(tid, sizeof to, &to);
}

TEST_P(fault, moved_to_one_cpu_and_back_to_all) {
  const cpu_set_t all = allowed_cpus();
  const std::vector<int> numbers = numbers_in(all);
  if (numbers.size() < 2) GTEST_SKIP() << "one CPU";
  const int rounds = scaled(20);
  hold_out(options(), [&](const victim& v) {
    for (int i = 0; i < rounds; ++i) {
      move_all(v, only(numbers[static_cast<std::size_t>(i) % numbers.size()]));
      EXPECT_TRUE(v.goes_on()) << "on one CPU";
      move_all(v, all);
      EXPECT_TRUE(v.goes_on()) << "on all CPUs";
    }
  });
}

TEST_P(fault, its_threads_are_moved_all_the_time) {
  const std::vector<int> numbers = numbers_in(allowed_cpus());
  if (numbers.size() < 2) GTEST_SKIP() << "one CPU";
  const int rounds = scaled(20);
  hold_out(options(), [&](const victim& v) {
    std::size_t next = 0;
    for (int i = 0; i < rounds; ++i)
      EXPECT_TRUE(v.goes_on([&] {
        for (const pid_t tid : v.threads()) {
          const cpu_set_t set = only(numbers[next++ % numbers.size()]);
          sched_setaffinity(tid, sizeof set, &set);
        }
        ++next;
      }));
  });
}

// How many of its sentinels may run anywhere.
int homeless_sentinels(const victim& v) {
  int n = 0;
  for (const pid_t tid : v.threads())
    if (name_of_thread(v.pid(), tid) == "weft-sentinel" && numbers_in(allowed_cpus(tid)).size() > 1) ++n;
  return n;
}

// One that is where it belongs, by chance, may stay so.
void expect_sentinels_to_come_home(const victim& v) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (homeless_sentinels(v) > 1 && std::chrono::steady_clock::now() < until) nap();
  EXPECT_LE(homeless_sentinels(v), 1);
}

TEST_P(fault, its_sentinels_go_back_to_their_cpus_once_they_may) {
  const cpu_set_t all = allowed_cpus();
  const std::vector<int> numbers = numbers_in(all);
  if (numbers.size() < 2) GTEST_SKIP() << "one CPU";
  hold_out(options(), [&](const victim& v) {
    for (const int number : numbers) {
      move_all(v, only(number));
      EXPECT_TRUE(v.goes_on());
      move_all(v, all);
      expect_sentinels_to_come_home(v);
    }
  });
}

// -- CPUs go away -----------------------------------------------------------------------------------------------------

// A machine's CPUs are everybody's: only where the tests have it to themselves.
bool machine_is_ours() { return std::getenv("WEFT_TEST_OWN_MACHINE") != nullptr; }

std::string switch_of_cpu(int number) { return "/sys/devices/system/cpu/cpu" + std::to_string(number) + "/online"; }

bool set_online(int number, bool online) {
  std::ofstream file(switch_of_cpu(number));
  file << (online ? 1 : 0) << std::flush;
  return file.good();
}

std::vector<int> cpus_that_can_go() {
  std::vector<int> all;
  for (const int number : numbers_in(allowed_cpus()))
    if (access(switch_of_cpu(number).c_str(), W_OK) == 0) all.push_back(number);
  return all;
}

#define WEFT_NEEDS_CPUS_THAT_GO()                                                                          \
  if (!machine_is_ours()) GTEST_SKIP() << "CPUs are taken offline in virtual machines only (make vmtest)"; \
  if (cpus_that_can_go().empty()) GTEST_SKIP() << "no CPU here can be taken offline"

TEST_P(fault, a_cpu_goes_offline_under_its_threads_and_comes_back) {
  WEFT_NEEDS_CPUS_THAT_GO();
  hold_out(options(), [](const victim& v) {
    for (const int number : cpus_that_can_go()) {
      EXPECT_TRUE(set_online(number, false)) << number;
      EXPECT_TRUE(v.goes_on()) << "without CPU " << number;
      EXPECT_TRUE(set_online(number, true)) << number;
      EXPECT_TRUE(v.goes_on()) << "with CPU " << number << " again";
    }
    expect_sentinels_to_come_home(v);
  });
}

TEST_P(fault, all_cpus_but_one_go_offline_and_come_back) {
  WEFT_NEEDS_CPUS_THAT_GO();
  hold_out(options(), [](const victim& v) {
    const std::vector<int> numbers = cpus_that_can_go();
    for (const int number : numbers) set_online(number, false);
    EXPECT_TRUE(v.goes_on()) << "on the CPU that is left";
    for (const int number : numbers) EXPECT_TRUE(set_online(number, true)) << number;
    expect_sentinels_to_come_home(v);
  });
}

TEST_P(fault, a_run_begins_while_a_cpu_is_offline) {
  WEFT_NEEDS_CPUS_THAT_GO();
  const int number = cpus_that_can_go().back();
  ASSERT_TRUE(set_online(number, false));
  hold_out(options(), [=](const victim& v) {
    EXPECT_TRUE(set_online(number, true));
    EXPECT_TRUE(v.goes_on());
  });
  EXPECT_TRUE(set_online(number, true));
}

}  // namespace
