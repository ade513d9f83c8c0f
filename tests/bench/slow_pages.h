// SPDX-License-Identifier: Apache-2.0
//
// Memory whose page faults take a while each, as those of a file on a disk.
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <thread>

#include "tests/bench/bench.h"

namespace bench {

// Fresh pages whose faults take some time each, as those of a disk: a thread brings each in when its time has come. It
// uses whatever CPU there is, as a disk uses none of the program's.
class slow_pages {
 public:
  slow_pages(std::size_t count, std::int64_t delay) : count_(count), delay_(delay) {
    constexpr int kUserModeOnly = 1;
    fd_ = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | kUserModeOnly));
    uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
    if (fd_ < 0 || ioctl(fd_, UFFDIO_API, &api) != 0) not_here();
    void* const at =
        mmap(nullptr, count * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) die("mmap");
    pages_ = static_cast<char*>(at);
    uffdio_register range{.range = {reinterpret_cast<std::uintptr_t>(at), count * kPage},
                          .mode = UFFDIO_REGISTER_MODE_MISSING,
                          .ioctls = 0};
    if (ioctl(fd_, UFFDIO_REGISTER, &range) != 0) not_here();
    disk_ = std::thread([this] { serve(); });
  }
  // All pages must have been touched.
  ~slow_pages() {
    disk_.join();
    munmap(pages_, count_ * kPage);
    close(fd_);
  }
  void touch(std::size_t page) { *static_cast<volatile char*>(pages_ + page * kPage) = 1; }

 private:
  static constexpr std::size_t kPage = 4096;

  [[noreturn]] static void not_here() {
    std::perror("userfaultfd");
    std::exit(kNotHere);
  }
  struct request {
    std::uint64_t address;
    std::int64_t due;
  };

  void serve() {
    cpu_set_t all;
    std::memset(&all, 0xff, sizeof all);
    sched_setaffinity(0, sizeof all, &all);
    prctl(PR_SET_TIMERSLACK, 1);
    std::deque<request> waiting;
    for (std::size_t served = 0; served < count_;) {
      accept_requests(waiting);
      for (; !waiting.empty() && waiting.front().due <= now_ns(); waiting.pop_front()) {
        uffdio_zeropage zero{.range = {waiting.front().address, kPage}, .mode = 0, .zeropage = 0};
        // A thread that a signal interrupts in its fault asks again for the same page.
        if (ioctl(fd_, UFFDIO_ZEROPAGE, &zero) == 0) ++served;
      }
    }
  }
  // Waits for the next one, or until the first that waits is due.
  void accept_requests(std::deque<request>& waiting) const {
    pollfd readable{.fd = fd_, .events = POLLIN, .revents = 0};
    timespec rest{};
    if (!waiting.empty()) rest.tv_nsec = std::clamp<std::int64_t>(waiting.front().due - now_ns(), 0, 999'999'999);
    if (ppoll(&readable, 1, waiting.empty() ? nullptr : &rest, nullptr) <= 0) return;
    std::array<uffd_msg, 64> faults;
    const ssize_t bytes = read(fd_, faults.data(), sizeof faults);
    if (bytes <= 0) return;
    for (std::size_t i = 0; i < static_cast<std::size_t>(bytes) / sizeof(uffd_msg); ++i)
      waiting.push_back({faults[i].arg.pagefault.address & ~(kPage - 1), now_ns() + delay_});
  }

  std::size_t count_;
  std::int64_t delay_;
  int fd_;
  char* pages_;
  std::thread disk_;
};

}  // namespace bench
