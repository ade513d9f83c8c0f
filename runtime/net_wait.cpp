// SPDX-License-Identifier: Apache-2.0
// Waiting for files of other libraries.
//
// The poller has room for one registration a file, and several may wait for the same one, each in its own way, or the
// library may register it with epoll itself. So each wait makes an epoll instance of its own, with this one file in it,
// and waits for that to become readable, as for a socket. No flag of the file is touched, nor its count of references,
// on which a peer's end of stream depends.
#include <poll.h>
#include <sys/epoll.h>

#include "runtime/net_socket.h"

namespace weft {

using namespace rt;

namespace {

// Ready, or an error, or 0: not yet.
bool is_ready(int fd, short events, std::error_code& error) {
  pollfd file{fd, events, 0};
  const int n = ::poll(&file, 1, 0);
  if (n < 0 && errno != EINTR) error = system_code(errno);
  if (n > 0 && (file.revents & POLLNVAL) != 0) error = system_code(EBADF);
  return n > 0;
}

detail::descriptor watcher_of(int fd, std::uint32_t events, std::error_code& error) {
  detail::descriptor d;
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll >= 0) d = detail::descriptor(adopt_fd(epoll));
  epoll_event wanted{};
  wanted.events = events;
  if (!d.get() || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wanted) != 0) error = system_code(errno);
  return d;
}

void wait_for(int fd, short events, std::error_code& error) {
  error.clear();
  if (is_ready(fd, events, error) || error) return;
  const detail::descriptor d = watcher_of(fd, static_cast<std::uint32_t>(events), error);
  if (error) return;
  poll_operation op(d.get(), direction::read, error);
  while (op.try_again())
    if (!is_ready(fd, events, error) && !error) op.would_block();
}

}  // namespace

void wait_readable(int fd, std::error_code& error) { wait_for(fd, POLLIN, error); }
void wait_writable(int fd, std::error_code& error) { wait_for(fd, POLLOUT, error); }

void wait_readable(int fd) {
  std::error_code error;
  wait_readable(fd, error);
  throw_if(error, "wait_readable");
}

void wait_writable(int fd) {
  std::error_code error;
  wait_writable(fd, error);
  throw_if(error, "wait_writable");
}

}  // namespace weft
