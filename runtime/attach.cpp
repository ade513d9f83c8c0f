// SPDX-License-Identifier: Apache-2.0
// The side of export.h that asks.
#include "weft/attach.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "runtime/archive.h"
#include "runtime/export.h"

namespace weft {
namespace {

using rt::export_page;
using rt::question;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience{10};
constexpr std::chrono::seconds kUsually{2};  // an answer may take a second
constexpr int kLookEveryMs = 2;

class descriptor {
 public:
  explicit descriptor(int fd = -1) : fd_(fd) {}
  ~descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

std::string folder_of(int pid) { return "/proc/" + std::to_string(pid); }

[[noreturn]] void refuse(int pid, const std::string& what) {
  throw error("process " + std::to_string(pid) + " " + what);
}

[[noreturn]] void refuse_access(int pid) {
  struct stat status;
  if (stat(folder_of(pid).c_str(), &status) != 0) throw error("there is no process " + std::to_string(pid));
  // /proc shows a process that others are kept away from as root's.
  if (status.st_uid != geteuid() && status.st_uid != 0) refuse(pid, "is another user's");
  refuse(pid, "is another user's, or has privileges: only root may look at it");
}

// The last of the line "NSpid:", of the namespaces from ours to the innermost.
int innermost_pid(int pid) {
  std::FILE* const file = std::fopen((folder_of(pid) + "/status").c_str(), "re");
  if (!file) return pid;
  int found = pid;
  char* rest = nullptr;
  for (char line[256]; std::fgets(line, sizeof line, file);)
    if (std::strncmp(line, "NSpid:", 6) == 0)
      for (const char* at = strtok_r(line + 6, "\t \n", &rest); at; at = strtok_r(nullptr, "\t \n", &rest))
        found = std::atoi(at);
  std::fclose(file);
  return found;
}

// By a signal, or by somebody who traces it.
bool is_stopped(int pid) {
  std::FILE* const file = std::fopen((folder_of(pid) + "/stat").c_str(), "re");
  if (!file) return false;
  char line[512];
  const std::size_t n = std::fread(line, 1, sizeof line - 1, file);
  std::fclose(file);
  line[n] = '\0';
  const char* const name_end = std::strrchr(line, ')');
  return name_end && (name_end[2] == 'T' || name_end[2] == 't');
}

// Its path below /proc; empty: there is none.
std::string find_page(int pid) {
  const std::string folder = folder_of(pid) + "/fd";
  DIR* const all = opendir(folder.c_str());
  if (!all) refuse_access(pid);
  const std::string wanted = "/memfd:" + std::string(rt::kExportName) + " (deleted)";
  std::string found;
  while (const dirent* const one = readdir(all)) {
    const std::string path = folder + "/" + one->d_name;
    char target[PATH_MAX];
    const ssize_t n = readlink(path.c_str(), target, sizeof target);
    if (n > 0 && std::string_view(target, static_cast<std::size_t>(n)) == wanted) found = path;
  }
  closedir(all);
  return found;
}

int open_page(int pid) {
  const std::string path = find_page(pid);
  if (path.empty()) refuse(pid, "does not run weft");
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) refuse_access(pid);
  return fd;
}

int open_pidfd(int pid) {
  const int fd = pid > 0 ? static_cast<int>(syscall(SYS_pidfd_open, pid, 0)) : -1;
  if (fd < 0) throw error("there is no process " + std::to_string(pid));
  return fd;
}

}  // namespace

class attachment::connection {
 public:
  explicit connection(int process) : pid(process), pidfd_(open_pidfd(process)), file_(open_page(process)) {
    struct stat status;
    void* const at = fstat(file_.get(), &status) == 0 && status.st_size >= rt::kExportPage
                         ? mmap(nullptr, rt::kExportPage, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0)
                         : MAP_FAILED;
    if (at == MAP_FAILED) refuse(pid, "does not run weft");
    page_ = static_cast<export_page*>(at);
    try {
      check();
    } catch (...) {
      munmap(at, rt::kExportPage);
      throw;
    }
  }
  ~connection() { munmap(page_, rt::kExportPage); }
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;

