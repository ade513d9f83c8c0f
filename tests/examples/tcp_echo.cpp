// SPDX-License-Identifier: Apache-2.0
// tcp_echo [HOST:PORT]: sends back what each connection sends, one goroutine a connection. Without an address it
// listens on a free port, is its own client, and ends.
#include <array>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include <weft/net.h>
#include <weft/runtime.h>
#include <weft/sync.h>
#include <weft/time.h>

namespace {

void echo(weft::tcp_conn conn) {
  std::array<std::byte, 16 << 10> buffer;
  std::error_code error;
  while (const std::size_t n = conn.read_some(buffer, error)) conn.write_all({buffer.data(), n}, error);
}

// Until the listener is closed. Any other error may pass.
void serve(weft::tcp_listener& listener) {
  for (;;) {
    std::error_code error;
    weft::tcp_conn conn = listener.accept(error);
    if (error == std::errc::bad_file_descriptor) return;
    if (error) {
      std::fprintf(stderr, "accept: %s\n", error.message().c_str());
      weft::sleep_for(std::chrono::milliseconds(100));
      continue;
    }
    weft::go(echo, std::move(conn));
  }
}

bool comes_back(weft::tcp_conn& conn, const std::string& text) {
  std::string answer(text.size(), '\0');
  conn.write_all(std::as_bytes(std::span(text)));
  return conn.read_exactly(std::as_writable_bytes(std::span(answer))) == text.size() && answer == text;
}

int be_its_own_client() {
  auto listener = weft::tcp_listener::bind("127.0.0.1:0");
  weft::wait_group serving, asking;
  serving.go([&listener] { serve(listener); });
  std::array<bool, 10> answered{};
  for (std::size_t i = 0; i < answered.size(); ++i)
    asking.go([&, i] {
      auto conn = weft::tcp_conn::connect(listener.local_addr());
      answered[i] = true;
      for (int k = 0; k < 100; ++k) answered[i] &= comes_back(conn, "question " + std::to_string(k));
    });
  asking.wait();
  listener.close();
  serving.wait();
  int n = 0;
  for (const bool each : answered) n += each ? 1 : 0;
  std::printf("%d of %zu clients got all their answers\n", n, answered.size());
  return n == static_cast<int>(answered.size()) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  return weft::run([&] {
    if (argc < 2) return be_its_own_client();
    try {
      auto listener = weft::tcp_listener::bind(argv[1]);
      std::printf("listening on %s\n", listener.local_addr().c_str());
      std::fflush(stdout);
      serve(listener);
      return 0;
    } catch (const std::system_error& e) {
      std::fprintf(stderr, "tcp_echo: %s: %s (expected: an address such as 127.0.0.1:7777)\n", argv[1], e.what());
      return 2;
    }
  });
}
