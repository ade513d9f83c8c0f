// SPDX-License-Identifier: Apache-2.0
// Boost.Asio's objects, with handlers that run in goroutines.
#if __has_include(<boost/asio.hpp>)
#include <weft/asio.h>

#include <array>
#include <boost/asio.hpp>
#include <memory>
#include <string>

#include "tests/fixture.h"
#include "tests/sockets.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

using boost::asio::ip::tcp;
using boost::system::error_code;

class asio : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(asio);

std::string address_of(const tcp::acceptor& acceptor) {
  return "127.0.0.1:" + std::to_string(acceptor.local_endpoint().port());
}

// A connection that sends back what comes, until the peer ends its stream.
class echo_session : public std::enable_shared_from_this<echo_session> {
 public:
  explicit echo_session(tcp::socket connected) : socket_(std::move(connected)) {}

  void read() {
    socket_.async_read_some(boost::asio::buffer(data_), [self = shared_from_this()](error_code error, std::size_t n) {
      if (!error) self->write(n);
    });
  }

 private:
  void write(std::size_t n) {
    boost::asio::async_write(socket_, boost::asio::buffer(data_.data(), n),
                             [self = shared_from_this()](error_code error, std::size_t) {
                               EXPECT_NE(current_goroutine_id(), 0u);
                               if (!error) self->read();
                             });
  }

  tcp::socket socket_;
  std::array<char, 1024> data_;
};

class echo_server : public std::enable_shared_from_this<echo_server> {
 public:
  explicit echo_server(asio_context& context)
      : acceptor_(context, tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0)) {}

  void accept() {
    acceptor_.async_accept([self = shared_from_this()](error_code error, tcp::socket accepted) {
      if (error) return;
      std::make_shared<echo_session>(std::move(accepted))->read();
      self->accept();
    });
  }
  std::string address() const { return address_of(acceptor_); }

 private:
  tcp::acceptor acceptor_;
};

// The same as coroutines of C++20.
boost::asio::awaitable<void> echo(tcp::socket connected) {
  std::array<char, 1024> data;
  for (;;) {
    const std::size_t n = co_await connected.async_read_some(boost::asio::buffer(data), boost::asio::use_awaitable);
    co_await boost::asio::async_write(connected, boost::asio::buffer(data.data(), n), boost::asio::use_awaitable);
    EXPECT_NE(current_goroutine_id(), 0u);
  }
}

boost::asio::awaitable<void> serve_echo(tcp::acceptor acceptor) {
  for (;;) {
    tcp::socket accepted = co_await acceptor.async_accept(boost::asio::use_awaitable);
    // Ends with the exception of the end of the stream, which nobody asks for.
    boost::asio::co_spawn(acceptor.get_executor(), echo(std::move(accepted)), boost::asio::detached);
  }
}

void talk(const std::string& server) {
  wait_group done;
  for (int i = 0; i < 20; ++i)
    done.go([&server, i] {
      auto conn = tcp_conn::connect(server);
      for (int k = 0; k < scaled(50); ++k) {
        const std::string text = "message " + std::to_string(k) + " of " + std::to_string(i);
        conn.write_all(bytes(text));
        EXPECT_EQ(read_text(conn, text.size()), text);
      }
    });
  done.wait();
}

TEST_P(asio, its_echo_server_talks_to_sockets_of_weft) {
  in_main([] {
    asio_context context;
    const auto server = std::make_shared<echo_server>(context);
    server->accept();
    talk(server->address());
  });
}

TEST_P(asio, its_echo_server_of_coroutines_does_too) {
  in_main([] {
    asio_context context;
    tcp::acceptor acceptor(context, tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0));
    const std::string address = address_of(acceptor);
    boost::asio::co_spawn(context, serve_echo(std::move(acceptor)), boost::asio::detached);
    talk(address);
  });
}

TEST_P(asio, handlers_may_block_as_goroutines_do) {
  in_main([] {
    asio_context context;
    const auto values = make_chan<int>();
    for (int i = 1; i <= 3; ++i) boost::asio::post(context, [values, i] { values.send(i); });
    int sum = 0;
    for (int i = 0; i < 3; ++i) sum += *values.recv();
    EXPECT_EQ(sum, 6);
  });
}

TEST_P(asio, a_strand_keeps_handlers_apart) {
  in_main([] {
    asio_context context;
    auto strand = boost::asio::make_strand(context.get_executor());
    const int n = scaled(1000);
    wait_group done;
    done.add(n);
    int count = 0;  // unguarded
    for (int i = 0; i < n; ++i)
      boost::asio::post(strand, [&] {
        ++count;
        done.done();
      });
    done.wait();
    EXPECT_EQ(count, n);
  });
}

TEST_P(asio, handlers_in_a_strand_may_block_on_their_thread) {
  in_main([] {
    asio_context context;
    auto strand = boost::asio::make_strand(context.get_executor());
    const auto values = make_chan<int>();
    const int n = scaled(100);
    for (int i = 0; i < n; ++i)
      boost::asio::post(strand, [values, strand, i] {
        lock_os_thread();
        values.send(i);
        EXPECT_TRUE(strand.running_in_this_thread());
        unlock_os_thread();
      });
    for (int i = 0; i < n; ++i) EXPECT_EQ(values.recv(), i);
  });
}

TEST_P(asio, timers_fire_and_are_cancelled) {
  in_main([] {
    asio_context context;
    boost::asio::steady_timer soon(context, 1ms), never(context, 1h);
    const auto results = make_chan<error_code>();
    soon.async_wait([results](error_code error) { results.send(error); });
    EXPECT_FALSE(*results.recv());
    never.async_wait([results](error_code error) { results.send(error); });
    never.cancel();
    EXPECT_EQ(*results.recv(), boost::asio::error::operation_aborted);
  });
}

TEST_P(asio, what_is_under_way_when_the_context_goes_is_dropped) {
  in_main([] {
    const auto kept = std::make_shared<int>(0);
    {
      asio_context context;
      boost::asio::steady_timer never(context, 1h);
      never.async_wait([kept](error_code) { ++*kept; });
      const auto server = std::make_shared<echo_server>(context);
      server->accept();
      const auto conn = tcp_conn::connect(server->address());
    }
    EXPECT_EQ(kept.use_count(), 1);
  });
}

TEST_P(asio, handlers_that_run_when_the_context_goes_are_awaited) {
  in_main([] {
    bool ended = false;
    const auto begun = make_chan<unit>();
    {
      asio_context context;
      boost::asio::post(context, [&ended, begun] {
        begun.send({});
        sleep_for(1ms);
        ended = true;
      });
      begun.recv();
    }
    EXPECT_TRUE(ended);
  });
}

}  // namespace
#endif
