// SPDX-License-Identifier: Apache-2.0
// `weft top`, `weft hist`, `weft dump` and the gdb script on a program that works.
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <weft/weft.h>

#include "tests/child.h"
#include "tests/command.h"
#include "tests/victim.h"
#include "tools/heat_picture.h"

namespace {

using namespace weft;
using nlohmann::json;
using weft::test::child_result;
using weft::test::exec;
using weft::test::hold_out;
using weft::test::in_child;
using weft::test::lines_of;
using weft::test::run_weft;
using weft::test::victim;
using weft::test::weft_command;

child_result weft_on(const victim& v, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin() + 1, {"-p", std::to_string(v.pid())});
  return run_weft(arguments);
}

run_options two_ps() {
  run_options wanted;
  wanted.gomaxprocs = 2;
  return wanted;
}

TEST(weft_hist, draws_each_histogram) {
  hold_out(two_ps(), [](const victim& v) {
    const child_result r = weft_on(v, {"hist"});
    EXPECT_TRUE(r.exited(0)) << r;
    EXPECT_EQ(r.err, "");
    for (const char* name : {"runq_wait (runnable to running): ", "wakeup_to_run (", "handoff (", "blocked ("})
      EXPECT_NE(r.out.find(name), std::string::npos) << r;
    EXPECT_NE(r.out.find(" ns .. "), std::string::npos) << r;
  });
}

TEST(weft_hist, counts_in_each_interval) {
  hold_out(two_ps(), [](const victim& v) {
    const child_result r = weft_on(v, {"hist", "runq_wait", "0.2", "3", "--json"});
    EXPECT_TRUE(r.exited(0)) << r;
    const std::vector<std::string> lines = lines_of(r.out);
    EXPECT_EQ(lines.size(), 3u) << r;
    for (const std::string& line : lines) {
      const json told = json::parse(line);
      EXPECT_EQ(told["histograms"].size(), 1u);
      EXPECT_GT(told["histograms"]["runq_wait"]["count"], 0);
      EXPECT_EQ(told["interval"], 0.2);
    }
  });
}

TEST(weft_hist, shows_the_time_and_milliseconds) {
  hold_out(two_ps(), [](const victim& v) {
    const child_result r = weft_on(v, {"hist", "-T", "-m", "runq_wait"});
    EXPECT_TRUE(r.exited(0)) << r;
    EXPECT_TRUE(std::regex_search(r.out, std::regex(R"(^\d\d:\d\d:\d\d\nrunq_wait )"))) << r;
    EXPECT_NE(r.out.find("0 ns .. 1.00 ms"), std::string::npos) << r;
  });
}

TEST(weft_hist, refuses_what_it_does_not_understand) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"runq_wait", "0"}, {"1", "0"}, {"1", "2", "3"}, {"runq_wait", "x"}}) {
    std::vector<std::string> arguments{"hist", "-p", "1"};
    arguments.insert(arguments.end(), words.begin(), words.end());
    const child_result r = run_weft(arguments);
    EXPECT_TRUE(r.exited(2)) << r;
    EXPECT_EQ(r.err, "weft hist: expected [METRIC] [INTERVAL [COUNT]] (see 'weft hist --help')\n");
  }
  hold_out(two_ps(), [](const victim& v) {
    const child_result r = weft_on(v, {"hist", "nothing"});
    EXPECT_TRUE(r.exited(1)) << r;
    EXPECT_EQ(r.err,
              "weft hist: process " + std::to_string(v.pid()) + " has no histogram 'nothing' (--help lists them)\n");
  });
}

TEST(weft_top, prints_text_once) {
  hold_out(two_ps(), [](const victim& v) {
    const child_result r = weft_on(v, {"top", "--once", "-d", "0.3"});
    EXPECT_TRUE(r.exited(0)) << r;
    EXPECT_TRUE(r.out.starts_with("weft top: process " + std::to_string(v.pid()))) << r;
    EXPECT_NE(r.out.find("\nrunq_wait "), std::string::npos) << r;
    EXPECT_NE(r.out.find("\nwaiting for "), std::string::npos) << r;
    EXPECT_NE(r.out.find("\n   1 "), std::string::npos) << r;
  });
}

TEST(weft_top, prints_json) {
  hold_out(two_ps(), [](const victim& v) {
    const child_result r = weft_on(v, {"top", "--once", "--json", "-d", "0.3"});
    EXPECT_TRUE(r.exited(0)) << r;
    const json told = json::parse(r.out);
    EXPECT_EQ(told["pid"], v.pid());
    EXPECT_EQ(told["ps"].size(), 2u);
    EXPECT_GT(told["counters"]["schedticks"], 0);
  });
}

