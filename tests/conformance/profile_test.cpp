// SPDX-License-Identifier: Apache-2.0
// `weft profile` on a program that works: what it says is what the program does, and the program does not mind.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <new>
#include <regex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include <weft/weft.h>

#include "bpf/stack_sampler.h"
#include "tests/child.h"
#include "tests/command.h"
#include "tests/fixture.h"
#include "tests/unprivileged.h"

namespace {

using namespace weft;
using nlohmann::json;
using std::chrono::milliseconds;
using weft::test::child_result;
using weft::test::eventually;
using weft::test::folder;
using weft::test::in_child;
using weft::test::lines_of;
using words = std::vector<std::string>;

struct progress {
  std::atomic<long> turns{0}, naps{0}, readers{0}, receivers{0}, lockers{0};
};

std::atomic<unsigned> sink{0};

[[gnu::noinline]] void burn_the_cpu(progress& done) {
  for (unsigned i = 0;; ++i) {
    sink.store(sink.load(std::memory_order_relaxed) * 31 + i, std::memory_order_relaxed);
    if (i % 1'000'000 != 0) continue;
    done.turns.fetch_add(1, std::memory_order_relaxed);
    yield();
  }
}

[[gnu::noinline]] void wait_in_read(int fd, progress& done) {
  char byte = 0;
  ++done.readers;
  if (read(fd, &byte, 1) != 1) return;
  ++done.readers;
}

[[gnu::noinline]] void nap_now_and_then(progress& done) {
  for (;;) {
    blocking([] { usleep(1000); });
    ++done.naps;
    sleep_for(milliseconds(20));
  }
}

[[gnu::noinline]] void wait_for_message(const chan<int>& messages, progress& done) {
  ++done.receivers;
  while (messages.recv()) done.receivers.fetch_add(1, std::memory_order_relaxed);
}

[[gnu::noinline]] void wait_for_lock(mutex& held, progress& done) {
  ++done.lockers;
  const std::lock_guard never(held);
  ++done.lockers;
}

constexpr int kReceivers = 3;

// A process that does all of this until it is killed.
class program {
 public:
  program() {
    weft::test::child_detail::start_sanitizer_s_thread();
    pid_ = fork();
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 1);  // who has changed its user would belong to root
    work();
    _exit(0);
  }
  ~program() {
    end();
    munmap(done_, sizeof *done_);
  }
  program(const program&) = delete;
  program& operator=(const program&) = delete;

