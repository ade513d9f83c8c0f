// SPDX-License-Identifier: Apache-2.0
#include "tools/output_file.h"

#include <fcntl.h>
#include <unistd.h>
#include <cerrno>
#include <system_error>
#include <utility>

#include <weft/error.h>

namespace weft::tools {

void fail_at(const std::string& path, int number) {
  throw error(path + ": " + std::generic_category().message(number));
}

void fail_as_it_exists(const std::string& path) { throw error(path + ": exists (--force replaces it)"); }

namespace {

int open_file(const std::string& name, bool force) {
  if (name == "-") return STDOUT_FILENO;
  const int how = O_WRONLY | O_CREAT | O_CLOEXEC | (force ? O_TRUNC : O_EXCL);
  const int fd = open(name.c_str(), how, 0644);
  if (fd < 0 && errno == EEXIST) fail_as_it_exists(name);
  if (fd < 0) fail_at(name, errno);
  return fd;
}

}  // namespace

output_file::output_file(std::string name, bool force) : name_(std::move(name)), fd_(open_file(name_, force)) {}

output_file::~output_file() {
  if (!is_standard_output()) close(fd_);
}

bool output_file::is_standard_output() const { return fd_ == STDOUT_FILENO; }

void output_file::write_all(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t n = write(fd_, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_at(is_standard_output() ? "standard output" : name_, errno);
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

}  // namespace weft::tools
