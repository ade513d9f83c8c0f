// SPDX-License-Identifier: Apache-2.0
// select: what is chosen, what happens to the values, what is left behind.
#include <weft/select.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/counting_new.h"
#include "tests/fixture.h"
#include "tests/fragile.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

class selecting : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(selecting);

int parked_selects() { return parked(wait_reason::select); }

bool eventually_one_more_select(int before) { return eventually_parked(wait_reason::select, before, 1); }

template <class E, class F>
std::string text_of(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing was thrown";
}

std::vector<chan<int>> make_chans(std::size_t n, std::size_t capacity = 0) {
  std::vector<chan<int>> chans(n);
  for (auto& c : chans) c = make_chan<int>(capacity);
  return chans;
}

chan<int> full_chan() {
  const auto c = make_chan<int>(1);
  c.send(0);
  return c;
}

chan<int> closed_chan() {
  const auto c = make_chan<int>(1);
  c.close();
  return c;
}

// -- What is chosen ---------------------------------------------------------------------------------------------------

TEST_P(selecting, calls_the_handler_of_the_case_that_ran_and_returns_its_index) {
  in_main([] {
    const auto ready = make_chan<int>(1), empty = make_chan<int>();
    int got = 0, called = 0;
    ready.send(5);
    EXPECT_EQ(select(on_recv(empty, [] { FAIL(); }), on_recv(ready, [&](std::optional<int> v) { got = v.value(); }),
                     otherwise([] { FAIL(); })),
              1u);
    EXPECT_EQ(got, 5);
    EXPECT_EQ(select(on_send(ready, 6, [&] { ++called; }), on_recv(empty), on_timeout(1h, [] { FAIL(); })), 0u);
    EXPECT_EQ(called, 1);
    EXPECT_EQ(select(on_recv(ready, [&] { ++called; })), 0u);
    EXPECT_EQ(called, 2);
    EXPECT_EQ(select(on_recv(ready), otherwise([&] { ++called; })), 1u);
    EXPECT_EQ(called, 3);
    EXPECT_EQ(select(on_timeout(1us, [&] { ++called; })), 0u);
    EXPECT_EQ(called, 4);
    ready.send(7);
    EXPECT_EQ(select(on_recv(ready)), 0u);
    EXPECT_EQ(ready.len(), 0u);
  });
}

TEST_P(selecting, takes_cases_that_have_names_and_may_use_them_again) {
  in_main([] {
    const auto c = make_chan<int>(10);
    int sum = 0;
    auto send = on_send(c, 3);
    const auto add = [&sum](std::optional<int> v) { sum += v.value_or(1000); };
    auto receive = on_recv(recv_chan<int>(c), add);
    auto give_up = otherwise();
    for (int i = 0; i < 5; ++i) EXPECT_EQ(select(send, give_up), 0u);
    for (int i = 0; i < 5; ++i) EXPECT_EQ(select(receive, give_up), 0u);
    EXPECT_EQ(select(receive, give_up), 1u);
    EXPECT_EQ(sum, 15);
    EXPECT_EQ(select(on_send(send_chan<int>(c), 4), give_up), 0u);
    EXPECT_EQ(c.recv(), 4);
  });
}

TEST_P(selecting, a_closed_channel_is_received_from_at_once_and_has_no_value) {
  in_main([] {
    bool nothing = false;
    EXPECT_EQ(select(on_recv(closed_chan(), [&](std::optional<int> v) { nothing = !v; })), 0u);
    EXPECT_TRUE(nothing);
    const auto c = make_chan<std::string>(2);
    c.send("last");
    c.close();
    std::vector<std::string> got;
    for (int i = 0; i < 3; ++i)
      select(on_recv(c, [&](std::optional<std::string> v) { got.push_back(v.value_or("-")); }));
    EXPECT_EQ(got, (std::vector<std::string>{"last", "-", "-"}));
    EXPECT_EQ(select(on_recv(c), otherwise()), 0u);
  });
}

// Which of 1 to 8 cases is ready, and how: the index, and whether a value came.
TEST_P(selecting, finds_the_ready_case_wherever_it_stands) {
  enum class way { value, closed, room, partner };
  in_main([] {
    for (std::size_t n = 1; n <= 8; ++n)
      for (std::size_t at = 0; at < n; ++at)
        for (const way how : {way::value, way::closed, way::room, way::partner})
          for (const bool sends_between : {false, true}) {
            const auto never = make_chans(n);
            auto c = make_chan<int>(how == way::partner ? 0 : 1);
            wait_group partner;
            if (how == way::value) c.send(9);
            if (how == way::closed) c.close();
            if (how == way::partner) {
              const int before = parked(wait_reason::chan_send);
              partner.go([c] { c.send(9); });
              ASSERT_TRUE(eventually_parked(wait_reason::chan_send, before, 1));
            }
            std::optional<int> got;
            int calls = 0;
            std::vector<select_case> cases;
            for (std::size_t i = 0; i < n; ++i) {
              if (i != at && sends_between && i % 2 == 0)
                cases.push_back(on_send(never[i], 1, [] { FAIL(); }));
              else if (i != at)
                cases.push_back(on_recv(never[i], [] { FAIL(); }));
              else if (how == way::room)
                cases.push_back(on_send(c, 9, [&] { ++calls; }));
              else
                cases.push_back(on_recv(c, [&](std::optional<int> v) { ++calls, got = v; }));
            }
            ASSERT_EQ(select(cases), at);
            ASSERT_EQ(calls, 1);
            ASSERT_EQ(got.has_value(), how == way::value || how == way::partner);
            if (how == way::room) {
              ASSERT_EQ(c.recv(), 9);
            }
            partner.wait();
          }
  });
}

