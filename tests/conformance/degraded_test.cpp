// SPDX-License-Identifier: Apache-2.0
// What is refused: threads, memory, address space, file descriptors, CPUs, privileges, single system calls. All of it
// must still work, more slowly or with a line on stderr, or end with a clear word; never hang.
#include <weft/weft.h>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "runtime/sanitizer.h"
#include "runtime/stack.h"
#include "tests/child.h"
#include "tests/fixture.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

constexpr int kFatalStatus = 2;
constexpr uid_t kNobody = 65534;

// -- What refuses
// ------------------------------------------------------------------------------------------------------

struct refused_argument {
  int number;
  std::uint32_t value;
};

// From now on this system call, by this thread or all of the process, fails with this error (if the argument is so).
void refuse(int call, int error, std::optional<refused_argument> argument = {}, bool all_threads = false) {
  constexpr std::uint32_t kAllow = SECCOMP_RET_ALLOW;
  std::vector<sock_filter> program;
  program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  const auto skip = static_cast<std::uint8_t>(argument ? 3 : 1);
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, skip));
  if (argument) {
    const auto at = static_cast<std::uint32_t>(offsetof(seccomp_data, args) + 8u * argument->number);
    program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at));
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, argument->value, 0, 1));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error)));
  program.push_back(BPF_STMT(BPF_RET | BPF_K, kAllow));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const unsigned flags = all_threads ? SECCOMP_FILTER_FLAG_TSYNC : 0;
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter) != 0) skip_in_child("no seccomp filters here");
}

void refuse_threads(int error, bool all_threads) {
  refuse(SYS_clone3, error, {}, all_threads);
  refuse(SYS_clone, error, {}, all_threads);
}

void become(uid_t user) {
  if (setgid(user) != 0 || setuid(user) != 0) skip_in_child("may not become another user");
}

// Whose processes are its threads alone.
void become_a_user_of_its_own() { become(60'000 + static_cast<uid_t>(getpid()) % 5000); }

void limit(__rlimit_resource resource, rlim_t value, rlim_t hard = 0) {
  const rlimit both{value, hard ? hard : value};
  if (setrlimit(resource, &both) != 0) skip_in_child("may not set a limit");
}

rlim_t address_space_in_use() {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * 4096;
}

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> all;
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &set)) all.push_back(i);
  return all;
}

void allow_one_cpu() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(allowed_cpus().back(), &set);
  sched_setaffinity(0, sizeof set, &set);
}

// -- What must work
// ----------------------------------------------------------------------------------------------------

// A pipe with blocking ends.
struct pipe_ends {
  pipe_ends() { EXPECT_EQ(pipe(fds.data()), 0); }
  pipe_ends(const pipe_ends&) = delete;
  pipe_ends& operator=(const pipe_ends&) = delete;
  ~pipe_ends() {
    close(fds[0]);
    close(fds[1]);
  }
  void read() {
    char byte;
    EXPECT_EQ(blocking([&] { return ::read(fds[0], &byte, 1); }), 1);
  }
  void read_plainly() {
    char byte;
    EXPECT_EQ(::read(fds[0], &byte, 1), 1);
  }
  void write() { EXPECT_EQ(::write(fds[1], "", 1), 1); }
  std::array<int, 2> fds{};
};

// Ends only if so many goroutines run on as many threads at the same time.
void run_at_the_same_time(int n) {
  std::atomic<int> there{0};
  wait_group all;
  for (int i = 0; i < n; ++i)
    all.go([&] {
      ++there;
      while (there < n) sched_yield();
    });
  all.wait();
}

void pass_values_round() {
  wait_group done;
  auto c = make_chan<int>(), out = make_chan<int>(8);
  for (int i = 0; i < 50; ++i)
    done.go([=] {
      for (int n = 0; n < 20; ++n) {
        out.send(c.recv().value_or(-1) + 1);
        yield();
      }
    });
  done.go([=] {
    for (int n = 0; n < 1000; ++n) c.send(n);
  });
  long sum = 0;
  for (int n = 0; n < 1000; ++n) sum += out.recv().value_or(0);
  EXPECT_EQ(sum, 1000 * 1001 / 2);
  done.wait();
}

