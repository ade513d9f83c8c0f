// SPDX-License-Identifier: Apache-2.0
// The process's side of export.h.
#include "runtime/export.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <new>
#include <string>

#include "runtime/archive.h"
#include "runtime/clock.h"
#include "runtime/metrics.h"
#include "runtime/proc.h"
#include "runtime/ps_trial.h"
#include "runtime/trace_file.h"

namespace weft::rt {
namespace {

constexpr std::int64_t kInUseNs = 3'000'000'000;  // who looks again and again does so at least this often

struct exporter {
  int fd = -1;
  pid_t owner = 0;
  std::atomic<export_page*> page{nullptr};
  std::atomic<std::int64_t> last_answer{INT64_MIN / 2};
};
auto& self = *new exporter;

void open_page() {
  const int fd = memfd_create(kExportName, MFD_CLOEXEC);
  if (fd < 0) return;
  void* const at = fchmod(fd, 0600) == 0 && ftruncate(fd, kExportPage) == 0
                       ? mmap(nullptr, kExportPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                       : MAP_FAILED;
  if (at == MAP_FAILED) {
    close(fd);
    return;
  }
  auto* const page = ::new (at) export_page;
  page->pid = getpid();
  self.fd = fd;
  self.owner = getpid();
  self.page.store(page, std::memory_order_release);
}

// The child of a fork() has its parent's.
void forget_page() {
  if (export_page* const page = self.page.exchange(nullptr)) munmap(page, kExportPage);
  if (self.fd >= 0) close(self.fd);
  self.fd = -1;
}

// What the question is about stands behind the page; no more than a line is expected. A damaged one has no answer.
std::string answer_about_ps(std::uint64_t size) try {
  std::string bytes(std::min<std::uint64_t>(size, kExportPage), '\0');
  if (pread(self.fd, bytes.data(), bytes.size(), kExportPage) < 0) return "";
  return packed(answer_about_ps(unpacked<ps_request>(bytes)));
} catch (const error&) {
  return "";
}

std::string answer_to(question asked, std::uint64_t size) {
  switch (asked) {
    case question::metrics: return packed(read_metrics());
    case question::costs: return packed(metrics::costs());
    case question::goroutines: return packed(group_goroutines());
    case question::trace: return packed(std::int64_t{start_tracing()});
    case question::ps: return answer_about_ps(size);
  }
  return "";
}

bool write_behind_page(const std::string& bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t n = pwrite(self.fd, bytes.data() + done, bytes.size() - done, kExportPage + static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

}  // namespace

void start_export() {
  if (self.owner != getpid()) {
    forget_page();
    open_page();
  }
  if (export_page* const page = self.page.load(std::memory_order_relaxed))
    page->active.store(1, std::memory_order_release);
}

void stop_export() {
  if (export_page* const page = self.page.load(std::memory_order_relaxed))
    page->active.store(0, std::memory_order_release);
}

bool export_wanted() {
  const export_page* const page = self.page.load(std::memory_order_acquire);
  return page && page->request.load(std::memory_order_acquire) != page->answer.load(std::memory_order_relaxed);
}

bool export_in_use(std::int64_t now) { return now - self.last_answer.load(std::memory_order_relaxed) < kInUseNs; }

void answer_export() {
  if (!export_wanted()) return;
  export_page* const page = self.page.load(std::memory_order_relaxed);
  const std::uint64_t request = page->request.load(std::memory_order_acquire);
  const std::string bytes =
      answer_to(static_cast<question>(request & 0xff), page->size.load(std::memory_order_relaxed));
  page->size.store(write_behind_page(bytes) ? bytes.size() : 0, std::memory_order_relaxed);
  page->answer.store(request, std::memory_order_release);
  self.last_answer.store(nanotime(), std::memory_order_relaxed);
}

}  // namespace weft::rt