TEST_P(selecting, wakes_up_for_the_case_that_becomes_ready_wherever_it_stands) {
  in_main([] {
    for (const std::size_t n : {1u, 2u, 5u, 17u})
      for (std::size_t at = 0; at < n; ++at) {
        const auto chans = make_chans(n);
        wait_group done;
        const int before = parked_selects();
        done.go([&chans, at] {
          std::vector<select_case> cases;
          int got = 0;
          for (const auto& c : chans) cases.push_back(on_recv(c, [&got](std::optional<int> v) { got = v.value(); }));
          EXPECT_EQ(select(cases), at);
          EXPECT_EQ(got, 3);
          cases.clear();
          for (const auto& c : chans) cases.push_back(on_send(c, 4));
          EXPECT_EQ(select(cases), at);
          cases.clear();
          for (const auto& c : chans)
            cases.push_back(on_recv(c, [](std::optional<int> v) { EXPECT_FALSE(v.has_value()); }));
          EXPECT_EQ(select(cases), at);
        });
        ASSERT_TRUE(eventually_one_more_select(before));
        chans[at].send(3);
        EXPECT_EQ(chans[at].recv(), 4);
        ASSERT_TRUE(eventually_one_more_select(before));
        chans[at].close();
        done.wait();
      }
  });
}

TEST_P(selecting, nil_channels_are_never_ready) {
  in_main([] {
    const chan<int> nil;
    const auto ready = make_chan<int>(1);
    for (int i = 0; i < 100; ++i) {
      EXPECT_EQ(select(on_recv(nil), on_send(nil, 1), otherwise()), 2u);
      EXPECT_EQ(select(on_recv(nil), on_send(nil, 1), on_timeout(1us)), 2u);
      EXPECT_EQ(select(on_recv(nil), on_send(ready, 1), on_send(nil, 1)), 1u);
      EXPECT_EQ(select(on_recv(nil), on_recv(recv_chan<int>()), on_recv(ready)), 2u);
    }
  });
}

// The table of test/chan/select3: what blocks for ever.
TEST_P(selecting, without_a_case_that_can_go_on_waits_for_ever) {
  leaving_goroutines([] {
    const int before = parked_selects(), before_none = parked(wait_reason::select_no_cases);
    const auto for_ever = [](auto wait) {
      go([wait] {
        wait();
        ADD_FAILURE() << "for ever is over";
      });
    };
    const chan<int> nil;
    for_ever([] { select(); });
    for_ever([] { select(std::span<select_case>()); });
    for_ever([nil] { select(on_recv(nil)); });
    for_ever([nil] { select(on_send(nil, 1), on_recv(nil)); });
    for_ever([nil] { select(on_send(nil, 1), on_timeout(std::chrono::hours::max())); });
    const auto c = make_chan<int>();
    for_ever([c] { select(on_recv(c), on_send(c, 1)); });
    for_ever([] { select(on_recv(make_chan<int>())); });
    for_ever([] { select(on_recv(make_chan<int>(3)), on_timeout(std::chrono::nanoseconds::max())); });
    for_ever([] { select(on_send(make_chan<int>(), 1)); });
    for_ever([] { select(on_send(full_chan(), 1), on_timeout(std::chrono::duration<double>(1e300))); });
    EXPECT_TRUE(eventually_parked(wait_reason::select_no_cases, before_none, 5));
    EXPECT_TRUE(eventually_parked(wait_reason::select, before, 5));
    for (int i = 0; i < 100; ++i) yield();
    EXPECT_EQ(parked_selects(), before + 5);
  });
}

// The same table: what never blocks.
TEST_P(selecting, goes_on_at_once_where_a_lone_operation_would) {
  in_main([] {
    EXPECT_EQ(select(on_recv(full_chan())), 0u);
    EXPECT_EQ(select(on_recv(closed_chan())), 0u);
    EXPECT_EQ(select(on_send(make_chan<int>(1), 1)), 0u);
    EXPECT_THROW(select(on_send(closed_chan(), 1)), closed_channel);
    EXPECT_THROW(select(on_send(closed_chan(), 1), otherwise()), closed_channel);
    EXPECT_EQ(select(otherwise()), 0u);
    EXPECT_EQ(select(on_recv(make_chan<int>()), otherwise()), 1u);
    EXPECT_EQ(select(on_send(make_chan<int>(), 1), otherwise()), 1u);
    EXPECT_EQ(select(on_send(full_chan(), 1), otherwise(), on_timeout(0s)), 1u);
    EXPECT_EQ(select(on_timeout(0s)), 0u);
  });
}

