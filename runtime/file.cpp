// SPDX-License-Identifier: Apache-2.0
// Files. What is read is taken from the page cache if it is there, without announcing that. A call that may wait for
// the disk is the plain one, announced, so that the P runs others as soon as it really waits; but only a few of them
// have a thread of their own at a time. The others, and all that a context may cancel, the ring awaits (file_ring.h),
// where there is one.
#include "weft/io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <cerrno>

#include "runtime/file_ring.h"
#include "runtime/park.h"
#include "weft/context.h"
#include "weft/runtime.h"
#include "weft/sync.h"

namespace weft {
namespace {

constexpr std::size_t kMostAtOnce = 0x7ffff000;  // Linux's limit for one call
constexpr std::size_t kSector = 512;             // what a file opened with O_DIRECT is read by, at least

// Calls that have a thread of their own at a time. One that reads a disk alone took 60 us so, and 91 by the ring, whose
// thread has to be woken twice; of 64 at a time the ring took less CPU time, 8 us each against 12.
constexpr std::uint32_t kOwnThreads = 4;

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

// One of the few calls of goroutines that have a thread of their own, or not. A call that a run() has left behind never
// ends; so the number is that of one run().
class own_thread {
 public:
  explicit own_thread(std::uint32_t most) {
    const rt::entry who(rt::kNoPark);
    if (!who.mp) return;  // a thread is its own
    run_ = who.mp->run;
    counted_ = granted_ = add(1, most);
  }
  ~own_thread() {
    if (counted_) add(-1, ~0u);
  }
  own_thread(const own_thread&) = delete;
  own_thread& operator=(const own_thread&) = delete;
  explicit operator bool() const { return granted_; }

 private:
  // False: there are as many as there may be.
  bool add(int change, std::uint32_t most) const {
    std::uint64_t seen = now.load(std::memory_order_relaxed), next;
    do {
      const std::uint32_t n = seen >> 32 == run_ ? static_cast<std::uint32_t>(seen) : 0;
      if (n >= most) return false;
      if (n == 0 && change < 0) return true;
      next = std::uint64_t{run_} << 32 | (n + static_cast<std::uint32_t>(change));
    } while (!now.compare_exchange_weak(seen, next, std::memory_order_relaxed));
    return true;
  }

  inline static std::atomic<std::uint64_t> now{0};  // the run(), and how many
  std::uint32_t run_ = 0;
  bool counted_ = false, granted_ = true;
};

// While it exists, the end of the context cancels the request.
class cancelled_by {
 public:
  cancelled_by(const context& until, rt::ring_request& r)
      : stop_(after_func(until, [this, &r] {
          rt::cancel_ring_call(r);
          ended_.release();
        })) {}
  ~cancelled_by() {
    if (!stop_()) ended_.acquire();
  }
  cancelled_by(const cancelled_by&) = delete;
  cancelled_by& operator=(const cancelled_by&) = delete;

 private:
  semaphore ended_{0};
  stop_func stop_;
};

long by_ring(rt::ring_request& r, const context* until) {
  if (!until) return rt::call_by_ring(r);
  const cancelled_by end(*until, r);
  return rt::call_by_ring(r);
}

// What the ring has not done, or does not do, and the call may.
bool undone(long result) {
  return result == rt::kNoRing || result == -EINVAL || result == -EAGAIN || result == -EOPNOTSUPP || result == -EINTR;
}

// The call, by the ring unless it is one of the few.
template <class F>
long wait_for(rt::ring_request& r, const context* until, std::uint32_t own_threads, F call) {
  if (const own_thread mine(own_threads); mine) return announced(call);
  const long result = by_ring(r, until);
  return undone(result) ? announced(call) : result;
}

// Without waiting. -EAGAIN: that cannot be.
long read_cached(int fd, void* to, std::size_t size, off_t offset) {
  const iovec part{to, size};
  const ssize_t n = ::preadv2(fd, &part, 1, offset, RWF_NOWAIT);
  return n < 0 ? -static_cast<long>(errno) : static_cast<long>(n);
}

// Whether it is to be asked for with other means.
bool not_without_waiting(long result) {
  return result == -EAGAIN || result == -EOPNOTSUPP || result == -ENOSYS || result == -EINTR;
}

struct part {
  int fd;
  bool direct;  // without the page cache: O_DIRECT
  const context* until;

