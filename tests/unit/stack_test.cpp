// SPDX-License-Identifier: Apache-2.0
// The pool of goroutine stacks: sizes, guards, reuse, giving memory back, and what happens when there is none.
#include "runtime/stack.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <fstream>
#include <set>
#include <thread>
#include <vector>

#include "runtime/sanitizer.h"
#include "tests/child.h"
#include "tests/fixture.h"

namespace {

using weft::rt::stack;
using weft::rt::stack_alloc;
using weft::rt::stack_free;
using weft::test::child_result;
using weft::test::in_child;
using weft::test::kThreadSanitizer;
using weft::test::scaled;

constexpr std::size_t kPage = 4096;
constexpr std::size_t kEnoughToDrain = std::size_t{1} << 30;

class stack_pool : public testing::Test {
 protected:
  void SetUp() override { weft::rt::set_default_stack_size(weft::rt::kDefaultStackSize); }
  void TearDown() override { weft::rt::set_default_stack_size(weft::rt::kDefaultStackSize); }
};

// What a goroutine can use of it, from the lowest address on.
std::byte* usable(stack* s) { return s->base + (s->guarded ? weft::rt::stack_guard_size() : 0); }
std::size_t usable_size(stack* s) { return static_cast<std::size_t>(reinterpret_cast<std::byte*>(s) - usable(s)); }

void fill(stack* s, int value) { std::memset(usable(s), value, usable_size(s)); }

bool is_filled(stack* s, int value) {
  return std::all_of(usable(s), usable(s) + usable_size(s), [value](std::byte b) { return b == std::byte(value); });
}

std::size_t resident_pages(stack* s) {
  std::vector<unsigned char> pages(s->size / kPage);
  EXPECT_EQ(mincore(s->base, s->size, pages.data()), 0);
  return static_cast<std::size_t>(std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return p & 1; }));
}

std::vector<stack*> alloc_many(int n, std::size_t size = 0) {
  std::vector<stack*> all;
  for (int i = 0; i < n; ++i) all.push_back(stack_alloc(size));
  return all;
}

void free_all(const std::vector<stack*>& all) {
  stack* list = nullptr;
  for (stack* s : all) {
    s->next = list;
    list = s;
  }
  stack_free(list);
}

// Ends the child with 42 when a fault hits [low, low + size), with 43 when one hits elsewhere.
const std::byte* expected_low;
std::size_t expected_size;
void expect_fault(const std::byte* low, std::size_t size) {
  expected_low = low;
  expected_size = size;
  struct sigaction own {};
  own.sa_flags = SA_SIGINFO;
  own.sa_sigaction = [](int, siginfo_t* info, void*) {
    const auto* at = static_cast<const std::byte*>(info->si_addr);
    _exit(at >= expected_low && at < expected_low + expected_size ? 42 : 43);
  };
  sigaction(SIGSEGV, &own, nullptr);
}

child_result touch_guard_of(std::size_t size, std::size_t offset) {
  return in_child([=] {
    stack* s = stack_alloc(size);
    if (!s || !s->guarded) _exit(44);
    fill(s, 1);
    expect_fault(s->base, weft::rt::stack_guard_size());
    *const_cast<volatile std::byte*>(s->base + offset) = std::byte{1};
  });
}

TEST_F(stack_pool, gives_stacks_of_the_default_size) {
  stack* s = stack_alloc(0);
  ASSERT_NE(s, nullptr);
  EXPECT_EQ(s->size, weft::rt::default_stack_size());
  EXPECT_EQ(s->low() % kPage, 0u);
  EXPECT_EQ(s->high() - s->low(), s->size);
  EXPECT_TRUE(s->slot);
  EXPECT_TRUE(s->guarded);
  EXPECT_EQ(weft::rt::stack_top(s), static_cast<void*>(s));
  EXPECT_GE(usable_size(s), s->size - 2 * kPage);
  fill(s, 0x5a);
  EXPECT_TRUE(is_filled(s, 0x5a));
  free_all({s});
}

TEST_F(stack_pool, gives_stacks_of_any_size) {
  for (std::size_t size :
       {weft::rt::kMinStackSize, std::size_t{20} << 10, std::size_t{128} << 10, std::size_t{8} << 20}) {
    stack* s = stack_alloc(size);
    ASSERT_NE(s, nullptr);
    EXPECT_EQ(s->size, size);
    EXPECT_FALSE(s->slot);
    EXPECT_TRUE(s->guarded);
    fill(s, 7);
    EXPECT_TRUE(is_filled(s, 7));
    free_all({s});
  }
}

