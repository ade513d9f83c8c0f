// SPDX-License-Identifier: Apache-2.0
// What all sockets have: closing, deadlines, names; and opening and connecting them.
#include "runtime/net_socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>
#include <algorithm>

#include "runtime/clock.h"

namespace weft::rt {
namespace {

constexpr int kKeepAliveSeconds = 15;             // Go's
constexpr std::int64_t kFullQueueNs = 1'000'000;  // until the next try where a listener's queue is full

std::string name_asked(poll_desc* d, int (*ask)(int, sockaddr*, socklen_t*)) {
  std::error_code closed;
  const poll_use use(d, closed);
  net_address address;
  if (closed || ask(use.fd(), address.get(), &address.size) != 0) return {};
  return to_text(address);
}

void set_option(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); }

void set_tcp_options(int fd) {
  switch_on(fd, IPPROTO_TCP, TCP_NODELAY);
  switch_on(fd, SOL_SOCKET, SO_KEEPALIVE);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveSeconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveSeconds);
}

// An edge may tell of something else than the end of connecting.
int progress_of(int fd) {
  int failure = 0;
  socklen_t size = sizeof failure;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) != 0) return errno;
  if (failure != 0) return failure;
  net_address peer;
  return getpeername(fd, peer.get(), &peer.size) == 0 ? 0 : EINPROGRESS;
}

}  // namespace

void switch_on(int fd, int level, int option) { set_option(fd, level, option, 1); }

std::int64_t due_at(time_point when) {
  if (when == time_point::max()) return kNever;
  return std::chrono::ceil<std::chrono::nanoseconds>(when.time_since_epoch()).count();
}

detail::descriptor open_socket(const net_address& address, int type, std::error_code& error) {
  const int fd = ::socket(address.family(), type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    error = system_code(errno);
    return {};
  }
  const bool tcp = type == SOCK_STREAM && address.family() != AF_UNIX;
  if (tcp) set_tcp_options(fd);
  detail::descriptor d(adopt_fd(fd, tcp ? short_read::is_all : short_read::may_have_more));
  if (!d.get()) error = system_code(ENOMEM);
  return d;
}

void connect_socket(poll_desc* d, const net_address& to, std::int64_t deadline, std::error_code& error) {
  set_deadlines(d, false, true, deadline);
  poll_operation op(d, direction::write, error);
  bool begun = false;
  while (op.try_again()) {
    int failed = begun ? progress_of(op.fd()) : -announced([&] { return ::connect(op.fd(), to.get(), to.size); });
    if (failed == EINTR) failed = EINPROGRESS;
    if (failed == EINPROGRESS) {
      begun = true;
      op.would_block();
    } else if (failed == EAGAIN && to.family() == AF_UNIX) {
      op.pause_until(nanotime() + kFullQueueNs);
    } else if (failed != 0) {
      error = system_code(failed);
    }
  }
  if (!error) set_deadlines(d, false, true, kNever);
}

}  // namespace weft::rt

namespace weft {

using namespace rt;

void detail::drop_descriptor(poll_desc* d) noexcept { drop_desc(d); }

void socket_base::close() noexcept {
  if (d_.get()) close_desc(d_.get());
}

void socket_base::set_deadline(time_point when) {
  if (d_.get()) set_deadlines(d_.get(), true, true, due_at(when));
}

void socket_base::set_read_deadline(time_point when) {
  if (d_.get()) set_deadlines(d_.get(), true, false, due_at(when));
}

void socket_base::set_write_deadline(time_point when) {
  if (d_.get()) set_deadlines(d_.get(), false, true, due_at(when));
}

std::string socket_base::local_addr() const { return name_asked(d_.get(), getsockname); }
std::string stream::remote_addr() const { return name_asked(d_.get(), getpeername); }

void tcp_conn::set_no_delay(bool at_once) {
  std::error_code error;
  const poll_use use(d_.get(), error);
  throw_if(error, "set_no_delay");
  set_option(use.fd(), IPPROTO_TCP, TCP_NODELAY, at_once ? 1 : 0);
}

void tcp_conn::set_keep_alive(std::chrono::seconds silence) {
  std::error_code error;
  const poll_use use(d_.get(), error);
  throw_if(error, "set_keep_alive");
  const int seconds = static_cast<int>(std::min<std::int64_t>(silence.count(), 32'767));  // Linux's limit
  set_option(use.fd(), SOL_SOCKET, SO_KEEPALIVE, seconds > 0 ? 1 : 0);
  if (seconds <= 0) return;
  set_option(use.fd(), IPPROTO_TCP, TCP_KEEPIDLE, seconds);
  set_option(use.fd(), IPPROTO_TCP, TCP_KEEPINTVL, seconds);
}

tcp_conn tcp_conn::connect(std::string_view address, time_point deadline, std::error_code& error) {
  for (const net_address& each : resolve(address, SOCK_STREAM, empty_host::loopback, error)) {
    std::error_code failed;
    detail::descriptor d = open_socket(each, SOCK_STREAM, failed);
    if (!failed) connect_socket(d.get(), each, due_at(deadline), failed);
    if (!failed) {
      error.clear();
      return tcp_conn(std::move(d));
    }
    if (!error) error = failed;  // the first address's says most
  }
  return {};
}

tcp_conn tcp_conn::connect(std::string_view address, std::error_code& error) {
  return connect(address, time_point::max(), error);
}

tcp_conn tcp_conn::connect(std::string_view address, time_point deadline) {
  std::error_code error;
  tcp_conn conn = connect(address, deadline, error);
  throw_if(error, "connect");
  return conn;
}

tcp_conn tcp_conn::connect(std::string_view address) { return connect(address, time_point::max()); }

unix_conn unix_conn::connect(std::string_view path, std::error_code& error) {
  const net_address address = unix_address(path, error);
  if (error) return {};
  detail::descriptor d = open_socket(address, SOCK_STREAM, error);
  if (!error) connect_socket(d.get(), address, kNever, error);
  return error ? unix_conn() : unix_conn(std::move(d));
}

unix_conn unix_conn::connect(std::string_view path) {
  std::error_code error;
  unix_conn conn = connect(path, error);
  throw_if(error, "connect");
  return conn;
}

}  // namespace weft
