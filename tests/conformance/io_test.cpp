// SPDX-License-Identifier: Apache-2.0
// Files.
#include <weft/io.h>

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <thread>

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
