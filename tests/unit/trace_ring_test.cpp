// SPDX-License-Identifier: Apache-2.0
// The ring of events of a P: what its one writer writes is read whole, or counted as lost.
#include "runtime/trace_ring.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "tests/fixture.h"

namespace {

using weft::rt::trace_entry;
using weft::rt::trace_kind;
using weft::rt::trace_ring;

constexpr std::size_t kCapacity = 16;

struct unmapper {
  void operator()(trace_ring* ring) const { munmap(ring, trace_ring::bytes(kCapacity)); }
};

class ring_of_a_p : public testing::Test {
 protected:
  void write(std::uint64_t n) {
    ring_->write({.ticks = n, .subject = n * 3, .what = trace_kind::run, .number = static_cast<std::uint32_t>(n)});
  }
  std::vector<std::uint64_t> read() {
    std::vector<trace_entry> events;
    lost_ = ring_->read(next_, kCapacity, events);
    std::vector<std::uint64_t> numbers;
    for (const trace_entry& e : events) {
      EXPECT_EQ(e.subject, e.ticks * 3);
      EXPECT_EQ(e.number, static_cast<std::uint32_t>(e.ticks));
      EXPECT_EQ(e.what, trace_kind::run);
      numbers.push_back(e.ticks);
    }
    return numbers;
  }

  const std::unique_ptr<trace_ring, unmapper> ring_{
      ::new (mmap(nullptr, trace_ring::bytes(kCapacity), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
          trace_ring(3, 1, 7, kCapacity)};
  std::uint64_t next_ = 0, lost_ = 0;
};

TEST_F(ring_of_a_p, gives_what_was_written_once) {
  EXPECT_TRUE(read().empty());
  for (std::uint64_t n = 0; n < 5; ++n) write(n);
  EXPECT_EQ(read(), (std::vector<std::uint64_t>{0, 1, 2, 3, 4}));
  EXPECT_TRUE(read().empty());
  write(5);
  EXPECT_EQ(read(), (std::vector<std::uint64_t>{5}));
  EXPECT_EQ(lost_, 0u);
}

// The oldest place is the one that the writer may be about to use.
TEST_F(ring_of_a_p, counts_what_was_overwritten) {
  for (std::uint64_t n = 0; n < 100; ++n) write(n);
  const std::vector<std::uint64_t> got = read();
  EXPECT_EQ(got.size(), kCapacity - 1);
  EXPECT_EQ(got.front(), 100 - kCapacity + 1);
  EXPECT_EQ(got.back(), 99u);
  EXPECT_EQ(lost_, 100 - kCapacity + 1);
  EXPECT_TRUE(read().empty());
  EXPECT_EQ(lost_, 0u);
}

TEST_F(ring_of_a_p, loses_nothing_in_silence_while_it_is_written) {
  const auto total = static_cast<std::uint64_t>(weft::test::scaled(1'000'000));
  std::thread writer([&] {
    for (std::uint64_t n = 0; n < total; ++n) write(n);
  });
  std::uint64_t expected = 0, seen = 0;
  while (expected < total) {
    const std::vector<std::uint64_t> got = read();
    expected += lost_;
    for (const std::uint64_t n : got) EXPECT_EQ(n, expected++);
    seen += got.size();
  }
  writer.join();
  EXPECT_EQ(expected, total);
  EXPECT_GT(seen, 0u);
}

}  // namespace
