// SPDX-License-Identifier: Apache-2.0
//
// Counting in all threads, with events that the kernel counts itself: a PMU is not everywhere.
#include <gtest/gtest.h>
#include <linux/perf_event.h>
#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <future>
#include <thread>
#include <vector>

#include "bpf/pmu.h"
#include "tests/fixture.h"

namespace {

using weft::bpf::pmu;
using weft::bpf::pmu_event;

constexpr std::size_t kPages = 1000, kPageSize = 4096;
constexpr std::size_t kMost = weft::test::kThreadSanitizer ? 10 * kPages : 2 * kPages;  // its shadow has pages, too
constexpr std::array kFaults{pmu_event{"faults", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS_MIN}};
constexpr std::array kUnknown{pmu_event{"unknown", PERF_TYPE_SOFTWARE, 1'000'000}};

void touch_new_pages() {
  void* const p = mmap(nullptr, kPages * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(p, MAP_FAILED);
  madvise(p, kPages * kPageSize, MADV_NOHUGEPAGE);
  for (std::size_t i = 0; i < kPages; ++i) static_cast<volatile char*>(p)[i * kPageSize] = 1;
  munmap(p, kPages * kPageSize);
}

class counts_of_the_kernel : public testing::Test {
 protected:
  void SetUp() override {
    const std::string refused = faults_.start();
    if (!refused.empty()) GTEST_SKIP() << refused;
  }
  std::uint64_t faults() const { return faults_.read().at(0).times; }

  pmu faults_{kFaults};
};

TEST_F(counts_of_the_kernel, are_of_the_calling_thread) {
  touch_new_pages();
  EXPECT_GE(faults(), kPages);
  EXPECT_LT(faults(), kMost);
}

TEST_F(counts_of_the_kernel, are_of_threads_that_are_started_later) {
  std::thread(touch_new_pages).join();
  EXPECT_GE(faults(), kPages);
  EXPECT_LT(faults(), kMost);
}

TEST_F(counts_of_the_kernel, are_of_threads_that_were_there_before) {
  faults_.stop();
  const std::uint64_t before = faults();
  std::promise<void> go;
  std::thread other([&] {
    go.get_future().wait();
    touch_new_pages();
  });
  EXPECT_EQ(faults_.start(), "");
  go.set_value();
  other.join();
  EXPECT_GE(faults(), before + kPages);
}

TEST_F(counts_of_the_kernel, stay_when_it_is_switched_off) {
  touch_new_pages();
  faults_.stop();
  const std::uint64_t then = faults();
  EXPECT_GE(then, kPages);
  touch_new_pages();
  EXPECT_EQ(faults(), then);
}

TEST_F(counts_of_the_kernel, go_on_when_it_is_switched_on_again) {
  touch_new_pages();
  faults_.stop();
  EXPECT_EQ(faults_.start(), "");
  EXPECT_EQ(faults_.start(), "");
  touch_new_pages();
  EXPECT_GE(faults(), 2 * kPages);
  EXPECT_LT(faults(), 2 * kMost);
}

TEST(an_event_that_cannot_be_counted, is_named_and_not_counted) {
  pmu unknown(kUnknown);
  EXPECT_EQ(unknown.start(), "unknown: this machine has no such counter");
  EXPECT_TRUE(unknown.read().empty());
}

TEST(tlb_misses, are_counted_where_there_is_a_pmu) {
  pmu misses(weft::bpf::tlb_misses());
  const std::string refused = misses.start();
  if (!refused.empty()) GTEST_SKIP() << refused;
  touch_new_pages();
  EXPECT_GT(misses.read().at(0).times, 0u);
}

}  // namespace
