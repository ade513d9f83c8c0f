// SPDX-License-Identifier: Apache-2.0
// A small HTTP/1.1 server on weft: one goroutine a connection, plain calls that look as if they blocked, and Node's
// http-parser to tell what a request is.
//
// Connections are kept alive and may send requests without waiting for the answers (pipelining); answers are sent in
// order, as many at once as there are requests in the buffer. A client that is slow, or sends too much, gets the status
// that says so (408, 413, 431), then the end. shut_down() lets the requests that have begun come to their end.
#pragma once

#include <http_parser.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <weft/chan.h>
#include <weft/net.h>
#include <weft/runtime.h>
#include <weft/select.h>
#include <weft/sync.h>

namespace http {

/// What a client may take. Times are for the whole of what they name, so sending a byte now and then does not help.
struct limits {
  std::size_t head = 16 << 10;                   ///< bytes of a request's first line and headers: 431
  std::size_t body = 1 << 20;                    ///< bytes of its body: 413
  int connections = 10'000;                      ///< at the same time: 503
  std::chrono::milliseconds head_time{10'000};   ///< from a request's first byte to the end of its headers: 408
  std::chrono::milliseconds body_time{30'000};   ///< and from there to the end of its body: 408
  std::chrono::milliseconds idle_time{60'000};   ///< between requests: the connection is closed
  std::chrono::milliseconds write_time{30'000};  ///< until the client has taken what is sent: it is closed
};

struct request {
  std::string method, target, body;
  std::vector<std::pair<std::string, std::string>> headers;  ///< as they came
  /// The first header of this name, in any case; null: there is none.
  const std::string* header(std::string_view name) const {
    for (const auto& [key, value] : headers)
      if (same_name(key, name)) return &value;
    return nullptr;
  }

 private:
  static char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
  static bool same_name(std::string_view a, std::string_view b) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i)
      if (lower(a[i]) != lower(b[i])) return false;
    return true;
  }
};

struct response {
  int status = 200;
  std::string body;
  std::string content_type = "text/plain; charset=utf-8";
};

/// Called in the connection's goroutine; it may wait. What it throws is answered with 500.
using handler = std::function<response(const request&)>;

inline const char* reason_of(int status) {
  switch (status) {
#define HTTP_REASON(number, name, text) \
  case number: return #text;
    HTTP_STATUS_MAP(HTTP_REASON)
#undef HTTP_REASON
    default: return "Unknown";
  }
}

/// What one connection has sent, request by request.
class request_reader {
 public:
  enum class state { idle, head, body, complete, failed };

  explicit request_reader(const limits& wanted) : limits_(wanted) {
    http_parser_init(&parser_, HTTP_REQUEST);
    parser_.data = this;
  }
  request_reader(const request_reader&) = delete;
  request_reader& operator=(const request_reader&) = delete;

  /// Reads on, to the end of a request at most; returns how much of the text that took.
  std::size_t read(std::string_view text) {
    const std::size_t used = http_parser_execute(&parser_, &callbacks(), text.data(), text.size());
    const http_errno error = HTTP_PARSER_ERRNO(&parser_);
    if (error == HPE_PAUSED)
      http_parser_pause(&parser_, 0);
    else if (error != HPE_OK)
      fail(error == HPE_HEADER_OVERFLOW ? 431 : 400);
    return used;
  }
  /// For the next one.
  void begin_next() {
    request_ = {};
    head_size_ = 0;
    state_ = state::idle;
    wants_continue_ = false;
  }

  state now() const { return state_; }
  const request& got() const { return request_; }
  bool keeps_alive() const { return keeps_alive_; }
  /// Whether the client would close the connection unless told otherwise.
  bool is_old() const { return parser_.http_minor == 0; }
  /// Whether the client waits for a word before it sends the body; once for a request.
  bool wants_continue() { return std::exchange(wants_continue_, false); }
  /// The answer to one that failed.
  int status() const { return status_; }

 private:
  static request_reader& of(http_parser* parser) { return *static_cast<request_reader*>(parser->data); }

  // What a callback returns for the parser to stop.
  int fail(int status) {
    if (state_ != state::failed) status_ = status;
    state_ = state::failed;
    return -1;
  }

  int add_to_head(std::string& part, const char* at, std::size_t size) {
    head_size_ += size;
    if (head_size_ > limits_.head) return fail(431);
    if (state_ == state::head) part.append(at, size);  // what follows a chunked body is no header
    return 0;
  }
  int add_to_name(const char* at, std::size_t size) {
    if (after_value_) {
      head_size_ += 4;  // ": " and the line's end
      if (state_ == state::head) request_.headers.emplace_back();
    }
    after_value_ = false;
    return add_to_head(request_.headers.back().first, at, size);
  }
  int add_to_value(const char* at, std::size_t size) {
    after_value_ = true;
    return add_to_head(request_.headers.back().second, at, size);
  }
  int begin() {
    state_ = state::head;
    after_value_ = true;
    return 0;
  }
  int end_of_head() {
    request_.method = http_method_str(static_cast<http_method>(parser_.method));
    if (parser_.http_major != 1) return fail(505);
    if (parser_.http_minor >= 1 && !request_.header("host")) return fail(400);
    const bool has_size = (parser_.flags & F_CONTENTLENGTH) != 0;
    if (has_size && parser_.content_length > limits_.body) return fail(413);
    const std::string* const expected = request_.header("expect");
    wants_continue_ = expected && *expected == "100-continue" && parser_.http_minor >= 1;
    if (expected && !wants_continue_) return fail(417);
    state_ = state::body;
    return 0;
  }
  int add_to_body(const char* at, std::size_t size) {
    if (request_.body.size() + size > limits_.body) return fail(413);
    request_.body.append(at, size);
    return 0;
  }
  // Pausing makes the parser return before it looks at the next request.
  int end() {
    keeps_alive_ = http_should_keep_alive(&parser_) != 0 && parser_.upgrade == 0;
    state_ = state::complete;
    http_parser_pause(&parser_, 1);
    return 0;
  }

  static const http_parser_settings& callbacks() {
    static const http_parser_settings all = [] {
      http_parser_settings s;
      http_parser_settings_init(&s);
      s.on_message_begin = [](http_parser* p) { return of(p).begin(); };
      s.on_url = [](http_parser* p, const char* at, std::size_t n) {
        return of(p).add_to_head(of(p).request_.target, at, n);
      };
      s.on_header_field = [](http_parser* p, const char* at, std::size_t n) { return of(p).add_to_name(at, n); };
      s.on_header_value = [](http_parser* p, const char* at, std::size_t n) { return of(p).add_to_value(at, n); };
      s.on_headers_complete = [](http_parser* p) { return of(p).end_of_head(); };
      s.on_body = [](http_parser* p, const char* at, std::size_t n) { return of(p).add_to_body(at, n); };
      s.on_message_complete = [](http_parser* p) { return of(p).end(); };
      return s;
    }();
    return all;
  }

  const limits& limits_;
  http_parser parser_;
  request request_;
  state state_ = state::idle;
  std::size_t head_size_ = 0;
  int status_ = 400;
  bool after_value_ = true, keeps_alive_ = true, wants_continue_ = false;
};

class server {
 public:
  /// Listens there; serve() is to follow.
  server(const std::string& address, handler answer, limits wanted = {})
      : listener_(weft::tcp_listener::bind(address)),
        address_(listener_.local_addr()),
        answer_(std::move(answer)),
        limits_(wanted) {}

  /// Where that is, with the port.
  const std::string& address() const { return address_; }

  /// Serves until shut_down() is over. Once.
  void serve() {
    for (auto pause = kFirstPause;;) {
      std::error_code error;
      weft::tcp_conn conn = listener_.accept(error);
      if (error == std::errc::bad_file_descriptor) break;  // closed
      if (error) {
        weft::select(weft::on_recv(closed_, [] {}), weft::on_timeout(pause, [] {}));
        pause = std::min(pause * 2, kLongestPause);
        continue;
      }
      pause = kFirstPause;
      connections_.go([c = std::make_shared<connection>(*this, std::move(conn))] { c->serve(); });
    }
    accepted_.close();
    over_.recv();
  }

  /// Takes no more connections, closes those that are idle, and lets the others answer what they have begun to read;
  /// what has not ended after `grace` is cut off. Once, beside serve().
  void shut_down(std::chrono::milliseconds grace) {
    const auto over = over_;  // serve() may return, and the server go, before close() does
    listener_.close();
    closed_.close();
    {
      const std::lock_guard hold(lock_);
      stopping_ = true;
      for (connection* const each : live_)
        if (each->idle) each->conn.set_read_deadline(weft::clock::now());
    }
    const auto all_ended = weft::make_chan<weft::unit>(1);
    weft::go([this, all_ended] {
      accepted_.recv();
      connections_.wait();
      all_ended.send({});
    });
    weft::select(weft::on_recv(all_ended, [] {}), weft::on_timeout(grace, [&] {
                   cut_off();
                   all_ended.recv();
                 }));
    over.close();
  }

 private:
  using state = request_reader::state;

  static constexpr std::size_t kReadSize = 16 << 10, kWriteSize = 64 << 10;
  static constexpr std::size_t kLinger = 256 << 10;
  static constexpr std::chrono::milliseconds kLingerTime{1'000};
  static constexpr std::chrono::milliseconds kFirstPause{5}, kLongestPause{1'000};  // of accepting, after an error

  struct connection {
    connection(server& its_server, weft::tcp_conn accepted)
        : of(its_server), conn(std::move(accepted)), reader(of.limits_) {}

    void serve() {
      if (!of.add(*this)) return;
      std::error_code error;
      if (of.is_full())
        say_no(503);
      else
        while (serve_some(error)) {
        }
      of.remove(*this);
      conn.close();
    }

    // Reads once, and answers all that has come. False: it is over.
    bool serve_some(std::error_code& error) {
      const std::size_t n = wait_for_more(error);
      if (n == 0) {
        if (error == std::errc::timed_out && reader.now() != state::idle) say_no(408);
        return false;
      }
      std::string_view text(buffer.data(), n);
      bool go_on = true;
      while (go_on && !text.empty()) go_on = serve_part(text, error);
      send(error);
      return go_on && !error;
    }

    std::size_t wait_for_more(std::error_code& error) {
      if (reader.now() == state::idle && !of.begin_idle(*this)) return 0;
      const std::size_t n = conn.read_some(std::as_writable_bytes(std::span(buffer)), error);
      if (reader.now() == state::idle) of.end_idle(*this);
      return n;
    }

    bool serve_part(std::string_view& text, std::error_code& error) {
      const state before = reader.now();
      text.remove_prefix(reader.read(text));
      const state now = reader.now();
      if (now == state::failed) {
        send(error);
        say_no(reader.status());
        return false;
      }
      if (now == state::complete) return answer(error);
      if (now != before)
        conn.set_read_deadline(weft::clock::now() + (now == state::head ? of.limits_.head_time : of.limits_.body_time));
      if (now == state::body && text.empty() && reader.wants_continue()) {
        out += "HTTP/1.1 100 Continue\r\n\r\n";
        send(error);
      }
      return !error;
    }

    bool answer(std::error_code& error) {
      response r;
      bool keep = reader.keeps_alive();
      try {
        r = of.answer_(reader.got());
      } catch (const std::exception&) {
        r = {500, "Internal Server Error\n"};
        keep = false;
      }
      keep = keep && !of.stopping_.load(std::memory_order_relaxed);
      append(r, keep, reader.got().method == "HEAD");
      reader.begin_next();
      becomes_idle = true;
      if (out.size() >= kWriteSize || !keep) send(error);
      if (!keep) linger();
      return keep && !error;
    }

    void append(const response& r, bool keep, bool head_only) {
      out += "HTTP/1.1 ";
      out += std::to_string(r.status);
      out += ' ';
      out += reason_of(r.status);
      out += "\r\nDate: ";
      out += date();
      out += "\r\nContent-Type: ";
      out += r.content_type;
      out += "\r\nContent-Length: ";
      out += std::to_string(r.body.size());
      if (!keep || reader.is_old()) out += keep ? "\r\nConnection: keep-alive" : "\r\nConnection: close";
      out += "\r\n\r\n";
      if (!head_only) out += r.body;
    }

    void send(std::error_code& error) {
      if (out.empty() || error) return;
      conn.set_write_deadline(weft::clock::now() + of.limits_.write_time);
      conn.write_all(std::as_bytes(std::span(out)), error);
      out.clear();
    }

    void say_no(int status) {
      std::error_code error;
      append({status, std::string(reason_of(status)) + "\n"}, false, false);
      send(error);
      if (!error) linger();
    }

    // Closing while there is something unread would reset the connection, and the client might not see the answer.
    void linger() {
      std::error_code error;
      conn.shutdown_write(error);
      conn.set_read_deadline(weft::clock::now() + kLingerTime);
      for (std::size_t read = 0; !error && read < kLinger;) {
        const std::size_t n = conn.read_some(std::as_writable_bytes(std::span(buffer)), error);
        if (n == 0) return;
        read += n;
      }
    }

    std::string_view date() {
      const std::time_t now = std::time(nullptr);
      if (now != date_of) {
        date_of = now;
        std::tm parts{};
        gmtime_r(&now, &parts);
        date_size = std::strftime(date_text.data(), date_text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
      }
      return {date_text.data(), date_size};
    }

    server& of;
    weft::tcp_conn conn;
    request_reader reader;
    std::string out;
    std::array<char, kReadSize> buffer;
    bool idle = false;         // guarded by of.lock_
    bool becomes_idle = true;  // and the time that it may be starts
    std::time_t date_of = -1;
    std::size_t date_size = 0;
    std::array<char, 40> date_text;
  };

  bool add(connection& c) {
    const std::lock_guard hold(lock_);
    if (stopping_) return false;
    live_.insert(&c);
    return true;
  }
  void remove(connection& c) {
    const std::lock_guard hold(lock_);
    live_.erase(&c);
  }
  bool is_full() {
    const std::lock_guard hold(lock_);
    return live_.size() > static_cast<std::size_t>(limits_.connections);
  }

  // False: it is not to wait for another request.
  bool begin_idle(connection& c) {
    const std::lock_guard hold(lock_);
    if (stopping_) return false;
    c.idle = true;
    if (std::exchange(c.becomes_idle, false)) c.conn.set_read_deadline(weft::clock::now() + limits_.idle_time);
    return true;
  }
  void end_idle(connection& c) {
    const std::lock_guard hold(lock_);
    c.idle = false;
  }

  void cut_off() {
    const std::lock_guard hold(lock_);
    for (connection* const each : live_) each->conn.close();
  }

  weft::tcp_listener listener_;
  const std::string address_;
  const handler answer_;
  const limits limits_;
  weft::wait_group connections_;
  weft::chan<weft::unit> closed_ = weft::make_chan<weft::unit>(), accepted_ = weft::make_chan<weft::unit>(),
                         over_ = weft::make_chan<weft::unit>();
  weft::mutex lock_;
  std::unordered_set<connection*> live_;  // guarded by lock_
  std::atomic<bool> stopping_{false};     // written under lock_
};

}  // namespace http
