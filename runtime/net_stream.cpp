// SPDX-License-Identifier: Apache-2.0
// Reading from connections and writing to them.
//
// A call first tries, and waits only if the kernel says that it would block. What a read leaves out is in poll_side.h
// (drained). A write goes on until the kernel takes no more: only then does it promise an edge.
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <algorithm>
#include <array>
#include <csignal>

#include "runtime/net_socket.h"

namespace weft {

using namespace rt;

namespace {

constexpr std::size_t kMostParts = 64;                 // of a vectored write that go into one call
constexpr std::uint64_t kMostOfFileAtOnce = 16 << 20;  // a thread that reads from a slow disk is away for that long

std::size_t receive(poll_operation& op, std::span<std::byte> to, std::error_code& error) {
  while (op.try_again()) {
    const ssize_t n = announced([&] { return ::recv(op.fd(), to.data(), to.size(), 0); });
    if (would_block(n)) {
      op.would_block();
    } else if (n == -EINTR) {
      op.again();
    } else if (n < 0) {
      error = system_code(static_cast<int>(-n));
    } else {
      // The end of the stream does not go away, nor tell itself twice.
      op.got(n > 0 && static_cast<std::size_t>(n) < to.size() ? amount::less : amount::all_asked_for);
      return static_cast<std::size_t>(n);
    }
  }
  return 0;
}

// What is left of the parts, after `written` bytes of it have gone.
void skip(std::span<iovec>& parts, std::size_t written) {
  while (!parts.empty() && written >= parts[0].iov_len) {
    written -= parts[0].iov_len;
    parts = parts.subspan(1);
  }
  if (parts.empty()) return;
  parts[0].iov_base = static_cast<std::byte*>(parts[0].iov_base) + written;
  parts[0].iov_len -= written;
}

void send_parts(poll_operation& op, std::span<iovec> parts, std::error_code& error) {
  skip(parts, 0);
  while (!parts.empty() && op.try_again()) {
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const ssize_t n = announced([&] { return ::sendmsg(op.fd(), &message, MSG_NOSIGNAL); });
    if (would_block(n)) {
      op.would_block();
    } else if (n < 0 && n != -EINTR) {
      error = system_code(static_cast<int>(-n));
    } else {
      skip(parts, n < 0 ? 0 : static_cast<std::size_t>(n));
      op.again();
    }
  }
}

void send_all(poll_operation& op, std::span<const std::byte> from, std::error_code& error) {
  while (!from.empty() && op.try_again()) {
    const ssize_t n = announced([&] { return ::send(op.fd(), from.data(), from.size(), MSG_NOSIGNAL); });
    if (would_block(n)) {
      op.would_block();
    } else if (n < 0 && n != -EINTR) {
      error = system_code(static_cast<int>(-n));
    } else {
      from = from.subspan(n < 0 ? 0 : static_cast<std::size_t>(n));
      op.again();
    }
  }
}

// sendfile(2) knows no MSG_NOSIGNAL: the signal, which is this thread's, is blocked, and taken back if it was raised.
ssize_t send_file_quietly(int to, int from, off_t& at, std::size_t count) {
  sigset_t pipe, before, pending;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, &before);
  sigpending(&pending);
  ssize_t n = ::sendfile(to, from, &at, count);
  if (n < 0) n = -errno;
  if (n == -EPIPE && sigismember(&pending, SIGPIPE) == 0) {
    const timespec at_once{};
    sigtimedwait(&pipe, nullptr, &at_once);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return n;
}

}  // namespace

std::size_t stream::read_some(std::span<std::byte> to, std::error_code& error) {
  poll_operation op(d_.get(), direction::read, error);
  return to.empty() ? 0 : receive(op, to, error);
}

std::size_t stream::read_exactly(std::span<std::byte> to, std::error_code& error) {
  poll_operation op(d_.get(), direction::read, error);
  std::size_t got = 0;
  while (got < to.size() && !error) {
    const std::size_t n = receive(op, to.subspan(got), error);
    if (n == 0) break;
    got += n;
    op.again();
  }
  return got;
}

void stream::write_all(std::span<const std::byte> from, std::error_code& error) {
  poll_operation op(d_.get(), direction::write, error);
  send_all(op, from, error);
}

void stream::write_all(std::span<const std::span<const std::byte>> parts, std::error_code& error) {
  poll_operation op(d_.get(), direction::write, error);
  while (!parts.empty() && !error) {
    std::array<iovec, kMostParts> some;
    const std::size_t n = std::min(parts.size(), some.size());
    for (std::size_t i = 0; i < n; ++i) some[i] = {const_cast<std::byte*>(parts[i].data()), parts[i].size()};
    send_parts(op, {some.data(), n}, error);
    parts = parts.subspan(n);
  }
}

std::uint64_t stream::send_file(int file, std::uint64_t offset, std::uint64_t count, std::error_code& error) {
  poll_operation op(d_.get(), direction::write, error);
  std::uint64_t sent = 0;
  while (sent < count && op.try_again()) {
    auto at = static_cast<off_t>(offset + sent);
    const auto most = static_cast<std::size_t>(std::min(count - sent, kMostOfFileAtOnce));
    const ssize_t n = blocking([&] { return send_file_quietly(op.fd(), file, at, most); });
    if (would_block(n)) {
      op.would_block();
    } else if (n < 0 && n != -EINTR) {
      error = system_code(static_cast<int>(-n));
    } else if (n != 0) {
      sent += n < 0 ? 0 : static_cast<std::uint64_t>(n);
      op.again();
    }
  }
  return sent;
}

void stream::shutdown_write(std::error_code& error) {
  const poll_use use(d_.get(), error);
  if (!error && ::shutdown(use.fd(), SHUT_WR) != 0) error = system_code(errno);
}

// -- The forms that throw ---------------------------------------------------------------------------------------------

std::size_t stream::read_some(std::span<std::byte> to) {
  std::error_code error;
  const std::size_t n = read_some(to, error);
  throw_if(error, "read");
  return n;
}

std::size_t stream::read_exactly(std::span<std::byte> to) {
  std::error_code error;
  const std::size_t n = read_exactly(to, error);
  throw_if(error, "read");
  return n;
}

void stream::write_all(std::span<const std::byte> from) {
  std::error_code error;
  write_all(from, error);
  throw_if(error, "write");
}

void stream::write_all(std::span<const std::span<const std::byte>> parts) {
  std::error_code error;
  write_all(parts, error);
  throw_if(error, "write");
}

std::uint64_t stream::send_file(int file, std::uint64_t offset, std::uint64_t count) {
  std::error_code error;
  const std::uint64_t n = send_file(file, offset, count, error);
  throw_if(error, "sendfile");
  return n;
}

void stream::shutdown_write() {
  std::error_code error;
  shutdown_write(error);
  throw_if(error, "shutdown");
}

}  // namespace weft