  std::string pid() const { return std::to_string(pid_); }
  void end() {
    if (pid_ > 0) kill(pid_, SIGKILL);
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

  /// Each goroutine has come to its place, and all that may go on have done so once more.
  bool goes_on() const {
    const long turns = done_->turns, naps = done_->naps;
    return eventually([&] {
      return done_->turns > turns + 3 && done_->naps > naps && done_->readers == 1 && done_->receivers == kReceivers &&
             done_->lockers == 1;
    });
  }

 private:
  void work() const {
    progress& done = *done_;
    int fds[2];
    if (pipe(fds) != 0) _exit(1);
    run(run_options{.gomaxprocs = 2}, [&] {
      const auto messages = make_chan<int>(0);
      mutex held;
      held.lock();
      wait_group all;
      all.go([&] { burn_the_cpu(done); });
      all.go([&] { wait_in_read(fds[0], done); });
      all.go([&] { nap_now_and_then(done); });
      for (int i = 0; i < kReceivers; ++i) all.go([&] { wait_for_message(messages, done); });
      all.go([&] { wait_for_lock(held, done); });
      all.wait();
    });
  }

  progress* const done_ =
      new (mmap(nullptr, sizeof(progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) progress;
  pid_t pid_ = 0;
};

child_result weft_profile(words arguments) {
  arguments.insert(arguments.begin(), "profile");
  return weft::test::run_weft(arguments);
}

json profile_of(const program& of, words options) {
  options.insert(options.end(), {"-p", of.pid(), "--json"});
  const child_result r = weft_profile(options);
  EXPECT_TRUE(r.exited(0)) << r;
  return r.exited(0) ? json::parse(r.out) : json{{"stacks", json::array()}};
}

bool is_on(const json& stack, const std::string& function) {
  return std::any_of(stack["frames"].begin(), stack["frames"].end(),
                     [&](const json& frame) { return frame.get<std::string>().ends_with("::" + function); });
}

// Of all stacks with this function and this reason.
long amount_in(const json& profile, const std::string& function, const std::string& reason = "") {
  const char* const unit = profile["kind"] == "on-CPU" ? "samples" : "microseconds";
  long sum = 0;
  for (const json& stack : profile["stacks"])
    if (is_on(stack, function) && (reason.empty() || stack["reason"] == reason)) sum += stack[unit].get<long>();
  return sum;
}

std::string content(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Why stacks cannot be sampled here; empty: they can.
std::string why_not(bpf::stack_sampler::what wanted) {
  std::string why;
  bpf::stack_sampler::options options;
  options.wanted = wanted;
  return bpf::stack_sampler::start(options, why) ? "" : why;
}

class profile_on_cpu : public testing::Test {
 protected:
  void SetUp() override {
    const std::string why = why_not(bpf::stack_sampler::what::on_cpu);
    if (!why.empty()) GTEST_SKIP() << why;
  }
};

class profile_off_cpu : public testing::Test {
 protected:
  void SetUp() override {
    const std::string why = why_not(bpf::stack_sampler::what::off_cpu);
    if (!why.empty()) GTEST_SKIP() << why;
  }
};

TEST_F(profile_on_cpu, finds_the_function_that_runs) {
  const program p;
  ASSERT_TRUE(p.goes_on());
  EXPECT_TRUE(eventually([&] {
    const json seen = profile_of(p, {"--for", "0.5"});
    return !seen["stacks"].empty() && is_on(seen["stacks"][0], "burn_the_cpu") &&
           amount_in(seen, "burn_the_cpu") > amount_in(seen, "nap_now_and_then");
  }));
  EXPECT_TRUE(p.goes_on());
}

TEST_F(profile_on_cpu, begins_with_the_function_that_the_user_wrote) {
  const program p;
  ASSERT_TRUE(p.goes_on());
  EXPECT_TRUE(eventually([&] {
    const json seen = profile_of(p, {"--for", "0.5", "--hz", "499"});
    if (seen["stacks"].empty()) return false;
    const std::string outermost = seen["stacks"][0]["frames"][0];
    return outermost.find("program::work") != std::string::npos || outermost.ends_with("::burn_the_cpu");
  }));
}

TEST_F(profile_on_cpu, keeps_what_a_process_did_before_it_died) {
  const folder here;
  program p;
  const std::string file = here.file("profile.json"), pid = p.pid();
  ASSERT_TRUE(p.goes_on());
  std::thread killer([&] {
    EXPECT_TRUE(eventually([&] { return std::filesystem::exists(file); }));
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(p.goes_on());
    p.end();
  });
  const child_result r = weft_profile({"-p", pid, "-o", file, "--hz", "999"});
  killer.join();
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "weft profile: process " + pid + " has ended; what it did until then counts\n") << r;
  EXPECT_GT(amount_in(json::parse(content(file)), "burn_the_cpu"), 0) << content(file);
}

TEST_F(profile_off_cpu, finds_who_blocks_in_which_call_and_for_longest) {
  const program p;
  ASSERT_TRUE(p.goes_on());
  EXPECT_TRUE(eventually([&] {
    const json seen = profile_of(p, {"--for", "0.5", "--off-cpu"});
    const long nap = amount_in(seen, "nap_now_and_then", "clock_nanosleep");
    return nap > 0 && amount_in(seen, "wait_in_read", "read") > nap;
  }));
  EXPECT_TRUE(p.goes_on());
}

TEST_F(profile_off_cpu, leaves_out_threads_that_wait_for_work) {
  const program p;
  ASSERT_TRUE(p.goes_on());
  const json seen = profile_of(p, {"--for", "0.5", "--off-cpu"});
  for (const json& stack : seen["stacks"])
    EXPECT_TRUE(std::none_of(stack["frames"].begin(), stack["frames"].end(), [](const json& frame) {
      return frame == "weft::rt::schedule";
    })) << stack;
}

// However fast samples come, taking them ends; and what there was no room for is counted.
TEST_F(profile_on_cpu, is_bounded_by_what_can_be_read) {
  const program p;
  ASSERT_TRUE(p.goes_on());
  const auto pidfd = static_cast<int>(syscall(SYS_pidfd_open, std::stoi(p.pid()), 0));
  bpf::stack_sampler::options options;
  options.hz = 999;
  options.pidfds = {pidfd};
  options.ring_bytes = std::size_t{64} << 10;
  std::string why;
  const auto sampler = bpf::stack_sampler::start(options, why);
  close(pidfd);
  ASSERT_NE(sampler, nullptr) << why;
  EXPECT_TRUE(eventually([&] { return sampler->lost() > 10; }));
  sampler->stop();
  int taken = 0, most = 0;
  for (int before = 0; sampler->take_some([&](const bpf::stack_sample& sample) {
         ++taken;
         EXPECT_EQ(sample.kind, WEFT_SAMPLE_ON_CPU);
         EXPECT_EQ(sample.target, 0u);
         EXPECT_GT(sample.stack_size, 0u);
       });
       before = taken)
    most = std::max(most, taken - before);
  EXPECT_GT(taken, 0);
  EXPECT_LE(most, 64);
}

TEST(profile_parked, finds_who_waits_for_messages) {
  const program p;
  ASSERT_TRUE(p.goes_on());
  const json seen = profile_of(p, {"--for", "0.3", "--parked"});
  const long three = amount_in(seen, "wait_for_message", "chan receive");
  const long one = amount_in(seen, "wait_for_lock", "sync.Mutex.Lock");
  EXPECT_GT(one, 0) << seen;
  EXPECT_GT(three, one) << seen;
  EXPECT_EQ(amount_in(seen, "burn_the_cpu"), 0) << seen;
  EXPECT_EQ(amount_in(seen, "wait_in_read"), 0) << "it blocks its thread: " << seen;
  EXPECT_TRUE(p.goes_on());
}

TEST(weft_profile, tells_several_processes_apart) {
  const program one, other;
  ASSERT_TRUE(one.goes_on() && other.goes_on());
  const child_result r = weft_profile({"-p", one.pid(), "-p", other.pid(), "--parked", "--for", "0.2", "--folded"});
  EXPECT_TRUE(r.exited(0)) << r;
  for (const program* p : {&one, &other}) EXPECT_NE(r.out.find(" (" + p->pid() + ");"), std::string::npos) << r;
  for (const std::string& line : lines_of(r.out))
    EXPECT_TRUE(std::regex_match(line, std::regex(R"(.+ \(\d+\);.+;\[[a-zA-Z. ]+\] \d+)"))) << line;
}

TEST(weft_profile, samples_several_processes_at_once) {
  const std::string why = why_not(bpf::stack_sampler::what::on_cpu);
  if (!why.empty()) GTEST_SKIP() << why;
  const program one, other;
  ASSERT_TRUE(one.goes_on() && other.goes_on());
  EXPECT_TRUE(eventually([&] {
    const child_result r = weft_profile({"-p", one.pid(), "-p", other.pid(), "--for", "0.5", "--folded"});
    return r.exited(0) && r.out.find(" (" + one.pid() + ");") != std::string::npos &&
           r.out.find(" (" + other.pid() + ");") != std::string::npos;
  }));
}

// In a PID namespace of its own: the processes of other tests would be asked as well, and open files to answer.
void see_all_that_run_weft() {
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 || mount("proc", "/proc", "proc", 0, nullptr) != 0)
    weft::test::skip_in_child("no mounts for tests");
  const program one, other;
  ASSERT_TRUE(one.goes_on() && other.goes_on());
  const child_result r = weft_profile({"--all", "--parked", "--for", "0.2", "--json"});
  EXPECT_TRUE(r.exited(0)) << r;
  const json seen = r.exited(0) ? json::parse(r.out) : json{{"processes", json::array()}};
  std::set<std::string> pids;
  for (const json& each : seen["processes"]) pids.insert(to_string(each["pid"]));
  EXPECT_EQ(pids, (std::set<std::string>{one.pid(), other.pid()})) << r;
}

TEST(weft_profile, finds_all_that_run_weft) {
  const child_result r = in_child([] {
    if (unshare(CLONE_NEWNS | CLONE_NEWPID) != 0) weft::test::skip_in_child("no PID namespaces for tests");
    const child_result among_themselves = in_child(see_all_that_run_weft);
    if (among_themselves.exited(weft::test::kSkipped)) weft::test::skip_in_child(among_themselves.err);
    EXPECT_TRUE(among_themselves.exited(0)) << among_themselves;
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(weft_profile, prints_a_table) {
  const program p;
  ASSERT_TRUE(p.goes_on());
  const child_result r = weft_profile({"-p", p.pid(), "--parked", "--for", "0.2"});
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "");
  EXPECT_NE(r.out.find("\n    self   total "), std::string::npos) << r;
  EXPECT_NE(r.out.find("wait_for_message"), std::string::npos) << r;
  EXPECT_NE(r.out.find(" [chan receive]\n"), std::string::npos) << r;
}

TEST(weft_profile, draws_a_flame_graph_into_a_file_of_that_name) {
  const program p;
  ASSERT_TRUE(p.goes_on());
  const folder here;
  const child_result r = weft_profile({"-p", p.pid(), "--parked", "--for", "0.2", "-o", here.file("parked.svg")});
  EXPECT_TRUE(r.exited(0)) << r;
  const std::string drawn = content(here.file("parked.svg"));
  EXPECT_TRUE(drawn.starts_with("<?xml ")) << drawn;
  EXPECT_TRUE(drawn.ends_with("</svg>\n")) << drawn;
  EXPECT_NE(drawn.find("wait_for_message ("), std::string::npos) << drawn;
  if (!weft::test::has_program("python3")) return;
  EXPECT_TRUE(in_child([&] {
                weft::test::exec({"python3", "-c", "import sys, xml.dom.minidom as m; m.parse(sys.argv[1])",
                                  here.file("parked.svg")});
              }).exited(0));
}

TEST(weft_profile, ends_when_it_is_interrupted) {
  const program p;
  ASSERT_TRUE(p.goes_on());
  const folder here;
  const std::string file = here.file("profile.json");
  const pid_t command = fork();
  if (command == 0) weft::test::exec({weft::test::weft_command(), "profile", "-p", p.pid(), "--parked", "-o", file});
  EXPECT_TRUE(eventually([&] { return std::filesystem::exists(file); }));
  kill(command, SIGINT);
  int status = -1;
  waitpid(command, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(json::parse(content(file))["kind"], "parked");
}

TEST(weft_profile, ends_with_the_process) {
  program p;
  ASSERT_TRUE(p.goes_on());
  const folder here;
  const std::string file = here.file("profile.json"), pid = p.pid();
  std::thread killer([&] {
    EXPECT_TRUE(eventually([&] { return std::filesystem::exists(file); }));
    p.end();
  });
  const child_result r = weft_profile({"-p", pid, "--parked", "-o", file});
  killer.join();
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_TRUE(r.err.starts_with("weft profile: process " + pid + " has ended; what it did until then counts\n")) << r;
  EXPECT_EQ(json::parse(content(file))["processes"][0]["pid"], std::stoi(pid));
}

TEST(weft_profile, replaces_a_file_only_if_told_to) {
  const program p;
  ASSERT_TRUE(p.goes_on());
  const folder here;
  const std::string file = here.file("profile.folded");
  std::ofstream(file) << "mine";
  const words arguments{"-p", p.pid(), "--parked", "--for", "0.2", "-o", file};
  const child_result refused = weft_profile(arguments);
  EXPECT_TRUE(refused.exited(1)) << refused;
  EXPECT_EQ(refused.err, "weft profile: " + file + ": exists (--force replaces it)\n");
  EXPECT_EQ(content(file), "mine");
  words forced = arguments;
  forced.emplace_back("--force");
  EXPECT_TRUE(weft_profile(forced).exited(0));
  EXPECT_NE(content(file).find("wait_for_message;"), std::string::npos) << content(file);
}

TEST(weft_profile, says_in_a_line_what_cannot_be_profiled) {
  const pid_t gone = fork();
  if (gone == 0) _exit(0);
  waitpid(gone, nullptr, 0);
  for (const char* kind : {"--on-cpu", "--off-cpu", "--parked"}) {
    const child_result none = weft_profile({"-p", std::to_string(gone), kind});
    EXPECT_TRUE(none.exited(1)) << none;
    EXPECT_EQ(none.err, "weft profile: there is no process " + std::to_string(gone) + "\n");
    const child_result stranger = weft_profile({"-p", std::to_string(getpid()), kind});
    EXPECT_TRUE(stranger.exited(1)) << stranger;
    EXPECT_EQ(stranger.err, "weft profile: process " + std::to_string(getpid()) + " does not run weft\n");
  }
}

TEST(weft_profile, refuses_what_it_does_not_understand) {
  for (const words& wrong : {words{},
                             {"-p", "x"},
                             {"-p", "0"},
                             {"-p", "1", "--all"},
                             {"-p", "1", "--on-cpu", "--off-cpu"},
                             {"-p", "1", "--off-cpu", "--hz", "10"},
                             {"-p", "1", "--hz", "0"},
                             {"-p", "1", "--svg", "--json"},
                             {"-p", "1", "--for", "0"},
                             {"-p", "1", "2"}})
    EXPECT_TRUE(weft_profile(wrong).exited(2)) << testing::PrintToString(wrong);
  EXPECT_TRUE(weft_profile({"--help"}).exited(0));
}

TEST(weft_profile, says_which_privilege_is_missing) {
  const child_result r = in_child([] {
    weft::test::become_nobody();
    const program p;
    EXPECT_TRUE(p.goes_on());
    if (in_child([] { weft::test::exec({weft::test::weft_command(), "--version"}); }).exited(99))
      weft::test::skip_in_child("nobody may not run the command");
    for (const std::string kind : {"on", "off"}) {
      const child_result refused = weft_profile({"-p", p.pid(), "--" + kind + "-cpu", "--for", "0.1"});
      EXPECT_TRUE(refused.exited(1)) << refused;
      EXPECT_TRUE(refused.err.starts_with("weft profile: cannot sample " + kind + "-CPU stacks: ")) << refused;
      EXPECT_TRUE(refused.err.ends_with("; --parked needs no privilege\n")) << refused;
      EXPECT_EQ(weft::test::count_of("\n", refused.err), 1) << refused;
    }
    EXPECT_TRUE(weft_profile({"-p", p.pid(), "--parked", "--for", "0.1"}).exited(0));
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(weft_profile, is_for_the_same_user_only) {
  if (getuid() != 0) GTEST_SKIP() << "needs root";
  const program p;
  ASSERT_TRUE(p.goes_on());
  const child_result r = in_child([&] {
    weft::test::become_nobody();
    weft::test::exec({weft::test::weft_command(), "profile", "-p", p.pid(), "--parked"});
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  if (r.exited(99)) GTEST_SKIP() << "nobody may not run the command";
  EXPECT_TRUE(r.exited(1)) << r;
  EXPECT_EQ(r.err,
            "weft profile: process " + p.pid() + " is another user's, or has privileges: only root may look at it\n");
}

}  // namespace
