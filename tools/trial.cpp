// SPDX-License-Identifier: Apache-2.0
// One thread waits for everything: the signals of whoever wants us to stop (a signalfd), the program's end (a pidfd),
// its reports and its standard error. While a program runs these signals are blocked here, and not in the program.
#include "tools/trial.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include <fmt/format.h>

namespace weft::tools {
namespace {

using steady = std::chrono::steady_clock;

constexpr double kPatienceSeconds = 2;  // between SIGTERM and SIGKILL
constexpr std::size_t kMostErrorText = 4096;
constexpr std::size_t kLargestReport = 1 << 18;

double seconds_since(steady::time_point then) { return std::chrono::duration<double>(steady::now() - then).count(); }

[[noreturn]] void fail(const char* what) {
  throw std::runtime_error(fmt::format("{}: {}", what, std::generic_category().message(errno)));
}

class descriptor {
 public:
  explicit descriptor(int fd = -1) : fd_(fd) {}
  ~descriptor() { reset(); }
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  int get() const { return fd_; }
  void reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_;
};

// Blocked from here to the scope's end, and readable instead.
class stop_signals {
 public:
  stop_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
    sigprocmask(SIG_BLOCK, &set, &before_);
    fd_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (fd_.get() < 0) fail("signalfd");
  }
  ~stop_signals() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  stop_signals(const stop_signals&) = delete;
  stop_signals& operator=(const stop_signals&) = delete;

  int fd() const { return fd_.get(); }
  /// 0: none came.
  int take() {
    signalfd_siginfo came{};
    return read(fd_.get(), &came, sizeof came) == sizeof came ? static_cast<int>(came.ssi_signo) : 0;
  }
  const sigset_t& before() const { return before_; }

 private:
  sigset_t before_{};
  descriptor fd_;
};

class child {
 public:
  child(const program& what, const std::string& gomaxprocs);
  ~child();
  child(const child&) = delete;
  child& operator=(const child&) = delete;

  program_run wait(double limit);

 private:
  [[noreturn]] void become(const program& what, const std::string& gomaxprocs, int reports, int errors, int failure);
  bool step(double timeout);  // true: it has ended
  void read_errors();
  void read_reports();
  void end_by(int signal) { kill(-pid_, signal); }
  void end_patiently();
  void reap();

  stop_signals stop_;
  pid_t pid_ = -1;
  descriptor pidfd_, reports_, errors_;
  const steady::time_point start_ = steady::now();
  std::string error_text_;
  program_run run_;
};

void child::become(const program& what, const std::string& gomaxprocs, int reports, int errors, int failure) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int nowhere = open("/dev/null", O_RDWR);
  dup2(nowhere, STDIN_FILENO);
  dup2(nowhere, STDOUT_FILENO);
  dup2(errors, STDERR_FILENO);
  fcntl(reports, F_SETFD, 0);
  setenv("GOMAXPROCS", gomaxprocs.c_str(), 1);
  setenv("WEFT_METRICS_FD", std::to_string(reports).c_str(), 1);
  sigprocmask(SIG_SETMASK, &stop_.before(), nullptr);
  std::vector<char*> words;
  for (const std::string& word : what.words) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  execvp(words[0], words.data());
  const int error = errno;
  [[maybe_unused]] const ssize_t n = write(failure, &error, sizeof error);
  _exit(127);
}

child::child(const program& what, const std::string& gomaxprocs) {
  int pair[2], errors[2], failure[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) fail("socketpair");
  reports_.reset(pair[0]);
  const descriptor its_reports(pair[1]);
  if (pipe2(errors, O_CLOEXEC) != 0) fail("pipe");
  errors_.reset(errors[0]);
  descriptor its_errors(errors[1]);
  if (pipe2(failure, O_CLOEXEC) != 0) fail("pipe");
  const descriptor failed(failure[0]);
  descriptor its_failure(failure[1]);
  pid_ = fork();
  if (pid_ < 0) fail("fork");
  if (pid_ == 0) become(what, gomaxprocs, pair[1], errors[1], failure[1]);
  setpgid(pid_, pid_);  // whoever is first
  its_errors.reset();
  its_failure.reset();
  fcntl(errors_.get(), F_SETFL, O_NONBLOCK);
  int error = 0;
  if (read(failed.get(), &error, sizeof error) == sizeof error) {
    reap();
    errno = error;
    fail(fmt::format("cannot run '{}'", what.words.front()).c_str());
  }
  pidfd_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  if (pidfd_.get() < 0) fail("pidfd_open");
}

