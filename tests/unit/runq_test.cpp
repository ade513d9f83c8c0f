// SPDX-License-Identifier: Apache-2.0
// The local run queue and the order in which thieves visit Ps. What a model checker can prove of the queue's protocol
// for a few steps is in tests/model; here it runs at full length on real threads.
#include "runtime/runq.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <cstdlib>
#include <deque>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "runtime/steal.h"

namespace {

using namespace weft::rt;

struct item {
  std::atomic<int> taken{0};
};

using queue = run_queue<item>;
using steal_result = queue::steal_result;

constexpr int kCapacity = queue::kCapacity;

int rounds(int n) { return std::getenv("WEFT_TEST_QUICK") ? n / 10 : n; }

class run_queue_test : public testing::Test {
 protected:
  void SetUp() override { init_barriers(); }

  item* at(int i) { return &items_.at(static_cast<std::size_t>(i)); }
  // Puts the first n items.
  void put(queue& q, int n) {
    for (int i = 0; i < n; ++i) {
      queue::overflow spill;
      EXPECT_TRUE(q.put(at(i), spill));
    }
  }
  std::vector<item> items_ = std::vector<item>(2 * kCapacity);
};

TEST_F(run_queue_test, what_was_put_comes_out_in_order) {
  for (int n = 0; n <= kCapacity; ++n) {
    queue q;
    put(q, n);
    EXPECT_EQ(q.size(), static_cast<unsigned>(n));
    for (int i = 0; i < n; ++i) {
      EXPECT_FALSE(q.empty());
      const auto [g, inherits] = q.get();
      EXPECT_EQ(g, at(i));
      EXPECT_FALSE(inherits);
    }
    EXPECT_TRUE(q.empty());
    EXPECT_TRUE(q.ring_empty());
    EXPECT_EQ(q.size(), 0u);
    EXPECT_EQ(q.get().g, nullptr);
  }
}

TEST_F(run_queue_test, put_and_get_in_turns_keep_the_order) {
  queue q;
  std::deque<item*> expected;
  unsigned random = 1;
  int next = 0;
  for (int i = 0; i < 100'000; ++i) {
    random = random * 1664525 + 1013904223;
    if ((random >> 16) % 2 == 0 && expected.size() < kCapacity) {
      queue::overflow spill;
      ASSERT_TRUE(q.put(at(next), spill));
      expected.push_back(at(next));
      next = (next + 1) % kCapacity;
    } else if (!expected.empty()) {
      ASSERT_EQ(q.get().g, expected.front());
      expected.pop_front();
    } else {
      ASSERT_EQ(q.get().g, nullptr);
    }
    ASSERT_EQ(q.empty(), expected.empty());
    ASSERT_EQ(q.size(), expected.size());
  }
}

TEST_F(run_queue_test, the_next_goes_first_inherits_and_is_kicked_out_by_the_next) {
  queue q;
  put(q, 2);
  EXPECT_EQ(q.put_next(at(10)), nullptr);
  EXPECT_EQ(q.put_next(at(11)), at(10));
  EXPECT_EQ(q.size(), 3u);
  const auto first = q.get();
  EXPECT_EQ(first.g, at(11));
  EXPECT_TRUE(first.inherits);
  EXPECT_EQ(q.get().g, at(0));
  EXPECT_FALSE(q.empty());
  EXPECT_EQ(q.get().g, at(1));
  EXPECT_TRUE(q.empty());
}

TEST_F(run_queue_test, a_queue_of_one_next_is_not_empty) {
  queue q;
  EXPECT_TRUE(q.empty());
  q.put_next(at(0));
  EXPECT_FALSE(q.empty());
  EXPECT_TRUE(q.ring_empty());
  q.get();
  EXPECT_TRUE(q.empty());
}

TEST_F(run_queue_test, one_too_many_spills_the_older_half_and_itself_in_order) {
  queue q;
  put(q, kCapacity);
  queue::overflow spill;
  EXPECT_FALSE(q.put(at(kCapacity), spill));
  ASSERT_EQ(spill.count, queue::kOverflow + 1);
  for (unsigned i = 0; i < queue::kOverflow; ++i) EXPECT_EQ(spill.gs[i], at(static_cast<int>(i)));
  EXPECT_EQ(spill.gs[queue::kOverflow], at(kCapacity));
  for (int i = queue::kOverflow; i < kCapacity; ++i) EXPECT_EQ(q.get().g, at(i));
  EXPECT_TRUE(q.empty());
}

TEST_F(run_queue_test, a_thief_takes_half_and_each_is_in_one_queue_once) {
  for (int n = 0; n <= kCapacity; ++n) {
    queue from, to;
    put(from, n);
    item* last = nullptr;
    const steal_result result = from.steal(to, last);
    EXPECT_EQ(result, n == 0 ? steal_result::none : steal_result::stolen);
    std::multiset<item*> seen;
    int stolen = 0, left = 0;
    if (last) {
      seen.insert(last);
      ++stolen;
    }
    while (item* const g = to.get().g) {
      seen.insert(g);
      ++stolen;
    }
    while (item* const g = from.get().g) {
      seen.insert(g);
      ++left;
    }
    EXPECT_EQ(stolen + left, n);
    EXPECT_TRUE(stolen == n / 2 || stolen == (n + 1) / 2) << stolen << " of " << n;
    for (int i = 0; i < n; ++i) EXPECT_EQ(seen.count(at(i)), 1u);
  }
}

TEST_F(run_queue_test, a_thief_takes_nothing_private) {
  queue from, to;
  put(from, 3);
  EXPECT_EQ(from.get().g, at(0));  // the others are in the batch now
  from.put_next(at(9));
  item* g = nullptr;
  EXPECT_EQ(from.steal(to, g), steal_result::none);
  EXPECT_EQ(g, nullptr);
  EXPECT_EQ(from.size(), 3u);
}

TEST_F(run_queue_test, a_robber_takes_the_batch_first_and_the_next_last) {
  queue q;
  put(q, 3);
  EXPECT_EQ(q.get().g, at(0));
  q.put_next(at(9));
  for (item* const expected : {at(1), at(2), at(9)}) {
    item* g = nullptr;
    EXPECT_EQ(q.rob(g), steal_result::stolen);
    EXPECT_EQ(g, expected);
  }
  item* g = nullptr;
  EXPECT_EQ(q.rob(g), steal_result::none);
  EXPECT_TRUE(q.empty());
}

// The owner puts a second one, perhaps kicking the first out of its place, and takes one: never is the queue empty.
TEST_F(run_queue_test, it_never_looks_empty_while_the_next_is_kicked_out) {
  for (int variant = 0; variant < 4; ++variant) {
    for (int i = 0; i < rounds(500); ++i) {
      queue q;
      std::atomic<int> ready{0};
      const auto put = [&q](item* g, bool next) {
        if (next) g = q.put_next(g);
        queue::overflow spill;
        if (g) q.put(g, spill);
      };
      put(at(0), (variant & 1) != 0);
      std::thread observer([&] {
        ++ready;
        while (ready < 2) sched_yield();
        EXPECT_FALSE(q.empty());
      });
      while (ready < 1) sched_yield();
      ++ready;
      put(at(1), (variant & 2) != 0);
      EXPECT_NE(q.get().g, nullptr);
      observer.join();
      EXPECT_NE(q.get().g, nullptr);
      EXPECT_TRUE(q.empty());
    }
  }
}

// Everything that the owner puts is taken once: by itself, by thieves out of the ring, or by robbers out of what is
// private.
TEST_F(run_queue_test, thieves_robbers_and_the_owner_take_each_once) {
  constexpr int kThieves = 3;
  const int n = rounds(200'000);
  std::vector<item> all(static_cast<std::size_t>(n));
  queue q;
  std::atomic<bool> stop{false};
  const auto take = [](item* g) { g->taken.fetch_add(1, std::memory_order_relaxed); };
  std::vector<std::thread> thieves;
  for (int t = 0; t < kThieves; ++t)
    thieves.emplace_back([&, t] {
      queue own;
      for (int i = t; !stop; ++i) {
        item* g = nullptr;
        if (i % 8 == 0 ? q.rob(g) == steal_result::stolen : q.steal(own, g) == steal_result::stolen) take(g);
        while (item* const stolen = own.get().g) take(stolen);
      }
    });
  unsigned random = 7;
  for (item& g : all) {
    random = random * 1664525 + 1013904223;
    item* putting = &g;
    if ((random >> 16) % 3 == 0) putting = q.put_next(putting);
    queue::overflow spill;
    if (putting && !q.put(putting, spill))
      for (unsigned i = 0; i < spill.count; ++i) take(spill.gs[i]);
    if ((random >> 20) % 4 == 0)
      if (item* const got = q.get().g) take(got);
  }
  while (item* const g = q.get().g) take(g);
  stop = true;
  for (std::thread& t : thieves) t.join();
  int wrong = 0;
  for (const item& g : all) wrong += g.taken != 1 ? 1 : 0;
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(q.empty());
}

TEST(steal_order_test, every_p_is_visited_once_from_every_start) {
  for (int n = 1; n <= 130; ++n) {
    std::set<int> starts;
    rng random(static_cast<std::uint64_t>(n));
    for (int repeat = 0; repeat < 20 * n; ++repeat) {
      std::vector<int> visits(static_cast<std::size_t>(n));
      int count = 0;
      steal_order order(n, random);
      starts.insert(order.position());
      for (; !order.done(); order.next(), ++count) ++visits.at(static_cast<std::size_t>(order.position()));
      EXPECT_EQ(count, n);
      EXPECT_EQ(visits, std::vector<int>(static_cast<std::size_t>(n), 1)) << n << " Ps";
    }
    EXPECT_GE(static_cast<int>(starts.size()), n - n / 10);
  }
}

TEST(steal_order_test, different_thieves_take_different_ways) {
  rng random(42);
  std::set<std::vector<int>> ways;
  for (int i = 0; i < 100; ++i) {
    std::vector<int> way;
    for (steal_order order(8, random); !order.done(); order.next()) way.push_back(order.position());
    ways.insert(way);
  }
  EXPECT_GT(ways.size(), 10u);
}

}  // namespace