  long read(void* to, std::size_t size, std::uint64_t offset) const {
    const auto at = static_cast<off_t>(offset);
    const long cached = direct ? -EAGAIN : read_cached(fd, to, size, at);
    if (!not_without_waiting(cached)) return cached;
    rt::ring_request r{.what = rt::ring_call::read, .fd = fd, .at = to, .size = size, .offset = offset};
    return wait_for(r, until, until && cached == -EAGAIN ? 0u : kOwnThreads, [&] { return ::pread(fd, to, size, at); });
  }

  long write(const void* from, std::size_t size, std::uint64_t offset) const {
    rt::ring_request r{
        .what = rt::ring_call::write, .fd = fd, .at = const_cast<void*>(from), .size = size, .offset = offset};
    return wait_for(r, until, kOwnThreads, [&] { return ::pwrite(fd, from, size, static_cast<off_t>(offset)); });
  }
};

void note_error(long result, std::error_code& error) {
  if (result < 0)
    error.assign(static_cast<int>(-result), std::system_category());
  else
    error.clear();
}

void throw_if(const std::error_code& error, const char* what) {
  if (error) throw std::system_error(error, what);
}

// Calls move(done, most) until `size` bytes are moved, it returns 0, it fails, or the context ends.
template <class F>
std::size_t move_all(std::size_t size, const context* until, std::error_code& error, F move) {
  std::size_t done = 0;
  long n = 0;
  error.clear();
  do {
    if (until && (error = until->err())) return done;
    n = done < size ? move(done, std::min(size - done, kMostAtOnce)) : 0;
    if (n > 0) done += static_cast<std::size_t>(n);
  } while (n > 0 && done < size);
  if (n == -ECANCELED && until) error = until->err();
  if (!error) note_error(n, error);
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
  if (fd >= 0) {
    opened.fd_ = static_cast<int>(fd);
    opened.direct_ = (flags & O_DIRECT) != 0;
  }
  return opened;
}

std::size_t file::read(std::span<std::byte> to, std::uint64_t offset, const context* until, std::error_code& error) {
  const part from{fd_, direct_, until};
  return move_all(to.size(), until, error, [&](std::size_t done, std::size_t most) {
    // Past the cache nothing may be asked for in the middle of a sector; one that was read in part is the file's last.
    return direct_ && done % kSector != 0 ? 0L : from.read(to.data() + done, most, offset + done);
  });
}

std::size_t file::write(std::span<const std::byte> from, std::uint64_t offset, const context* until,
                        std::error_code& error) {
  const part to{fd_, direct_, until};
  return move_all(from.size(), until, error, [&](std::size_t done, std::size_t most) {
    return to.write(from.data() + done, most, offset + done);
  });
}

std::size_t file::read_at(std::span<std::byte> to, std::uint64_t offset, std::error_code& error) {
  return read(to, offset, nullptr, error);
}

std::size_t file::read_at(const context& until, std::span<std::byte> to, std::uint64_t offset, std::error_code& error) {
  return read(to, offset, &until, error);
}

std::size_t file::write_at(std::span<const std::byte> from, std::uint64_t offset, std::error_code& error) {
  return write(from, offset, nullptr, error);
}

std::size_t file::write_at(const context& until, std::span<const std::byte> from, std::uint64_t offset,
                           std::error_code& error) {
  return write(from, offset, &until, error);
}

void file::fsync(std::error_code& error) {
  rt::ring_request r{.what = rt::ring_call::sync, .fd = fd_};
  note_error(wait_for(r, nullptr, kOwnThreads, [this] { return ::fsync(fd_); }), error);
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

std::size_t file::read_at(const context& until, std::span<std::byte> to, std::uint64_t offset) {
  std::error_code error;
  const std::size_t n = read_at(until, to, offset, error);
  throw_if(error, "read");
  return n;
}

std::size_t file::write_at(const context& until, std::span<const std::byte> from, std::uint64_t offset) {
  std::error_code error;
  const std::size_t n = write_at(until, from, offset, error);
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
