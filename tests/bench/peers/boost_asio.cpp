// SPDX-License-Identifier: Apache-2.0
//
// Boost.Asio as its own examples write a server: a coroutine a connection, one thread, which is all that its CPU needs.
#include <array>
#include <utility>  // before Boost 1.74, which uses it without

#include <boost/asio.hpp>

#include "tests/bench/bench.h"
#include "tests/bench/echo_client.h"

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

asio::awaitable<void> serve(tcp::socket conn) {
  std::array<char, 1024> buffer;
  try {
    for (;;) {
      const std::size_t n = co_await conn.async_read_some(asio::buffer(buffer), asio::use_awaitable);
      co_await asio::async_write(conn, asio::buffer(buffer.data(), n), asio::use_awaitable);
    }
  } catch (const boost::system::system_error& end) {
    if (end.code() != asio::error::eof && end.code() != asio::error::connection_reset) throw;
  }
}

void tcp_echo_64(const bench::options& o) {
  bench::echo_client client(o);
  asio::io_context context(1);
  tcp::acceptor listener(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  client.go(listener.local_endpoint().port());
  for (int i = 0; i < bench::kEchoConnections; ++i) {
    tcp::socket conn = listener.accept();
    conn.set_option(tcp::no_delay(true));
    asio::co_spawn(context, serve(std::move(conn)), [](std::exception_ptr failed) {
      if (failed) bench::die("a connection");
    });
  }
  context.run();
  client.wait(o);
}

const std::array kWorks{bench::work{"tcp_echo_64", 300'000, tcp_echo_64}};

}  // namespace

int main(int argc, char** argv) { return bench::run_main(argc, argv, kWorks); }
