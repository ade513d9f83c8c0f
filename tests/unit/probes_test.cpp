// SPDX-License-Identifier: Apache-2.0
//
// The probes against this kernel: what a thread does, and what its slot then says. Counts and orders, never times. All
// ways of reading the kernel are tried that it takes, also those that are for older ones.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "bpf/capabilities.h"
#include "bpf/probes.h"
#include "tests/child.h"
#include "tests/unprivileged.h"

namespace {

using namespace weft::bpf;
using weft::test::become_nobody;
using weft::test::child_result;
using weft::test::in_child;
using weft::test::refuse_bpf;

constexpr std::size_t kSlots = 8;

// Not a fault of ours: no privilege, no such kernel, no tools when this was built.
bool beyond_us(const std::string& why_not) {
  for (const char* reason : {"bpf() refused", "built without", "this kernel does not describe"})
    if (why_not.starts_with(reason)) return true;
  return false;
}

std::unique_ptr<probes> load_or_say(std::string& why_not, variant wanted = variant::best) {
  auto loaded = probes::load(kSlots, why_not, wanted);
  EXPECT_TRUE(loaded || beyond_us(why_not)) << why_not;
  return loaded;
}

void nap() {
  const timespec moment{.tv_sec = 0, .tv_nsec = 1'000};
  nanosleep(&moment, nullptr);
}

// The C library's waits may use another call than their name says.
template <class... Arguments>
long raw(long number, Arguments... arguments) {
  return syscall(number, arguments...);
}

// There are kernels, of sandboxes, that hide threads of theirs: a switch from one of them to one of ours is not
// reported. Each switch that is adds one to the sequence number, so it shows.
bool all_switches_seen(const snapshot& before, const snapshot& after) {
  const std::uint32_t left =
      after.blocks - before.blocks + after.parks - before.parks + after.preemptions - before.preemptions;
  return after.event.sequence() - before.event.sequence() == 2 * left;
}

// Runs attempt(), which says whether it was conclusive, until it was.
template <class F>
void conclusively(F attempt) {
  constexpr int kTries = 5;
  for (int i = 0; i < kTries; ++i)
    if (attempt()) return;
  FAIL() << "some switch is not seen, time and again";
}

std::uint64_t total(const std::uint32_t (&buckets)[WEFT_BPF_BUCKETS]) {
  return std::accumulate(std::begin(buckets), std::end(buckets), std::uint64_t{0});
}

// A thread that has a slot while it runs body(), which sees it as running user code.
class registered_thread {
 public:
  template <class F>
  registered_thread(probes& all, std::size_t slot_number, F body)
      : thread_([this, &all, slot_number, body] {
          std::string why_not;
          ASSERT_TRUE(all.register_current_thread(slot_number, why_not)) << why_not;
          announce(all.at(slot_number), doing::user_code);
          before_ = read_slot(all.at(slot_number));
          started_ = true;
          body();
          after_ = read_slot(all.at(slot_number));
          EXPECT_TRUE(all.unregister_current_thread(why_not)) << why_not;
        }) {}
  ~registered_thread() {
    if (thread_.joinable()) thread_.join();
  }

  void wait_until_started() const {
    while (!started_) nap();
  }
  // Both may be called once the thread has ended or, for before(), started.
  void join() { thread_.join(); }
  const snapshot& before() const { return before_; }
  const snapshot& after() const { return after_; }

 private:
  std::atomic<bool> started_{false};
  snapshot before_{}, after_{};
  std::thread thread_;
};

class probes_on_this_kernel : public testing::TestWithParam<variant> {
 protected:
  void SetUp() override {
    std::string why_not;
    probes_ = probes::load(kSlots, why_not, GetParam());
    if (probes_) return;
    if (beyond_us(why_not)) GTEST_SKIP() << why_not;
    FAIL() << why_not;
  }

  void wait_until_blocked(const registered_thread& thread) const {
    thread.wait_until_started();
    for (;;) {
      const snapshot now = read_slot(mine());
      if (now.blocks != thread.before().blocks && now.event.state() == state::blocked) return;
      nap();
    }
  }

  // body() blocks once; unblock() ends that. Syscall -1: a page fault.
  [[nodiscard]] bool one_block(const std::function<void()>& body, const std::function<void()>& unblock, int syscall) {
    registered_thread thread(*probes_, kMine, body);
    wait_until_blocked(thread);
    const snapshot blocked = read_slot(mine());
    unblock();
    thread.join();
    const snapshot &before = thread.before(), &after = thread.after();
    if (!all_switches_seen(before, after)) return false;
    EXPECT_EQ(blocked.event.syscall(), syscall);
    EXPECT_EQ(blocked.event.reason(), syscall == -1 ? reason::page_fault : reason::syscall);
    EXPECT_EQ(after.blocks - before.blocks, 1u);
    EXPECT_EQ(after.wakeups - before.wakeups, 1u);
    EXPECT_EQ(after.parks - before.parks, 0u);
    EXPECT_EQ(after.event.state(), state::running);
    EXPECT_GE(after.off_ns, 1u);
    return true;
  }

  slot& mine() const { return probes_->at(kMine); }

  static constexpr std::size_t kMine = 3;
  std::unique_ptr<probes> probes_;
};

struct pipe_ends {
  pipe_ends() {
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category());
  }
  ~pipe_ends() {
    close(ends[0]);
    close(ends[1]);
  }
  pipe_ends(const pipe_ends&) = delete;
  pipe_ends& operator=(const pipe_ends&) = delete;
  void put() { EXPECT_EQ(write(ends[1], "x", 1), 1); }

  int ends[2];
};

// Mapped and never touched.
class fresh_pages {
 public:
  explicit fresh_pages(std::size_t count) : bytes_(count * page()) {
    void* const at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::system_error(errno, std::generic_category());
    madvise(at, bytes_, MADV_NOHUGEPAGE);
    at_ = static_cast<char*>(at);
  }
  ~fresh_pages() { munmap(at_, bytes_); }
  fresh_pages(const fresh_pages&) = delete;
  fresh_pages& operator=(const fresh_pages&) = delete;
  volatile char* at(std::size_t i) const { return at_ + i * page(); }
  void touch_all() const {
    for (std::size_t i = 0; i * page() < bytes_; ++i) *at(i) = 1;
  }

