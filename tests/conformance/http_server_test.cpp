// SPDX-License-Identifier: Apache-2.0
// The example HTTP server, with clients of all manners.
#include "tests/examples/http_server.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <random>
#include <stdexcept>
#include <utility>

#include <weft/time.h>

#include "tests/fixture.h"
#include "tests/sockets.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

class http_server : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(http_server);

http::response answer(const http::request& asked) {
  if (asked.target == "/throw") throw std::runtime_error("thrown");
  if (asked.target == "/huge") return {200, std::string(32 << 20, 'x')};
  return {200, asked.method + " " + asked.target + " " + asked.body};
}

// Serves while it lives.
class serving {
 public:
  explicit serving(http::limits limits = {}, http::handler handler = answer)
      : server_("127.0.0.1:0", std::move(handler), limits) {
    done_.go([this] { server_.serve(); });
  }
  ~serving() {
    if (!over_) shut_down(10s);
  }
  serving(const serving&) = delete;
  serving& operator=(const serving&) = delete;

  tcp_conn connect() { return tcp_conn::connect(server_.address()); }
  std::string address() const { return server_.address(); }
  void shut_down(std::chrono::milliseconds grace) {
    over_ = true;
    server_.shut_down(grace);
    done_.wait();
  }

 private:
  http::server server_;
  wait_group done_;
  bool over_ = false;
};

struct answered {
  int status = 0;  // 0: the connection ended instead
  std::string head, body;
  bool closes() const { return head.find("Connection: close\r\n") != head.npos; }
};

std::string read_head(stream& from) {
  std::string head;
  std::error_code error;
  for (char c; !head.ends_with("\r\n\r\n") && !error; head += c)
    if (from.read_exactly(std::as_writable_bytes(std::span(&c, 1)), error) == 0) return "";
  return head;
}

int number_after(const std::string& text, std::string_view before) {
  const std::size_t at = text.find(before);
  int n = 0;
  if (at != text.npos) std::from_chars(text.data() + at + before.size(), text.data() + text.size(), n);
  return n;
}

answered read_answer(stream& from, bool head_only = false) {
  answered got;
  got.head = read_head(from);
  got.status = number_after(got.head, "HTTP/1.1 ");
  const int size = number_after(got.head, "Content-Length: ");
  std::error_code error;
  if (!head_only && size > 0) got.body = read_text(from, static_cast<std::size_t>(size), error);
  return got;
}

answered ask(stream& server, const std::string& request) {
  std::error_code error;
  server.write_all(bytes(request), error);
  return read_answer(server);
}

std::string get(const std::string& target) { return "GET " + target + " HTTP/1.1\r\nHost: test\r\n\r\n"; }
std::string post(const std::string& target, const std::string& body) {
  return "POST " + target + " HTTP/1.1\r\nHost: test\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
         body;
}

void expect_end(stream& conn) { EXPECT_EQ(read_text(conn, 1), ""); }

TEST_P(http_server, connections_are_kept_alive) {
  in_main([] {
    serving server;
    auto conn = server.connect();
    for (int i = 0; i < scaled(100); ++i) {
      const std::string target = "/" + std::to_string(i);
      EXPECT_EQ(ask(conn, get(target)).body, "GET " + target + " ");
      EXPECT_EQ(ask(conn, post(target, "body")).body, "POST " + target + " body");
    }
  });
}

TEST_P(http_server, many_clients_at_once) {
  in_main([] {
    serving server;
    wait_group done;
    for (int i = 0; i < 50; ++i)
      done.go([&server, i] {
        auto conn = server.connect();
        for (int k = 0; k < 20; ++k)
          EXPECT_EQ(ask(conn, post("/", std::to_string(i * k))).body, "POST / " + std::to_string(i * k));
      });
    done.wait();
  });
}