void block_in_calls_that_end() {
  wait_group done;
  for (int i = 0; i < 30; ++i)
    done.go([] {
      for (int n = 0; n < 3; ++n) blocking([] { usleep(500); });
    });
  done.wait();
}

void lock_and_sleep() {
  wait_group done;
  mutex m;
  int sum = 0;
  for (int i = 0; i < 20; ++i)
    done.go([&] {
      for (int n = 0; n < 10; ++n) {
        m.lock();
        ++sum;
        m.unlock();
        if (n % 5 == 0) sleep_for(200us);
      }
    });
  done.wait();
  EXPECT_EQ(sum, 200);
}

void work_in_all_ways() {
  pass_values_round();
  lock_and_sleep();
  block_in_calls_that_end();
}

// Each round ends only if the P goes to another goroutine while this one is blocked in read(2).
void hand_off(int rounds) {
  pipe_ends there, back;
  wait_group done;
  done.go([&] {
    for (int i = 0; i < rounds; ++i) {
      there.read();
      back.write();
    }
  });
  for (int i = 0; i < rounds; ++i) {
    there.write();
    back.read();
  }
  done.wait();
}

std::uint64_t handoffs() { return metrics::read().counters["handoffs"]; }

void do_everything() {
  work_in_all_ways();
  hand_off(20);
  const int before = gomaxprocs(1);
  pass_values_round();
  gomaxprocs(before);
  pass_values_round();
}

run_options with_ps(int n, const char* tier = nullptr) {
  run_options options;
  options.gomaxprocs = n;
  options.kernel_assist = tier;
  return options;
}

void expect_silent_success(const child_result& r) {
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "") << r;
}

// Whoever may have probes is told that it has none here.
void forgive_lost_probes(child_result& r) {
  if (r.err.starts_with("weft: kernel assist: no probes, going on with sentinels alone: "))
    r.err.erase(0, r.err.find('\n') + 1);
}

// The text of a line that starts so, as often as it is there; all lines must start in one of these ways.
void expect_only_lines(const child_result& r, const std::vector<std::pair<std::string, int>>& beginnings_and_most) {
  std::vector<int> seen(beginnings_and_most.size());
  for (const std::string& line : lines_of(r.err)) {
    bool known = false;
    for (std::size_t i = 0; i < seen.size(); ++i)
      if (line.starts_with(beginnings_and_most[i].first)) {
        known = true;
        ++seen[i];
      }
    EXPECT_TRUE(known) << line << "\n" << r;
  }
  for (std::size_t i = 0; i < seen.size(); ++i) EXPECT_LE(seen[i], beginnings_and_most[i].second) << r;
}

void expect_success_in_want_of_threads(const child_result& r) {
  EXPECT_TRUE(r.exited(0)) << r;
  expect_only_lines(r, {{"weft: no new thread (have ", 1}, {"weft: no sentinel for CPU ", num_cpu()}});
}

std::vector<const char*> tiers() {
  std::vector<const char*> all{"sentinel", "off"};
  if (has_probes()) all.push_back("auto");
  return all;
}

