// SPDX-License-Identifier: Apache-2.0
// http_server [HOST:PORT]: answers GET / with a greeting, POST /echo with what it was sent, and GET /slow after a
// while, until SIGTERM or SIGINT; requests that have begun are then answered first. Without an address it listens on a
// free port, is its own client, sends itself the signal, and ends.
#include "http_server.h"

#include <sys/signalfd.h>
#include <unistd.h>
#include <csignal>
#include <cstdio>
#include <optional>
#include <system_error>

#include <weft/time.h>

namespace {

using namespace std::chrono_literals;

// That GET /slow is being answered.
weft::chan<weft::unit> slow_began() {
  static const auto began = weft::make_chan<weft::unit>(1);
  return began;
}

http::response answer(const http::request& asked) {
  if (asked.target == "/") return {200, "Hello, World!\n"};
  if (asked.target == "/echo") {
    if (asked.method != "POST") return {405, "POST something\n"};
    return {200, asked.body, "application/octet-stream"};
  }
  if (asked.target == "/slow") {
    slow_began().try_send({});
    weft::sleep_for(100ms);
    return {200, "at last\n"};
  }
  return {404, "There is nothing here\n"};
}

// The signals are blocked in all threads, and read like a file.
class termination {
 public:
  termination() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  }
  ~termination() { close(fd_); }
  termination(const termination&) = delete;
  termination& operator=(const termination&) = delete;
  void wait() const { weft::wait_readable(fd_); }

 private:
  int fd_;
};

// The status and the body of what comes next.
std::optional<std::string> ask(weft::tcp_conn& conn, const std::string& request, std::size_t answer_size) {
  std::error_code error;
  conn.write_all(std::as_bytes(std::span(request)), error);
  std::string head, body(answer_size, '\0');
  for (char c; !error && !head.ends_with("\r\n\r\n"); head += c)
    if (conn.read_exactly(std::as_writable_bytes(std::span(&c, 1)), error) == 0) return std::nullopt;
  if (conn.read_exactly(std::as_writable_bytes(std::span(body)), error) < answer_size) return std::nullopt;
  return head.substr(0, head.find('\r')) + " | " + body;
}

bool expect(const char* what, const std::optional<std::string>& got, const std::string& wanted) {
  const bool as_wanted = got == wanted;
  std::printf("%s: %s%s\n", what, got ? got->c_str() : "nothing", as_wanted ? "" : " (not what was expected)");
  return as_wanted;
}

// One connection is amid a request when the signal comes.
bool be_its_own_client(const std::string& address) {
  auto conn = weft::tcp_conn::connect(address), slow = weft::tcp_conn::connect(address);
  bool good = expect("GET /", ask(conn, "GET / HTTP/1.1\r\nHost: me\r\n\r\n", 14), "HTTP/1.1 200 OK | Hello, World!\n");
  good &= expect("POST /echo", ask(conn, "POST /echo HTTP/1.1\r\nHost: me\r\nContent-Length: 3\r\n\r\nabc", 3),
                 "HTTP/1.1 200 OK | abc");
  std::optional<std::string> late;
  weft::wait_group asking;
  asking.go([&] { late = ask(slow, "GET /slow HTTP/1.1\r\nHost: me\r\n\r\n", 8); });
  slow_began().recv();
  kill(getpid(), SIGTERM);
  asking.wait();
  return expect("GET /slow", late, "HTTP/1.1 200 OK | at last\n") && good;
}

int serve(const char* address, const termination& told_to_end) {
  http::server server(address ? address : "127.0.0.1:0", answer);
  std::printf("listening on http://%s\n", server.address().c_str());
  std::fflush(stdout);
  bool good = true;
  weft::wait_group client;
  if (!address) client.go([&] { good = be_its_own_client(server.address()); });
  weft::go([&] {
    told_to_end.wait();
    server.shut_down(10s);
  });
  server.serve();
  client.wait();
  return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const termination told_to_end;
  const char* const address = argc < 2 ? nullptr : argv[1];
  return weft::run([&] {
    try {
      return serve(address, told_to_end);
    } catch (const std::system_error& e) {
      std::fprintf(stderr, "http_server: %s: %s (expected: an address such as 127.0.0.1:8080)\n", address, e.what());
      return 2;
    }
  });
}
