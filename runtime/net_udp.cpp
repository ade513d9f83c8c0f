// SPDX-License-Identifier: Apache-2.0
// Datagrams.
#include <netinet/in.h>
#include <cstring>

#include "runtime/net_socket.h"

namespace weft {

using namespace rt;

namespace {

detail::descriptor bind_udp(const net_address& address, std::error_code& error) {
  detail::descriptor d = open_socket(address, SOCK_DGRAM, error);
  if (error) return {};
  const poll_use use(d.get(), error);
  const int only_v6 = 0;
  if (address.family() == AF_INET6) setsockopt(use.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof only_v6);
  if (::bind(use.fd(), address.get(), address.size) != 0) error = system_code(errno);
  return d;
}

// A socket for both families wants IPv4 addresses in IPv6's form.
void fit(net_address& to, int fd) {
  int family = AF_UNSPEC;
  socklen_t size = sizeof family;
  if (to.family() != AF_INET || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size) != 0 || family != AF_INET6)
    return;
  const auto four = reinterpret_cast<const sockaddr_in&>(to.storage);
  net_address mapped;
  auto& six = reinterpret_cast<sockaddr_in6&>(mapped.storage);
  six.sin6_family = AF_INET6;
  six.sin6_port = four.sin_port;
  six.sin6_addr.s6_addr[10] = six.sin6_addr.s6_addr[11] = 0xff;
  std::memcpy(&six.sin6_addr.s6_addr[12], &four.sin_addr, sizeof four.sin_addr);
  mapped.size = sizeof six;
  to = mapped;
}

}  // namespace

udp_socket udp_socket::bind(std::string_view address, std::error_code& error) {
  for (const net_address& each : resolve(address, SOCK_DGRAM, empty_host::any, error)) {
    std::error_code failed;
    detail::descriptor d = bind_udp(each, failed);
    if (!failed) {
      error.clear();
      return udp_socket(std::move(d));
    }
    if (!error || error == std::errc::address_family_not_supported) error = failed;
  }
  return {};
}

udp_socket udp_socket::bind(std::string_view address) {
  std::error_code error;
  udp_socket bound = bind(address, error);
  throw_if(error, "bind");
  return bound;
}

void udp_socket::send_to(std::span<const std::byte> data, std::string_view address, std::error_code& error) {
  std::vector<net_address> to = resolve(address, SOCK_DGRAM, empty_host::loopback, error);
  if (error) return;
  poll_operation op(d_.get(), direction::write, error);
  while (op.try_again()) {
    fit(to[0], op.fd());
    const ssize_t n =
        announced([&] { return ::sendto(op.fd(), data.data(), data.size(), MSG_NOSIGNAL, to[0].get(), to[0].size); });
    if (would_block(n))
      op.would_block();
    else if (n == -EINTR)
      op.again();
    else if (n < 0)
      error = system_code(static_cast<int>(-n));
  }
}

void udp_socket::send_to(std::span<const std::byte> data, std::string_view address) {
  std::error_code error;
  send_to(data, address, error);
  throw_if(error, "send");
}

udp_socket::datagram udp_socket::recv_from(std::span<std::byte> to, std::error_code& error) {
  poll_operation op(d_.get(), direction::read, error);
  while (op.try_again()) {
    net_address from;
    const ssize_t n = announced([&] { return ::recvfrom(op.fd(), to.data(), to.size(), 0, from.get(), &from.size); });
    if (n >= 0) return {static_cast<std::size_t>(n), to_text(from)};
    if (would_block(n))
      op.would_block();
    else if (n == -EINTR)
      op.again();
    else
      error = system_code(static_cast<int>(-n));
  }
  return {0, {}};
}

udp_socket::datagram udp_socket::recv_from(std::span<std::byte> to) {
  std::error_code error;
  datagram got = recv_from(to, error);
  throw_if(error, "receive");
  return got;
}

}  // namespace weft
