// SPDX-License-Identifier: Apache-2.0
// `weft run`: what the program gets, and what it does not.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/child.h"
#include "tests/command.h"
#include "tests/unprivileged.h"

namespace {

using weft::test::child_result;
using weft::test::in_child;
using weft::test::lines_of;
using weft::test::weft_command;

constexpr int kUsage = 2, kCannotRun = 126, kNoSuchProgram = 127;

[[noreturn]] void exec_weft(std::vector<std::string> arguments) {
  std::vector<char*> all{const_cast<char*>("weft")};
  for (std::string& argument : arguments) all.push_back(argument.data());
  all.push_back(nullptr);
  execv(weft_command(), all.data());
  _exit(99);
}

child_result weft_run(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "run");
  return in_child([&] { exec_weft(arguments); });
}

// The line about probes that cannot be loaded may stand there or not.
std::vector<std::string> other_lines(const child_result& r) {
  std::vector<std::string> lines = lines_of(r.err);
  std::erase_if(lines, [](const std::string& line) { return line.starts_with("weft run: no probes, "); });
  return lines;
}

TEST(weft_run, ends_as_the_program_does) {
  EXPECT_TRUE(weft_run({"true"}).exited(0));
  EXPECT_TRUE(weft_run({"sh", "-c", "exit 7"}).exited(7));
  EXPECT_TRUE(weft_run({"--", "sh", "-c", "exit 8"}).exited(8));
  EXPECT_TRUE(weft_run({"sh", "-c", "kill -TERM $$"}).killed_by(SIGTERM));
}

TEST(weft_run, leaves_the_program_s_arguments_alone) {
  const child_result r = weft_run({"printf", "%s|", "--user", "-x", "--", "a b", "--help"});
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.out, "--user|-x|--|a b|--help|");
  EXPECT_EQ(weft_run({"--", "printf", "%s|", "--", "--user"}).out, "--|--user|");
}

TEST(weft_run, says_why_there_is_nothing_to_run) {
  const child_result none = weft_run({}), missing = weft_run({"/no/such/program"}), folder = weft_run({"/"});
  EXPECT_TRUE(none.exited(kUsage)) << none;
  EXPECT_EQ(none.err, "weft run: expected a program to run (see 'weft run --help')\n");
  EXPECT_TRUE(missing.exited(kNoSuchProgram)) << missing;
  EXPECT_EQ(other_lines(missing),
            std::vector<std::string>{"weft run: cannot run '/no/such/program': No such file or directory"});
  EXPECT_TRUE(folder.exited(kCannotRun)) << folder;
  EXPECT_EQ(other_lines(folder), std::vector<std::string>{"weft run: cannot run '/': Permission denied"});
}

TEST(weft_run, refuses_a_wrong_command_line) {
  const child_result user = weft_run({"--user", "nobody-of-this-name", "true"});
  EXPECT_TRUE(user.exited(kUsage)) << user;
  EXPECT_EQ(user.err, "weft run: no user 'nobody-of-this-name' (see 'weft run --help')\n");
  EXPECT_TRUE(weft_run({"--user"}).exited(kUsage));
  EXPECT_TRUE(weft_run({"--user", "-1", "true"}).exited(kUsage));
}

TEST(weft_run, says_in_the_environment_how_many_ps_and_where_metrics_go) {
  const std::vector<std::string> print = {"--", "sh", "-c", "echo \"$GOMAXPROCS $WEFT_METRICS\""};
  const auto prints = [&](std::vector<std::string> options) {
    options.insert(options.end(), print.begin(), print.end());
    const child_result r = in_child({{"GOMAXPROCS", "3"}, {"WEFT_METRICS", "[::1]:1"}}, [&] {
      options.insert(options.begin(), "run");
      exec_weft(options);
    });
    EXPECT_TRUE(r.exited(0)) << r;
    return r.out;
  };
  EXPECT_EQ(prints({}), "3 [::1]:1\n");
  EXPECT_EQ(prints({"--gomaxprocs", "8"}), "8 [::1]:1\n");
  EXPECT_EQ(prints({"--gomaxprocs", "auto", "--metrics", "127.0.0.1:0"}), "auto 127.0.0.1:0\n");
  EXPECT_EQ(prints({"--metrics=file:/a/b.prom", "--gomaxprocs=node0=6,node1=2"}), "node0=6,node1=2 file:/a/b.prom\n");
}

// What the program's own runtime refuses is refused in the same words, and before probes are loaded or users changed.
TEST(weft_run, refuses_what_the_runtime_would) {
  struct option {
    const char *name, *variable;
    std::vector<std::string> malformed;
  };
  const option options[] = {
      {"--gomaxprocs",
       "GOMAXPROCS",
       {"0", "-1", "1025", "x", "8x", " 8", "node0", "node0=1,", "node0=1,node0=2", "Auto"}},
      {"--metrics", "WEFT_METRICS", {"9464", "host:", "host:65536", "host:x", "file:", "file:x", "file:/a/", "/a"}}};
  for (const option& each : options)
    for (const std::string& value : each.malformed) {
      const child_result theirs = in_child({{each.variable, value}}, [] {
        weft::test::exec({weft_command(), "sum", "/etc/passwd"});
      });
      const child_result ours = weft_run({each.name, value, "true"});
      const std::size_t form = theirs.err.find(": expected ");
      EXPECT_TRUE(theirs.exited(kUsage)) << theirs;
      EXPECT_TRUE(ours.exited(kUsage)) << ours;
      ASSERT_NE(form, std::string::npos) << theirs;
      EXPECT_EQ(ours.err, "weft run: " + std::string(each.name) + ": '" + value + "'" +
                              theirs.err.substr(form, theirs.err.size() - form - 1) + " (see 'weft run --help')\n");
    }
  EXPECT_TRUE(weft_run({"--gomaxprocs", "", "true"}).exited(kUsage));
  EXPECT_TRUE(weft_run({"--metrics", "", "true"}).exited(kUsage));
  EXPECT_TRUE(weft_run({"--metrics"}).exited(kUsage));
}

