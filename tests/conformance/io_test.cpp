// SPDX-License-Identifier: Apache-2.0
// Files.
#include <weft/io.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "runtime/file_ring.h"
#include "tests/child.h"
#include "tests/fixture.h"
#include "tests/foreign.h"

namespace {

using namespace weft;
using namespace weft::test;

using std::errc;

class files : public every_runtime {
 protected:
  files() {
    std::string name = "/tmp/weft-io-test-XXXXXX";
    const int fd = mkstemp(name.data());
    EXPECT_GE(fd, 0);
    ::close(fd);
    path = name;
  }
  ~files() override { unlink(path.c_str()); }
  std::string path;
};
WEFT_ON_EVERY_RUNTIME(files);

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string read_text(file& from, std::size_t size, std::uint64_t offset) {
  std::string text(size, '\0');
  text.resize(from.read_at(std::as_writable_bytes(std::span(text)), offset));
  return text;
}

TEST_P(files, what_is_written_is_read_at_its_place) {
  in_main([this] {
    auto f = file::open(path, O_RDWR);
    EXPECT_EQ(f.size(), 0u);
    EXPECT_EQ(f.write_at(bytes("world"), 6), 5u);
    EXPECT_EQ(f.write_at(bytes("hello "), 0), 6u);
    f.fsync();
    EXPECT_EQ(f.size(), 11u);
    EXPECT_EQ(read_text(f, 5, 6), "world");
    EXPECT_EQ(read_text(f, 100, 0), "hello world");  // less only at the end
    EXPECT_EQ(read_text(f, 1, 11), "");
    EXPECT_EQ(f.write_at({}, 3), 0u);
    f.close();
    EXPECT_EQ(f.fd(), -1);
  });
}

TEST_P(files, many_read_and_write_at_the_same_time) {
  in_main([this] {
    auto f = file::open(path, O_RDWR);
    const int n = scaled(1000);
    wait_group done;
    for (int i = 0; i < n; ++i)
      done.go([&, i] {
        std::string text(100, '\0');
        std::snprintf(text.data(), text.size(), "part %d", i);
        const auto offset = static_cast<std::uint64_t>(i) * text.size();
        f.write_at(bytes(text), offset);
        EXPECT_EQ(read_text(f, text.size(), offset), text);
      });
    done.wait();
    EXPECT_EQ(f.size(), static_cast<std::uint64_t>(n) * 100);
  });
}

TEST_P(files, errors_are_the_system_s) {
  in_main([this] {
    std::error_code error;
    EXPECT_EQ(file::open("/no/such/file", O_RDONLY, error).fd(), -1);
    EXPECT_EQ(error, errc::no_such_file_or_directory);
    EXPECT_THROW(file::open("/no/such/file", O_RDONLY), std::system_error);
    auto f = file::open(path, O_RDONLY, error);
    EXPECT_FALSE(error);
    f.write_at(bytes("x"), 0, error);
    EXPECT_EQ(error, errc::bad_file_descriptor);
    EXPECT_THROW(f.write_at(bytes("x"), 0), std::system_error);
    file moved = std::move(f);
    EXPECT_THROW(f.size(), std::system_error);
    moved.close(error);
    EXPECT_FALSE(error);
    std::array<std::byte, 1> one;
    EXPECT_EQ(moved.read_at(one, 0, error), 0u);
    EXPECT_EQ(error, errc::bad_file_descriptor);
    moved.close(error);
    EXPECT_EQ(error, errc::bad_file_descriptor);
  });
}

TEST_P(files, a_file_without_an_offset_is_refused_and_a_new_one_gets_its_mode) {
  in_main([this] {
    unlink(path.c_str());
    auto f = file::open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    EXPECT_EQ(access(path.c_str(), R_OK | W_OK), 0);
    EXPECT_NE(fcntl(f.fd(), F_GETFD) & FD_CLOEXEC, 0);
    std::array<int, 2> ends;
    ASSERT_EQ(pipe(ends.data()), 0);
    auto end = file::open("/proc/self/fd/" + std::to_string(ends[0]), O_RDONLY | O_NONBLOCK);
    std::error_code error;
    std::array<std::byte, 1> one;
    end.read_at(one, 0, error);
    EXPECT_EQ(error, errc::invalid_seek);
    for (const int fd : ends) ::close(fd);
  });
}

constexpr std::size_t kPage = 4096;

// Read past the page cache.
struct aligned_page {
  std::span<std::byte> whole() { return std::span(data); }
  bool all(char c) const {
    return std::all_of(data.begin(), data.end(), [c](std::byte b) { return b == static_cast<std::byte>(c); });
  }
  alignas(kPage) std::array<std::byte, kPage> data;
};

char letter(int page) { return static_cast<char>('a' + page % 26); }

// Whose pages have a letter each, and are in no cache.
file letters(const std::string& path, int pages, int flags = 0) {
  auto f = file::open(path, O_RDWR);
  for (int i = 0; i < pages; ++i)
    f.write_at(bytes(std::string(kPage, letter(i))), static_cast<std::uint64_t>(i) * kPage);
  f.fsync();
  EXPECT_EQ(posix_fadvise(f.fd(), 0, 0, POSIX_FADV_DONTNEED), 0);
  auto again = file::open(path, O_RDWR | flags);
  EXPECT_EQ(posix_fadvise(again.fd(), 0, 0, POSIX_FADV_RANDOM), 0);
  return again;
}

// n goroutines read a page of it each, into memory that is there already.
void read_letters(file& f, int n, int pages) {
  std::vector<aligned_page> buffers(static_cast<std::size_t>(n));
  wait_group done;
  for (int i = 0; i < n; ++i)
    done.go([&f, to = &buffers[static_cast<std::size_t>(i)], page = i % pages] {
      EXPECT_EQ(f.read_at(to->whole(), static_cast<std::uint64_t>(page) * kPage), kPage);
      EXPECT_TRUE(to->all(letter(page)));
    });
  done.wait();
}

// What a context may cancel, the ring awaits, if there is one.
bool has_ring(file& direct) {
  const std::uint64_t before = rt::calls_by_ring();
  const auto to = std::make_unique<aligned_page>();
  direct.read_at(context::background(), to->whole(), 0);
  return rt::calls_by_ring() > before;
}

TEST_P(files, ten_thousand_wait_for_the_disk_and_few_threads_do) {
  in_main([this] {
    constexpr int kPages = 256;
    for (const int flags : {0, O_DIRECT}) {
      auto f = letters(path, kPages, flags);
      if (auto direct = file::open(path, O_RDONLY | O_DIRECT); !has_ring(direct)) GTEST_SKIP() << "no io_uring here";
      std::atomic<bool> over{false};
      int most = 0;
      wait_group watching;
      watching.go([&] {
        while (!over) {
          most = std::max(most, static_cast<int>(thread_names().size()));
          sleep_for(std::chrono::milliseconds(1));
        }
      });
      read_letters(f, std::min(scaled(10'000), max_goroutines()), kPages);
      over = true;
      watching.wait();
      // The few, Ms that idle, those that find blocked ones, and the kernel's for the ring.
      EXPECT_LT(most, 64) << (flags ? "direct" : "buffered");
    }
  });
}

TEST_P(files, are_the_same_without_a_ring) {
  const environment refused("WEFT_DEBUG", chaos() ? "filering=0,chaos=1" : "filering=0");
  in_main([this] {
    const std::uint64_t before = rt::calls_by_ring();
    for (const int flags : {0, O_DIRECT}) {
      auto f = letters(path, 30, flags);
      read_letters(f, 100, 30);
    }
    EXPECT_EQ(rt::calls_by_ring(), before);
  });
}

TEST_P(files, a_read_ends_at_the_end_of_the_file_however_it_waits) {
  in_main([this] {
    letters(path, 3).write_at(bytes("end"), 3 * kPage);
    for (const int flags : {0, O_DIRECT}) {
      auto f = file::open(path, O_RDONLY | flags);
      wait_group done;
      for (int i = 0; i < 20; ++i)
        done.go([&] {
          struct alignas(kPage) buffer {
            std::array<std::byte, 8 * kPage> data;
          };
          const auto to = std::make_unique<buffer>();
          EXPECT_EQ(f.read_at(to->data, kPage), 2 * kPage + 3);
          EXPECT_EQ(to->data[2 * kPage], std::byte{'e'});
        });
      done.wait();
    }
  });
}

TEST_P(files, a_context_ends_reads_that_wait) {
  in_main([this] {
    constexpr int kPages = 256;
    auto f = letters(path, kPages, O_DIRECT);
    for (int round = 0; round < scaled(10); ++round) {
      auto [ctx, cancel] = with_cancel(context::background());
      std::atomic<int> cancelled{0}, read{0};
      wait_group done;
      constexpr int n = 400;  // more than the kernel takes at once
      for (int i = 0; i < n; ++i)
        done.go([&, ctx = ctx, page = i % kPages] {
          const auto to = std::make_unique<aligned_page>();
          std::error_code error;
          if (f.read_at(ctx, to->whole(), static_cast<std::uint64_t>(page) * kPage, error) == kPage) {
            EXPECT_TRUE(to->all(letter(page)));
            ++read;
          } else {
            EXPECT_EQ(error, kCanceled);
            ++cancelled;
            to->data.fill(std::byte{'!'});
            yield();
            EXPECT_TRUE(to->all('!'));  // nobody writes to it any more
          }
        });
      for (int i = 0; i < round; ++i) yield();
      cancel();
      done.wait();
      EXPECT_EQ(read + cancelled, n);
    }
  });
}

TEST_P(files, a_context_that_has_ended_reads_and_writes_nothing) {
  in_main([this] {
    auto f = file::open(path, O_RDWR);
    f.write_at(context::background(), bytes("kept"), 0);
    auto [ctx, cancel] = with_timeout(context::background(), std::chrono::seconds(-1));
    std::error_code error;
    std::array<std::byte, 4> four{};
    EXPECT_EQ(f.read_at(ctx, four, 0, error), 0u);
    EXPECT_EQ(error, errc::timed_out);
    EXPECT_EQ(f.write_at(ctx, bytes("lost"), 0, error), 0u);
    EXPECT_EQ(error, errc::timed_out);
    EXPECT_THROW(f.read_at(ctx, four, 0), std::system_error);
    EXPECT_EQ(f.read_at(context::background(), four, 0), 4u);
    EXPECT_EQ(read_text(f, 4, 0), "kept");
  });
}

// More than have a thread of their own.
TEST_P(files, errors_are_the_same_however_calls_wait) {
  in_main([this] {
    auto directory = file::open("/", O_RDONLY | O_DIRECTORY);
    auto direct = letters(path, 1, O_DIRECT);
    auto null = file::open("/dev/null", O_RDONLY);
    file none;
    wait_group done;
    for (int i = 0; i < 50; ++i)
      done.go([&] {
        std::error_code error;
        alignas(kPage) std::array<std::byte, 100> part;
        directory.read_at(part, 0, error);
        EXPECT_EQ(error, errc::is_a_directory);
        direct.read_at(part, 1, error);
        EXPECT_EQ(error, errc::invalid_argument);
        null.write_at(part, 0, error);
        EXPECT_EQ(error, errc::bad_file_descriptor);
        null.fsync(error);
        EXPECT_EQ(error, errc::invalid_argument);
        none.fsync(error);
        EXPECT_EQ(error, errc::bad_file_descriptor);
      });
    done.wait();
  });
}

// Some of them are in the kernel when main returns, some in the queue.
TEST_P(files, a_run_ends_while_some_wait) {
  for (int round = 0; round < 5; ++round)
    leaving_goroutines([this] {
      static auto& left = *new std::deque<file>;  // with their goroutines
      file* const f = &left.emplace_back(letters(path, 256, O_DIRECT));
      for (int i = 0; i < 500; ++i)
        go([f, i] {
          aligned_page to;
          std::error_code error;
          for (std::uint64_t k = 0;; ++k) {
            f->read_at(to.whole(), static_cast<std::uint64_t>(i % 256) * kPage, error);
            if (i % 20 == 0) f->fsync(error);
          }
        });
      sleep_for(std::chrono::milliseconds(2));
    });
}

// The kernel may keep threads of its own for the ring.
TEST_P(files, a_deadlock_is_found_after_the_ring_was_used) {
  const auto r = in_child({}, [this] {
    run(options(), [this] {
      auto f = letters(path, 10);
      wait_group done;
      for (int i = 0; i < 50; ++i) done.go([&f] { f.fsync(); });
      done.wait();
      make_chan<int>().recv();
    });
    return 0;
  });
  EXPECT_TRUE(r.exited(2)) << r;
  EXPECT_TRUE(r.err.starts_with("fatal error: all goroutines are asleep - deadlock!")) << r;
}

TEST_P(files, threads_use_them_too) {
  in_main([this] {
    auto f = file::open(path, O_RDWR);
    foreign_threads threads;
    threads.start([&f] {
      f.write_at(bytes("from a thread"), 0);
      EXPECT_EQ(read_text(f, 100, 0), "from a thread");
    });
  });
}

TEST(files_without_a_run, work) {
  auto f = file::open("/proc/self/exe", O_RDONLY);
  EXPECT_EQ(read_text(f, 4, 0),
            "\x7f"
            "ELF");
}

}  // namespace