 private:
  static std::size_t page() { return static_cast<std::size_t>(getpagesize()); }

  char* at_ = nullptr;
  std::size_t bytes_;
};

TEST_P(probes_on_this_kernel, see_a_read_of_an_empty_pipe) {
  conclusively([&] {
    pipe_ends p;
    char byte;
    return one_block([&] { EXPECT_EQ(raw(SYS_read, p.ends[0], &byte, 1), 1); }, [&] { p.put(); }, SYS_read);
  });
}

TEST_P(probes_on_this_kernel, see_a_futex_wait) {
  conclusively([&] {
    std::atomic<int> word{0};
    const auto futex = [&](int operation, int value) { return raw(SYS_futex, &word, operation, value, nullptr); };
    const auto wake = [&] {
      word = 1;
      futex(FUTEX_WAKE_PRIVATE, 1);
    };
    return one_block([&] { futex(FUTEX_WAIT_PRIVATE, 0); }, wake, SYS_futex);
  });
}

TEST_P(probes_on_this_kernel, see_a_nanosleep) {
  const timespec for_good{.tv_sec = 3600, .tv_nsec = 0};
  struct sigaction interrupt {};
  interrupt.sa_handler = [](int) {};
  sigaction(SIGUSR1, &interrupt, nullptr);
  conclusively([&] {
    std::atomic<pthread_t> sleeper{};
    const auto sleep = [&] {
      sleeper = pthread_self();
      raw(SYS_nanosleep, &for_good, nullptr);
    };
    return one_block(
        sleep, [&] { pthread_kill(sleeper, SIGUSR1); }, SYS_nanosleep);
  });
}

TEST_P(probes_on_this_kernel, see_a_poll) {
  conclusively([&] {
    pipe_ends p;
    pollfd readable{p.ends[0], POLLIN, 0};
    return one_block([&] { EXPECT_EQ(raw(SYS_ppoll, &readable, 1, nullptr, nullptr, 0), 1); }, [&] { p.put(); },
                     SYS_ppoll);
  });
}

TEST_P(probes_on_this_kernel, see_a_lock_of_a_file_that_another_holds) {
  const std::string name = (std::filesystem::temp_directory_path() / "weft-probes-XXXXXX").string();
  std::vector<char> path(name.c_str(), name.c_str() + name.size() + 1);
  const int holder = mkostemp(path.data(), O_CLOEXEC), waiter = open(path.data(), O_RDWR | O_CLOEXEC);
  unlink(path.data());
  conclusively([&] {
    EXPECT_EQ(flock(waiter, LOCK_UN), 0);
    EXPECT_EQ(flock(holder, LOCK_EX), 0);
    return one_block([&] { EXPECT_EQ(raw(SYS_flock, waiter, LOCK_EX), 0); }, [&] { flock(holder, LOCK_UN); },
                     SYS_flock);
  });
  close(holder);
  close(waiter);
}

TEST_P(probes_on_this_kernel, see_a_page_fault_that_takes_its_time) {
  int faults = static_cast<int>(raw(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY));
  if (faults < 0) faults = static_cast<int>(raw(SYS_userfaultfd, O_CLOEXEC));  // the flag is of 5.11
  if (faults < 0) GTEST_SKIP() << "userfaultfd: " << strerror(errno);
  uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
  ASSERT_EQ(ioctl(faults, UFFDIO_API, &api), 0);
  const auto page = static_cast<std::size_t>(getpagesize());
  conclusively([&] {
    fresh_pages lazy(1);
    const auto address = reinterpret_cast<std::uintptr_t>(lazy.at(0));
    uffdio_register range{.range = {address, page}, .mode = UFFDIO_REGISTER_MODE_MISSING, .ioctls = 0};
    EXPECT_EQ(ioctl(faults, UFFDIO_REGISTER, &range), 0);
    const auto fill = [&] {
      uffdio_zeropage zero{.range = {address, page}, .mode = 0, .zeropage = 0};
      EXPECT_EQ(ioctl(faults, UFFDIO_ZEROPAGE, &zero), 0);
    };
    return one_block([&] { *lazy.at(0) = 1; }, fill, -1);
  });
  close(faults);
}

void pin_to(int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  sched_setaffinity(0, sizeof one, &one);
}

TEST_P(probes_on_this_kernel, tell_preemption_from_blocking) {
  const int cpu = sched_getcpu();
  std::atomic<bool> stop{false};
  std::thread rival([&] {
    pin_to(cpu);
    while (!stop) {
    }
  });
  registered_thread thread(*probes_, kMine, [&] {
    pin_to(cpu);
    const snapshot before = read_slot(mine());
    while (__atomic_load_n(&mine().preemptions, __ATOMIC_RELAXED) - before.preemptions < 3) {
    }
    const snapshot after = read_slot(mine());
    EXPECT_EQ(after.blocks, before.blocks);
    EXPECT_EQ(after.wakeups, before.wakeups);
  });
  thread.join();
  stop = true;
  rival.join();
}

TEST_P(probes_on_this_kernel, do_not_count_the_sleep_of_an_idle_thread_as_a_block) {
  conclusively([&] {
    registered_thread thread(*probes_, kMine, [&] {
      announce(mine(), doing::idle);
      for (std::uint32_t before = read_slot(mine()).parks; read_slot(mine()).parks - before < 5;) nap();
      announce(mine(), doing::user_code);
    });
    thread.join();
    if (!all_switches_seen(thread.before(), thread.after())) return false;
    EXPECT_EQ(thread.after().blocks, thread.before().blocks);
    EXPECT_EQ(thread.after().wakeups - thread.before().wakeups, thread.after().parks - thread.before().parks);
    EXPECT_EQ(total(probes_->histograms_of(kMine).blocked), 0u);
    return true;
  });
}

TEST_P(probes_on_this_kernel, count_every_block_and_every_wait_for_a_cpu_in_the_histograms) {
  conclusively([&] {
    const histograms before = probes_->histograms_of(kMine);
    const snapshot first = read_slot(mine());
    registered_thread thread(*probes_, kMine, [&] {
      for (std::uint32_t first = read_slot(mine()).blocks; read_slot(mine()).blocks - first < 100;) nap();
    });
    thread.join();
    const snapshot last = read_slot(mine());
    if (!all_switches_seen(thread.before(), thread.after())) return false;
    const histograms& seen = probes_->histograms_of(kMine);
    const std::uint32_t blocks = last.blocks - first.blocks;
    EXPECT_EQ(last.wakeups - first.wakeups, blocks);
    EXPECT_EQ(total(seen.blocked) - total(before.blocked), blocks);
    EXPECT_EQ(total(seen.runq_wait) - total(before.runq_wait), blocks + last.preemptions - first.preemptions);
    EXPECT_GT(seen.blocked_ns, before.blocked_ns);
    return true;
  });
}

TEST_P(probes_on_this_kernel, count_the_faults_of_the_thread) {
  constexpr std::size_t kPages = 64;
  registered_thread thread(*probes_, kMine, [&] {
    fresh_pages(kPages).touch_all();
    EXPECT_TRUE(probes_->alive(kMine));
  });
  thread.join();
  EXPECT_GE(thread.after().minor_faults - thread.before().minor_faults, kPages);
  EXPECT_LT(thread.after().minor_faults - thread.before().minor_faults, 4 * kPages);
}

TEST_P(probes_on_this_kernel, count_the_migrations_of_the_thread) {
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &allowed)) cpus.push_back(cpu);
  if (cpus.size() < 2) GTEST_SKIP() << "one CPU only";
  conclusively([&] {
    snapshot first, last;
    registered_thread thread(*probes_, kMine, [&] {
      pin_to(cpus[0]);
      first = read_slot(mine());
      for (const int cpu : {cpus[1], cpus[0], cpus[1]}) pin_to(cpu);
      last = read_slot(mine());
    });
    thread.join();
    if (!all_switches_seen(thread.before(), thread.after())) return false;
    EXPECT_EQ(last.migrations - first.migrations, 3u);
    EXPECT_EQ(last.cpu, static_cast<std::uint32_t>(cpus[1]));
    return true;
  });
}