TEST(weft_run, gives_a_program_on_weft_its_ps) {
  const child_result r = weft_run({"--gomaxprocs", "3", "--", weft_command(), "sum", "--stats", "/etc/passwd"});
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_NE(r.err.find("gomaxprocs 3\n"), std::string::npos) << r;
}

TEST(weft_run, has_help) {
  const child_result r = weft_run({"--help"});
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_NE(r.out.find("weft run [--user USER]"), std::string::npos) << r;
}

TEST(weft_run, gives_the_program_another_user_and_no_privilege) {
  if (getuid() != 0) GTEST_SKIP() << "needs root";
  for (const char* user : {"nobody", "65534"}) {
    const child_result r =
        weft_run({"--user", user, "--", "sh", "-c", "id -u; grep -E '^Cap(Prm|Eff|Inh|Amb)' /proc/self/status"});
    EXPECT_TRUE(r.exited(0)) << r;
    const std::vector<std::string> lines = lines_of(r.out);
    ASSERT_EQ(lines.size(), 5u) << r;
    EXPECT_EQ(lines[0], "65534");
    for (std::size_t i = 1; i < lines.size(); ++i) EXPECT_TRUE(lines[i].ends_with("\t0000000000000000")) << lines[i];
  }
}

TEST(weft_run, of_an_ordinary_user_cannot_change_that) {
  const child_result r = in_child([] {
    weft::test::become_nobody();
    if (access(weft_command(), X_OK) != 0) weft::test::skip_in_child("the command is out of reach for others");
    exec_weft({"run", "--user", "root", "true"});
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(1)) << r;
  EXPECT_EQ(other_lines(r), std::vector<std::string>{"weft run: cannot become user 'root': Operation not permitted"});
}

// The program is `weft doctor`, whose status tells the tier.
TEST(weft_run, hands_the_probes_to_a_program_without_privilege) {
  if (getuid() != 0) GTEST_SKIP() << "needs root";
  if (!in_child([] { exec_weft({"doctor"}); }).exited(0)) GTEST_SKIP() << "no probes here (probes_test says why)";
  const child_result r = weft_run({"--user", "65534", "--", weft_command(), "doctor"});
  if (r.exited(kCannotRun)) GTEST_SKIP() << "the command is out of reach for others";
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_NE(r.out.find("Tier bpf"), std::string::npos) << r;
  const child_result insisting =
      weft_run({"--user", "65534", "--", "env", "WEFT_KERNEL_ASSIST=bpf", weft_command(), "sum", "/etc/passwd"});
  EXPECT_TRUE(insisting.exited(0)) << insisting;
}

// Kernels before 5.19 let nobody switch them on who has no capability.
TEST(weft_run, hands_over_what_measures_the_kernel_if_asked_to) {
  if (getuid() != 0) GTEST_SKIP() << "needs root";
  if (!in_child([] { exec_weft({"doctor"}); }).exited(0)) GTEST_SKIP() << "no probes here (probes_test says why)";
  const std::vector<std::string> program = {"--",           "env", "WEFT_DEBUG=kernelcosts=1",
                                            weft_command(), "sum", "/etc/passwd"};
  const auto run_with = [&](std::vector<std::string> options) {
    options.insert(options.end(), program.begin(), program.end());
    return weft_run(options);
  };
  const child_result without = run_with({"--user", "65534"}), with = run_with({"--user", "65534", "--costs"});
  if (with.exited(kCannotRun)) GTEST_SKIP() << "the command is out of reach for others";
  EXPECT_TRUE(without.exited(0)) << without;
  EXPECT_TRUE(with.exited(0)) << with;
  const std::string refusal = "weft: what the kernel charges is not measured: bpf() refused: ";
  EXPECT_TRUE(without.err.starts_with(refusal)) << without;
  EXPECT_TRUE(with.err.empty() || with.err.starts_with(refusal)) << with;
}

TEST(weft_run, goes_on_without_probes) {
  if (getuid() != 0) GTEST_SKIP() << "needs root, or the reason is another";
  const child_result r = in_child([] {
    weft::test::refuse_bpf(EPERM);
    exec_weft({"run", "echo", "done"});
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.out, "done\n");
  EXPECT_EQ(lines_of(r.err).size(), 1u) << r;
  EXPECT_TRUE(r.err.starts_with("weft run: no probes, the program runs without: bpf() refused: ")) << r;
}

}  // namespace