TEST_F(stack_pool, gives_stacks_that_do_not_overlap) {
  std::vector<stack*> all = alloc_many(scaled(2000));
  for (stack* s : alloc_many(10, 32 << 10)) all.push_back(s);
  std::sort(all.begin(), all.end(), [](const stack* a, const stack* b) { return a->low() < b->low(); });
  for (std::size_t i = 0; i + 1 < all.size(); ++i) ASSERT_LE(all[i]->high(), all[i + 1]->low());
  free_all(all);
}

TEST_F(stack_pool, a_guard_faults_at_both_ends) {
  for (std::size_t size : {std::size_t{0}, weft::rt::kMinStackSize, std::size_t{1} << 20})
    for (std::size_t offset : {std::size_t{0}, weft::rt::stack_guard_size() - 1}) {
      const child_result r = touch_guard_of(size, offset);
      EXPECT_TRUE(r.exited(42)) << "size " << size << ", offset " << offset << ": " << r;
    }
}

TEST_F(stack_pool, the_first_byte_above_the_guard_is_the_goroutine_s) {
  stack* s = stack_alloc(0);
  std::byte* const first = s->base + weft::rt::stack_guard_size();
  *first = std::byte{1};
  EXPECT_EQ(*first, std::byte{1});
  free_all({s});
}

TEST_F(stack_pool, the_last_one_freed_is_the_next_one_given) {
  stack* s = stack_alloc(0);
  fill(s, 0x33);
  free_all({s});
  stack* again = stack_alloc(0);
  EXPECT_EQ(again, s);
  EXPECT_TRUE(again->guarded);
  free_all({again});
}

TEST_F(stack_pool, uses_freed_ones_before_new_ones) {
  const std::vector<stack*> first = alloc_many(100);
  const std::set<stack*> known(first.begin(), first.end());
  free_all(first);
  const std::vector<stack*> second = alloc_many(100);
  for (stack* s : second) EXPECT_TRUE(known.contains(s));
  free_all(second);
}

TEST_F(stack_pool, commits_memory_only_where_it_is_used) {
  const std::vector<stack*> all = alloc_many(scaled(500));
  std::size_t pages = 0;
  for (stack* s : all) {
    s->base[s->size - 2 * kPage] = std::byte{1};
    pages += resident_pages(s);
  }
  // The guard, where it is a page with a marker, counts as resident on some kernels.
  EXPECT_LE(pages, 3 * all.size());
  free_all(all);
}

TEST_F(stack_pool, counts_its_stacks) {
  weft::rt::set_default_stack_size(40 << 10);  // a pool of its own
  const std::vector<stack*> all = alloc_many(8);
  EXPECT_EQ(weft::rt::count_stacks(0).used, 8u);
  free_all(all);
  EXPECT_EQ(weft::rt::count_stacks(0).used, 0u);
  EXPECT_EQ(weft::rt::count_stacks(0).warm, 8u);
}

TEST_F(stack_pool, gives_the_pages_of_cold_stacks_back) {
  weft::rt::set_default_stack_size(48 << 10);  // a pool of its own
  const std::vector<stack*> all = alloc_many(64);
  for (stack* s : all) fill(s, 1);
  const std::vector<std::byte*> bases = [&] {
    std::vector<std::byte*> list;
    for (stack* s : all) list.push_back(s->base);
    return list;
  }();
  const std::size_t size = all.front()->size;
  free_all(all);
  const auto resident = [&] {
    std::size_t n = 0;
    for (std::byte* base : bases) {
      std::vector<unsigned char> pages(size / kPage);
      mincore(base, size, pages.data());
      n += pages[size / kPage - 2] & 1;  // one that the program used
    }
    return n;
  };
  EXPECT_EQ(resident(), 64u);
  std::size_t warm = 64;
  for (int i = 0; i < 20 && warm > 0; ++i) {
    const std::size_t left = weft::rt::scavenge_stacks(kEnoughToDrain);
    EXPECT_LE(left, warm);
    EXPECT_EQ(resident(), left);
    warm = left;
  }
  EXPECT_EQ(warm, 0u);
  EXPECT_EQ(weft::rt::scavenge_stacks(kEnoughToDrain), 0u);

  // They are as good as new, guards too.
  const std::vector<stack*> again = alloc_many(64);
  const std::set<std::byte*> known(bases.begin(), bases.end());
  for (stack* s : again) {
    EXPECT_TRUE(known.contains(s->base));
    EXPECT_TRUE(s->guarded);
    EXPECT_EQ(s->context, nullptr);
    EXPECT_TRUE(is_filled(s, 0));
  }
  const child_result r = in_child([&] {
    expect_fault(again.front()->base, weft::rt::stack_guard_size());
    *const_cast<volatile std::byte*>(again.front()->base + 100) = std::byte{1};
  });
  EXPECT_TRUE(r.exited(42)) << r;
  free_all(again);
}

