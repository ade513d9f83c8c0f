// SPDX-License-Identifier: Apache-2.0
// What the tests of sockets share: connections over the loopback interface, and text as bytes.
#pragma once

#include <weft/chan.h>
#include <weft/net.h>
#include <weft/runtime.h>

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