child::~child() {
  if (pid_ < 0) return;
  end_by(SIGKILL);
  reap();
}

// What it has started may have outlived it. Its own number is not used again before it is waited for.
void child::reap() {
  rusage used{};
  end_by(SIGKILL);
  while (wait4(pid_, &run_.status, 0, &used) < 0 && errno == EINTR) continue;
  pid_ = -1;
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  run_.cpu_seconds = seconds(used.ru_utime) + seconds(used.ru_stime);
}

void child::read_errors() {
  std::array<char, 4096> part;
  for (ssize_t n; (n = read(errors_.get(), part.data(), part.size())) > 0;)
    error_text_.append(part.data(), static_cast<std::size_t>(n));
  if (error_text_.size() > kMostErrorText) error_text_.erase(0, error_text_.size() - kMostErrorText);
}

void child::read_reports() {
  std::string text(kLargestReport, '\0');
  for (ssize_t n; (n = recv(reports_.get(), text.data(), text.size(), MSG_DONTWAIT)) > 0;) {
    run_.latest = parse_report(text.substr(0, static_cast<std::size_t>(n)));
    if (!run_.first) run_.first = run_.latest;
  }
}

bool child::step(double timeout) {
  std::array<pollfd, 4> waits = {
      {{stop_.fd(), POLLIN, 0}, {pidfd_.get(), POLLIN, 0}, {reports_.get(), POLLIN, 0}, {errors_.get(), POLLIN, 0}}};
  // A socket or pipe that has no writer any more would be ready for ever.
  for (std::size_t i : {2u, 3u})
    if (waits[i].fd >= 0 && poll(&waits[i], 1, 0) > 0 && (waits[i].revents & POLLIN) == 0) waits[i].fd = -1;
  poll(waits.data(), waits.size(), timeout < 0 ? -1 : static_cast<int>(timeout * 1000) + 1);
  read_reports();
  read_errors();
  if (const int signal = stop_.take()) {
    end_patiently();
    throw interrupted{signal};
  }
  return (waits[1].revents & POLLIN) != 0;
}

void child::end_patiently() {
  end_by(SIGTERM);
  pollfd ended{pidfd_.get(), POLLIN, 0};
  poll(&ended, 1, static_cast<int>(kPatienceSeconds * 1000));
  reap();
}

program_run child::wait(double limit) {
  bool told = false;
  for (bool ended = false; !ended;) {
    const double until = limit <= 0 ? -1 : told ? limit + kPatienceSeconds : limit;
    const double rest = until < 0 ? -1 : until - seconds_since(start_);
    if (until >= 0 && rest <= 0) {
      end_by(told ? SIGKILL : SIGTERM);
      run_.by_limit = told = true;
    }
    ended = step(until < 0 ? -1 : std::max(rest, 0.01));
  }
  run_.seconds = seconds_since(start_);
  reap();
  read_reports();
  read_errors();
  while (error_text_.ends_with('\n')) error_text_.pop_back();
  run_.last_error = error_text_.substr(error_text_.rfind('\n') + 1);
  return std::move(run_);
}

}  // namespace

std::optional<report> parse_report(const std::string& text) {
  std::istringstream in(text);
  std::string line;
  if (!std::getline(in, line) || line != "weft 1") return std::nullopt;
  report all;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string kind, name;
    words >> kind;
    if (kind == "seconds") words >> all.seconds;
    if (kind == "counter") words >> name >> all.counters[name];
    if (kind == "histogram" && words >> name) {
      report::figures& f = all.histograms[name];
      words >> f.count >> f.sum >> f.p50 >> f.p99;
    }
    if (words.fail()) return std::nullopt;
  }
  return all;
}

program_run run_once(const program& what, const std::string& gomaxprocs) {
  return child(what, gomaxprocs).wait(what.limit);
}

}  // namespace weft::tools