TEST_P(http_server, pipelined_requests_are_answered_in_order) {
  in_main([] {
    serving server;
    auto conn = server.connect();
    const int n = scaled(1000);
    wait_group done;
    done.go([&conn, n] {
      std::string all;
      for (int i = 0; i < n; ++i) all += i % 3 == 0 ? post("/" + std::to_string(i), "x") : get("/" + std::to_string(i));
      conn.write_all(bytes(all));
    });
    for (int i = 0; i < n; ++i)
      EXPECT_EQ(read_answer(conn).body,
                (i % 3 == 0 ? "POST /" : "GET /") + std::to_string(i) + (i % 3 == 0 ? " x" : " "));
    done.wait();
  });
}

TEST_P(http_server, a_request_may_come_in_pieces_of_any_size) {
  in_main([] {
    serving server;
    auto conn = server.connect();
    const std::string request =
        "POST /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n" +
        post("/b", "fgh");
    for (std::size_t size : {1, 2, 7, 50}) {
      for (std::size_t at = 0; at < request.size(); at += size) {
        conn.write_all(bytes(request.substr(at, size)));
        yield();
      }
      EXPECT_EQ(read_answer(conn).body, "POST /a abcde");
      EXPECT_EQ(read_answer(conn).body, "POST /b fgh");
    }
  });
}