TEST(weft_top, needs_a_terminal_or_an_option) {
  hold_out(two_ps(), [](const victim& v) {
    const child_result r = weft_on(v, {"top"});
    EXPECT_TRUE(r.exited(1)) << r;
    EXPECT_EQ(r.err, "weft top: needs a terminal (--once prints text, --json prints JSON)\n");
  });
}

// A command on a terminal of its own, for as long as it takes to see a text there.
struct on_terminal {
  on_terminal(int columns, int lines, std::vector<std::string> command) {
    const winsize size = of(columns, lines);
    pid = forkpty(&fd, nullptr, nullptr, &size);
    if (pid != 0) return;
    setenv("TERM", "xterm", 1);
    exec(std::move(command));
  }
  static winsize of(int columns, int lines) {
    winsize size{};
    size.ws_col = static_cast<unsigned short>(columns);
    size.ws_row = static_cast<unsigned short>(lines);
    return size;
  }
  bool shows(const std::string& text, std::chrono::seconds patience = std::chrono::seconds(15)) {
    const auto until = std::chrono::steady_clock::now() + patience;
    while (shown.find(text) == std::string::npos && std::chrono::steady_clock::now() < until) {
      pollfd input{fd, POLLIN, 0};
      char part[4096];
      if (poll(&input, 1, 100) <= 0) continue;
      const ssize_t n = read(fd, part, sizeof part);
      if (n <= 0) break;
      shown.append(part, static_cast<std::size_t>(n));
    }
    return shown.find(text) != std::string::npos;
  }
  void press(char key) { EXPECT_EQ(write(fd, &key, 1), 1); }
  void resize(int columns, int lines) {
    const winsize size = of(columns, lines);
    EXPECT_EQ(ioctl(fd, TIOCSWINSZ, &size), 0);
  }
  /// What has changed is all that the command writes, unless the terminal's size has.
  bool shows_in_full(const std::string& text) {
    for (int lines = 20; lines < 40; ++lines) {
      resize(100, lines);
      if (shows(text, std::chrono::seconds(1))) return true;
    }
    return false;
  }
  int end() {
    shows("\x01 nothing");  // a terminal's buffer that is full would stop it
    int status = 0;
    waitpid(pid, &status, 0);
    close(fd);
    return status;
  }

  int fd = -1;
  pid_t pid = 0;
  std::string shown;
};

TEST(weft_top, is_live_on_a_terminal) {
  hold_out(two_ps(), [](const victim& v) {
    on_terminal t(100, 40, {weft_command(), "top", "-p", std::to_string(v.pid()), "-d", "0.2"});
    EXPECT_TRUE(t.shows("weft top: process ")) << t.shown;
    EXPECT_TRUE(t.shows("runq_wait")) << t.shown;
    EXPECT_TRUE(t.shows("every 0.2 s")) << t.shown;
    t.press('+');
    EXPECT_TRUE(t.shows_in_full("every 0.4 s")) << t.shown;
    t.press('q');
    EXPECT_EQ(t.end(), 0) << t.shown;
  });
}

TEST(weft_top, needs_room) {
  hold_out(two_ps(), [](const victim& v) {
    on_terminal t(20, 5, {weft_command(), "top", "-p", std::to_string(v.pid())});
    EXPECT_TRUE(t.shows("weft top: the terminal has 20 columns and 5 lines, but 80 and 16 are needed")) << t.shown;
    const int status = t.end();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1);
  });
}

