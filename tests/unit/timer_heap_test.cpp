// SPDX-License-Identifier: Apache-2.0
// The heap of timers against a model: a multimap by due time.
#include "runtime/timers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <vector>

namespace {

using namespace weft::rt;

int rounds(int n) { return std::getenv("WEFT_TEST_QUICK") ? n / 10 : n; }

struct test_timer : heap_timer {
  explicit test_timer(at_end at = at_end::forgotten) : heap_timer(expired) { end = at; }
  static expiry expired(heap_timer& t) {
    return {nullptr, [](void*) {}, &t};
  }
  bool in_heap() const { return place != kNotInHeap; }
};

void add(timer_heap& heap, heap_timer& t, std::int64_t when) {
  t.when = when;
  heap.add(t);
}

// What is due at `now`, in the order in which it is popped.
std::vector<const void*> pop_all(timer_heap& heap, std::int64_t now) {
  std::vector<const void*> popped;
  for (expiry due; heap.pop_due(now, due);) popped.push_back(due.wake ? static_cast<void*>(due.wake) : due.argument);
  return popped;
}

TEST(timer_heap_test, is_never_due_while_it_is_empty) {
  timer_heap heap;
  expiry due;
  EXPECT_EQ(heap.first_when(), kNever);
  EXPECT_FALSE(heap.pop_due(kNever - 1, due));
}

TEST(timer_heap_test, timers_and_sleepers_come_out_by_due_time_and_not_before) {
  timer_heap heap;
  std::vector<std::unique_ptr<test_timer>> timers;
  std::vector<std::unique_ptr<g>> sleepers;
  std::vector<std::int64_t> times(200);
  std::iota(times.begin(), times.end(), 1);
  std::shuffle(times.begin(), times.end(), std::mt19937_64(1));
  std::map<std::int64_t, const void*> model;
  for (const std::int64_t when : times) {
    if (when % 3 == 0) {
      sleepers.push_back(std::make_unique<g>());
      model[when] = sleepers.back().get();
      heap.push_sleeper(sleepers.back().get(), when);
    } else {
      timers.push_back(std::make_unique<test_timer>());
      model[when] = timers.back().get();
      add(heap, *timers.back(), when);
    }
    EXPECT_EQ(heap.first_when(), model.begin()->first);
  }
  EXPECT_TRUE(pop_all(heap, 0).empty());
  for (const auto& [when, what] : model) {
    EXPECT_EQ(heap.first_when(), when);
    EXPECT_EQ(pop_all(heap, when), std::vector<const void*>{what});
  }
  EXPECT_EQ(heap.first_when(), kNever);
  for (const auto& t : timers) EXPECT_FALSE(t->in_heap());
}

TEST(timer_heap_test, a_timer_that_is_moved_to_later_is_due_no_earlier_than_that) {
  timer_heap heap;
  test_timer early, late;
  add(heap, early, 10);
  add(heap, late, 20);
  early.when = 30;
  heap.moved(early);
  EXPECT_LE(heap.first_when(), 20);
  EXPECT_TRUE(pop_all(heap, 19).empty());
  EXPECT_EQ(heap.first_when(), 20);
  early.when = 5;
  heap.moved(early);
  EXPECT_EQ(heap.first_when(), 5);
  EXPECT_EQ(pop_all(heap, 30), (std::vector<const void*>{&early, &late}));
}

TEST(timer_heap_test, random_operations_do_what_a_multimap_does) {
  std::mt19937_64 random(7);
  const auto below = [&random](std::uint64_t n) { return static_cast<std::int64_t>(random() % n); };
  for (int round = 0; round < rounds(50); ++round) {
    timer_heap heap;
    std::vector<std::unique_ptr<test_timer>> timers;
    for (int i = 0; i < 100; ++i) timers.push_back(std::make_unique<test_timer>());
    std::multimap<std::int64_t, const test_timer*> model;
    const auto find = [&model](const test_timer& t) {
      return std::find_if(model.begin(), model.end(), [&t](const auto& entry) { return entry.second == &t; });
    };
    std::int64_t now = 0;
    for (int step = 0; step < 2000; ++step) {
      test_timer& t = *timers[static_cast<std::size_t>(below(timers.size()))];
      ASSERT_EQ(t.in_heap(), find(t) != model.end());
      const std::int64_t when = now + below(300);
      switch (below(4)) {
        case 0:
          if (t.in_heap()) break;
          add(heap, t, when);
          model.emplace(when, &t);
          break;
        case 1:
          if (!t.in_heap()) break;
          heap.remove(t);
          model.erase(find(t));
          break;
        case 2:
          if (!t.in_heap()) break;
          t.when = when;
          heap.moved(t);
          model.erase(find(t));
          model.emplace(when, &t);
          break;
        default:
          now += below(20);
          std::int64_t last = 0;
          for (expiry due; heap.pop_due(now, due);) {
            const auto* const popped = static_cast<test_timer*>(due.argument);
            const auto at = find(*popped);
            ASSERT_NE(at, model.end());
            ASSERT_EQ(at->first, popped->when);
            ASSERT_LE(last, popped->when);
            ASSERT_LE(popped->when, now);
            last = popped->when;
            model.erase(at);
          }
          ASSERT_TRUE(model.empty() || model.begin()->first > now);
          // Exact once those at the top that were moved have been put right.
          ASSERT_EQ(heap.first_when() == kNever, model.empty());
      }
      // Never too late; too early only while a timer that was moved is at the top.
      ASSERT_LE(heap.first_when(), model.empty() ? kNever : model.begin()->first);
    }
  }
}

TEST(timer_heap_test, all_of_it_moves_to_another_heap) {
  timer_heap from, to;
  g sleeper;
  test_timer stays, moved;
  add(to, stays, 15);
  add(from, moved, 10);
  from.push_sleeper(&sleeper, 20);
  from.move_to(to);
  EXPECT_EQ(from.first_when(), kNever);
  EXPECT_EQ(moved.heap.load(), &to);
  moved.when = 17;
  to.moved(moved);
  EXPECT_EQ(pop_all(to, 20), (std::vector<const void*>{&stays, &moved, &sleeper}));
}

TEST(timer_heap_test, at_the_end_of_a_run_each_goes_the_way_that_it_is_meant_to) {
  timer_heap heap, heir;
  g sleeper;
  std::vector<std::unique_ptr<test_timer>> forgotten, expiring, lasting;
  std::set<const void*> to_expire;
  for (int i = 0; i < 50; ++i) {
    add(heap, *forgotten.emplace_back(std::make_unique<test_timer>(at_end::forgotten)), i * 37 % 50);
    add(heap, *expiring.emplace_back(std::make_unique<test_timer>(at_end::expires)), i * 31 % 50);
    add(heap, *lasting.emplace_back(std::make_unique<test_timer>(at_end::goes_on)), i * 29 % 50);
    to_expire.insert(expiring.back().get());
  }
  heap.push_sleeper(&sleeper, 1);
  std::set<const void*> expired;
  for (const expiry& due : heap.take_ended()) expired.insert(due.argument);
  EXPECT_EQ(expired, to_expire);
  heap.hand_down(heir);
  EXPECT_EQ(heap.first_when(), kNever);
  EXPECT_EQ(heir.first_when(), 0);
  EXPECT_EQ(pop_all(heir, 50).size(), lasting.size());
  for (const auto& t : expiring) EXPECT_FALSE(t->in_heap());
  for (const auto& t : lasting) EXPECT_EQ(t->heap.load(), &heir);
}

}  // namespace