// At every moment one of the two channels has a value: otherwise() would be a lie.
TEST_P(selecting, never_takes_otherwise_while_some_case_is_ready) {
  in_main([] {
    for (int i = 0; i < scaled(10'000); ++i) {
      const auto a = make_chan<int>(1), b = make_chan<int>(1);
      const auto done = make_chan<bool>(1);
      a.send(1);
      go([=] { done.send(select(on_recv(a), on_recv(b), otherwise()) != 2); });
      b.send(1);
      select(on_recv(a), otherwise());
      ASSERT_EQ(done.recv(), true) << "round " << i;
    }
  });
}

TEST_P(selecting, of_many_ready_cases_chooses_evenly) {
  in_main([] {
    constexpr int kRounds = 10'000;
    const auto a = make_chan<int>(kRounds), b = make_chan<int>(kRounds), never = make_chan<int>();
    const chan<int> nil;
    for (int i = 0; i < kRounds; ++i) a.send(i), b.send(i);
    std::array<int, 4> chosen{};
    for (int i = 0; i < kRounds; ++i) ++chosen[select(on_recv(a), on_recv(never), on_recv(b), on_recv(nil))];
    EXPECT_EQ(chosen[0] + chosen[2], kRounds);
    EXPECT_NEAR(chosen[0], kRounds / 2, 10 * 50);  // 10 sigma
  });
}

TEST_P(selecting, of_two_sends_on_one_channel_chooses_evenly) {
  in_main([] {
    constexpr int kRounds = 10'000;
    const auto c = make_chan<int>(3);
    go([c] {
      for (int i = 0; i < kRounds; ++i) select(on_send(c, 0), on_send(c, 1));
      c.close();
    });
    int ones = 0;
    for (const int v : c) ones += v;
    EXPECT_NEAR(ones, kRounds / 2, 10 * 50);
  });
}

// Both senders are there whenever the select has been away: each gets its share.
TEST_P(selecting, chooses_evenly_among_partners_that_wait) {
  in_main([] {
    const int rounds = scaled(4000);
    const auto chans = make_chans(4);
    const auto stop = make_chan<unit>();
    const int before = parked_selects();
    wait_group senders;
    for (const auto& c : chans)
      senders.go([=] {
        while (select(on_send(c, 1), on_recv(stop)) == 0) {
        }
      });
    std::array<int, 4> chosen{};
    for (int i = 0; i < rounds; ++i) {
      ASSERT_TRUE(eventually_parked(wait_reason::select, before, 4));
      ++chosen[select(on_recv(chans[0]), on_recv(chans[1]), on_recv(chans[2]), on_recv(chans[3]))];
    }
    stop.close();
    senders.wait();
    const double share = rounds / 4.0, sigma = std::sqrt(rounds * 3 / 16.0);
    for (const int n : chosen) EXPECT_NEAR(n, share, 10 * sigma);
  });
}

// -- Timeouts ---------------------------------------------------------------------------------------------------------

TEST_P(selecting, the_nearest_of_several_timeouts_counts) {
  in_main([] {
    const auto c = make_chan<int>();
    for (int i = 0; i < 10; ++i) {
      const time_point start = clock::now();
      EXPECT_EQ(select(on_timeout(1h), on_timeout(2ms), on_recv(c), on_timeout(std::chrono::hours::max())), 1u);
      EXPECT_GE(clock::now() - start, 2ms);
      EXPECT_EQ(select(on_timeout(1ms), on_recv(c), on_timeout(1h)), 0u);
      EXPECT_EQ(select(on_timeout(1h), on_timeout(-5s), on_timeout(1us)), 1u);
    }
  });
}

TEST_P(selecting, a_timeout_of_nothing_or_less_is_over_at_once_but_what_is_ready_comes_first) {
  in_main([] {
    const auto empty = make_chan<int>();
    for (int i = 0; i < 100; ++i) {
      EXPECT_EQ(select(on_recv(empty), on_timeout(0ns)), 1u);
      EXPECT_EQ(select(on_recv(empty), on_timeout(-1h)), 1u);
      EXPECT_EQ(select(on_recv(empty), on_timeout(std::chrono::hours::min())), 1u);
      EXPECT_EQ(select(on_timeout(0s), on_recv(full_chan())), 1u);
      EXPECT_EQ(select(on_timeout(-1s), on_recv(closed_chan())), 1u);
      EXPECT_EQ(select(on_timeout(-1s), on_recv(empty), otherwise()), 2u);
    }
  });
}

TEST_P(selecting, a_timeout_counts_from_each_select_anew) {
  in_main([] {
    const auto c = make_chan<int>();
    std::vector<select_case> cases;
    cases.push_back(on_recv(c));
    cases.push_back(on_timeout(1500us));
    for (int i = 0; i < 5; ++i) {
      const time_point start = clock::now();
      EXPECT_EQ(select(cases), 1u);
      EXPECT_GE(clock::now() - start, 1500us);
    }
  });
}

TEST_P(selecting, leaves_no_timer_behind) {
  in_main([] {
    const auto c = make_chan<int>(1);
    const ticker slow(1h);
    wait_group done;
    for (int i = 0; i < 100; ++i) {
      done.go([=, &slow] {
        int sum = 0;
        for (int n = 0; n < 20; ++n) {
          select(on_recv(c, [&sum](std::optional<int> v) { sum += *v; }), on_recv(slow.c()), on_timeout(1h));
          select(on_send(c, 1), on_timeout(std::chrono::microseconds(n)), on_recv(slow.c()));
        }
      });
    }
    for (int i = 0; i < 100; ++i) select(on_send(c, 1), on_timeout(1us));
    while (num_goroutine() > 1) select(on_send(c, 1), on_timeout(100us));
    done.wait();
    EXPECT_TRUE(eventually([] { return rt::next_timer() == rt::kNever; }));
  });
}

// The timer may expire before the goroutine that started it has stopped.
TEST_P(selecting, a_timeout_may_be_over_while_the_select_goes_to_sleep) {
  in_main([] {
    std::atomic<bool> stop{false};
    wait_group thieves, done;
    for (int i = 0; i < 2; ++i)
      thieves.go([&] {
        while (!stop) sleep_for(1us);
      });
    for (int i = 0; i < 16; ++i)
      done.go([i] {
        const auto c = make_chan<int>();
        for (int n = 0; n < scaled(5000); ++n) {
          EXPECT_EQ(select(on_recv(c), on_timeout(std::chrono::nanoseconds(1 + (n * 7 + i) % 600))), 1u);
          select(on_timeout(std::chrono::nanoseconds(1 + (n * 7 + i) % 600)));
        }
      });
    done.wait();
    stop = true;
    thieves.wait();
  });
}

// Each value is received once, or its sender knows that it was not.
TEST_P(selecting, timeouts_and_partners_never_both_win) {
  in_main([] {
    for (const std::size_t capacity : {0, 2}) {
      const auto c = make_chan<std::unique_ptr<int>>(capacity);
      const auto other = make_chan<int>();
      const int rounds = scaled(3000);
      std::atomic<long> sent{0}, received{0}, kept{0}, made{0};
      wait_group senders, receivers;
      for (int s = 0; s < 4; ++s)
        senders.go([&, s, c] {
          for (int i = 0; i < rounds; ++i) {
            auto value = std::make_unique<int>(i);
            made += i;
            const auto timeout = std::chrono::nanoseconds((i * 131 + s * 17) % 3000);
            if (select(on_send(c, std::move(value)), on_timeout(timeout), on_recv(other)) == 0)
              sent += i;
            else if (value)
              kept += *value;
          }
        });
      for (int r = 0; r < 4; ++r)
        receivers.go([&, r, c] {
          for (int i = 0, open = true; open; ++i)
            select(on_recv(c,
                           [&](std::optional<std::unique_ptr<int>> v) {
                             if (v)
                               received += **v;
                             else
                               open = false;
                           }),
                   on_timeout(std::chrono::nanoseconds((i * 113 + r * 29) % 3000)), on_recv(other));
        });
      senders.wait();
      c.close();
      receivers.wait();
      EXPECT_EQ(sent, received);
      EXPECT_EQ(sent + kept, made);
    }
  });
}

// -- Sending ----------------------------------------------------------------------------------------------------------

// Counts its moves and copies.
struct counted {
  static inline std::atomic<int> moves{0}, copies{0};
  int value;
  explicit counted(int v) : value(v) {}
  counted(const counted& other) : value(other.value) { ++copies; }
  counted(counted&& other) noexcept : value(std::exchange(other.value, 0)) { ++moves; }
};

TEST_P(selecting, a_value_to_be_sent_is_untouched_unless_its_case_wins) {
  in_main([] {
    const auto c = make_chan<std::unique_ptr<int>>(1);
    auto first = std::make_unique<int>(1), second = std::make_unique<int>(2);
    EXPECT_EQ(select(on_send(c, std::move(first)), otherwise()), 0u);
    EXPECT_FALSE(first);
    EXPECT_EQ(select(on_send(c, std::move(second)), otherwise()), 1u);
    EXPECT_EQ(select(on_send(c, std::move(second)), on_timeout(1us)), 1u);
    EXPECT_EQ(select(on_send(chan<std::unique_ptr<int>>(), std::move(second)), otherwise()), 1u);
    const auto signal = make_chan<unit>();
    const int before = parked_selects();
    go([=] {
      EXPECT_TRUE(eventually_one_more_select(before));
      signal.send({});
    });
    EXPECT_EQ(select(on_send(c, std::move(second)), on_recv(signal)), 1u);
    ASSERT_TRUE(second);
    EXPECT_EQ(*second, 2);
    c.close();
    EXPECT_THROW(select(on_send(c, std::move(second))), closed_channel);
    ASSERT_TRUE(second);
    EXPECT_EQ(**c.recv(), 1);
    EXPECT_EQ(select(on_send(make_chan<std::unique_ptr<int>>(1), std::make_unique<int>(3))), 0u);
  });
}

TEST_P(selecting, moves_a_value_once_and_copies_an_lvalue) {
  in_main([] {
    const auto c = make_chan<counted>(1);
    counted value(7);
    counted::moves = counted::copies = 0;
    select(on_send(c, std::move(value)));
    EXPECT_EQ(counted::moves, 1);
    counted again(8);
    for (int i = 0; i < 10; ++i) EXPECT_EQ(select(on_send(c, std::move(again)), otherwise()), 1u);
    EXPECT_EQ(counted::moves, 1);
    EXPECT_EQ(counted::copies, 0);
    EXPECT_EQ(select(on_send(c, again), otherwise()), 1u);
    EXPECT_EQ(counted::copies, 1);
    EXPECT_EQ(again.value, 8);
    EXPECT_EQ(c.recv()->value, 7);
    EXPECT_EQ(select(on_send(c, again), otherwise()), 0u);
    EXPECT_EQ(again.value, 8);
    EXPECT_EQ(c.recv()->value, 8);
    const auto texts = make_chan<std::string>(1);
    EXPECT_EQ(select(on_send(texts, "converted")), 0u);
    EXPECT_EQ(texts.recv(), "converted");
  });
}

TEST_P(selecting, a_set_of_cases_owns_its_values_and_can_be_used_in_a_loop) {
  in_main([] {
    const auto texts = make_chan<std::string>();
    const auto numbers = make_chan<std::unique_ptr<int>>(1);
    const auto stop = make_chan<unit>();
    wait_group done;
    done.go([=] {
      EXPECT_EQ(texts.recv(), std::string(100, 'x'));
      EXPECT_EQ(**numbers.recv(), 5);
      stop.close();
    });
    std::vector<int> ran;
    int timeouts = 0;
    std::vector<select_case> cases;
    cases.push_back(on_send(texts, std::string(100, 'x'), [&] { ran.push_back(0); }));
    cases.push_back(on_recv(stop, [&] { ran.push_back(1); }));
    cases.push_back(on_timeout(100us, [&] { ++timeouts; }));
    while (select(cases) == 2) {
    }
    cases[0] = on_send(numbers, std::make_unique<int>(5), [&] { ran.push_back(2); });
    while (select(cases) == 2) {
    }
    cases[0] = on_recv(chan<int>());
    while (select(cases) == 2) {
    }
    EXPECT_EQ(ran, (std::vector<int>{0, 2, 1}));
    std::array<select_case, 2> few{on_recv(stop), otherwise()};
    EXPECT_EQ(select(few), 0u);
    select_case one = on_recv(stop);
    EXPECT_EQ(select(one), 0u);
    done.wait();
  });
}

TEST_P(selecting, a_send_on_a_closed_channel_throws) {
  in_main([] {
    const std::string expected = "send on closed channel";
    EXPECT_EQ(text_of<closed_channel>([] { select(on_send(closed_chan(), 1)); }), expected);
    EXPECT_EQ(text_of<closed_channel>(
                  [] { select(on_send(closed_chan(), 1, [] { FAIL(); }), on_recv(make_chan<int>()), on_timeout(1h)); }),
              expected);
    const auto c = make_chan<int>(), other = make_chan<int>();
    wait_group done;
    const int before = parked_selects();
    for (int i = 0; i < 3; ++i)
      done.go([=] {
        EXPECT_EQ(text_of<closed_channel>([&] { select(on_recv(other), on_send(c, 1), on_timeout(1h)); }), expected);
      });
    EXPECT_TRUE(eventually_parked(wait_reason::select, before, 3));
    c.close();
    done.wait();
    EXPECT_FALSE(other.try_send(1));
  });
}

TEST_P(selecting, racing_with_close_loses_nothing_that_was_accepted) {
  in_main([] {
    for (int round = 0; round < scaled(30); ++round) {
      const auto c = make_chan<int>(static_cast<std::size_t>(round % 3)), never = make_chan<int>();
      std::atomic<int> accepted{0}, received{0};
      wait_group done;
      for (int i = 0; i < 4; ++i) {
        done.go([&, c] {
          try {
            for (;;) {
              select(on_send(c, 1), on_recv(never));
              ++accepted;
            }
          } catch (const closed_channel&) {
          }
        });
        done.go([&, c] {
          for (bool open = true; open;)
            select(on_recv(never), on_recv(c, [&](std::optional<int> v) {
                     open = v.has_value();
                     received += v.value_or(0);
                   }));
        });
      }
      for (int i = 0; i < round % 3; ++i) yield();
      c.close();
      done.wait();
      ASSERT_EQ(accepted, received);
    }
  });
}

// -- Handlers ---------------------------------------------------------------------------------------------------------

TEST_P(selecting, what_a_handler_throws_leaves_select_after_the_operation) {
  in_main([] {
    const auto c = make_chan<int>(1);
    const auto boom = [] { throw std::runtime_error("boom"); };
    EXPECT_EQ(text_of<std::runtime_error>([&] { select(on_send(c, 1, boom)); }), "boom");
    EXPECT_EQ(c.len(), 1u);
    EXPECT_EQ(text_of<std::runtime_error>([&] { select(on_recv(c, boom), otherwise()); }), "boom");
    EXPECT_EQ(c.len(), 0u);
    EXPECT_EQ(text_of<std::runtime_error>([&] { select(on_recv(c), otherwise(boom)); }), "boom");
    EXPECT_EQ(text_of<std::runtime_error>([&] { select(on_recv(c), on_timeout(1us, boom)); }), "boom");
    std::vector<select_case> cases;
    cases.push_back(on_send(c, 2, boom));
    EXPECT_EQ(text_of<std::runtime_error>([&] { select(cases); }), "boom");
    EXPECT_EQ(c.recv(), 2);
  });
}

TEST_P(selecting, a_handler_may_select_wait_and_end_its_goroutine) {
  in_main([] {
    const auto a = make_chan<int>(1), b = make_chan<int>(1);
    wait_group done;
    bool unwound = false;
    done.go([&, a, b] {
      struct at_end {
        bool& flag;
        ~at_end() { flag = true; }
      } end{unwound};
      select(on_send(a, 1, [&] {
        select(on_recv(a, [&](std::optional<int> v) {
          sleep_for(100us);
          select(on_send(b, *v), on_timeout(1h));
        }));
      }));
      select(on_recv(b, [] { goexit(); }), on_timeout(1h));
      ADD_FAILURE() << "goexit() did not";
    });
    done.wait();
    EXPECT_TRUE(unwound);
  });
}

// -- Sets of cases ----------------------------------------------------------------------------------------------------

TEST_P(selecting, the_same_channel_may_stand_in_several_cases) {
  in_main([] {
    const auto c = make_chan<int>();
    const int rounds = scaled(3000);
    wait_group done;
    done.go([=] {
      for (int i = 0; i < rounds; ++i) c.send(i);
    });
    std::array<int, 3> ran{};
    for (int i = 0; i < rounds; ++i) {
      const auto expect = [i](std::optional<int> v) { EXPECT_EQ(v, i); };
      ++ran[select(on_recv(c, expect), on_recv(c, expect), on_recv(c, expect), on_timeout(1h))];
    }
    done.wait();
    EXPECT_EQ(ran[0] + ran[1] + ran[2], rounds);
    EXPECT_EQ(c.try_recv().status, recv_status::empty);
  });
}

// Two goroutines that both send and receive on one channel meet, and neither meets itself.
TEST_P(selecting, sends_and_receives_on_one_channel_but_not_to_itself) {
  in_main([] {
    for (const std::size_t capacity : {0, 10}) {
      const auto c = make_chan<int>(capacity);
      const int rounds = scaled(2000);
      wait_group done;
      for (int p = 0; p < 2; ++p)
        done.go([=] {
          for (int i = 0; i < rounds; ++i) {
            const auto check = [=](std::optional<int> v) { EXPECT_FALSE(capacity == 0 && v == p); };
            if (p == 0 || i % 2 == 0)
              select(on_send(c, p), on_recv(c, check));
            else
              select(on_recv(c, check), on_send(c, p));
          }
        });
      done.wait();
    }
  });
}

TEST_P(selecting, a_hundred_cases) {
  in_main([] {
    const auto chans = make_chans(60);
    const auto full = full_chan();
    const chan<int> nil;
    const int rounds = scaled(500);
    wait_group done;
    done.go([=] {
      for (int i = 0; i < rounds; ++i) chans[static_cast<std::size_t>(i * 37 % 60)].send(i);
    });
    for (int i = 0; i < rounds; ++i) {
      std::vector<select_case> cases;
      const std::size_t expected = static_cast<std::size_t>(i * 37 % 60);
      for (const auto& c : chans) cases.push_back(on_recv(c, [i](std::optional<int> v) { EXPECT_EQ(v, i); }));
      for (int k = 0; k < 20; ++k) cases.push_back(on_send(full, 1)), cases.push_back(on_recv(nil));
      cases.push_back(on_timeout(1h));
      ASSERT_EQ(select(cases), expected);
    }
    done.wait();
  });
}

TEST_P(selecting, the_channels_of_the_losing_cases_may_go_away_meanwhile) {
  in_main([] {
    const int rounds = scaled(2000);
    const auto c = make_chan<int>();
    wait_group done;
    done.go([=] {
      for (int i = 0; i < rounds; ++i) c.send(i);
    });
    for (int i = 0; i < rounds; ++i)
      EXPECT_EQ(select(on_recv(make_chan<int>()), on_send(make_chan<std::string>(), "never"), on_recv(after(1h)),
                       on_recv(c, [i](std::optional<int> v) { EXPECT_EQ(v, i); })),
                3u);
    done.wait();
  });
}

// Go's TestSelectStress: plain operations and selects of four cases on the same channels, each switched off when done.
TEST_P(selecting, with_cases_switched_off_one_by_one_meets_plain_operations) {
  in_main([] {
    const int rounds = scaled(5000);
    const std::array<std::size_t, 4> capacities{0, 0, 2, 3};
    std::array<chan<int>, 4> c;
    for (std::size_t i = 0; i < 4; ++i) c[i] = make_chan<int>(capacities[i]);
    wait_group done;
    std::atomic<long> received{0};
    for (const auto& each : c) {
      done.go([each, rounds] {
        for (int i = 0; i < rounds; ++i) each.send(1);
      });
      done.go([each, rounds, &received] {
        for (int i = 0; i < rounds; ++i) received += each.recv().value();
      });
    }
    done.go([c, rounds]() mutable {
      std::array<int, 4> n{};
      for (int i = 0; i < 4 * rounds; ++i) {
        const std::size_t k = select(on_send(c[3], 1), on_send(c[2], 1), on_send(c[0], 1), on_send(c[1], 1));
        const std::size_t at = std::array<std::size_t, 4>{3, 2, 0, 1}[k];
        if (++n[at] == rounds) c[at] = {};
      }
    });
    done.go([c, rounds, &received]() mutable {
      std::array<int, 4> n{};
      const auto add = [&received](std::optional<int> v) { received += v.value(); };
      for (int i = 0; i < 4 * rounds; ++i) {
        const std::size_t at = select(on_recv(c[0], add), on_recv(c[1], add), on_recv(c[2], add), on_recv(c[3], add));
        if (++n[at] == rounds) c[at] = {};
      }
    });
    done.wait();
    EXPECT_EQ(received, 8L * rounds);
    for (const auto& each : c) EXPECT_EQ(each.len(), 0u);
  });
}

TEST_P(selecting, the_memory_in_use_does_not_grow) {
  in_main([] {
    const auto a = make_chan<int>(), b = make_chan<int>(), stop = make_chan<int>();
    const ticker slow(1h);
    wait_group done;
    done.go([=] {
      while (select(on_send(a, 1), on_send(b, 2), on_recv(stop)) != 2) {
      }
    });
    long before = 0;
    const int rounds = scaled(100'000);
    for (int i = 0; i < rounds + 1000; ++i) {
      if (i == 1000) before = allocations;
      select(on_recv(a), on_recv(b), on_recv(slow.c()), on_timeout(1h));
      if (i % 64 == 0) select(on_recv(stop), on_timeout(1us));
    }
    EXPECT_LE(allocations - before, rounds / 1000);
    stop.close();
    done.wait();
  });
}

// -- Elements ---------------------------------------------------------------------------------------------------------

struct large {
  std::array<std::uint64_t, 500> words;
  explicit large(std::uint64_t v) { words.fill(v); }
};

struct alignas(64) aligned {
  std::shared_ptr<std::uint64_t> value;
  explicit aligned(std::uint64_t v) : value(std::make_shared<std::uint64_t>(v)) {}
};

std::uint64_t value_of(const large& l) {
  EXPECT_EQ(l.words.front(), l.words.back());
  return l.words.front();
}
std::uint64_t value_of(const aligned& a) { return *a.value; }
std::uint64_t value_of(const std::unique_ptr<std::uint64_t>& p) { return *p; }
std::uint64_t value_of(char c) { return static_cast<std::uint64_t>(c); }

template <class T, class Make>
void pass_through_selects(std::size_t capacity, Make make) {
  const auto c = make_chan<T>(capacity), never = make_chan<T>();
  wait_group done;
  done.go([=] {
    for (std::uint64_t i = 0; i < 50; ++i) select(on_recv(never), on_send(c, make(i)), on_timeout(1h));
    c.close();
  });
  std::uint64_t next = 0;
  bool open = true;
  while (open)
    select(on_recv(never), on_recv(c, [&](std::optional<T> v) {
             open = v.has_value();
             if (v) {
               EXPECT_EQ(value_of(*v), next++);
             }
           }));
  EXPECT_EQ(next, 50u);
  done.wait();
}

TEST_P(selecting, carries_elements_of_every_kind) {
  in_main([] {
    for (const std::size_t capacity : {0, 3}) {
      pass_through_selects<char>(capacity, [](std::uint64_t v) { return static_cast<char>(v); });
      pass_through_selects<large>(capacity, [](std::uint64_t v) { return large(v); });
      pass_through_selects<aligned>(capacity, [](std::uint64_t v) { return aligned(v); });
      pass_through_selects<std::unique_ptr<std::uint64_t>>(
          capacity, [](std::uint64_t v) { return std::make_unique<std::uint64_t>(v); });
      const auto nothing = make_chan<unit>(capacity);
      go([nothing] {
        for (int i = 0; i < 10; ++i) select(on_send(nothing, unit{}));
        nothing.close();
      });
      int n = 0;
      while (n < 10) select(on_recv(nothing, [&](std::optional<unit> u) { n += u.has_value() ? 1 : 100; }));
      EXPECT_EQ(n, 10);
    }
  });
}

TEST_P(selecting, a_move_that_throws_at_once_does_nothing) {
  in_main([] {
    const auto c = make_chan<fragile>(1);
    fragile::arm(1);
    EXPECT_THROW(select(on_send(c, fragile(1)), on_timeout(1h)), std::runtime_error);
    EXPECT_EQ(c.len(), 0u);
    c.send(fragile(1));
    fragile::arm(1);
    EXPECT_THROW(select(on_recv(c), otherwise()), std::runtime_error);
    EXPECT_EQ(c.len(), 1u);
    EXPECT_EQ(select(on_recv(c)), 0u);
    EXPECT_EQ(fragile::alive, 0);
  });
}

TEST_P(selecting, a_move_to_a_select_that_waits_and_throws_leaves_it_waiting) {
  in_main([] {
    const auto c = make_chan<fragile>();
    const auto other = make_chan<int>();
    wait_group done;
    const int before = parked_selects();
    done.go([=] {
      EXPECT_EQ(
          select(on_recv(other), on_recv(c, [](std::optional<fragile> v) { EXPECT_EQ(v->value, 2); }), on_timeout(1h)),
          1u);
    });
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(eventually_one_more_select(before));
      fragile::arm(1);
      EXPECT_THROW(c.send(fragile(1)), std::runtime_error);
      ASSERT_TRUE(eventually_one_more_select(before));
    }
    c.send(fragile(2));
    done.wait();
    EXPECT_EQ(fragile::alive, 0);
  });
}

TEST_P(selecting, a_move_from_a_select_that_waits_and_throws_leaves_it_waiting) {
  in_main([] {
    const auto c = make_chan<fragile>(), other = make_chan<fragile>();
    wait_group done;
    const int before = parked_selects();
    done.go([=] { EXPECT_EQ(select(on_recv(other), on_send(c, fragile(1)), on_timeout(1h)), 1u); });
    ASSERT_TRUE(eventually_one_more_select(before));
    fragile::arm(1);
    EXPECT_THROW(c.recv(), std::runtime_error);
    ASSERT_TRUE(eventually_one_more_select(before));
    fragile::arm(1);
    EXPECT_THROW(select(on_recv(c)), std::runtime_error);
    ASSERT_TRUE(eventually_one_more_select(before));
    EXPECT_EQ(c.recv()->value, 1);
    done.wait();
    EXPECT_EQ(fragile::alive, 0);
  });
}

TEST_P(selecting, a_move_up_into_the_buffer_that_throws_reaches_the_select_that_sends) {
  in_main([] {
    const auto c = make_chan<fragile>(1);
    c.send(fragile(1));
    wait_group done;
    const int before = parked_selects();
    done.go([=] {
      EXPECT_EQ(text_of<std::runtime_error>([&] { select(on_send(c, fragile(2)), on_timeout(1h)); }), "moved");
    });
    ASSERT_TRUE(eventually_one_more_select(before));
    fragile::arm(2);
    EXPECT_EQ(c.recv()->value, 1);
    done.wait();
    EXPECT_EQ(c.len(), 0u);
    EXPECT_EQ(fragile::alive, 0);
  });
}

// -- Threads and runs -------------------------------------------------------------------------------------------------

// Two that pass a number to and fro with selects; each gives up for a while now and then.
void play(const chan<int>& in, const chan<int>& out, int rounds) {
  int next = 0;
  while (next < rounds) {
    select(on_recv(in,
                   [&](std::optional<int> v) {
                     EXPECT_EQ(v, next);
                     while (select(on_send(out, next), on_timeout(20us)) != 0) {
                     }
                     ++next;
                   }),
           on_timeout(30us));
  }
}

void serve(const chan<int>& in, const chan<int>& out, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    EXPECT_EQ(select(on_send(in, i), on_timeout(std::chrono::hours(1))), 0u);
    EXPECT_EQ(out.recv(), i);
  }
}