  template <class T>
  T ask(question what, const std::string& about = "") {
    const steady_clock::time_point until = steady_clock::now() + kPatience;
    const lock held(*this, until);
    const std::uint64_t ticket = (page_->request.load(std::memory_order_relaxed) >> 8) + 1;
    const std::uint64_t request = ticket << 8 | static_cast<std::uint64_t>(what);
    put(about);
    page_->request.store(request, std::memory_order_release);
    while (page_->answer.load(std::memory_order_acquire) != request) wait(until);
    return rt::unpacked<T>(answer());
  }

  bool has_ended() const {
    pollfd ended{pidfd_.get(), POLLIN, 0};
    return poll(&ended, 1, 0) > 0 || page_->active.load(std::memory_order_acquire) == 0;
  }

  const int pid;

 private:
  // Others may look at the same process.
  class lock {
   public:
    lock(connection& on, steady_clock::time_point until) : fd_(on.file_.get()) {
      while (flock(fd_, LOCK_EX | LOCK_NB) != 0) on.wait(until);
    }
    ~lock() {
      (void)!ftruncate(fd_, rt::kExportPage);  // what nobody needs any more is not to stay in memory
      flock(fd_, LOCK_UN);
    }
    lock(const lock&) = delete;
    lock& operator=(const lock&) = delete;

   private:
    const int fd_;
  };

  void check() const {
    if (page_->magic != rt::kExportMagic || page_->pid != innermost_pid(pid)) refuse(pid, "does not run weft");
    if (page_->version != rt::kExportVersion) refuse(pid, "runs another version of weft");
    if (page_->active.load(std::memory_order_acquire) == 0) refuse(pid, "has no run() active");
  }

  void wait(steady_clock::time_point until) const {
    pollfd ended{pidfd_.get(), POLLIN, 0};
    if (poll(&ended, 1, kLookEveryMs) > 0) refuse(pid, "has ended");
    if (page_->active.load(std::memory_order_acquire) == 0) refuse(pid, "has ended its run()");
    const steady_clock::time_point now = steady_clock::now();
    if (now >= until - kPatience + kUsually && is_stopped(pid)) refuse(pid, "is stopped, and does not answer");
    if (now >= until) refuse(pid, "does not answer");
  }

  void put(const std::string& about) {
    page_->size.store(about.size(), std::memory_order_relaxed);
    if (pwrite(file_.get(), about.data(), about.size(), rt::kExportPage) != static_cast<ssize_t>(about.size()))
      refuse(pid, "has no memory for the question");
  }

  std::string answer() const {
    std::string bytes(page_->size.load(std::memory_order_relaxed), '\0');
    for (std::size_t done = 0; done < bytes.size();) {
      const ssize_t n =
          pread(file_.get(), bytes.data() + done, bytes.size() - done, rt::kExportPage + static_cast<off_t>(done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) refuse(pid, "has no memory for the answer");
      done += static_cast<std::size_t>(n);
    }
    return bytes;
  }

  const descriptor pidfd_, file_;
  export_page* page_ = nullptr;
};

attachment::attachment(int pid) : to_(std::make_unique<connection>(pid)) {}
attachment::~attachment() = default;
attachment::attachment(attachment&&) noexcept = default;
attachment& attachment::operator=(attachment&&) noexcept = default;

int attachment::pid() const noexcept { return to_->pid; }
metrics::snapshot attachment::read() { return to_->ask<metrics::snapshot>(question::metrics); }
std::vector<metrics::node_costs> attachment::costs() {
  return to_->ask<std::vector<metrics::node_costs>>(question::costs);
}
std::vector<goroutine_group> attachment::goroutines() {
  return to_->ask<std::vector<goroutine_group>>(question::goroutines);
}

process_ps attachment::ps() { return to_->ask<rt::ps_answer>(question::ps, rt::packed(rt::ps_request{})).ps; }
process_ps attachment::place_ps(const std::string& wish, std::chrono::milliseconds trial) {
  const rt::ps_request wanted{true, wish, std::chrono::nanoseconds(trial).count()};
  rt::ps_answer told = to_->ask<rt::ps_answer>(question::ps, rt::packed(wanted));
  if (!told.refusal.empty()) refuse(pid(), told.refusal);
  return std::move(told.ps);
}

int attachment::begin_trace() {
  const auto fd = to_->ask<std::int64_t>(question::trace);
  if (fd < 0) refuse(pid(), std::string("cannot trace: ") + std::strerror(static_cast<int>(-fd)));
  return static_cast<int>(fd);
}
bool attachment::has_ended() const { return to_->has_ended(); }

}  // namespace weft
