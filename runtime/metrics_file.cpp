// SPDX-License-Identifier: Apache-2.0
// WEFT_METRICS=file:PATH: the metrics in a file, for node_exporter's textfile collector.
//
// A reader sees a whole file always, the old one or the new one: the text goes into a file beside it that is then
// renamed. sysmon wakes the template thread once a second at least, so it is never written much later than due.
#include <fcntl.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "runtime/clock.h"
#include "runtime/metrics.h"
#include "runtime/openmetrics.h"

namespace weft::rt {
namespace {

constexpr std::int64_t kPeriod = 15'000'000'000;  // no collector asks more often

struct metrics_file {
  std::string path;
  std::int64_t next = 0;
  bool reported = false;
};
auto& file = *new metrics_file;  // the template thread's, but before it starts and after it has ended

bool write_all(int fd, const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t n = write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

bool replace(const std::string& path, const std::string& text) {
  const std::string fresh = path + "." + std::to_string(getpid());
  const int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd < 0) return false;
  const bool written = write_all(fd, text);
  if (close(fd) == 0 && written && rename(fresh.c_str(), path.c_str()) == 0) return true;
  const int error = errno;
  unlink(fresh.c_str());
  errno = error;
  return false;
}

void write_metrics() {
  if (replace(file.path, format_metrics(read_metrics(), exposition::prometheus)) || file.reported) return;
  file.reported = true;
  std::fprintf(stderr, "weft: WEFT_METRICS: cannot write %s: %s\n", file.path.c_str(), std::strerror(errno));
}

}  // namespace

void write_metrics_to(std::string path) { file = {std::move(path), 0, false}; }

void write_metrics_if_due() {
  const std::int64_t now = nanotime();
  if (file.path.empty() || now < file.next) return;
  file.next = now + kPeriod;
  write_metrics();
}

void write_last_metrics() {
  if (!file.path.empty()) write_metrics();
}

}  // namespace weft::rt