TEST(weft_top, ends_with_the_process) {
  const child_result r = in_child([] {
    const victim v(two_ps());
    EXPECT_TRUE(v.goes_on());
    on_terminal t(100, 40, {weft_command(), "top", "-p", std::to_string(v.pid()), "-d", "0.1"});
    EXPECT_TRUE(t.shows("runq_wait")) << t.shown;
    kill(v.pid(), SIGKILL);
    v.rest();
    EXPECT_TRUE(t.shows("weft top: process " + std::to_string(v.pid()) + " has ended")) << t.shown;
    const int status = t.end();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

class hist_png : public testing::Test {
 protected:
  void SetUp() override {
    if (!tools::can_draw()) GTEST_SKIP() << "built without libgd";
  }

  std::string content() const {
    std::ifstream in(file_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  // A PNG from its first chunk to its last.
  testing::AssertionResult is_whole() const {
    const std::string all = content();
    if (all.starts_with("\x89PNG\r\n\x1a\n") && all.find("IEND") == all.size() - 8) return testing::AssertionSuccess();
    return testing::AssertionFailure() << all.size() << " bytes that are no PNG";
  }
  std::vector<std::string> command(const victim& v, std::vector<std::string> words) const {
    words.insert(words.begin(), {weft_command(), "hist", "-p", std::to_string(v.pid()), "runq_wait"});
    words.insert(words.end(), {"--png", file_});
    return words;
  }
  child_result run(const victim& v, const std::vector<std::string>& words) const {
    return in_child([&] { exec(command(v, words)); });
  }
  void wait_for_file() const {
    while (!std::filesystem::exists(file_)) weft::test::nap();
  }

  const weft::test::folder folder_;
  std::string file_ = folder_.file("map.png");
};

TEST_F(hist_png, draws_so_many_intervals) {
  hold_out(two_ps(), [&](const victim& v) {
    const child_result r = run(v, {"0.1", "3"});
    EXPECT_TRUE(r.exited(0)) << r;
    EXPECT_EQ(r.out, "");
    EXPECT_EQ(r.err, "");
    EXPECT_TRUE(is_whole());
  });
}

TEST_F(hist_png, replaces_a_file_only_if_told_to) {
  std::ofstream(file_) << "dear";
  hold_out(two_ps(), [&](const victim& v) {
    const child_result refused = run(v, {"0.1", "1"});
    EXPECT_TRUE(refused.exited(1)) << refused;
    EXPECT_EQ(refused.err, "weft hist: " + file_ + ": exists (--force replaces it)\n");
    EXPECT_EQ(content(), "dear");
    const child_result forced = run(v, {"0.1", "1", "--force"});
    EXPECT_TRUE(forced.exited(0)) << forced;
    EXPECT_TRUE(is_whole());
  });
}

TEST_F(hist_png, says_at_once_that_there_can_be_no_file) {
  hold_out(two_ps(), [&](const victim& v) {
    file_ = folder_.file("none/map.png");
    const child_result nowhere = run(v, {"1000"});
    EXPECT_TRUE(nowhere.exited(1)) << nowhere;
    EXPECT_EQ(nowhere.err, "weft hist: " + file_ + ": No such file or directory\n");
    file_ = folder_.file("");
    EXPECT_TRUE(run(v, {"1000", "--force"}).exited(1));
    file_ = "/dev/null";
    const child_result device = run(v, {"1000", "--force"});
    EXPECT_TRUE(device.exited(1)) << device;
    EXPECT_EQ(device.err, "weft hist: /dev/null: exists and is no regular file\n");
    EXPECT_TRUE(std::filesystem::is_character_file(file_));
  });
}

TEST_F(hist_png, has_what_came_until_it_is_interrupted) {
  for (const int signal : {SIGINT, SIGTERM}) {
    hold_out(two_ps(), [&](const victim& v) {
      const child_result r = in_child([&] {
        const pid_t recorder = fork();
        if (recorder == 0) exec(command(v, {"1000"}));
        wait_for_file();
        kill(recorder, signal);
        int status = 0;
        waitpid(recorder, &status, 0);
        EXPECT_EQ(status, 0);
      });
      EXPECT_TRUE(r.exited(0)) << r;
      EXPECT_EQ(r.err, "");
      EXPECT_TRUE(is_whole());
    });
    std::filesystem::remove(file_);
  }
}

TEST_F(hist_png, has_what_came_until_the_process_ended) {
  const child_result r = in_child({{"CI", ""}}, [&] {  // where CI is set no line is live
    const victim v(two_ps());
    EXPECT_TRUE(v.goes_on());
    on_terminal t(200, 40, command(v, {"0.05"}));
    EXPECT_TRUE(t.shows("2 intervals, ")) << t.shown;
    kill(v.pid(), SIGKILL);
    v.rest();
    EXPECT_TRUE(t.shows(" has ended; " + file_ + " shows what was seen until then")) << t.shown;
    EXPECT_EQ(t.end(), 0) << t.shown;
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_TRUE(is_whole());
}

TEST_F(hist_png, leaves_no_file_if_nothing_was_seen) {
  const child_result r = in_child([&] {
    const victim v(two_ps());
    EXPECT_TRUE(v.goes_on());
    const pid_t recorder = fork();
    if (recorder == 0) exec(command(v, {"1000"}));
    wait_for_file();
    kill(v.pid(), SIGKILL);
    v.rest();
    kill(recorder, SIGINT);
    int status = 0;
    waitpid(recorder, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_TRUE(r.err.starts_with("weft hist: process ")) << r;
  EXPECT_FALSE(std::filesystem::exists(file_));
  const child_result gone = run_weft({"hist", "-p", std::to_string(getpid()), "runq_wait", "1", "--png", file_});
  EXPECT_TRUE(gone.exited(1)) << gone;
  EXPECT_FALSE(std::filesystem::exists(file_));
}

TEST(weft_hist, draws_no_picture_without_a_metric_and_an_interval) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{}, {"runq_wait"}, {"1"}, {"1", "5"}}) {
    std::vector<std::string> arguments{"hist", "-p", "1", "--png", "map.png"};
    arguments.insert(arguments.end(), words.begin(), words.end());
    const child_result r = run_weft(arguments);
    EXPECT_TRUE(r.exited(2)) << r;
    EXPECT_EQ(r.err, "weft hist: --png draws over time: expected METRIC INTERVAL [COUNT] (see 'weft hist --help')\n");
  }
  EXPECT_TRUE(run_weft({"hist", "-p", "1", "runq_wait", "1", "--png", "map.png", "--json"}).exited(2));
  EXPECT_TRUE(run_weft({"hist", "-p", "1", "runq_wait", "1", "--force"}).exited(2));
}

TEST(weft_hist, says_that_it_was_built_without_what_draws) {
  if (tools::can_draw()) GTEST_SKIP() << "built with libgd";
  const child_result r = run_weft({"hist", "-p", "1", "runq_wait", "1", "--png", "map.png"});
  EXPECT_TRUE(r.exited(1)) << r;
  EXPECT_EQ(r.err, "weft hist: this build of weft has no libgd, with which --png draws\n");
}

TEST(weft_dump, prints_all_goroutines) {
  hold_out(two_ps(), [](const victim& v) {
    const child_result r = weft_on(v, {"dump"});
    EXPECT_TRUE(r.exited(0)) << r;
    EXPECT_NE(r.out.find("goroutine 1 [sync.WaitGroup.Wait"), std::string::npos) << r;
    EXPECT_NE(r.out.find("victim"), std::string::npos) << r;
    EXPECT_NE(r.out.find("\ncreated by "), std::string::npos) << r;
    EXPECT_GE(json::parse(weft_on(v, {"dump", "--json"}).out)["goroutines"], 6);
  });
}

TEST(weft_commands, say_in_a_line_what_cannot_be_looked_at) {
  const pid_t gone = fork();
  if (gone == 0) _exit(0);
  waitpid(gone, nullptr, 0);
  for (const char* command : {"top", "hist", "dump"}) {
    const std::string name = std::string("weft ") + command;
    const child_result none = run_weft({command, "-p", std::to_string(gone)});
    EXPECT_TRUE(none.exited(1)) << none;
    EXPECT_EQ(none.err, name + ": there is no process " + std::to_string(gone) + "\n");
    const child_result stranger = run_weft({command, "-p", std::to_string(getpid())});
    EXPECT_TRUE(stranger.exited(1)) << stranger;
    EXPECT_EQ(stranger.err, name + ": process " + std::to_string(getpid()) + " does not run weft\n");
    EXPECT_TRUE(run_weft({command}).exited(2));
    EXPECT_TRUE(run_weft({command, "-p", "x"}).exited(2));
    EXPECT_TRUE(run_weft({command, "--help"}).exited(0));
  }
}

TEST(gdb_script, lists_goroutines_and_their_stacks) {
  if (!weft::test::has_program("gdb")) GTEST_SKIP() << "no gdb";
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "what is built with a sanitizer has no types for gdb";
#endif
  hold_out(two_ps(), [](const victim& v) {
    const child_result r = in_child([&] {
      exec({"gdb", "-q", "-nx", "-batch", "-ex", "set debuginfod enabled off", "-p", std::to_string(v.pid()), "-ex",
            "source tools/weft-gdb.py", "-ex", "info goroutines", "-ex", "goroutine 1 bt"});
    });
    if (r.err.find("ptrace: ") != std::string::npos) weft::test::skip_in_child("may not be traced: " + r.err);
    EXPECT_NE(r.out.find("     1 [wait group wait]"), std::string::npos) << r;
    EXPECT_TRUE(std::regex_search(r.out, std::regex(R"(#\d+ .*victim\.h)"))) << r;
  });
}

}  // namespace
