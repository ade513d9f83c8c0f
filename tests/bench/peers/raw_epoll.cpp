// SPDX-License-Identifier: Apache-2.0
//
// The floor of a server: one thread, one epoll instance, edge triggered, and nothing else. Also the client for peers
// that are not written in C++: raw_epoll client PORT OPS, raw_epoll wrk PORT SECONDS, raw_epoll datagrams PORT OPS.

#include <fcntl.h>

#include <charconv>
#include <string_view>

#include "tests/bench/bench.h"
#include "tests/bench/echo_client.h"

namespace {

int listen_on_loopback(int& port) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd, SOMAXCONN) != 0) bench::die("listen");
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  port = ntohs(address.sin_port);
  return fd;
}

void tcp_echo_64(const bench::options& o) {
  bench::echo_client client(o);
  int port = 0;
  const int listener = listen_on_loopback(port), poller = epoll_create1(EPOLL_CLOEXEC);
  client.go(port);
  int open = 0;
  for (; open < bench::kEchoConnections; ++open) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    const int at_once = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
    event.data.fd = fd;
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
  }
  std::array<epoll_event, 128> events;
  std::array<char, 1024> buffer;
  while (open > 0) {
    const int n = epoll_wait(poller, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < n; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
      if (got > 0) {
        if (send(fd, buffer.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL) != got) bench::die("send");
      } else if (got == 0 || (got < 0 && errno != EAGAIN)) {
        close(fd);
        --open;
      }
    }
  }
  client.wait(o);
}

const std::array kWorks{bench::work{"tcp_echo_64", 300'000, tcp_echo_64}};

int number(std::string_view text) {
  int value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::string_view(argv[1]) == "datagrams") {
    bench::send_datagrams(number(argv[2]), number(argv[3]));
    return 0;
  }
  if (argc == 4 && std::string_view(argv[1]) == "client") {
    bench::pin_to_cpu(1);
    bench::run_echo_client(number(argv[2]), {.procs = 2, .ops = number(argv[3])});
    return 0;
  }
  if (argc == 4 && std::string_view(argv[1]) == "wrk") {
    bench::pin_to_cpu(1);
    bench::run_wrk(number(argv[2]), {.procs = 2, .ops = number(argv[3])});
    return 0;
  }
  return bench::run_main(argc, argv, kWorks);
}
