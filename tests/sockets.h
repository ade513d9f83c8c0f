// SPDX-License-Identifier: Apache-2.0
// What the tests of sockets share: connections over the loopback interface, and text as bytes.
#pragma once

#include <weft/chan.h>
#include <weft/net.h>
#include <weft/runtime.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace weft::test {

inline std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

/// What comes next from a stream: `size` bytes, or less at its end.
inline std::string read_text(stream& from, std::size_t size, std::error_code& error) {
  std::string text(size, '\0');
  text.resize(from.read_exactly(std::as_writable_bytes(std::span(text)), error));
  return text;
}

inline std::string read_text(stream& from, std::size_t size) {
  std::error_code error;
  std::string text = read_text(from, size, error);
  if (error) text += "(" + error.message() + ")";
  return text;
}

/// A port of the loopback interface at which nobody listens, of those that the kernel gives to nobody unasked: so it is
/// free a moment later, too. Processes begin at different ones.
inline int free_port() {
  constexpr int kFirst = 10'000, kPorts = 20'000;
  static int next = getpid();
  for (int tries = 0; tries < kPorts; ++tries) {
    const int port = kFirst + next++ * 61 % kPorts;
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    at.sin_port = htons(static_cast<in_port_t>(port));
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool is_free = ::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0;
    ::close(fd);
    if (is_free) return port;
  }
  return 0;
}

struct tcp_pair {
  tcp_conn client, server;
};

inline tcp_pair connected() {
  auto listener = tcp_listener::bind("127.0.0.1:0");
  tcp_pair pair;
  pair.client = tcp_conn::connect(listener.local_addr());
  pair.server = listener.accept();
  return pair;
}

/// What fails with which error.
template <class F>
std::error_code error_of(F call) {
  std::error_code error;
  call(error);
  return error;
}

inline std::error_code read_error(stream& from) {
  return error_of([&from](std::error_code& error) {
    std::byte one;
    from.read_some({&one, 1}, error);
  });
}

/// Writes until an error comes, which it returns.
inline std::error_code write_error(stream& to) {
  const std::string much(1 << 20, 'x');
  std::error_code error;
  while (!error) to.write_all(bytes(much), error);
  return error;
}

}  // namespace weft::test
