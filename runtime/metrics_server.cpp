// SPDX-License-Identifier: Apache-2.0
// metrics::serve(): the metrics over HTTP, for Prometheus; and WEFT_METRICS=HOST:PORT, which calls it.
//
// A goroutine accepts, and one serves each connection, request by request: pipelined ones wait in its buffer until the
// one before them is answered. What a stranger may cost is bounded: connections (kConnections; further ones wait to be
// accepted), how long one may be silent or slow (kPatience), and what a request may say (the parser's limit for the
// head, kLongestBody).
//
// Listeners and connections belong to the run() in which they were opened: they are closed when its main has returned,
// so that the next may have the address, and the peers see the end. Main waits for that, since a goroutine that is left
// behind in accept() or in a read keeps its file. A goroutine that calls serve() beside the end of main is either
// enrolled before main looks, and waited for, or refused.
#include <http_parser.h>
#include <algorithm>
#include <array>
#include <cstdio>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_set>

#include "runtime/metrics.h"
#include "runtime/openmetrics.h"
#include "runtime/park.h"
#include "weft/chan.h"
#include "weft/error.h"
#include "weft/metrics.h"
#include "weft/net.h"
#include "weft/runtime.h"
#include "weft/select.h"
#include "weft/sync.h"

namespace weft::rt {
namespace {

constexpr std::chrono::seconds kPatience{30};
constexpr int kConnections = 64;
constexpr std::size_t kLongestBody = 64 << 10, kLongestTarget = 1 << 10;
constexpr std::chrono::milliseconds kFirstPause{5}, kLongestPause{1'000};  // as accept()'s own

struct request {
  std::string target;
  std::size_t body = 0;
  bool complete = false;
};

request& of(http_parser* parser) { return *static_cast<request*>(parser->data); }

int on_url(http_parser* parser, const char* text, std::size_t size) {
  of(parser).target.append(text, size);
  return of(parser).target.size() > kLongestTarget ? 1 : 0;
}

int on_body(http_parser* parser, const char*, std::size_t size) {
  return (of(parser).body += size) > kLongestBody ? 1 : 0;
}

// The rest is of the next request.
int on_message_complete(http_parser* parser) {
  of(parser).complete = true;
  http_parser_pause(parser, 1);
  return 0;
}

const http_parser_settings& callbacks() {
  static const http_parser_settings settings = [] {
    http_parser_settings s;
    http_parser_settings_init(&s);
    s.on_url = on_url;
    s.on_body = on_body;
    s.on_message_complete = on_message_complete;
    return s;
  }();
  return settings;
}

struct answer {
  http_status status;
  const char* type;
  std::string body;
};

constexpr const char* kText = "text/plain; charset=utf-8";

answer answer_to(const request& asked, unsigned method) {
  if (asked.target.substr(0, asked.target.find('?')) != "/metrics")
    return {HTTP_STATUS_NOT_FOUND, kText, "There is only /metrics here.\n"};
  if (method != HTTP_GET && method != HTTP_HEAD)
    return {HTTP_STATUS_METHOD_NOT_ALLOWED, kText, "GET /metrics is all that can be asked here.\n"};
  return {HTTP_STATUS_OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", metrics::openmetrics()};
}

void send_answer(tcp_conn& to, const answer& a, bool body_too, bool keep, std::error_code& error) {
  std::string text = "HTTP/1.1 " + std::to_string(a.status) + " " + http_status_str(a.status) +
                     "\r\nContent-Type: " + a.type + "\r\nContent-Length: " + std::to_string(a.body.size()) +
                     (a.status == HTTP_STATUS_METHOD_NOT_ALLOWED ? "\r\nAllow: GET, HEAD" : "") +
                     (keep ? "\r\n\r\n" : "\r\nConnection: close\r\n\r\n");
  if (body_too) text += a.body;
  to.write_all(std::as_bytes(std::span(text)), error);
}

// Reads until a request is complete. False: the connection has ended, or what came is no HTTP (which is said).
class reader {
 public:
  explicit reader(tcp_conn& from) : from_(from) { http_parser_init(&parser_, HTTP_REQUEST); }

  bool next(request& asked) {
    asked = {};
    parser_.data = &asked;
    http_parser_pause(&parser_, 0);
    std::error_code error;
    while (parse(asked, error) && !asked.complete) {
      end_ = from_.read_some(std::as_writable_bytes(std::span(buffer_)), error);
      begin_ = 0;
      if (error || end_ == 0) return false;
    }
    return asked.complete;
  }
  unsigned method() const { return parser_.method; }
  bool keeps() const { return http_should_keep_alive(&parser_) != 0; }

 private:
  bool parse(const request& asked, std::error_code& error) {
    begin_ += http_parser_execute(&parser_, &callbacks(), buffer_.data() + begin_, end_ - begin_);
    const http_errno wrong = HTTP_PARSER_ERRNO(&parser_);
    if (wrong == HPE_OK || (wrong == HPE_PAUSED && asked.complete)) return true;
    send_answer(from_, {HTTP_STATUS_BAD_REQUEST, kText, std::string(http_errno_description(wrong)) + "\n"}, true, false,
                error);
    return false;
  }

  tcp_conn& from_;
  http_parser parser_{};
  std::array<char, 8 << 10> buffer_{};
  std::size_t begin_ = 0, end_ = 0;
};

void serve_connection(tcp_conn& conn) {
  reader requests(conn);
  std::error_code error;
  for (request asked; !error;) {
    conn.set_deadline(clock::now() + kPatience);
    if (!requests.next(asked)) return;
    const bool keep = requests.keeps();
    send_answer(conn, answer_to(asked, requests.method()), requests.method() != HTTP_HEAD, keep, error);
    if (!keep) return;
  }
}

// An address that is listened at, and who has connected there.
class server {
 public:
  // The goroutine that start() begins counts already.
  explicit server(tcp_listener&& bound) : listener_(std::move(bound)) { goroutines_.add(1); }

  // May be called beside stop(), which waits for it. Throws what go() does.
  void start() {
    try {
      go({.name = "weft metrics"}, [this] {
        accept_connections();
        goroutines_.done();
      });
    } catch (...) {
      listener_.close();
      goroutines_.done();
      throw;
    }
  }

  // Closes everything, and waits until no goroutine is left.
  void stop() {
    listener_.close();
    stopped_.close();
    {
      const std::lock_guard hold(lock_);
      stopping_ = true;
      for (tcp_conn* const each : open_) each->close();
    }
    goroutines_.wait();
  }

 private:
  void accept_connections() {
    for (auto pause = kFirstPause;;) {
      room_.acquire();
      std::error_code error;
      tcp_conn conn = listener_.accept(error);
      if (error == std::errc::bad_file_descriptor) return;
      if (error) {
        room_.release();
        back_off(error, pause);
        continue;
      }
      pause = kFirstPause;
      begin(std::move(conn));
    }
  }

  // What accept() does not get over by itself may last: a system call that is refused, no memory.
  void back_off(const std::error_code& error, std::chrono::milliseconds& pause) {
    if (pause == kFirstPause)
      std::fprintf(stderr, "weft: metrics: accept: %s; trying again until it works\n", error.message().c_str());
    select(on_recv(stopped_, [] {}), on_timeout(pause, [] {}));
    pause = std::min(pause * 2, kLongestPause);
  }

  void begin(tcp_conn accepted) {
    goroutines_.add(1);
    go({.name = "weft metrics connection"}, [this, c = std::move(accepted)]() mutable {
      serve(std::move(c));
      room_.release();
      goroutines_.done();
    });
  }

  void serve(tcp_conn conn) {
    if (!add(conn)) return;
    serve_connection(conn);
    remove(conn);
  }

  // False: stop() has been here.
  bool add(tcp_conn& conn) {
    const std::lock_guard hold(lock_);
    if (!stopping_) open_.insert(&conn);
    return !stopping_;
  }
  void remove(tcp_conn& conn) {
    const std::lock_guard hold(lock_);
    open_.erase(&conn);
  }

  tcp_listener listener_;
  semaphore room_{kConnections};
  wait_group goroutines_;
  const chan<unit> stopped_ = make_chan<unit>();
  mutex lock_;
  std::unordered_set<tcp_conn*> open_;  // guarded by lock_
  bool stopping_ = false;               // guarded by lock_
};

// The run()'s servers. The lock is the runtime's own: a goroutine that is left behind never holds it.
struct registry {
  core_lock lock;
  bool open WEFT_GUARDED_BY(lock) = false;  // from main's begin to its end
  std::list<server> servers WEFT_GUARDED_BY(lock);
};
registry& active = *new registry;

// False: there is no main whose end would stop it. A goroutine that an earlier run() left behind may have come as far
// as this by now; it would go no further, and a server that it enrolled would be waited for by this one's main for
// ever.
bool enroll(std::list<server>& fresh) {
  const entered_lock hold(active.lock);
  const m* const mp = this_m();
  const bool welcome = active.open && !(mp && left_behind(mp->run));
  if (welcome) active.servers.splice(active.servers.end(), fresh);
  return welcome;
}

std::list<server> open_registry(bool open) {
  const entered_lock hold(active.lock);
  active.open = open;
  return std::exchange(active.servers, {});
}

}  // namespace

void stop_serving_metrics() {
  for (server& each : open_registry(false)) each.stop();
}

void serve_metrics_at(const std::string& address) {
  open_registry(true);
  if (address.empty()) return;
  try {
    metrics::serve(address);
  } catch (const std::system_error& failed) {
    std::fprintf(stderr, "weft: WEFT_METRICS=%s: %s; going on without\n", address.c_str(), failed.what());
  }
}

}  // namespace weft::rt

namespace weft::metrics {

void serve(std::string_view address) {
  std::list<rt::server> fresh;
  rt::server& added = fresh.emplace_back(tcp_listener::bind(address));
  if (!rt::enroll(fresh)) throw error("metrics::serve: no run() is active");
  added.start();
}

}  // namespace weft::metrics