class degraded : public testing::TestWithParam<const char*> {
 protected:
  static const char* tier() { return GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(tier, degraded, testing::ValuesIn(tiers()),
                         [](const auto& info) { return std::string(info.param); });

// -- Threads
// -----------------------------------------------------------------------------------------------------------

// Everything ends, with those threads alone that there are after before(), and the shortage is said once.
void expect_to_do_without_new_threads(const char* tier, void (*before)()) {
  const auto r = in_child([=] {
    return weft::run(with_ps(4, tier), [before] {
      before();
      refuse_threads(EAGAIN, true);
      work_in_all_ways();
    });
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  expect_success_in_want_of_threads(r);
}

TEST_P(degraded, without_new_threads_those_there_are_do_everything) {
  expect_to_do_without_new_threads(tier(), [] { run_at_the_same_time(4); });  // each P has a thread
}

TEST_P(degraded, with_one_thread_for_goroutines_everything_ends) {
  // main's thread gives its P to another one: the only one there will be
  expect_to_do_without_new_threads(tier(), [] { sleep_for(1ms); });
}

TEST_P(degraded, with_no_thread_beside_main_s_it_works_or_ends_with_a_word) {
  const auto r = in_child([] {
    return weft::run(with_ps(1, tier()), [] {
      refuse_threads(EAGAIN, true);
      pass_values_round();
    });
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0) || (r.exited(kFatalStatus) && r.err.find("fatal error: ") != std::string::npos)) << r;
}

TEST_P(degraded, without_even_the_monitor_thread_it_ends_with_a_word) {
  const auto r = in_child([] {
    refuse_threads(EAGAIN, false);
    return weft::run(with_ps(2, tier()), do_everything);
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_EQ(count_of("fatal error: ", r.err), 1) << r;
  EXPECT_NE(r.err.find("thread"), std::string::npos) << r;
  EXPECT_NE(r.err.find(strerror(EAGAIN)), std::string::npos) << r;
}

TEST_P(degraded, threads_come_again_when_they_may) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer has a thread of its own";
  const auto r = in_child([] {
    become_a_user_of_its_own();
    limit(RLIMIT_NPROC, 4, 1000);
    return weft::run(with_ps(4, tier()), [] {
      pass_values_round();
      block_in_calls_that_end();
      limit(RLIMIT_NPROC, 1000);
      run_at_the_same_time(4);
      do_everything();
    });
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0)) << r;
  expect_only_lines(r, {{"weft: no new thread (have ", 1}, {"weft: no sentinel for CPU ", num_cpu()}});
}

TEST_P(degraded, a_user_s_limit_of_processes_is_said_once) {
  if (kThreadSanitizer) GTEST_SKIP() << "ThreadSanitizer has a thread of its own";
  const auto r = in_child([] {
    become_a_user_of_its_own();
    limit(RLIMIT_NPROC, 5);  // main's, the monitor, a sentinel or two, one or two more
    return weft::run(with_ps(4, tier()), work_in_all_ways);
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  expect_success_in_want_of_threads(r);
  EXPECT_EQ(count_of("weft: no new thread (have ", r.err), 1) << r;
  EXPECT_NE(r.err.find("ulimit -u"), std::string::npos) << r;
}

// -- System calls
// ------------------------------------------------------------------------------------------------------

TEST_P(degraded, without_membarrier) {
  for (int error : {EPERM, ENOSYS}) {
    const auto r = in_child([error] {
      refuse(SYS_membarrier, error);
      return weft::run(with_ps(4, tier()), do_everything);
    });
    WEFT_SKIP_IF_CHILD_DID(r);
    expect_silent_success(r);
  }
}

// As the filters of containers do. Kernels from before it know no io_uring_setup(2).
TEST_P(degraded, without_io_uring) {
  const std::array<std::pair<int, int>, 3> refusals{
      {{SYS_io_uring_setup, EPERM}, {SYS_io_uring_setup, ENOSYS}, {SYS_io_uring_enter, EPERM}}};
  for (const auto& [call, error] : refusals) {
    const auto r = in_child([call = call, error = error] {
      refuse(call, error);
      return weft::run(with_ps(2, tier()), [] {
        auto f = file::open("/proc/self/exe", O_RDONLY);
        wait_group done;
        for (int i = 0; i < 50; ++i)
          done.go([&f] {
            std::error_code error;
            std::array<std::byte, 4> magic;
            f.fsync(error);  // waits, whatever comes of it
            EXPECT_EQ(f.read_at(magic, 0), 4u);
            EXPECT_EQ(magic[1], std::byte{'E'});
          });
        done.wait();
      });
    });
    WEFT_SKIP_IF_CHILD_DID(r);
    expect_silent_success(r);
  }
}

TEST_P(degraded, without_setting_affinity) {
  const auto r = in_child([] {
    refuse(SYS_sched_setaffinity, EPERM);
    return weft::run(with_ps(4, tier()), do_everything);
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0)) << r;
  // Something may be said, but not by each thread.
  EXPECT_LE(lines_of(r.err).size(), static_cast<std::size_t>(num_cpu())) << r;
}

// A sentinel of an ordinary class would take half of the CPU from the goroutines.
TEST_P(degraded, without_the_idle_class_there_is_no_sentinel) {
  const auto r = in_child([] {
    refuse(SYS_sched_setscheduler, EPERM);
    return weft::run(with_ps(1, tier()), [] {
      hand_off(50);
      for (const std::string& name : thread_names()) EXPECT_NE(name, "weft-sentinel");
    });
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_LE(lines_of(r.err).size(), static_cast<std::size_t>(num_cpu())) << r;
}

TEST_P(degraded, without_timer_slack_thread_names_and_memory_advice) {
  const auto r = in_child([] {
    refuse(SYS_prctl, EPERM, refused_argument{0, PR_SET_TIMERSLACK});
    refuse(SYS_prctl, EPERM, refused_argument{0, PR_SET_NAME});
    refuse(SYS_madvise, ENOSYS);
    return weft::run(with_ps(4, tier()), do_everything);
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0)) << r;
  expect_only_lines(r, {{"weft: no more guard pages: ", 1}});
}

// -- Memory
// ------------------------------------------------------------------------------------------------------------

constexpr std::uint32_t kGuardInstall = 102;  // MADV_GUARD_INSTALL

std::size_t max_mappings() {
  std::size_t n = 0;
  std::ifstream("/proc/sys/vm/max_map_count") >> n;
  return n;
}

void park_and_wake(int n) {
  auto c = make_chan<int>();
  wait_group done;
  const int before = parked(wait_reason::chan_receive);
  for (int i = 0; i < n; ++i) done.go([c] { c.recv(); });
  EXPECT_TRUE(eventually_parked(wait_reason::chan_receive, before, n));
  for (int i = 0; i < n; ++i) c.send(i);
  done.wait();
}

TEST_P(degraded, without_guards_in_one_mapping_forty_thousand_stacks_still_work) {
  if (rt::kAddressSanitizer) GTEST_SKIP() << "each stack has its shadow under AddressSanitizer";
  const int n = std::min(quick() ? 2000 : 40'000, max_goroutines());
  const auto r = in_child([n] {
    refuse(SYS_madvise, EINVAL, refused_argument{2, kGuardInstall});
    return weft::run(with_ps(2, tier()), [n] { park_and_wake(n); });
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0)) << r;
  expect_only_lines(r, {{"weft: no more guard pages: vm.max_map_count is ", 1}});
  const bool too_many = 2u * static_cast<unsigned>(n) > max_mappings();
  EXPECT_EQ(count_of("no more guard pages", r.err), too_many ? 1 : 0) << r;
}

TEST_P(degraded, guards_that_are_mappings_find_an_overflow_too) {
  if (rt::kAddressSanitizer || kThreadSanitizer) GTEST_SKIP() << "a sanitizer reports faults in its own way";
  const auto r = in_child([] {
    refuse(SYS_madvise, EINVAL, refused_argument{2, kGuardInstall});
    return weft::run(with_ps(2, tier()), [] {
      wait_group done;
      for (int i = 0; i < 500; ++i) done.go([] { yield(); });
      done.wait();
      go({.name = "deep"}, [] {
        const auto recurse = [](auto self, int n) -> int {
          volatile char frame[512];
          frame[0] = static_cast<char>(n);
          return n == 0 ? 0 : self(self, n - 1) + frame[0];
        };
        volatile int sum = recurse(recurse, 1 << 30);
        (void)sum;
      });
      make_chan<int>().recv();
    });
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_NE(r.err.find("fatal error: stack overflow\n\ngoroutine "), std::string::npos) << r;
  EXPECT_NE(r.err.find(" \"deep\":\n"), std::string::npos) << r;
}

#define SKIP_WHERE_A_SANITIZER_NEEDS_ADDRESS_SPACE() \
  if (rt::kAddressSanitizer || kThreadSanitizer) GTEST_SKIP() << "a sanitizer needs the address space"

TEST_P(degraded, in_little_address_space_fewer_stacks_are_reserved) {
  SKIP_WHERE_A_SANITIZER_NEEDS_ADDRESS_SPACE();
  for (const rlim_t gib : {64, 8, 1}) {
    const auto r = in_child([gib] {
      limit(RLIMIT_AS, address_space_in_use() + (gib << 30));
      return weft::run(with_ps(2, tier()), [] {
        do_everything();
        park_and_wake(2000);
      });
    });
    WEFT_SKIP_IF_CHILD_DID(r);
    expect_silent_success(r);
  }
}

// What is not there cannot be waited for: the process must end, and say of what.
void expect_out_of_memory(const child_result& r) {
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_EQ(count_of("fatal error: out of memory: no stack of 65536 bytes for goroutine ", r.err) +
                count_of("panic: std::bad_alloc", r.err),
            1)
      << r;
}

void park_ever_more() {
  auto c = make_chan<int>();
  for (int i = 0; i < 1'000'000; ++i) {
    go([c] { c.recv(); });
    if (i % 100 == 0) yield();
  }
}

TEST_P(degraded, out_of_address_space_for_stacks_is_a_clear_end) {
  SKIP_WHERE_A_SANITIZER_NEEDS_ADDRESS_SPACE();
  expect_out_of_memory(in_child([] {
    limit(RLIMIT_AS, address_space_in_use() + (rlim_t{700} << 20));
    return weft::run(with_ps(2, tier()), park_ever_more);
  }));
}

TEST_P(degraded, out_of_memory_for_stacks_is_a_clear_end) {
  SKIP_WHERE_A_SANITIZER_NEEDS_ADDRESS_SPACE();
  expect_out_of_memory(in_child([] {
    limit(RLIMIT_DATA, rlim_t{300} << 20);
    return weft::run(with_ps(2, tier()), park_ever_more);
  }));
}

TEST_P(degraded, a_huge_stack_that_cannot_be_had_is_a_clear_end) {
  SKIP_WHERE_A_SANITIZER_NEEDS_ADDRESS_SPACE();
  const auto r = in_child([] {
    limit(RLIMIT_AS, address_space_in_use() + (rlim_t{900} << 20));
    return weft::run(with_ps(2, tier()), [] {
      go({.stack_size = rt::kMaxStackSize}, [] {});
      make_chan<int>().recv();
    });
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_TRUE(r.err.starts_with("fatal error: out of memory: no stack of 1073741824 bytes for goroutine ")) << r;
}

// -- File descriptors, folders, users
// ----------------------------------------------------------------------------------

TEST_P(degraded, without_a_file_descriptor_to_be_had) {
  if (rt::kAddressSanitizer) GTEST_SKIP() << "UndefinedBehaviorSanitizer asks a pipe whether memory is readable";
  auto r = in_child([] {
    const std::size_t cpus = allowed_cpus().size();
    limit(RLIMIT_NOFILE, 3);
    return weft::run(with_ps(2, tier()), [cpus] {
      EXPECT_EQ(num_cpu(), static_cast<int>(cpus));
      pass_values_round();
      block_in_calls_that_end();
      lock_and_sleep();
    });
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  forgive_lost_probes(r);
  expect_silent_success(r);
}

TEST_P(degraded, without_a_file_descriptor_a_deadlock_is_still_reported) {
  if (rt::kAddressSanitizer) GTEST_SKIP() << "UndefinedBehaviorSanitizer asks a pipe whether memory is readable";
  auto r = in_child([] {
    limit(RLIMIT_NOFILE, 3);
    return weft::run(with_ps(2, tier()), [] { make_chan<int>().recv(); });
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  forgive_lost_probes(r);
  EXPECT_TRUE(r.exited(kFatalStatus)) << r;
  EXPECT_TRUE(r.err.starts_with("fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [chan receive"))
      << r;
}

TEST_P(degraded, without_proc_and_sys) {
  if (rt::kAddressSanitizer) GTEST_SKIP() << "AddressSanitizer reads /proc";
  auto r = in_child([] {
    const std::size_t cpus = allowed_cpus().size();
    char folder[] = "/tmp/weft-degraded-test-XXXXXX";
    if (!mkdtemp(folder)) skip_in_child("no temporary folder");
    const bool inside = chroot(folder) == 0;
    if (!inside || chdir("/") != 0) {
      rmdir(folder);
      skip_in_child("may not call chroot()");
    }
    return weft::run(with_ps(2, tier()), [cpus] {
      EXPECT_EQ(num_cpu(), static_cast<int>(cpus));
      do_everything();
    });
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  forgive_lost_probes(r);
  expect_silent_success(r);
}

TEST_P(degraded, as_an_ordinary_user) {
  const auto r = in_child([] {
    become(kNobody);
    return weft::run(with_ps(2, tier()), [] {
      do_everything();
      if (std::string(tier()) == "sentinel") {
        gomaxprocs(1);
        const std::uint64_t before = handoffs();
        hand_off(20);
        EXPECT_GT(handoffs(), before);
        const std::vector<std::string> names = thread_names();
        EXPECT_TRUE(names.empty() || std::count(names.begin(), names.end(), "weft-sentinel") > 0);
      }
    });
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  expect_silent_success(r);
}

// -- CPUs
// --------------------------------------------------------------------------------------------------------------

TEST_P(degraded, without_pinning) {
  const auto r = in_child({{"WEFT_DEBUG", "pin=0"}}, [] {
    const std::vector<int> before = allowed_cpus();
    return weft::run(with_ps(4), [&before] {
      do_everything();
      wait_group done;
      for (int i = 0; i < 4; ++i) done.go([&] { EXPECT_EQ(allowed_cpus(), before); });
      done.wait();
    });
  });
  expect_silent_success(r);
}

TEST_P(degraded, on_one_allowed_cpu) {
  for (int ps : {0, 1, 4}) {
    const auto r = in_child([ps] {
      allow_one_cpu();
      const std::vector<int> allowed = allowed_cpus();
      const int status = weft::run(with_ps(ps, tier()), [&] {
        EXPECT_EQ(num_cpu(), 1);
        EXPECT_EQ(gomaxprocs(), ps == 0 ? 1 : ps);
        do_everything();
        wait_group done;
        for (int i = 0; i < 20; ++i)
          done.go([&] {
            EXPECT_EQ(allowed_cpus(), allowed);
            yield();
          });
        done.wait();
      });
      EXPECT_EQ(allowed_cpus(), allowed);
      return status;
    });
    expect_silent_success(r);
  }
}

// Processes that keep every CPU busy. A thread of the idle class hardly runs beside them.
class busy_neighbours {
 public:
  busy_neighbours() {
    for (int cpu : allowed_cpus()) {
      const pid_t child = fork();
      if (child == 0) burn(cpu);
      children_.push_back(child);
    }
  }
  ~busy_neighbours() {
    for (pid_t child : children_) {
      kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
    }
  }
  busy_neighbours(const busy_neighbours&) = delete;
  busy_neighbours& operator=(const busy_neighbours&) = delete;

 private:
  [[noreturn]] static void burn(int cpu) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
    for (;;) asm volatile("" ::: "memory");
  }
  std::vector<pid_t> children_;
};

// The goroutine that would end the read waits for the P of the one that reads.
TEST_P(degraded, beside_busy_neighbours_a_plain_read_loses_its_p) {
  const int rounds = scaled(20);
  const busy_neighbours neighbours;
  const auto r = in_child([rounds] {
    return weft::run(with_ps(1, tier()), [rounds] {
      pipe_ends bytes;
      for (int i = 0; i < rounds; ++i) {
        go([&] { bytes.write(); });
        bytes.read_plainly();
      }
    });
  });
  expect_silent_success(r);
}

TEST_P(degraded, beside_busy_neighbours_every_hand_off_is_made) {
  const int rounds = scaled(100);
  const busy_neighbours neighbours;
  const auto r = in_child([rounds] {
    return weft::run(with_ps(1, tier()), [rounds] {
      const std::uint64_t before = handoffs();
      hand_off(rounds);
      EXPECT_GE(handoffs() - before, static_cast<std::uint64_t>(rounds) / 2);
    });
  });
  expect_silent_success(r);
}

// -- Signals
// -----------------------------------------------------------------------------------------------------------

TEST_P(degraded, in_a_storm_of_signals_that_interrupt_calls) {
  const auto r = in_child([] {
    static std::atomic<int> caught{0};
    struct sigaction count {};
    count.sa_handler = [](int) { caught.fetch_add(1, std::memory_order_relaxed); };
    for (int number : {SIGALRM, SIGURG}) sigaction(number, &count, nullptr);
    const itimerval often{{0, 200}, {0, 200}};
    setitimer(ITIMER_REAL, &often, nullptr);
    std::atomic<bool> done{false};
    const pid_t self = getpid();
    std::thread sender([&] {
      while (!done) {
        kill(self, SIGURG);
        usleep(500);
      }
    });
    const int status = weft::run(with_ps(4, tier()), [] {
      for (int i = 0; i < 3; ++i) {
        pass_values_round();
        lock_and_sleep();
        block_in_calls_that_end();
      }
      while (caught < 10) yield();
    });
    done = true;
    sender.join();
    return status;
  });
  expect_silent_success(r);
}

}  // namespace