TEST_P(http_server, what_is_too_large_is_refused) {
  in_main([] {
    http::limits small;
    small.head = 1000;
    small.body = 100;
    serving server(small);
    const std::string begin = "POST / HTTP/1.1\r\nHost: test\r\n";
    for (const auto& [request, status] : std::vector<std::pair<std::string, int>>{
             {get("/" + std::string(1000, 'x')), 431},
             {"GET / HTTP/1.1\r\nHost: test\r\nX: " + std::string(1000, 'x') + "\r\n\r\n", 431},
             {"GET / HTTP/1.1\r\nHost: test\r\n" + std::string(1000, 'x'), 431},
             {post("/", std::string(101, 'x')), 413},
             {begin + "Transfer-Encoding: chunked\r\n\r\n80\r\n" + std::string(128, 'x') + "\r\n0\r\n\r\n", 413}}) {
      auto conn = server.connect();
      const answered got = ask(conn, request);
      EXPECT_EQ(got.status, status) << request;
      EXPECT_TRUE(got.closes());
      expect_end(conn);
    }
    auto conn = server.connect();
    EXPECT_EQ(ask(conn, post("/", std::string(100, 'x'))).status, 200);
    // The answer arrives though much more is on its way.
    EXPECT_EQ(ask(conn, post("/", std::string(200'000, 'x'))).status, 413);
  });
}

TEST_P(http_server, what_is_no_request_is_refused) {
  in_main([] {
    serving server;
    for (const auto& [request, status] : std::vector<std::pair<std::string, int>>{
             {"what is this\r\n\r\n", 400},
             {"GET / HTTP/1.1\r\n\r\n", 400},
             {"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400},
             {"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
             {"GET / HTTP/1.1\r\nHost: test\r\nExpect: miracles\r\n\r\n", 417},
             {"GET / HTTP/2.0\r\nHost: test\r\n\r\n", 505}}) {
      auto conn = server.connect();
      EXPECT_EQ(ask(conn, request).status, status) << request;
      expect_end(conn);
    }
    // What came before it is answered.
    auto conn = server.connect();
    EXPECT_EQ(ask(conn, get("/") + "nonsense\r\n\r\n").status, 200);
    EXPECT_EQ(read_answer(conn).status, 400);
    expect_end(conn);
  });
}

TEST_P(http_server, slow_clients_are_sent_away) {
  in_main([] {
    http::limits short_times;
    short_times.head_time = short_times.body_time = 100ms;
    serving server(short_times);
    auto slow_head = server.connect(), slow_body = server.connect();
    slow_head.write_all(bytes("GET / HTTP/1.1\r\nX: "));
    slow_body.write_all(bytes("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nabc"));
    // A byte now and then does not help.
    wait_group dripping;
    dripping.go([&slow_head] {
      std::error_code error;
      for (int i = 0; i < 100 && !error; ++i) {
        sleep_for(5ms);
        slow_head.write_all(bytes("x"), error);
      }
    });
    EXPECT_EQ(read_answer(slow_head).status, 408);
    EXPECT_EQ(read_answer(slow_body).status, 408);
    dripping.wait();
  });
}

TEST_P(http_server, idle_connections_are_closed) {
  in_main([] {
    http::limits short_times;
    short_times.idle_time = 100ms;
    serving server(short_times);
    auto silent = server.connect(), chatting = server.connect();
    // What is no request does not help.
    std::error_code error;
    int lines = 0;
    for (; !error && lines < 1'000; ++lines) {
      sleep_for(5ms);
      chatting.write_all(bytes("\r\n"), error);
    }
    EXPECT_LT(lines, 1'000);
    expect_end(silent);
    EXPECT_TRUE(eventually([&server] {
      auto kept = server.connect();
      return ask(kept, get("/")).status == 200 && read_text(kept, 1).empty();
    }));
  });
}

TEST_P(http_server, a_client_that_does_not_read_is_cut_off) {
  in_main([] {
    http::limits short_times;
    short_times.write_time = 50ms;
    std::atomic<bool> asked{false};
    serving server(short_times, [&](const http::request& request) {
      asked = true;
      return answer(request);
    });
    const auto before = num_goroutine();
    auto conn = server.connect();
    conn.write_all(bytes(get("/huge")));
    EXPECT_TRUE(eventually(asked));
    EXPECT_TRUE(eventually([before] { return num_goroutine() == before; })) << "its connection has not ended";
    std::error_code error;
    std::string text(1 << 20, '\0');
    std::size_t size = 0;
    while (const std::size_t n = conn.read_some(std::as_writable_bytes(std::span(text)), error)) size += n;
    EXPECT_LT(size, 32u << 20);
  });
}

// A socket of this process that listens, and its address; there is one.
std::pair<int, std::string> listening() {
  for (int fd = 0; fd < 10'000; ++fd) {
    int yes = 0;
    socklen_t size = sizeof yes;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &size) != 0 || yes == 0) continue;
    sockaddr_in at{};
    size = sizeof at;
    getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size);
    return {fd, "127.0.0.1:" + std::to_string(ntohs(at.sin_port))};
  }
  return {-1, ""};
}

TEST_P(http_server, accepts_on_when_what_hindered_it_is_over) {
  in_main([] {
    serving server;
    const auto [fd, address] = listening();
    ASSERT_EQ(address, server.address());
    const int before = parked(wait_reason::select);
    ::shutdown(fd, SHUT_RDWR);  // accept4() is EINVAL from now on
    EXPECT_TRUE(eventually_parked(wait_reason::select, before, 1));
    EXPECT_EQ(::listen(fd, 10), 0);
    auto conn = tcp_conn::connect(listening().second);  // another port, as it had asked for any
    EXPECT_EQ(ask(conn, get("/")).status, 200);
  });
}

TEST_P(http_server, head_old_clients_and_those_that_wait_for_a_word) {
  in_main([] {
    serving server;
    auto conn = server.connect();
    conn.write_all(bytes("HEAD /x HTTP/1.1\r\nHost: test\r\n\r\n"));
    const answered head = read_answer(conn, true);
    EXPECT_EQ(head.status, 200);
    EXPECT_EQ(number_after(head.head, "Content-Length: "), 8);
    conn.write_all(bytes("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"));
    EXPECT_EQ(read_answer(conn, true).status, 100);
    EXPECT_EQ(ask(conn, "ok").body, "POST / ok");
    EXPECT_TRUE(ask(conn, "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").closes());
    expect_end(conn);
    auto old = server.connect();
    EXPECT_EQ(ask(old, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").status, 200);
    EXPECT_TRUE(ask(old, "GET / HTTP/1.0\r\n\r\n").closes());
    expect_end(old);
  });
}

TEST_P(http_server, what_a_handler_throws_is_an_error_of_the_server) {
  in_main([] {
    serving server;
    auto conn = server.connect();
    EXPECT_EQ(ask(conn, get("/throw")).status, 500);
    expect_end(conn);
  });
}

TEST_P(http_server, one_too_many_is_told_so) {
  in_main([] {
    http::limits few;
    few.connections = 2;
    serving server(few);
    auto first = server.connect(), second = server.connect();
    EXPECT_EQ(ask(first, get("/")).status, 200);
    EXPECT_EQ(ask(second, get("/")).status, 200);
    auto third = server.connect();
    EXPECT_EQ(read_answer(third).status, 503);
    first.close();
    EXPECT_TRUE(eventually([&server] {
      auto next = server.connect();
      return ask(next, get("/")).status == 200;
    }));
  });
}

TEST_P(http_server, shutting_down_answers_what_has_begun) {
  in_main([] {
    const auto began = make_chan<unit>(), go_on = make_chan<unit>();
    serving server({}, [&](const http::request& asked) {
      if (asked.target == "/slow") {
        began.send({});
        go_on.recv();
      }
      return answer(asked);
    });
    auto idle = server.connect(), fresh = server.connect(), busy = server.connect();
    EXPECT_EQ(ask(idle, get("/")).status, 200);
    busy.write_all(bytes(get("/slow") + get("/not this one")));
    began.recv();
    wait_group ending;
    ending.go([&server] { server.shut_down(10s); });
    expect_end(idle);
    expect_end(fresh);
    // The file is closed once the goroutine that accepts has let go of it.
    EXPECT_TRUE(eventually([&server] {
      return error_of([&](std::error_code& error) { tcp_conn::connect(server.address(), error); }) ==
             std::errc::connection_refused;
    }));
    go_on.send({});
    const answered got = read_answer(busy);
    EXPECT_EQ(got.body, "GET /slow ");
    EXPECT_TRUE(got.closes());
    expect_end(busy);
    busy.close();
    ending.wait();
  });
}

TEST_P(http_server, shutting_down_cuts_off_what_takes_too_long) {
  in_main([] {
    const auto began = make_chan<unit>(), go_on = make_chan<unit>();
    serving server({}, [&](const http::request& asked) {
      began.send({});
      go_on.recv();
      return answer(asked);
    });
    auto conn = server.connect();
    conn.write_all(bytes(get("/")));
    began.recv();
    wait_group ending;
    ending.go([&server] { server.shut_down(1ms); });
    EXPECT_EQ(read_answer(conn).status, 0);
    go_on.send({});
    ending.wait();
  });
}

// Requests with bytes changed, left out, repeated, and cut: the server answers or hangs up, and goes on.
TEST_P(http_server, a_fuzzed_client_does_no_harm) {
  in_main([] {
    http::limits short_times;
    short_times.head_time = short_times.body_time = short_times.idle_time = 20ms;
    serving server(short_times);
    std::mt19937 random(2026);
    const auto below = [&random](std::size_t n) {
      return std::uniform_int_distribution<std::size_t>(0, n - 1)(random);
    };
    const std::array<std::string, 3> seeds{
        get("/") + post("/", "some body"),
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: upgrade\r\n\r\nabcd"};
    for (int i = 0; i < scaled(300); ++i) {
      std::string text = seeds[below(seeds.size())];
      for (std::size_t changes = below(6); changes > 0 && !text.empty(); --changes) {
        const std::size_t at = below(text.size());
        switch (below(4)) {
          case 0: text[at] = static_cast<char>(below(256)); break;
          case 1: text.erase(at, 1 + below(4)); break;
          case 2: text.insert(at, text.substr(below(text.size()), 8)); break;
          default: text.resize(at); break;
        }
      }
      auto conn = server.connect();
      std::error_code error;
      conn.write_all(bytes(text), error);
      if (below(2) == 0) conn.shutdown_write(error);
      if (below(3) == 0) continue;
      std::array<std::byte, 4096> buffer;
      while (conn.read_some(buffer, error) > 0) {
      }
    }
    EXPECT_TRUE(eventually([&server] {
      auto conn = server.connect();
      return ask(conn, get("/still")).body == "GET /still ";
    }));
  });
}

}  // namespace
