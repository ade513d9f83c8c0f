// SPDX-License-Identifier: Apache-2.0
// Listening and accepting. Go: net.Listen, Accept; the pauses of http.Server where no descriptor is left.
#include <netinet/in.h>
#include <sys/un.h>
#include <unistd.h>
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "runtime/clock.h"
#include "runtime/net_socket.h"
#include "runtime/park.h"

namespace weft {

using namespace rt;

namespace {

constexpr std::int64_t kFirstPause = 5'000'000, kLongestPause = 1'000'000'000;

bool too_many(int failed) { return failed == EMFILE || failed == ENFILE || failed == ENOBUFS || failed == ENOMEM; }

// accept(2) reports what has already become of the connection that it would have returned. EPERM (a firewall) and
// EOPNOTSUPP may be about it too, but are also what a system call filter answers, every time: the caller is told.
bool is_about_connection(int failed) {
  switch (failed) {
    case ECONNABORTED:
    case EINTR:
    case EPROTO:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETUNREACH:
    case ENONET: return true;
    default: return false;
  }
}

// Pauses of an accept() that has no room, longer each time, and the line that says so.
class back_off {
 public:
  std::int64_t until(int failed) {
    if (pause_ == 0)
      std::fprintf(stderr, "weft: accept: %s; trying again until there is room (ulimit -n)\n", std::strerror(failed));
    pause_ = pause_ == 0 ? kFirstPause : std::min(pause_ * 2, kLongestPause);
    return nanotime() + pause_;
  }

 private:
  std::int64_t pause_ = 0;
};

detail::descriptor accept_on(poll_desc* listener, short_read kind, std::error_code& error) {
  poll_operation op(listener, direction::read, error);
  back_off pauses;
  while (op.try_again()) {
    const int fd = announced([&] { return ::accept4(op.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); });
    if (fd >= 0) {
      detail::descriptor d(adopt_fd(fd, kind));
      if (!d.get()) error = system_code(ENOMEM);
      return d;
    }
    if (would_block(fd))
      op.would_block();
    else if (too_many(-fd))
      op.pause_until(pauses.until(-fd));
    else if (is_about_connection(-fd))
      op.again();
    else
      error = system_code(-fd);
  }
  return {};
}

void listen_at(const detail::descriptor& d, const net_address& address, int backlog, std::error_code& error) {
  const poll_use use(d.get(), error);
  if (error) return;
  if (::bind(use.fd(), address.get(), address.size) != 0 || ::listen(use.fd(), backlog > 0 ? backlog : SOMAXCONN) != 0)
    error = system_code(errno);
}

detail::descriptor listen_tcp(const net_address& address, const listen_options& options, std::error_code& error) {
  detail::descriptor d = open_socket(address, SOCK_STREAM, error);
  if (error) return {};
  {
    const poll_use use(d.get(), error);
    switch_on(use.fd(), SOL_SOCKET, SO_REUSEADDR);
    if (options.reuse_port) switch_on(use.fd(), SOL_SOCKET, SO_REUSEPORT);
    const int only_v6 = 0;
    if (address.family() == AF_INET6) setsockopt(use.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof only_v6);
  }
  listen_at(d, address, options.backlog, error);
  return d;
}

core_lock removing;

// Once, though several may close the listener at the same time.
void remove_path(std::string& path) {
  std::string mine;
  {
    const entered_lock hold(removing);
    mine.swap(path);
  }
  if (!mine.empty()) ::unlink(mine.c_str());
}

}  // namespace

tcp_listener tcp_listener::bind(std::string_view address, const listen_options& options, std::error_code& error) {
  for (const net_address& each : resolve(address, SOCK_STREAM, empty_host::any, error)) {
    std::error_code failed;
    detail::descriptor d = listen_tcp(each, options, failed);
    if (!failed) {
      error.clear();
      return tcp_listener(std::move(d));
    }
    // A machine without IPv6 has the first of the two that stand for all.
    if (!error || error == std::errc::address_family_not_supported) error = failed;
  }
  return {};
}

tcp_listener tcp_listener::bind(std::string_view address, std::error_code& error) { return bind(address, {}, error); }

tcp_listener tcp_listener::bind(std::string_view address, const listen_options& options) {
  std::error_code error;
  tcp_listener listener = bind(address, options, error);
  throw_if(error, "listen");
  return listener;
}

tcp_listener tcp_listener::bind(std::string_view address) { return bind(address, listen_options{}); }

tcp_conn tcp_listener::accept(std::error_code& error) {
  return detail::socket_maker::make<tcp_conn>(accept_on(d_.get(), short_read::is_all, error));
}

tcp_conn tcp_listener::accept() {
  std::error_code error;
  tcp_conn conn = accept(error);
  throw_if(error, "accept");
  return conn;
}

unix_listener& unix_listener::operator=(unix_listener&& other) noexcept {
  std::swap(path_, other.path_);
  socket_base::operator=(std::move(other));
  return *this;
}

unix_listener::~unix_listener() { remove_path(path_); }

unix_listener unix_listener::bind(std::string_view path, std::error_code& error) {
  const net_address address = unix_address(path, error);
  if (error) return {};
  detail::descriptor d = open_socket(address, SOCK_STREAM, error);
  if (!error) listen_at(d, address, 0, error);
  if (error) return {};
  unix_listener listener(std::move(d));
  if (path[0] != '@') listener.path_ = path;
  return listener;
}

unix_listener unix_listener::bind(std::string_view path) {
  std::error_code error;
  unix_listener listener = bind(path, error);
  throw_if(error, "listen");
  return listener;
}

unix_conn unix_listener::accept(std::error_code& error) {
  return detail::socket_maker::make<unix_conn>(accept_on(d_.get(), short_read::may_have_more, error));
}

unix_conn unix_listener::accept() {
  std::error_code error;
  unix_conn conn = accept(error);
  throw_if(error, "accept");
  return conn;
}

void unix_listener::close() noexcept {
  remove_path(path_);
  socket_base::close();
}

}  // namespace weft