TEST_P(probes_on_this_kernel, leave_the_slot_alone_once_the_thread_has_unregistered) {
  registered_thread thread(*probes_, kMine, [] {});
  thread.join();
  std::string why_not;
  EXPECT_EQ(read_event(mine()).state(), state::no_thread);
  std::thread([&] {
    ASSERT_TRUE(probes_->register_current_thread(kMine, why_not)) << why_not;
    ASSERT_TRUE(probes_->unregister_current_thread(why_not)) << why_not;
    const event before = read_event(mine());
    for (int i = 0; i < 10; ++i) nap();
    EXPECT_EQ(read_event(mine()), before);
    EXPECT_FALSE(probes_->unregister_current_thread(why_not));
    EXPECT_EQ(why_not, "this thread is not registered");
  }).join();
}

TEST_P(probes_on_this_kernel, notice_that_a_registered_thread_has_ended) {
  std::thread([&] {
    std::string why_not;
    ASSERT_TRUE(probes_->register_current_thread(kMine, why_not)) << why_not;
  }).join();
  while (read_event(mine()).state() != state::no_thread) nap();
}

TEST_P(probes_on_this_kernel, register_more_threads_in_turn_than_there_are_slots) {
  for (std::size_t i = 0; i < 4 * kSlots; ++i) {
    std::thread([&] {
      std::string why_not;
      ASSERT_TRUE(probes_->register_current_thread(i % kSlots, why_not)) << why_not;
    }).join();
    while (read_event(probes_->at(i % kSlots)).state() != state::no_thread) nap();
  }
}

