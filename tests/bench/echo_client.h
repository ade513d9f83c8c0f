// SPDX-License-Identifier: Apache-2.0
//
// The other side of the servers: a process of its own on the second of the allowed CPUs, which keeps 64 connections
// busy, each with one request at a time, and reports what it saw. The server has the first CPU to itself. For
// tcp_echo_64 it is this program, for http_hello_64 wrk.

#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/bench/bench.h"

namespace bench {

constexpr int kEchoConnections = 64;
constexpr std::size_t kEchoBytes = 64;

// The n-th of the CPUs that this process may use; the last if there are fewer.
inline void pin_to_cpu(int n) {
  cpu_set_t allowed, one;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) die("sched_getaffinity");
  CPU_ZERO(&one);
  for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE && seen <= n; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ++seen;
  }
  if (sched_setaffinity(0, sizeof one, &one) != 0) die("sched_setaffinity");
}

inline int connect_to_port(int port) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<in_port_t>(port));
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int at_once = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) die("connect");
  return fd;
}

// Asks o.ops times, after as many to warm up as there are connections, and reports.
inline void run_echo_client(int port, const options& o) {
  struct connection {
    int fd;
    std::int64_t sent;
  };
  std::array<connection, kEchoConnections> connections;
  std::array<char, kEchoBytes> request{}, answer;
  const auto ask = [&request](connection& c) {
    c.sent = now_ns();
    if (send(c.fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(kEchoBytes)) die("send");
  };
  const int poller = epoll_create1(EPOLL_CLOEXEC);
  for (connection& c : connections) {
    c.fd = connect_to_port(port);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &c;
    epoll_ctl(poller, EPOLL_CTL_ADD, c.fd, &event);
    ask(c);
  }
  latencies found(o.ops);
  std::int64_t left = o.ops + kEchoConnections, start = 0;
  std::array<epoll_event, kEchoConnections> events;
  while (left > 0) {
    const int n = epoll_wait(poller, events.data(), kEchoConnections, -1);
    for (int i = 0; i < n && left > 0; ++i) {
      auto& c = *static_cast<connection*>(events[static_cast<std::size_t>(i)].data.ptr);
      if (recv(c.fd, answer.data(), answer.size(), MSG_WAITALL) != static_cast<ssize_t>(kEchoBytes)) die("recv");
      const std::int64_t now = now_ns();
      if (--left < o.ops) found.add(now - c.sent);
      if (left == o.ops) start = now;
      if (left >= kEchoConnections) ask(c);
    }
  }
  report("tcp_echo_64", o, static_cast<double>(o.ops) * 1e9 / static_cast<double>(now_ns() - start), "calls/s");
  found.report("tcp_echo_64_latency", o);
}

// wrk asks for o.ops seconds.
inline void run_wrk(int port, const options& o) {
  const std::string command = "wrk -t1 -c" + std::to_string(kEchoConnections) + " -d" + std::to_string(o.ops) +
                              "s http://127.0.0.1:" + std::to_string(port) + "/";
  FILE* const wrk = popen(command.c_str(), "r");
  if (!wrk) die("popen");
  std::string said;
  std::array<char, 256> line;
  while (std::fgets(line.data(), line.size(), wrk)) said += line.data();
  constexpr std::string_view kRate = "Requests/sec:";
  const std::size_t at = said.find(kRate);
  if (pclose(wrk) != 0 || at == said.npos || said.find("errors") != said.npos || said.find("Non-2xx") != said.npos)
    die("wrk");
  report("http_hello_64", o, std::atof(said.c_str() + at + kRate.size()), "calls/s");
}

// The other side of datagram_beside_loops: sends the time every few milliseconds.
inline void send_datagrams(int port, std::int64_t n) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<in_port_t>(port));
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  for (std::int64_t i = 0; i < n; ++i) {
    kernel_sleep((4 + i % 5) * kMillisecond);
    const std::int64_t now = now_ns();
    if (sendto(fd, &now, sizeof now, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) < 0) die("sendto");
  }
  close(fd);
}

// Forks the client, which begins when go() is called, and pins this process to its own CPU.
class client_process {
 public:
  client_process(const options& o, void (*client)(int port, const options& o)) {
    if (pipe(port_.data()) != 0) die("pipe");
    child_ = fork();
    if (child_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      pin_to_cpu(1);
      int port = 0;
      if (read(port_[0], &port, sizeof port) != static_cast<ssize_t>(sizeof port)) _exit(1);
      client(port, o);
      _exit(0);
    }
    pin_to_cpu(0);
  }
  void go(int port) {
    if (write(port_[1], &port, sizeof port) != static_cast<ssize_t>(sizeof port)) die("write");
  }
  void wait() {
    int status = 0;
    if (waitpid(child_, &status, 0) != child_ || status != 0) die("the client");
  }

 private:
  std::array<int, 2> port_{};
  pid_t child_ = 0;
};

class echo_client : public client_process {
 public:
  explicit echo_client(const options& o) : client_process(o, run_echo_client) {}
  // Reports what the server has used, too: that is less disturbed by a busy machine.
  void wait(const options& o) {
    client_process::wait();
    report("tcp_echo_64_cpu", o, cpu_seconds() * 1e9 / static_cast<double>(o.ops), "ns");
  }
};

}  // namespace bench