TEST_P(selecting, goroutines_and_foreign_threads_meet) {
  in_main([] {
    const int rounds = scaled(500);
    for (const bool foreign_plays : {false, true}) {
      const auto in = make_chan<int>(), out = make_chan<int>();
      std::thread thread([=] { foreign_plays ? play(in, out, rounds) : serve(in, out, rounds); });
      foreign_plays ? serve(in, out, rounds) : play(in, out, rounds);
      blocking([&thread] { thread.join(); });
    }
  });
}

TEST_P(selecting, inside_a_blocking_call) {
  in_main([] {
    const auto c = make_chan<int>(), other = make_chan<int>();
    wait_group done;
    for (int i = 0; i < 3; ++i)
      done.go([=] {
        blocking([&] {
          EXPECT_EQ(select(on_recv(other), on_timeout(200us)), 1u);
          EXPECT_EQ(select(on_recv(c), on_recv(other), on_timeout(1h)), 0u);
          EXPECT_EQ(select(on_recv(other), otherwise()), 1u);
          EXPECT_EQ(select(on_timeout(50us)), 0u);
        });
      });
    for (int i = 0; i < 3; ++i) c.send(i);
    done.wait();
  });
}

TEST(selecting_between_threads, works_without_a_run) {
  const int rounds = scaled(500);
  const auto in = make_chan<int>(), out = make_chan<int>();
  std::thread thread([=] { play(in, out, rounds); });
  serve(in, out, rounds);
  thread.join();
  EXPECT_EQ(select(on_recv(in), otherwise()), 1u);
  EXPECT_EQ(select(on_recv(in), on_recv(ticker(1ms).c())), 1u);
  const time_point start = clock::now();
  EXPECT_EQ(select(on_recv(in), on_timeout(2ms)), 1u);
  EXPECT_GE(clock::now() - start, 2ms);
  in.close();
  EXPECT_THROW(select(on_send(in, 1)), closed_channel);
}