TEST_P(probes_on_this_kernel, say_that_there_is_no_such_slot) {
  std::string why_not;
  for (const std::size_t number : {kSlots, kSlots + 1, std::size_t{0xffffffff}, ~std::size_t{0}}) {
    EXPECT_FALSE(probes_->register_current_thread(number, why_not));
    EXPECT_EQ(why_not, "the state page has 8 slots");
  }
}

TEST_P(probes_on_this_kernel, follow_a_thread_to_another_slot) {
  std::thread([&] {
    std::string why_not;
    ASSERT_TRUE(probes_->register_current_thread(1, why_not)) << why_not;
    ASSERT_TRUE(probes_->register_current_thread(2, why_not)) << why_not;
    const event before = read_event(probes_->at(1));
    EXPECT_TRUE(probes_->alive(2));
    EXPECT_EQ(read_event(probes_->at(1)), before);
    EXPECT_TRUE(probes_->unregister_current_thread(why_not));
  }).join();
}

TEST_P(probes_on_this_kernel, know_nothing_of_a_forked_child) {
  registered_thread thread(*probes_, kMine, [&] {
    const std::uint32_t blocks_before = read_slot(mine()).blocks;
    const pid_t child = fork();
    if (child == 0) {
      for (int i = 0; i < 20; ++i) nap();
      _exit(0);
    }
    while (waitpid(child, nullptr, WNOHANG) == 0) {
    }
    EXPECT_EQ(read_slot(mine()).blocks, blocks_before);
  });
}

