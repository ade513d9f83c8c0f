// SPDX-License-Identifier: Apache-2.0
// Files. While a call waits for the disk, its P runs other goroutines. A few of such calls have a thread of their own
// each; the others one thread awaits for all of them, by io_uring(7), where weft was built with liburing and the kernel
// allows it. What is read is written to the caller's memory by the kernel.
//
// Errors: each call has a form that throws std::system_error and one that takes a std::error_code& and does not.
// Thread safety: all members may be called at the same time, but for moving and destroying; offsets are given with
// each call, and there is no position that is shared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <system_error>
#include <utility>

namespace weft {

class context;

/// An open file. Movable; closed by its destructor. Go: os.File, with ReadAt and WriteAt.
class file {
 public:
  /// One that is not open.
  file() = default;
  /// The other one is not open any more.
  file(file&& other) noexcept : fd_(std::exchange(other.fd_, -1)), direct_(other.direct_) {}
  /// The same; what this one was is closed with the other.
  file& operator=(file&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(direct_, other.direct_);
    return *this;
  }
  /// Closes it; what that would have told is lost.
  ~file();

  /// open(2), with O_CLOEXEC. Go: os.OpenFile.
  static file open(const std::string& path, int flags, int mode = 0644);
  /// The same.
  static file open(const std::string& path, int flags, std::error_code& error, int mode = 0644);

  /// Reads into `to` from `offset` on; less than asked only at the end of the file, or with an error. Go: ReadAt.
  std::size_t read_at(std::span<std::byte> to, std::uint64_t offset);
  /// The same.
  std::size_t read_at(std::span<std::byte> to, std::uint64_t offset, std::error_code& error);
  /// Writes all of `from` at `offset`; less only with an error. Go: WriteAt.
  std::size_t write_at(std::span<const std::byte> from, std::uint64_t offset);
  /// The same.
  std::size_t write_at(std::span<const std::byte> from, std::uint64_t offset, std::error_code& error);

  /// As above, until the context ends: then the error is its err(). What waits for the disk in io_uring(7) is
  /// cancelled, if the kernel can; another call under way ends first. No byte is moved afterwards.
  std::size_t read_at(const context& until, std::span<std::byte> to, std::uint64_t offset);
  /// The same.
  std::size_t read_at(const context& until, std::span<std::byte> to, std::uint64_t offset, std::error_code& error);
  /// The same, writing.
  std::size_t write_at(const context& until, std::span<const std::byte> from, std::uint64_t offset);
  /// The same.
  std::size_t write_at(const context& until, std::span<const std::byte> from, std::uint64_t offset,
                       std::error_code& error);

  /// Returns when what was written is on the disk. Go: Sync.
  void fsync();
  /// The same.
  void fsync(std::error_code& error);
  /// In bytes. Go: Stat().Size.
  std::uint64_t size();
  /// The same.
  std::uint64_t size(std::error_code& error);
  /// Closes it; an error tells that something written before may be lost. Not beside other calls. Go: Close.
  void close();
  /// The same.
  void close(std::error_code& error);

  /// The descriptor, for calls that are not here; -1: not open.
  int fd() const noexcept { return fd_; }

 private:
  std::size_t read(std::span<std::byte> to, std::uint64_t offset, const context* until, std::error_code& error);
  std::size_t write(std::span<const std::byte> from, std::uint64_t offset, const context* until,
                    std::error_code& error);

  int fd_ = -1;
  bool direct_ = false;  // opened with O_DIRECT
};

}  // namespace weft
