// SPDX-License-Identifier: Apache-2.0
// metrics::serve(): what Prometheus gets, and what strangers do not. All run()s are in children.
#include <weft/metrics.h>
#include <weft/net.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <exception>
#include <string>
#include <vector>

#include "runtime/sanitizer.h"
#include "tests/child.h"
#include "tests/fixture.h"
#include "tests/sockets.h"
#include "tests/unprivileged.h"

namespace {

using namespace weft;
using namespace weft::test;

class metrics_server : public every_runtime {
 protected:
  /// One that nobody has.
  static std::string free_address() { return "127.0.0.1:" + std::to_string(free_port()); }

  /// For a body with run()s of its own.
  template <class F>
  static void in_one_child(F body) {
    const child_result r = in_child(body);
    WEFT_SKIP_IF_CHILD_DID(r);
    EXPECT_TRUE(r.exited(0)) << r;
    EXPECT_EQ(r.err, "");
  }
  /// In main, which leaves the server behind.
  template <class F>
  static void in_main(F body) {
    in_one_child([&] { leaving_goroutines(body); });
  }
};
WEFT_ON_FEW_RUNTIMES(metrics_server);

// All that comes until the server closes.
std::string ask(const std::string& address, const std::string& text) {
  auto conn = tcp_conn::connect(address);
  conn.write_all(bytes(text));
  std::string all;
  std::array<std::byte, 4096> part;
  std::error_code error;
  while (const std::size_t n = conn.read_some(part, error)) all.append(reinterpret_cast<const char*>(part.data()), n);
  return all;
}

std::string get(const std::string& path, const std::string& more = "Connection: close\r\n") {
  return "GET " + path + " HTTP/1.1\r\nHost: me\r\n" + more + "\r\n";
}

TEST_P(metrics_server, answers_with_the_metrics) {
  in_main([] {
    const std::string address = free_address();
    metrics::serve(address);
    const std::string answer = ask(address, get("/metrics"));
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
    EXPECT_NE(answer.find("Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"), answer.npos);
    EXPECT_NE(answer.find("\nweft_gomaxprocs"), answer.npos) << answer;
    EXPECT_TRUE(answer.ends_with("# EOF\n")) << answer;
  });
}

TEST_P(metrics_server, has_nothing_else) {
  in_main([] {
    const std::string address = free_address();
    metrics::serve(address);
    EXPECT_TRUE(ask(address, get("/")).starts_with("HTTP/1.1 404 Not Found\r\n"));
    EXPECT_TRUE(ask(address, get("/metrics/more")).starts_with("HTTP/1.1 404 Not Found\r\n"));
    EXPECT_TRUE(ask(address, get("/metrics?name=x")).starts_with("HTTP/1.1 200 OK\r\n"));
    EXPECT_TRUE(ask(address, "DELETE /metrics HTTP/1.1\r\nConnection: close\r\n\r\n")
                    .starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
    const std::string head = ask(address, "HEAD /metrics HTTP/1.1\r\nConnection: close\r\n\r\n");
    EXPECT_TRUE(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n")) << head;
  });
}

TEST_P(metrics_server, answers_one_request_after_the_other_on_a_connection) {
  in_main([] {
    const std::string address = free_address();
    metrics::serve(address);
    std::string answers = ask(address, get("/1", "") + get("/metrics", "") + get("/3", "") + get("/4"));
    std::vector<std::string> first_lines;
    for (std::size_t at = answers.find("HTTP/1.1 "); at != answers.npos; at = answers.find("HTTP/1.1 ", at + 1))
      first_lines.push_back(answers.substr(at + 9, 3));
    EXPECT_EQ(first_lines, (std::vector<std::string>{"404", "200", "404", "404"})) << answers;
  });
}

TEST_P(metrics_server, ends_what_is_no_http) {
  in_main([] {
    const std::string address = free_address();
    metrics::serve(address);
    EXPECT_TRUE(ask(address, "What is this?\r\n\r\n").starts_with("HTTP/1.1 400 Bad Request\r\n"));
    EXPECT_TRUE(ask(address, get("/" + std::string(10'000, 'x'))).starts_with("HTTP/1.1 400 Bad Request\r\n"));
    EXPECT_TRUE(ask(address, "POST /metrics HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + std::string(100'000, 'x'))
                    .starts_with("HTTP/1.1 400 Bad Request\r\n"));
    EXPECT_TRUE(ask(address, get("/metrics")).starts_with("HTTP/1.1 200 OK\r\n"));
  });
}

TEST_P(metrics_server, serves_many_at_once_more_than_it_has_room_for) {
  in_main([] {
    const std::string address = free_address();
    metrics::serve(address);
    wait_group all;
    for (int i = 0; i < 100; ++i) all.go([&] { EXPECT_TRUE(ask(address, get("/metrics")).ends_with("# EOF\n")); });
    all.wait();
  });
}

TEST_P(metrics_server, throws_where_the_address_is_taken) {
  in_main([] {
    const auto taken = tcp_listener::bind("127.0.0.1:0");
    EXPECT_THROW(metrics::serve(taken.local_addr()), std::system_error);
    EXPECT_THROW(metrics::serve("nonsense"), std::system_error);
  });
}

TEST_P(metrics_server, gives_its_address_back_with_the_end_of_the_run) {
  in_one_child([] {
    const std::string address = free_address();
    leaving_goroutines([&] { metrics::serve(address); });
    for (int i = 0; i < 3; ++i)
      leaving_goroutines([&] {
        metrics::serve(address);
        EXPECT_TRUE(ask(address, get("/metrics")).ends_with("# EOF\n"));
      });
    EXPECT_THROW(metrics::serve(address), error) << "no run() is active";
    leaving_goroutines([&] { metrics::serve(address); });
  });
}

TEST_P(metrics_server, closes_the_connections_that_are_kept_with_the_end_of_the_run) {
  in_one_child([] {
    tcp_conn idle, amid_request;
    leaving_goroutines([&] {
      const std::string address = free_address();
      metrics::serve(address);
      idle = tcp_conn::connect(address);
      amid_request = tcp_conn::connect(address);
      amid_request.write_all(bytes("GET /met"));
      idle.write_all(bytes(get("/nothing", "")));
      EXPECT_EQ(read_text(idle, 8), "HTTP/1.1");
    });
    for (tcp_conn* each : {&idle, &amid_request}) {
      each->set_deadline(clock::now() + kPatience / 2);
      std::error_code error;
      read_text(*each, 1'000, error);
      EXPECT_NE(error, std::errc::timed_out);
    }
  });
}

// A server is closed with the run that it is of, or there is none.
TEST_P(metrics_server, may_be_started_beside_the_end_of_main) {
  in_one_child([] {
    const int rounds = scaled(rt::kSanitized ? 5 : 20);  // there, hundreds of servers take a second to close
    for (int i = 0; i < rounds; ++i) {
      std::atomic<int> started{0};
      leaving_goroutines([&started] {
        for (int k = 0; k < 4; ++k)
          go([&started] {
            try {
              for (;; ++started) metrics::serve("127.0.0.1:0");
            } catch (const std::exception&) {  // main has returned, or there is no descriptor left
            }
          });
        EXPECT_TRUE(eventually([&started] { return started > 4; }));
      });
    }
  });
}

TEST_P(metrics_server, that_cannot_accept_waits_a_while_says_so_and_ends_with_the_run) {
  const child_result r = in_child([] {
    refuse_call(SYS_accept4, EPERM);
    leaving_goroutines([] {
      const std::string address = free_address();
      const int before = parked(wait_reason::select);
      metrics::serve(address);
      const auto waiting = tcp_conn::connect(address);
      EXPECT_TRUE(eventually_parked(wait_reason::select, before, 1));
    });
  });
  WEFT_SKIP_IF_CHILD_DID(r);
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "weft: metrics: accept: Operation not permitted; trying again until it works\n");
}

TEST_P(metrics_server, is_started_by_the_environment) {
  const std::string address = free_address();
  const child_result r = in_child({{"WEFT_METRICS", address}}, [&] {
    leaving_goroutines([&] { EXPECT_TRUE(ask(address, get("/metrics")).ends_with("# EOF\n")); });
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "");
}

TEST_P(metrics_server, that_cannot_be_started_by_the_environment_is_one_line) {
  const auto taken = tcp_listener::bind("127.0.0.1:0");
  const std::string address = taken.local_addr();
  const child_result r = in_child({{"WEFT_METRICS", address}}, [] { weft::run(options(), [] {}); });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_TRUE(r.err.starts_with("weft: WEFT_METRICS=" + address + ": ")) << r;
  EXPECT_EQ(lines_of(r.err).size(), 1u) << r;
}

}  // namespace
