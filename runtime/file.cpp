// SPDX-License-Identifier: Apache-2.0
// Files: the plain calls, announced, so that the P runs others as soon as one really waits for the disk.
#include "weft/io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>

#include "weft/runtime.h"

namespace weft {
namespace {

constexpr std::size_t kMostAtOnce = 0x7ffff000;  // Linux's limit for one call

// Its result, or minus its errno; a call that a signal has ended is made again.
template <class F>
long announced(F call) {
  return blocking([&call] {
    long result;
    do {
      result = static_cast<long>(call());
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -static_cast<long>(errno) : result;
  });
}

void note_error(long result, std::error_code& error) {
  if (result < 0)
    error.assign(static_cast<int>(-result), std::system_category());
  else
    error.clear();
}

void throw_if(const std::error_code& error, const char* what) {
  if (error) throw std::system_error(error, what);
}

// Calls move(done, most) until `size` bytes are moved, it returns 0, or it fails.
template <class F>
std::size_t move_all(std::size_t size, std::error_code& error, F move) {
  std::size_t done = 0;
  long n = 0;
  while (done < size && (n = announced([&] { return move(done, std::min(size - done, kMostAtOnce)); })) > 0)
    done += static_cast<std::size_t>(n);
  note_error(n, error);
  return done;
}

}  // namespace

file::~file() {
  if (fd_ >= 0) blocking([this] { return ::close(fd_); });
}

file file::open(const std::string& path, int flags, std::error_code& error, int mode) {
  const long fd = announced([&] { return ::open(path.c_str(), flags | O_CLOEXEC, mode); });
  note_error(fd, error);
  file opened;
  if (fd >= 0) opened.fd_ = static_cast<int>(fd);
  return opened;
}

std::size_t file::read_at(std::span<std::byte> to, std::uint64_t offset, std::error_code& error) {
  return move_all(to.size(), error, [&](std::size_t done, std::size_t most) {
    return ::pread(fd_, to.data() + done, most, static_cast<off_t>(offset + done));
  });
}

std::size_t file::write_at(std::span<const std::byte> from, std::uint64_t offset, std::error_code& error) {
  return move_all(from.size(), error, [&](std::size_t done, std::size_t most) {
    return ::pwrite(fd_, from.data() + done, most, static_cast<off_t>(offset + done));
  });
}

void file::fsync(std::error_code& error) {
  note_error(announced([this] { return ::fsync(fd_); }), error);
}

std::uint64_t file::size(std::error_code& error) {
  struct stat status {};
  note_error(announced([&] { return ::fstat(fd_, &status); }), error);
  return error ? 0 : static_cast<std::uint64_t>(status.st_size);
}

void file::close(std::error_code& error) {
  const int fd = std::exchange(fd_, -1);
  // Never again after EINTR: Linux has closed it, and the number may be another file's by now.
  const long result = blocking([fd] { return ::close(fd) == 0 ? 0L : -static_cast<long>(errno); });
  note_error(result == -EINTR ? 0 : result, error);
}

// -- The forms that throw ---------------------------------------------------------------------------------------------

file file::open(const std::string& path, int flags, int mode) {
  std::error_code error;
  file opened = open(path, flags, error, mode);
  throw_if(error, path.c_str());
  return opened;
}

std::size_t file::read_at(std::span<std::byte> to, std::uint64_t offset) {
  std::error_code error;
  const std::size_t n = read_at(to, offset, error);
  throw_if(error, "read");
  return n;
}

std::size_t file::write_at(std::span<const std::byte> from, std::uint64_t offset) {
  std::error_code error;
  const std::size_t n = write_at(from, offset, error);
  throw_if(error, "write");
  return n;
}

void file::fsync() {
  std::error_code error;
  fsync(error);
  throw_if(error, "fsync");
}

std::uint64_t file::size() {
  std::error_code error;
  const std::uint64_t bytes = size(error);
  throw_if(error, "size");
  return bytes;
}

void file::close() {
  std::error_code error;
  close(error);
  throw_if(error, "close");
}

}  // namespace weft
