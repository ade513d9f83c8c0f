// SPDX-License-Identifier: Apache-2.0
//
// Sockets: how many requests a server answers, and how soon a datagram is read while all Ps compute.

#include <weft/net.h>
#include <weft/runtime.h>
#include <weft/sync.h>

#include <array>
#include <atomic>
#include <charconv>
#include <memory>
#include <string>

#include "tests/bench/bench.h"
#include "tests/bench/echo_client.h"
#include "tests/examples/http_server.h"

namespace {

int port_of(const std::string& address) {
  int port = 0;
  std::from_chars(address.data() + address.rfind(':') + 1, address.data() + address.size(), port);
  return port;
}

void echo(weft::tcp_conn conn) {
  std::array<std::byte, 1024> buffer;
  std::error_code error;
  while (const std::size_t n = conn.read_some(buffer, error)) conn.write_all({buffer.data(), n}, error);
}

void tcp_echo_64(const bench::options& o) {
  bench::echo_client client(o);
  weft::run_options runtime;
  runtime.gomaxprocs = 1;
  weft::run(runtime, [&] {
    auto listener = weft::tcp_listener::bind("127.0.0.1:0");
    client.go(port_of(listener.local_addr()));
    weft::wait_group done;
    for (int i = 0; i < bench::kEchoConnections; ++i)
      done.go([conn = std::make_shared<weft::tcp_conn>(listener.accept())] { echo(std::move(*conn)); });
    done.wait();
  });
  client.wait(o);
}

void http_hello_64(const bench::options& o) {
  bench::client_process client(o, bench::run_wrk);
  weft::run_options runtime;
  runtime.gomaxprocs = 1;
  weft::run(runtime, [&] {
    http::server server("127.0.0.1:0", [](const http::request&) { return http::response{200, "Hello, World!\n"}; });
    weft::wait_group serving;
    serving.go([&server] { server.serve(); });
    client.go(port_of(server.address()));
    weft::blocking([&client] { client.wait(); });
    server.shut_down(std::chrono::seconds(1));
    serving.wait();
  });
}

// One goroutine a P computes; a process, on no CPU in particular, sends a datagram every few milliseconds.
void datagram_beside_loops(const bench::options& o) {
  std::array<int, 2> port_pipe;
  if (pipe(port_pipe.data()) != 0) bench::die("pipe");
  const pid_t sender = fork();
  if (sender == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int port = 0;
    if (read(port_pipe[0], &port, sizeof port) == static_cast<ssize_t>(sizeof port)) bench::send_datagrams(port, o.ops);
    _exit(0);
  }
  weft::run_options runtime;
  runtime.gomaxprocs = o.procs;
  weft::run(runtime, [&] {
    auto to = weft::udp_socket::bind("127.0.0.1:0");
    std::atomic<bool> stop{false};
    weft::wait_group computing;
    for (int i = 0; i < o.procs; ++i)
      computing.go([&] {
        while (!stop) {
        }
      });
    const int port = port_of(to.local_addr());
    if (write(port_pipe[1], &port, sizeof port) != static_cast<ssize_t>(sizeof port)) bench::die("write");
    bench::latencies late(o.ops);
    for (std::int64_t i = 0; i < o.ops; ++i) {
      std::int64_t sent = 0;
      to.recv_from(std::as_writable_bytes(std::span(&sent, 1)));
      late.add(bench::now_ns() - sent);
    }
    stop = true;
    computing.wait();
    late.report("datagram_beside_loops", o);
  });
  waitpid(sender, nullptr, 0);
}

const std::array kWorks{
    bench::work{"tcp_echo_64", 300'000, tcp_echo_64},
    bench::work{"http_hello_64", 3, http_hello_64},
    bench::work{"datagram_beside_loops", 200, datagram_beside_loops},
};

}  // namespace

int main(int argc, char** argv) { return bench::run_main(argc, argv, kWorks); }