TEST_P(probes_on_this_kernel, register_a_thread_of_another_process_and_see_it_stopped) {
  const pid_t child = fork();
  if (child == 0) {
    std::string why_not;
    if (!probes_->register_current_thread(kMine, why_not)) _exit(1);
    announce(mine(), doing::user_code);
    raise(SIGSTOP);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  while (read_event(mine()).state() != state::blocked) nap();
  EXPECT_EQ(read_event(mine()).reason(), reason::stopped);
  kill(child, SIGCONT);
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  while (read_event(mine()).state() != state::no_thread) nap();
}

TEST_P(probes_on_this_kernel, stop_moving_when_they_are_detached) {
  std::string why_not, numbers = probes_->hand_over();
  std::istringstream in(numbers);
  constexpr int kLink = 7;  // in the order of probe_fds
  for (int i = 0; i < kLink; ++i) std::getline(in, numbers, ',');
  ASSERT_TRUE(probes_->register_current_thread(kMine, why_not)) << why_not;
  EXPECT_TRUE(probes_->alive(kMine));
  close(std::stoi(numbers));
  EXPECT_FALSE(probes_->alive(kMine));
}

TEST_P(probes_on_this_kernel, count_and_time_their_own_runs) {
  std::string why_not;
  if (!probes_->statistics_on(why_not)) GTEST_SKIP() << why_not;
  const auto runs = [&] { return probes_->statistics().at(0).runs; };
  for (const std::uint64_t before = runs(); runs() == before;) nap();
  const program_statistics after = probes_->statistics().at(0);
  EXPECT_EQ(after.name, "sched_switch");
  EXPECT_GT(after.ns, 0u);
}

TEST_P(probes_on_this_kernel, measure_costs_while_that_is_switched_on) {
  std::string why_not;
  ASSERT_TRUE(probes_->cost_on(why_not)) << why_not;
  registered_thread thread(*probes_, kMine, [&] {
    for (std::uint32_t before = read_slot(mine()).blocks; read_slot(mine()).blocks - before < 20;) nap();
  });
  thread.join();
  probes_->cost_off();
  const cost_counters seen = probes_->cost();
  std::uint64_t switches = 0, timed = 0;
  for (const weft_bpf_sum& kind : seen.switches) {
    switches += kind.count;
    timed += kind.timed;
  }
  EXPECT_GE(switches, 40u);
  EXPECT_EQ(timed >= 20, seen.switches_timed);
  EXPECT_GE(seen.wakes[WEFT_BPF_WAKE_SAME_CPU].count + seen.wakes[WEFT_BPF_WAKE_CROSS_CPU].count, 20u);
  nap();
  EXPECT_EQ(probes_->cost().switches[WEFT_BPF_LAZY_TLB].count, seen.switches[WEFT_BPF_LAZY_TLB].count);
}

#if defined(__x86_64__)  // other architectures have no tracepoint for it on all kernels
TEST_P(probes_on_this_kernel, count_page_faults_by_slot_while_that_is_switched_on) {
  constexpr std::size_t kPages = 64;
  std::string why_not;
  ASSERT_TRUE(probes_->cost_on(why_not)) << why_not;
  registered_thread thread(*probes_, kMine, [&] { fresh_pages(kPages).touch_all(); });
  thread.join();
  const faults seen = probes_->faults_of(kMine);
  EXPECT_GE(seen.writes, kPages);
  EXPECT_LT(seen.writes + seen.reads, 4 * kPages);
}
#endif

std::string name_of(const testing::TestParamInfo<variant>& info) {
  constexpr std::array kNames{"best", "typed", "typed_by_tid", "raw"};
  return kNames[static_cast<std::size_t>(info.param)];
}
INSTANTIATE_TEST_SUITE_P(, probes_on_this_kernel, testing::Values(variant::best, variant::typed_by_tid, variant::raw),
                         name_of);

TEST(probes, of_two_sets_both_see_the_same_block) {
  std::string first_why_not, second_why_not;
  const auto first = load_or_say(first_why_not), second = load_or_say(second_why_not);
  if (!first || !second) GTEST_SKIP() << first_why_not;
  std::thread([&] {
    std::string why_not;
    ASSERT_TRUE(first->register_current_thread(1, why_not)) << why_not;
    ASSERT_TRUE(second->register_current_thread(2, why_not)) << why_not;
    announce(first->at(1), doing::user_code);
    announce(second->at(2), doing::user_code);
    for (const std::uint32_t before = read_slot(second->at(2)).blocks; read_slot(second->at(2)).blocks == before;)
      nap();
    EXPECT_EQ(read_event(first->at(1)).syscall(), read_event(second->at(2)).syscall());
    EXPECT_GE(read_slot(first->at(1)).blocks, 1u);
    EXPECT_TRUE(first->unregister_current_thread(why_not));
    EXPECT_TRUE(second->unregister_current_thread(why_not));
  }).join();
}

// -- Without privilege ------------------------------------------------------------------------------------------------

// Built without the tier, load() says so, and these say nothing.
bool is_built() {
  std::string why_not;
  return probes::load(1, why_not) || !why_not.starts_with("built without");
}

TEST(probes_without_privilege, are_refused_in_one_clear_line) {
  if (!is_built()) GTEST_SKIP() << "built without the bpf tier";
  const child_result r = in_child([] {
    become_nobody();
    EXPECT_FALSE(may_load());
    std::string why_not;
    EXPECT_EQ(probes::load(kSlots, why_not), nullptr);
    EXPECT_EQ(why_not, "bpf() refused: Operation not permitted (needs CAP_BPF and CAP_PERFMON)");
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "");
}

TEST(probes_without_privilege, are_refused_by_a_filter_of_system_calls) {
  if (!is_built()) GTEST_SKIP() << "built without the bpf tier";
  for (const int error : {EPERM, ENOSYS, EACCES}) {
    const child_result r = in_child([&] {
      refuse_bpf(error);
      std::string why_not;
      EXPECT_EQ(probes::load(kSlots, why_not), nullptr);
      EXPECT_TRUE(why_not.starts_with(std::string("bpf() refused: ") + strerror(error) + " (")) << why_not;
      EXPECT_EQ(why_not.find("filter") != std::string::npos, may_load()) << why_not;
    });
    WEFT_SKIP_IF_CHILD_DID(r);
    EXPECT_TRUE(r.exited(0)) << r;
    EXPECT_EQ(r.err, "");
  }
}

TEST(probes_without_privilege, need_it_for_loading_only) {
  for (const variant how : {variant::best, variant::typed_by_tid, variant::raw}) {
    const child_result r = in_child([&] {
      std::string why_not;
      const auto loaded = load_or_say(why_not, how);
      if (!loaded) weft::test::skip_in_child(why_not);
      become_nobody();
      ASSERT_TRUE(loaded->register_current_thread(1, why_not)) << why_not;
      EXPECT_TRUE(loaded->alive(1));
      EXPECT_TRUE(loaded->unregister_current_thread(why_not)) << why_not;
    });
    WEFT_SKIP_IF_CHILD_DID(r);
    EXPECT_TRUE(r.exited(0)) << r;
  }
}

TEST(probes_without_privilege, register_by_a_secret_where_every_bpf_call_is_refused) {
  for (const variant how : {variant::typed_by_tid, variant::raw}) {
    const child_result r = in_child([&] {
      std::string why_not;
      const auto loaded = load_or_say(why_not, how);
      if (!loaded) weft::test::skip_in_child(why_not);
      refuse_bpf(EPERM);
      std::vector<std::thread> threads;
      for (std::size_t i = 1; i < kSlots; ++i)
        threads.emplace_back([&, i] {
          std::string reason;
          EXPECT_FALSE(loaded->register_current_thread(kSlots, reason));
          EXPECT_EQ(reason, "the state page has 8 slots");
          ASSERT_TRUE(loaded->register_current_thread(i, reason)) << reason;
          EXPECT_TRUE(loaded->alive(i));
          EXPECT_TRUE(loaded->unregister_current_thread(reason)) << reason;
          EXPECT_FALSE(loaded->unregister_current_thread(reason));
          EXPECT_EQ(reason, "this thread is not registered");
        });
      for (std::thread& each : threads) each.join();
    });
    WEFT_SKIP_IF_CHILD_DID(r);
    EXPECT_TRUE(r.exited(0)) << r;
  }
}

TEST(probes_without_privilege, go_on_after_the_capabilities_were_dropped) {
  const child_result r = in_child([] {
    std::string why_not;
    const auto loaded = load_or_say(why_not);
    if (!loaded) weft::test::skip_in_child(why_not);
    EXPECT_TRUE(drop_capabilities());
    EXPECT_EQ(may_load(), geteuid() == 0);
    EXPECT_TRUE(drop_capabilities(of_root::drop));
    ASSERT_TRUE(loaded->register_current_thread(1, why_not)) << why_not;
    EXPECT_TRUE(loaded->alive(1));
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0)) << r;
}

// -- Handed over by exec ----------------------------------------------------------------------------------------------

// Not a test: what the next one executes, as a user without privilege.
TEST(probes_handed_over, DISABLED_are_used_by_this_program) {
  std::string why_not;
  const auto inherited = probes::load(kSlots / 2, why_not);
  ASSERT_NE(inherited, nullptr) << why_not;
  EXPECT_EQ(inherited->size(), kSlots);
  EXPECT_EQ(std::getenv("WEFT_BPF_FDS"), nullptr);
  ASSERT_TRUE(inherited->register_current_thread(kSlots - 1, why_not)) << why_not;
  EXPECT_TRUE(inherited->alive(kSlots - 1));
}

TEST(probes_handed_over, need_no_privilege_in_the_program_that_takes_them) {
  const child_result r = in_child([] {
    std::string why_not;
    const auto loaded = load_or_say(why_not);
    if (!loaded) weft::test::skip_in_child(why_not);
    setenv("WEFT_BPF_FDS", loaded->hand_over().c_str(), 1);
    become_nobody();
    execl("/proc/self/exe", "probes_test", "--gtest_also_run_disabled_tests",
          "--gtest_filter=probes_handed_over.DISABLED*", nullptr);
    weft::test::skip_in_child(std::string("exec as nobody: ") + strerror(errno));
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(probes_handed_over, are_loaded_anew_where_the_variable_is_stale) {
  for (const char* stale : {"", "3,4", "900,901,902,903,904,905,906,-1,-1,-1,-1,-1,-1,-1", "nonsense"}) {
    const child_result r = in_child({{"WEFT_BPF_FDS", stale}}, [] {
      std::string why_not;
      const auto loaded = probes::load(kSlots, why_not);
      EXPECT_EQ(std::getenv("WEFT_BPF_FDS"), nullptr);
      if (!loaded) {
        EXPECT_NE(why_not.find("bpf() refused"), std::string::npos) << why_not;
        weft::test::skip_in_child(why_not);
      }
    });
    WEFT_SKIP_IF_CHILD_DID(r);
    EXPECT_TRUE(r.exited(0)) << r;
  }
}

}  // namespace
