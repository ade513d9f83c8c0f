// SPDX-License-Identifier: Apache-2.0
// WEFT_METRICS_FD=N: descriptor N is a socket of type SOCK_SEQPACKET that the program's parent reads. It gets
// metrics::read() as text, a packet each time:
//
//   weft 1                                            the format
//   seconds 2.500000                                  since the first run() began
//   counter steals 37
//   histogram runq_wait 1200 0.003 0.000001 0.00009   values, sum, p50, p99; the last three in seconds
//
// The first weft program that finds the variable takes it and its descriptor for itself, so that programs which it
// starts do not report, too. A reader that is slow misses packets; nobody waits for it.
#include "runtime/report.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "runtime/clock.h"
#include "weft/metrics.h"

namespace weft::rt {
namespace {

constexpr const char* kVariable = "WEFT_METRICS_FD";

// Written before a run()'s threads are started.
int socket_of_reader = -1;
std::int64_t since = 0;

// -1: there is none, or it is stale.
int take_socket() {
  const char* const value = std::getenv(kVariable);
  if (!value) return -1;
  const std::string_view text = value;
  int fd = -1, type = 0;
  socklen_t size = sizeof type;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), fd);
  const bool number = error == std::errc{} && end == text.data() + text.size() && fd >= 0;
  unsetenv(kVariable);
  if (!number || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET) return -1;
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  return fd;
}

template <class... Values>
void add_line(std::string& text, const char* format, Values... values) {
  char line[256];
  const int n = std::snprintf(line, sizeof line, format, values...);
  if (n > 0 && n < static_cast<int>(sizeof line)) text += line;
}

std::string text_of(const metrics::snapshot& all) {
  std::string text = "weft 1\n";
  add_line(text, "seconds %.6f\n", static_cast<double>(nanotime() - since) * 1e-9);
  for (const auto& [name, value] : all.counters)
    add_line(text, "counter %s %llu\n", name.c_str(), static_cast<unsigned long long>(value));
  for (const auto& [name, h] : all.histograms)
    add_line(text, "histogram %s %llu %.9f %.9f %.9f\n", name.c_str(), static_cast<unsigned long long>(h.count()),
             h.sum(), h.quantile(0.5), h.quantile(0.99));
  return text;
}

}  // namespace

void open_report() {
  if (socket_of_reader >= 0) return;
  socket_of_reader = take_socket();
  since = nanotime();
}

void report_metrics() {
  if (socket_of_reader < 0) return;
  const std::string text = text_of(metrics::read());
  send(socket_of_reader, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

}  // namespace weft::rt
