// SPDX-License-Identifier: Apache-2.0
// Bodies that end their process, or change what cannot be changed back (limits, user, system call filters), run in a
// child process. in_child() returns how it ended and all that it wrote.
//
// The child is forked, not executed anew: what the body captures is there. A test forks before its process has threads;
// so a suite that uses in_child() has all its run()s in children. Expectations of the body count: a child in which one
// failed ends with kExpectationFailed and the failure's text in `out`.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ostream>
#include <regex>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace weft::test {

inline constexpr int kSkipped = 77, kExpectationFailed = 99;
inline constexpr int kChildPatienceMs = 30'000, kDumpPatienceMs = 3'000;

using variables = std::vector<std::pair<const char*, std::string>>;

struct child_result {
  int status = 0;  // waitpid()'s
  bool hung = false;
  std::string out, err;

  bool exited(int code) const { return !hung && WIFEXITED(status) && WEXITSTATUS(status) == code; }
  bool killed_by(int signal) const { return !hung && WIFSIGNALED(status) && WTERMSIG(status) == signal; }
};

inline std::ostream& operator<<(std::ostream& to, const child_result& r) {
  if (r.hung) to << "the child hung; ";
  if (WIFEXITED(r.status)) to << "status " << WEXITSTATUS(r.status);
  if (WIFSIGNALED(r.status)) to << "killed by " << strsignal(WTERMSIG(r.status));
  return to << "\n-- stdout\n" << r.out << "-- stderr\n" << r.err << "--";
}

/// For a body whose test cannot be made here.
[[noreturn]] inline void skip_in_child(const std::string& reason) {
  dprintf(STDERR_FILENO, "%s\n", reason.c_str());
  _exit(kSkipped);
}

#define WEFT_SKIP_IF_CHILD_DID(result) \
  if ((result).exited(weft::test::kSkipped)) GTEST_SKIP() << (result).err

namespace child_detail {

// ThreadSanitizer starts a thread of its own at the first thread, and another one at a fork, but only one of the two if
// the thread comes first.
inline void start_sanitizer_s_thread() {
#if defined(__SANITIZE_THREAD__)
  static const bool started = (std::thread([] {}).join(), true);
  (void)started;
#endif
}

inline int failures() {
  const testing::TestResult& result = *testing::UnitTest::GetInstance()->current_test_info()->result();
  int n = 0;
  for (int i = 0; i < result.total_part_count(); ++i) n += result.GetTestPartResult(i).failed() ? 1 : 0;
  return n;
}

// noexcept: nothing may be unwound into the copy of the parent's frames.
template <class F>
[[noreturn]] void run_body(F& body, const variables& environment, int out, int err) noexcept {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  for (const char* name : {"GOMAXPROCS", "WEFT_STACK_SIZE", "WEFT_KERNEL_ASSIST", "WEFT_METRICS"}) unsetenv(name);
  for (const auto& [name, value] : environment) setenv(name, value.c_str(), 1);
  const int before = failures();
  int code = 0;
  if constexpr (std::is_void_v<std::invoke_result_t<F&>>)
    body();
  else
    code = body();
  std::fflush(stdout);
  _exit(failures() > before ? kExpectationFailed : code);
}

inline bool wait_for(pid_t child, int fd, int timeout_ms, int& status) {
  pollfd ended{fd, POLLIN, 0};
  int n;
  while ((n = poll(&ended, 1, timeout_ms)) < 0 && errno == EINTR) {
  }
  return n > 0 && waitpid(child, &status, 0) == child;
}

inline std::string contents(int fd) {
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = pread(fd, buffer, sizeof buffer, static_cast<off_t>(text.size()))) > 0;)
    text.append(buffer, static_cast<std::size_t>(n));
  close(fd);
  return text;
}

}  // namespace child_detail

/// Runs body() in a child with these variables set; its int, if it returns one, is the exit status.
template <class F>
child_result in_child(const variables& environment, F body) {
  child_result result;
  std::fflush(nullptr);
  child_detail::start_sanitizer_s_thread();
  const int out = memfd_create("stdout", 0), err = memfd_create("stderr", 0);
  const pid_t child = fork();
  if (child == 0) child_detail::run_body(body, environment, out, err);
  const int fd = child > 0 ? static_cast<int>(syscall(SYS_pidfd_open, child, 0)) : -1;
  if (fd < 0) {
    ADD_FAILURE() << "fork or pidfd_open: " << strerror(errno);
    return result;
  }
  if (!child_detail::wait_for(child, fd, kChildPatienceMs, result.status)) {
    result.hung = true;
    kill(child, SIGQUIT);
    if (!child_detail::wait_for(child, fd, kDumpPatienceMs, result.status)) {
      kill(child, SIGKILL);
      waitpid(child, &result.status, 0);
    }
  }
  close(fd);
  result.out = child_detail::contents(out);
  result.err = child_detail::contents(err);
  EXPECT_EQ(result.err.find("Sanitizer: "), std::string::npos) << result;
  EXPECT_EQ(result.err.find(": runtime error: "), std::string::npos) << result;
  return result;
}

template <class F>
child_result in_child(F body) {
  return in_child(variables{}, std::move(body));
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

inline int count_of(std::string_view part, std::string_view text) {
  int n = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

/// A goroutine as a dump shows it.
struct dumped {
  std::uint64_t id = 0;
  std::string state;  // what stands in brackets
  std::string name;
  std::string text;  // the lines below the header
};

inline std::vector<dumped> parse_dump(const std::string& text) {
  static const std::regex header(R"re(goroutine (\d+) \[([^\]]+)\](?: "([^"]*)")?:)re");
  std::vector<dumped> all;
  bool inside = false;
  for (const std::string& line : lines_of(text)) {
    std::smatch parts;
    if (line.starts_with("goroutine ") && std::regex_match(line, parts, header)) {
      all.push_back({std::stoull(parts[1]), parts[2], parts[3], ""});
      inside = true;
    } else if (line.empty()) {
      inside = false;
    } else if (inside) {
      all.back().text += line + "\n";
    }
  }
  return all;
}

inline std::vector<std::string> states_of(const std::vector<dumped>& goroutines) {
  std::vector<std::string> states;
  for (const dumped& goroutine : goroutines) states.push_back(goroutine.state);
  std::sort(states.begin(), states.end());
  return states;
}

}  // namespace weft::test