TEST_F(stack_pool, gives_back_no_more_than_it_is_asked_to) {
  weft::rt::set_default_stack_size(40 << 10);
  free_all(alloc_many(100));
  weft::rt::scavenge_stacks(0);
  EXPECT_EQ(weft::rt::scavenge_stacks(10), 90u);
  EXPECT_EQ(weft::rt::scavenge_stacks(0), 90u);
}

TEST_F(stack_pool, keeps_what_was_needed_since_the_look_before) {
  weft::rt::set_default_stack_size(36 << 10);
  free_all(alloc_many(100));
  weft::rt::scavenge_stacks(0);
  free_all(alloc_many(100));  // all of them were needed
  EXPECT_EQ(weft::rt::scavenge_stacks(kEnoughToDrain), 100u);
  free_all(alloc_many(60));  // forty were not: half of them go
  EXPECT_EQ(weft::rt::scavenge_stacks(kEnoughToDrain), 80u);
}

TEST_F(stack_pool, a_new_default_size_counts_from_the_next_stack_on) {
  stack* old = stack_alloc(0);
  fill(old, 1);
  weft::rt::set_default_stack_size(128 << 10);
  EXPECT_EQ(weft::rt::default_stack_size(), std::size_t{128} << 10);
  stack* fresh = stack_alloc(0);
  EXPECT_EQ(fresh->size, std::size_t{128} << 10);
  EXPECT_TRUE(is_filled(old, 1));
  free_all({old, fresh});
  stack* next = stack_alloc(0);
  EXPECT_EQ(next->size, std::size_t{128} << 10);
  stack* ordinary_before = stack_alloc(weft::rt::kDefaultStackSize);
  EXPECT_EQ(ordinary_before->size, weft::rt::kDefaultStackSize);
  free_all({next, ordinary_before});
}

TEST_F(stack_pool, the_default_size_may_change_thousands_of_times) {
  const child_result r = in_child([] {
    for (int i = 0; i < scaled(2000); ++i) {
      weft::rt::set_default_stack_size((i % 2 == 0 ? 32 : 64) << 10);
      stack* s = stack_alloc(0);
      if (!s) {
        ADD_FAILURE() << "no stack after " << i << " changes";
        return;
      }
      s->base[s->size - 2 * kPage] = std::byte{1};
      free_all({s});
    }
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST_F(stack_pool, may_be_used_by_many_threads) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 1; t <= 4; ++t)
    threads.emplace_back([&wrong, t] {
      for (int i = 0; i < scaled(1000); ++i) {
        const std::vector<stack*> mine = alloc_many(1 + i % 7, i % 16 == 0 ? std::size_t{16} << 10 : 0);
        for (stack* s : mine) s->base[s->size / 2] = std::byte(t);
        if (i % 50 == 0) weft::rt::scavenge_stacks(8);
        for (stack* s : mine) wrong += s->base[s->size / 2] != std::byte(t);
        free_all(mine);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(stack_pool, is_one_mapping_where_the_kernel_has_guards_inside_of_one) {
  if (weft::rt::kAddressSanitizer || kThreadSanitizer) GTEST_SKIP() << "a sanitizer maps memory beside";
  const auto mappings = [] {
    std::ifstream maps("/proc/self/maps");
    return std::count(std::istreambuf_iterator<char>(maps), {}, '\n');
  };
  stack* probe = stack_alloc(0);
  const bool in_mapping = madvise(probe->base, kPage, 102 /* MADV_GUARD_INSTALL */) == 0;
  free_all({probe});
  if (!in_mapping) GTEST_SKIP() << "this kernel has no MADV_GUARD_INSTALL";
  const auto before = mappings();
  const std::vector<stack*> all = alloc_many(scaled(5000));
  EXPECT_LE(mappings(), before + 100);
  free_all(all);
}

TEST_F(stack_pool, has_no_stack_to_give_where_address_space_is_out) {
  if (weft::rt::kAddressSanitizer || kThreadSanitizer) GTEST_SKIP() << "a sanitizer needs the address space";
  const child_result r = in_child([] {
    weft::rt::set_default_stack_size(1 << 20);  // gives the parent's reservation back
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t wanted = pages * kPage + (std::size_t{700} << 20);
    const rlimit limit{wanted, wanted};
    setrlimit(RLIMIT_AS, &limit);
    int n = 0;
    while (n < 2000 && stack_alloc(0)) ++n;
    EXPECT_GE(n, 100);  // a smaller reservation was made
    EXPECT_LT(n, 700);
    EXPECT_EQ(stack_alloc(0), nullptr);
    EXPECT_EQ(stack_alloc(std::size_t{1} << 30), nullptr);
    EXPECT_EQ(stack_alloc(0), nullptr);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

}  // namespace