TEST_P(selecting, a_foreign_thread_goes_on_waiting_over_the_ends_and_beginnings_of_runs) {
  const auto c = make_chan<int>(), stop = make_chan<int>();
  const ticker beats(200us);
  std::atomic<int> received{0}, ticks{0};
  std::thread thread([&] {
    for (bool open = true; open;)
      select(on_recv(c, [&] { ++received; }), on_recv(beats.c(), [&] { ++ticks; }), on_timeout(150us),
             on_recv(stop, [&] { open = false; }));
  });
  for (int round = 0; round < scaled(100); ++round) {
    leaving_goroutines([&] {
      for (int i = 0; i < 10; ++i) {
        go([&] { select(on_recv(beats.c()), on_recv(stop), on_timeout(1h)); });
        go([&] { select(on_send(c, 1), on_timeout(50us)); });
      }
      c.send(1);
    });
    c.send(1);
  }
  const int before = ticks;
  EXPECT_TRUE(eventually([&] { return ticks > before; }));
  stop.close();
  thread.join();
  EXPECT_GE(received, 2 * scaled(100));
}

TEST_P(selecting, what_an_ended_run_left_waiting_takes_no_values) {
  const auto c = make_chan<int>();
  leaving_goroutines([&] {
    const int before = parked_selects(), before_plain = parked(wait_reason::chan_receive);
    for (int i = 0; i < 3; ++i) go([&] { select(on_recv(c), on_timeout(1h)); });
    for (int i = 0; i < 3; ++i) go([&] { c.recv(); });
    EXPECT_TRUE(eventually_parked(wait_reason::select, before, 3));
    EXPECT_TRUE(eventually_parked(wait_reason::chan_receive, before_plain, 3));
  });
  EXPECT_FALSE(c.try_send(1));
  EXPECT_EQ(select(on_send(c, 1), otherwise()), 1u);
  in_main([&] {
    go([&] { c.send(2); });
    EXPECT_EQ(c.recv(), 2);
  });
}

}  // namespace
