// SPDX-License-Identifier: Apache-2.0
// Writing to standard output and standard error, whole.
#include "tools/console.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <system_error>

#include <fmt/format.h>

#include <weft/runtime.h>

#include "tools/sum_line.h"

namespace weft::tools {

namespace {

constexpr std::size_t kEnough = 64 * 1024;

// An inherited descriptor may be non-blocking.
void wait_writable(int fd) {
  pollfd waited{fd, POLLOUT, 0};
  ::poll(&waited, 1, -1);
}

int write_all(int fd, std::string_view text) {
  return blocking([&] {
    while (!text.empty()) {
      const ssize_t n = ::write(fd, text.data(), text.size());
      if (n >= 0)
        text.remove_prefix(static_cast<std::size_t>(n));
      else if (errno == EAGAIN)
        wait_writable(fd);
      else if (errno != EINTR)
        return errno;
    }
    return 0;
  });
}

}  // namespace

console::console(std::string_view command, progress& shown)
    : command_(command), progress_(shown), earlier_sigpipe_(std::signal(SIGPIPE, SIG_IGN)) {}

console::~console() { std::signal(SIGPIPE, earlier_sigpipe_); }

// Returns if that does not end the process.
void console::end_by_sigpipe() {
  progress_.erase();
  std::signal(SIGPIPE, earlier_sigpipe_);
  std::raise(SIGPIPE);
}

bool console::after_output() { return output_.size() < kEnough ? !failed_ : flush(); }

bool console::before_wait() { return !output_.empty() && ::isatty(STDOUT_FILENO) ? flush() : !failed_; }

bool console::flush() {
  if (output_.empty() || failed_) return !failed_;
  if (::isatty(STDOUT_FILENO)) progress_.erase();
  const int error = write_all(STDOUT_FILENO, output_);
  output_.clear();
  if (error == EPIPE) end_by_sigpipe();
  if (error != 0) {
    failed_ = true;
    message(fmt::format("write error: {}", std::generic_category().message(error)));
  }
  return !failed_;
}

void console::error_text(std::string_view text) {
  flush();
  progress_.erase();
  write_all(STDERR_FILENO, text);
}

void console::message(std::string_view text) { error_text(fmt::format("{}: {}\n", command_, text)); }

void console::message(std::string_view path, std::string_view text) {
  error_text(fmt::format("{}: {}: {}\n", command_, printable(path), text));
}

}  // namespace weft::tools
