// SPDX-License-Identifier: Apache-2.0
// Channels: blocking, order, closing, counting, and what an element may be.
#include <weft/chan.h>

#include <array>
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

constexpr std::size_t kCapacities[] = {0, 1, 2, 7, 100};

class channel : public every_runtime {};
WEFT_ON_EVERY_RUNTIME(channel);

template <class E, class F>
std::string text_of(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing was thrown";
}

// -- Blocking
// ----------------------------------------------------------------------------------------------------------

TEST_P(channel, receive_from_an_empty_one_blocks_and_try_recv_returns_at_once) {
  in_main([] {
    for (const std::size_t capacity : kCapacities) {
      const auto c = make_chan<int>(capacity);
      const try_recv_result<int> nothing = c.try_recv();
      EXPECT_EQ(nothing.status, recv_status::empty);
      EXPECT_FALSE(nothing.value.has_value());
      std::atomic<bool> received{false};
      const int before = parked(wait_reason::chan_receive);
      go([&received, c] {
        EXPECT_EQ(c.recv(), 7);
        received = true;
      });
      EXPECT_TRUE(eventually_parked(wait_reason::chan_receive, before, 1));
      EXPECT_FALSE(received);
      c.send(7);
      EXPECT_TRUE(eventually(received));
    }
  });
}

TEST_P(channel, send_to_a_full_one_blocks_until_one_is_received) {
  in_main([] {
    for (const std::size_t capacity : kCapacities) {
      const auto c = make_chan<std::size_t>(capacity);
      for (std::size_t i = 0; i < capacity; ++i) EXPECT_TRUE(c.try_send(i));
      EXPECT_FALSE(c.try_send(capacity));
      std::atomic<bool> sent{false};
      const int before = parked(wait_reason::chan_send);
      go([&sent, c, capacity] {
        c.send(capacity);
        sent = true;
      });
      EXPECT_TRUE(eventually_parked(wait_reason::chan_send, before, 1));
      EXPECT_FALSE(sent);
      EXPECT_EQ(c.len(), capacity);
      for (std::size_t i = 0; i <= capacity; ++i) EXPECT_EQ(c.recv(), i);
      EXPECT_TRUE(eventually(sent));
      EXPECT_EQ(c.try_recv().status, recv_status::empty);
    }
  });
}

TEST_P(channel, try_send_works_again_after_one_receive) {
  in_main([] {
    const auto c = make_chan<int>(2);
    EXPECT_TRUE(c.try_send(1));
    EXPECT_TRUE(c.try_send(2));
    EXPECT_FALSE(c.try_send(3));
    EXPECT_EQ(c.recv(), 1);
    EXPECT_TRUE(c.try_send(3));
    EXPECT_EQ(c.recv(), 2);
    EXPECT_EQ(c.recv(), 3);
  });
}

TEST_P(channel, try_operations_meet_a_partner_that_waits) {
  in_main([] {
    const auto c = make_chan<int>();
    const int senders = parked(wait_reason::chan_send);
    go([c] { c.send(1); });
    EXPECT_TRUE(eventually_parked(wait_reason::chan_send, senders, 1));
    const try_recv_result<int> taken = c.try_recv();
    EXPECT_EQ(taken.status, recv_status::received);
    EXPECT_EQ(taken.value, 1);
    const int receivers = parked(wait_reason::chan_receive);
    go([c] { EXPECT_EQ(c.recv(), 2); });
    EXPECT_TRUE(eventually_parked(wait_reason::chan_receive, receivers, 1));
    EXPECT_TRUE(c.try_send(2));
  });
}

TEST_P(channel, nil_blocks_for_ever_and_its_try_operations_fail) {
  leaving_goroutines([] {
    const chan<int> nil;
    EXPECT_FALSE(nil.try_send(1));
    EXPECT_EQ(nil.try_recv().status, recv_status::empty);
    const int sending = parked(wait_reason::chan_send_nil), receiving = parked(wait_reason::chan_receive_nil);
    go([nil] {
      nil.send(1);
      ADD_FAILURE() << "a send to nil returned";
    });
    go([nil] {
      nil.recv();
      ADD_FAILURE() << "a receive from nil returned";
    });
    EXPECT_TRUE(eventually_parked(wait_reason::chan_send_nil, sending, 1));
    EXPECT_TRUE(eventually_parked(wait_reason::chan_receive_nil, receiving, 1));
  });
}

// -- Order
// -------------------------------------------------------------------------------------------------------------

TEST_P(channel, values_arrive_whole_and_in_order) {
  in_main([] {
    constexpr int kValues = 100;
    for (const std::size_t capacity : kCapacities) {
      for (const bool by_range : {true, false}) {
        const auto c = make_chan<int>(capacity);
        go([c] {
          for (int i = 0; i < kValues; ++i) c.send(i);
          c.close();
        });
        int next = 0;
        if (by_range)
          for (const int value : c) EXPECT_EQ(value, next++);
        else
          while (const std::optional<int> value = c.recv()) EXPECT_EQ(*value, next++);
        EXPECT_EQ(next, kValues);
      }
    }
  });
}

TEST_P(channel, receivers_that_wait_are_served_in_order_of_arrival) {
  in_main([] {
    const auto c = make_chan<int>();
    wait_group done;
    const int before = parked(wait_reason::chan_receive);
    for (int i = 0; i < 20; ++i) {
      done.go([c, i] { EXPECT_EQ(c.recv(), i); });
      EXPECT_TRUE(eventually_parked(wait_reason::chan_receive, before, i + 1));
    }
    for (int i = 0; i < 20; ++i) c.send(i);
    done.wait();
  });
}

TEST_P(channel, senders_that_wait_are_served_in_order_of_arrival) {
  in_main([] {
    for (const std::size_t capacity : {0, 3}) {
      const auto c = make_chan<int>(capacity);
      const int n = static_cast<int>(capacity) + 20;
      for (int i = 0; i < static_cast<int>(capacity); ++i) c.send(i);
      wait_group done;
      const int before = parked(wait_reason::chan_send);
      for (int i = static_cast<int>(capacity); i < n; ++i) {
        done.go([c, i] { c.send(i); });
        EXPECT_TRUE(eventually_parked(wait_reason::chan_send, before, i + 1 - static_cast<int>(capacity)));
      }
      for (int i = 0; i < n; ++i) EXPECT_EQ(c.recv(), i);
      done.wait();
    }
  });
}

TEST_P(channel, a_chain_of_goroutines_keeps_the_order) {
  in_main([] {
    struct link {
      chan<int> turn;
      chan<int> results;
      int number;
      chan<int> next;
      void operator()() const {
        turn.recv();
        results.send(number);
        next.send(0);
      }
    };
    const int n = scaled(1000);
    const auto results = make_chan<int>(static_cast<std::size_t>(n));
    auto turn = make_chan<int>();
    const auto first = turn;
    for (int i = 0; i < n; ++i) {
      const auto next = make_chan<int>(i + 1 == n ? 1 : 0);
      go(link{turn, results, i, next});
      turn = next;
    }
    first.send(0);
    for (int i = 0; i < n; ++i) EXPECT_EQ(results.recv(), i);
  });
}

// Calls f with a pattern around it that fills a part of the stack, and looks whether it is still there.
template <class F>
[[gnu::noinline]] void beside_a_pattern(std::uint64_t seed, F f) {
  std::array<std::uint64_t, 1000> words;
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = seed + i;
  asm volatile("" : : "r"(words.data()) : "memory");
  f();
  asm volatile("" : : "r"(words.data()) : "memory");
  int wrong = 0;
  for (std::size_t i = 0; i < words.size(); ++i) wrong += words[i] == seed + i ? 0 : 1;
  EXPECT_EQ(wrong, 0);
}

// Go's TestShrinkStackDuringBlockedSend: others take stacks, use them and give them back meanwhile, and what is unused
// goes back to the kernel; a parked goroutine's stack, and the value that it sends from there, stay.
TEST_P(channel, what_stands_on_a_parked_stack_stays) {
  in_main([] {
    const int n = scaled(300);
    const auto values = make_chan<int>();
    const int before = parked(wait_reason::chan_send);
    wait_group senders;
    for (int i = 0; i < n; ++i)
      senders.go([values, i] { beside_a_pattern(static_cast<std::uint64_t>(i) << 32, [&] { values.send(i); }); });
    EXPECT_TRUE(eventually_parked(wait_reason::chan_send, before, n));
    for (int round = 0; round < 3; ++round) {
      wait_group others;
      for (int i = 0; i < 2 * n; ++i)
        others.go([] { beside_a_pattern(1, [] { beside_a_pattern(2, [] { yield(); }); }); });
      others.wait();
      rt::scavenge_stacks(SIZE_MAX);
    }
    long sum = 0;
    for (int i = 0; i < n; ++i) sum += values.recv().value();
    senders.wait();
    EXPECT_EQ(sum, n * (n - 1L) / 2);
  });
}

TEST_P(channel, a_value_runs_through_ten_thousand_linked_goroutines) {
  in_main([] {
    const int n = std::min(scaled(10'000), max_goroutines());
    const auto leftmost = make_chan<int>();
    auto left = leftmost;
    for (int i = 0; i < n; ++i) {
      const auto right = make_chan<int>();
      go([left, right] { left.send(right.recv().value_or(-1'000'000) + 1); });
      left = right;
    }
    go([left] { left.send(0); });
    EXPECT_EQ(leftmost.recv(), n);
  });
}

// -- Many on both ends
// -------------------------------------------------------------------------------------------------

TEST_P(channel, what_many_receive_is_what_many_sent) {
  in_main([] {
    constexpr int kEach = 4;
    const int per_sender = scaled(1000);
    for (const std::size_t capacity : kCapacities) {
      const auto c = make_chan<int>(capacity);
      for (int sender = 0; sender < kEach; ++sender)
        go([c, per_sender] {
          for (int i = 0; i < per_sender; ++i) c.send(i);
        });
      const auto counts = make_chan<std::vector<int>>();
      for (int receiver = 0; receiver < kEach; ++receiver)
        go([c, counts, per_sender] {
          std::vector<int> seen(static_cast<std::size_t>(per_sender));
          for (int i = 0; i < per_sender; ++i) ++seen.at(static_cast<std::size_t>(c.recv().value_or(-1)));
          counts.send(std::move(seen));
        });
      std::vector<int> all(static_cast<std::size_t>(per_sender));
      for (int receiver = 0; receiver < kEach; ++receiver) {
        const std::vector<int> seen = counts.recv().value();
        std::transform(all.begin(), all.end(), seen.begin(), all.begin(), std::plus<>());
      }
      EXPECT_EQ(all, std::vector<int>(static_cast<std::size_t>(per_sender), kEach));
      EXPECT_EQ(c.len(), 0u);
    }
  });
}

TEST_P(channel, workers_that_yield_at_random_pass_on_every_item) {
  in_main([] {
    constexpr std::array<int, 20> kPrimes = {2,  3,  5,  7,  11, 13, 17, 19, 23, 29,
                                             31, 37, 41, 43, 47, 53, 59, 61, 67, 71};
    constexpr std::size_t kWorkers = 23;
    const int items = chaos() ? scaled(27'182) : scaled(271'828);
    const auto questions = make_chan<int>(3 * kWorkers), answers = make_chan<int>(3 * kWorkers);
    wait_group workers;
    for (std::size_t w = 0; w < kWorkers; ++w)
      workers.go([=] {
        for (const int item : questions) {
          if (kPrimes[w % kPrimes.size()] == item) yield();
          answers.send(item);
        }
      });
    go([=, &kPrimes] {
      for (int i = 0; i < items; ++i) questions.send(kPrimes[static_cast<std::size_t>(i) % kPrimes.size()]);
      questions.close();
    });
    go([answers, &workers] {
      workers.wait();
      answers.close();
    });
    long expected = 0, sum = 0;
    for (int i = 0; i < items; ++i) expected += kPrimes[static_cast<std::size_t>(i) % kPrimes.size()];
    int received = 0;
    for (const int item : answers) {
      sum += item;
      ++received;
    }
    EXPECT_EQ(received, items);
    EXPECT_EQ(sum, expected);
  });
}

TEST_P(channel, goroutines_that_wait_on_other_channels_stay_asleep) {
  in_main([] {
    const int sleepers = std::min(scaled(10'000), max_goroutines());
    const auto other = make_chan<int>(), ping = make_chan<int>(), pong = make_chan<int>();
    std::atomic<int> woken{0};
    const int before = parked(wait_reason::chan_receive);
    for (int i = 0; i < sleepers; ++i)
      go([other, &woken] {
        other.recv();
        ++woken;
      });
    EXPECT_TRUE(eventually_parked(wait_reason::chan_receive, before, sleepers));
    go([=] {
      for (const int value : ping) pong.send(value);
    });
    for (int i = 0; i < scaled(5000); ++i) {
      ping.send(i);
      EXPECT_EQ(pong.recv(), i);
    }
    ping.close();
    EXPECT_EQ(woken, 0);
    other.close();
    EXPECT_TRUE(eventually([&] { return woken == sleepers; }));
  });
}

void generate(const send_chan<int>& c, const std::atomic<bool>& enough) {
  for (int i = 2; !enough; ++i) c.send(i);
  c.close();
}

void filter(const recv_chan<int>& in, const send_chan<int>& out, int prime) {
  for (const int value : in)
    if (value % prime != 0) out.send(value);
  out.close();
}

TEST_P(channel, a_prime_sieve_finds_the_primes) {
  in_main([] {
    constexpr std::array<int, 25> kPrimes = {2,  3,  5,  7,  11, 13, 17, 19, 23, 29, 31, 37, 41,
                                             43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97};
    std::atomic<bool> enough{false};
    auto c = make_chan<int>();
    go([c, &enough] { generate(c, enough); });
    for (const int prime : kPrimes) {
      EXPECT_EQ(c.recv(), prime);
      const auto next = make_chan<int>();
      go([=] { filter(c, next, prime); });
      c = next;
    }
    enough = true;
    while (c.recv()) {
    }
  });
}

// -- Closing
// -----------------------------------------------------------------------------------------------------------

TEST_P(channel, a_closed_one_delivers_its_buffer_and_then_nothing_for_ever) {
  in_main([] {
    for (const std::size_t capacity : kCapacities) {
      const auto c = make_chan<std::size_t>(capacity);
      for (std::size_t i = 0; i < capacity; ++i) c.send(i);
      c.close();
      for (std::size_t i = 0; i < capacity; ++i) EXPECT_EQ(c.recv(), i);
      for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(c.recv(), std::nullopt);
        EXPECT_EQ(c.try_recv().status, recv_status::closed);
        EXPECT_FALSE(c.try_recv().value.has_value());
      }
    }
  });
}

TEST_P(channel, close_releases_a_receiver_that_waits) {
  in_main([] {
    for (const std::size_t capacity : kCapacities) {
      const auto c = make_chan<int>(capacity);
      wait_group done;
      const int before = parked(wait_reason::chan_receive);
      done.go([c] { EXPECT_EQ(c.recv(), std::nullopt); });
      EXPECT_TRUE(eventually_parked(wait_reason::chan_receive, before, 1));
      c.close();
      done.wait();
    }
  });
}

TEST_P(channel, close_wakes_ten_thousand_receivers_each_once) {
  in_main([] {
    const int n = std::min(scaled(10'000), max_goroutines());
    const auto c = make_chan<int>();
    std::vector<std::atomic<int>> wakes(static_cast<std::size_t>(n));
    wait_group done;
    const int before = parked(wait_reason::chan_receive);
    for (auto& count : wakes)
      done.go([c, &count] {
        EXPECT_EQ(c.recv(), std::nullopt);
        ++count;
      });
    EXPECT_TRUE(eventually_parked(wait_reason::chan_receive, before, n));
    c.close();
    done.wait();
    for (const auto& count : wakes) EXPECT_EQ(count, 1);
  });
}

TEST_P(channel, misuse_throws_the_texts_of_go) {
  in_main([] {
    const chan<int> nil;
    EXPECT_EQ(text_of<nil_channel>([&] { nil.close(); }), "close of nil channel");
    for (const std::size_t capacity : kCapacities) {
      const auto c = make_chan<int>(capacity);
      c.close();
      EXPECT_EQ(text_of<closed_channel>([&] { c.send(1); }), "send on closed channel");
      EXPECT_EQ(text_of<closed_channel>([&] { c.try_send(1); }), "send on closed channel");
      EXPECT_EQ(text_of<closed_channel>([&] { c.close(); }), "close of closed channel");
      EXPECT_EQ(text_of<error>([&] { send_chan<int>(c).send(1); }), "send on closed channel");
      EXPECT_EQ(text_of<std::logic_error>([&] { send_chan<int>(c).close(); }), "close of closed channel");
      EXPECT_EQ(c.recv(), std::nullopt);
    }
  });
}

TEST_P(channel, close_makes_senders_that_wait_throw) {
  in_main([] {
    constexpr int kSenders = 10;
    for (const std::size_t capacity : {0, 2}) {
      const auto c = make_chan<int>(capacity);
      for (int i = 0; i < static_cast<int>(capacity); ++i) c.send(i);
      std::atomic<int> thrown{0};
      wait_group done;
      const int before = parked(wait_reason::chan_send);
      for (int i = 0; i < kSenders; ++i)
        done.go([c, &thrown] {
          EXPECT_EQ(text_of<closed_channel>([&] { c.send(-1); }), "send on closed channel");
          ++thrown;
        });
      EXPECT_TRUE(eventually_parked(wait_reason::chan_send, before, kSenders));
      c.close();
      done.wait();
      EXPECT_EQ(thrown, kSenders);
      for (int i = 0; i < static_cast<int>(capacity); ++i) EXPECT_EQ(c.recv(), i);
      EXPECT_EQ(c.recv(), std::nullopt);
    }
  });
}

TEST_P(channel, try_recv_never_finds_empty_and_open_what_holds_a_value_until_it_is_closed) {
  in_main([] {
    for (int i = 0; i < scaled(1000); ++i) {
      const auto c = make_chan<int>(1);
      c.send(1);
      wait_group done;
      done.go([c] { EXPECT_NE(c.try_recv().status, recv_status::empty); });
      c.close();
      c.recv();
      done.wait();
    }
  });
}

TEST_P(channel, racing_senders_and_a_close_lose_nothing_that_was_accepted) {
  in_main([] {
    for (int round = 0; round < scaled(100); ++round) {
      const auto c = make_chan<int>(static_cast<std::size_t>(round % 3));
      std::atomic<int> accepted{0};
      wait_group senders;
      for (int s = 0; s < 4; ++s)
        senders.go([c, &accepted] {
          try {
            for (;;) {
              c.send(1);
              ++accepted;
            }
          } catch (const closed_channel&) {
          }
        });
      int received = 0;
      for (int i = 0; i < 10; ++i) received += c.recv().value_or(0);
      c.close();
      for (const int value : c) received += value;
      senders.wait();
      EXPECT_EQ(received, accepted);
    }
  });
}

// -- Counting
// ----------------------------------------------------------------------------------------------------------

TEST_P(channel, len_and_cap_follow_the_contents) {
  in_main([] {
    const chan<int> nil;
    EXPECT_EQ(nil.len(), 0u);
    EXPECT_EQ(nil.cap(), 0u);
    for (const std::size_t capacity : kCapacities) {
      const auto c = make_chan<int>(capacity);
      const recv_chan<int> receiving = c;
      const send_chan<int> sending = c;
      EXPECT_EQ(c.cap(), capacity);
      for (std::size_t i = 0; i < capacity; ++i) {
        EXPECT_EQ(c.len(), i);
        c.send(0);
      }
      EXPECT_EQ(c.len(), capacity);
      EXPECT_EQ(receiving.len(), capacity);
      EXPECT_EQ(sending.len(), capacity);
      EXPECT_EQ(receiving.cap(), capacity);
      EXPECT_EQ(sending.cap(), capacity);
      for (std::size_t i = capacity; i > 0; --i) {
        EXPECT_EQ(c.len(), i);
        c.recv();
      }
      EXPECT_EQ(c.len(), 0u);
    }
  });
}

TEST_P(channel, references_are_equal_when_they_name_the_same_channel) {
  in_main([] {
    const auto a = make_chan<int>(), b = make_chan<int>();
    const chan<int> nil, again = a;
    EXPECT_TRUE(a == again);
    EXPECT_FALSE(a == b);
    EXPECT_FALSE(a == nil);
    EXPECT_TRUE(nil == chan<int>{});
    EXPECT_TRUE(static_cast<bool>(a));
    EXPECT_FALSE(static_cast<bool>(nil));
    const recv_chan<int> receiving = a;
    const send_chan<int> sending = a;
    EXPECT_TRUE(receiving == recv_chan<int>(again));
    EXPECT_TRUE(sending == send_chan<int>(again));
    EXPECT_FALSE(static_cast<bool>(recv_chan<int>{}));
    EXPECT_FALSE(static_cast<bool>(send_chan<int>{}));
  });
}

TEST_P(channel, views_limit_the_direction_of_one_channel) {
  in_main([] {
    const auto c = make_chan<std::string>(1);
    const send_chan<std::string> in = c;
    const recv_chan<std::string> out = c;
    in.send("a");
    EXPECT_EQ(out.recv(), "a");
    EXPECT_TRUE(in.try_send("b"));
    EXPECT_EQ(out.try_recv().value, "b");
    in.send("c");
    in.close();
    for (const std::string& value : out) EXPECT_EQ(value, "c");
    static_assert(std::is_same_v<chan<int>::value_type, int> && std::is_same_v<recv_chan<int>::value_type, int> &&
                  std::is_same_v<send_chan<int>::value_type, int>);
    static_assert(!std::is_convertible_v<recv_chan<int>, send_chan<int>> &&
                  !std::is_convertible_v<send_chan<int>, recv_chan<int>>);
  });
}

TEST_P(channel, a_size_that_no_memory_holds_throws) {
  in_main([] {
    constexpr char kText[] = "makechan: size out of range";
    EXPECT_EQ(text_of<error>([] { make_chan<int>(SIZE_MAX); }), kText);
    EXPECT_EQ(text_of<error>([] { make_chan<int>(static_cast<std::size_t>(-1)); }), kText);
    EXPECT_EQ(text_of<error>([] { make_chan<char>(SIZE_MAX / 2 + 1); }), kText);
    EXPECT_EQ(text_of<error>([] { make_chan<unit>(SIZE_MAX); }), kText);
    EXPECT_EQ(text_of<error>([] { make_chan<std::array<char, 4096>>(SIZE_MAX / 4096 + 1); }), kText);
  });
}

// -- What an element may be
// --------------------------------------------------------------------------------------------

TEST_P(channel, elements_may_be_empty) {
  in_main([] {
    struct nothing {};
    for (const std::size_t capacity : kCapacities) {
      const auto c = make_chan<nothing>(capacity);
      const auto d = make_chan<unit>(capacity);
      go([=] {
        for (int i = 0; i < 10; ++i) {
          c.send({});
          d.send({});
        }
        c.close();
        d.close();
      });
      int n = 0;
      while (c.recv()) {
        EXPECT_EQ(d.recv(), unit{});
        ++n;
      }
      EXPECT_EQ(n, 10);
      EXPECT_EQ(d.recv(), std::nullopt);
    }
  });
}

template <class T>
void pass_by_try_operations(const T& value) {
  const auto c = make_chan<T>(), d = make_chan<T>(1);
  EXPECT_FALSE(c.try_send(value));
  EXPECT_EQ(c.try_recv().status, recv_status::empty);
  EXPECT_TRUE(d.try_send(value));
  EXPECT_FALSE(d.try_send(value));
  EXPECT_EQ(d.try_recv().value, value);
  go([=] {
    while (!c.try_send(value)) yield();
  });
  EXPECT_EQ(c.recv(), value);
  go([=] { c.send(value); });
  try_recv_result<T> got = c.try_recv();
  for (; got.status == recv_status::empty; got = c.try_recv()) yield();
  EXPECT_EQ(got.value, value);
}

TEST_P(channel, try_operations_carry_elements_of_every_size) {
  in_main([] {
    std::array<int, 1000> large{};
    std::iota(large.begin(), large.end(), 1);
    pass_by_try_operations<char>('a');
    pass_by_try_operations<std::uint16_t>(0xabcd);
    pass_by_try_operations<int>(-1);
    pass_by_try_operations<std::array<char, 3>>({'a', 'b', 'c'});
    pass_by_try_operations<std::uint64_t>(0x0123456789abcdef);
    pass_by_try_operations<std::array<std::uint64_t, 2>>({1, ~0ull});
    pass_by_try_operations<std::string>("a string that is too long to lie within its object");
    pass_by_try_operations<std::array<int, 1000>>(large);
  });
}

TEST_P(channel, elements_may_be_large) {
  in_main([] {
    using block = std::array<unsigned char, 4000>;
    for (const std::size_t capacity : {0, 3}) {
      const auto c = make_chan<block>(capacity);
      go([c] {
        for (unsigned i = 0; i < 50; ++i) {
          block b;
          b.fill(static_cast<unsigned char>(i));
          c.send(b);
        }
        c.close();
      });
      unsigned next = 0;
      while (const auto b = c.recv()) {
        EXPECT_EQ(std::count(b->begin(), b->end(), static_cast<unsigned char>(next)), 4000);
        ++next;
      }
      EXPECT_EQ(next, 50u);
    }
  });
}

TEST_P(channel, elements_may_be_overaligned) {
  in_main([] {
    struct alignas(128) line {
      std::shared_ptr<int> value;
    };
    for (const std::size_t capacity : {0, 1, 3}) {
      const auto c = make_chan<line>(capacity);
      go([c] {
        for (int i = 0; i < 10; ++i) c.send({std::make_shared<int>(i)});
        c.close();
      });
      int next = 0;
      for (const line& l : c) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&l) % 128, 0u);
        EXPECT_EQ(*l.value, next++);
      }
      EXPECT_EQ(next, 10);
    }
  });
}
TEST_P(channel, elements_may_be_move_only) {
  in_main([] {
    for (const std::size_t capacity : {0, 2}) {
      const auto c = make_chan<std::unique_ptr<int>>(capacity);
      go([c] {
        for (int i = 0; i < 100; ++i) c.send(std::make_unique<int>(i));
        c.close();
      });
      int next = 0;
      EXPECT_EQ(*c.recv().value(), next++);
      for (std::unique_ptr<int> p : c) EXPECT_EQ(*p, next++);
      EXPECT_EQ(next, 100);
    }
  });
}

TEST_P(channel, a_try_send_that_fails_leaves_the_value_untouched) {
  in_main([] {
    const auto c = make_chan<std::unique_ptr<int>>(), full = make_chan<std::unique_ptr<int>>(1);
    const chan<std::unique_ptr<int>> nil;
    full.send(nullptr);
    auto value = std::make_unique<int>(5);
    EXPECT_FALSE(c.try_send(std::move(value)));
    EXPECT_FALSE(full.try_send(std::move(value)));
    EXPECT_FALSE(nil.try_send(std::move(value)));
    ASSERT_TRUE(value);
    EXPECT_EQ(*value, 5);
    full.recv();
    EXPECT_TRUE(full.try_send(std::move(value)));
    EXPECT_FALSE(value);
  });
}

TEST_P(channel, elements_are_destroyed_with_the_last_reference) {
  in_main([] {
    {
      auto c = make_chan<fragile>(4);
      for (int i = 1; i <= 6; ++i) {
        c.send(fragile(i));
        if (i > 3) continue;
        EXPECT_EQ(c.recv()->value, i);
      }
      EXPECT_EQ(fragile::alive, 3);
      const recv_chan<fragile> last = c;
      c = {};
      EXPECT_EQ(fragile::alive, 3);
    }
    EXPECT_EQ(fragile::alive, 0);
  });
}

TEST_P(channel, a_value_that_close_keeps_from_being_sent_is_destroyed) {
  in_main([] {
    const auto c = make_chan<fragile>();
    wait_group done;
    const int before = parked(wait_reason::chan_send);
    done.go([c] { EXPECT_THROW(c.send(fragile(1)), closed_channel); });
    EXPECT_TRUE(eventually_parked(wait_reason::chan_send, before, 1));
    c.close();
    done.wait();
    EXPECT_EQ(fragile::alive, 0);
  });
}

TEST_P(channel, a_move_into_the_buffer_that_throws_sends_nothing) {
  in_main([] {
    const auto c = make_chan<fragile>(2);
    fragile::arm(1);
    EXPECT_THROW(c.send(fragile(1)), std::runtime_error);
    EXPECT_EQ(c.len(), 0u);
    fragile::arm(1);
    EXPECT_THROW(c.try_send(fragile(1)), std::runtime_error);
    EXPECT_EQ(c.len(), 0u);
    c.send(fragile(1));
    EXPECT_EQ(c.recv()->value, 1);
    EXPECT_EQ(fragile::alive, 0);
  });
}

TEST_P(channel, a_move_out_of_the_buffer_that_throws_takes_nothing) {
  in_main([] {
    const auto c = make_chan<fragile>(2);
    c.send(fragile(1));
    c.send(fragile(2));
    fragile::arm(1);
    EXPECT_THROW(c.recv(), std::runtime_error);
    fragile::arm(1);
    EXPECT_THROW(c.try_recv(), std::runtime_error);
    EXPECT_EQ(c.len(), 2u);
    EXPECT_EQ(c.recv()->value, 1);
    EXPECT_EQ(c.recv()->value, 2);
    EXPECT_EQ(fragile::alive, 0);
  });
}

TEST_P(channel, a_move_to_a_waiting_receiver_that_throws_leaves_it_waiting) {
  in_main([] {
    for (const std::size_t capacity : {0, 2}) {
      const auto c = make_chan<fragile>(capacity);
      wait_group done;
      const int before = parked(wait_reason::chan_receive);
      done.go([c] { EXPECT_EQ(c.recv()->value, 2); });
      EXPECT_TRUE(eventually_parked(wait_reason::chan_receive, before, 1));
      fragile::arm(1);
      EXPECT_THROW(c.send(fragile(1)), std::runtime_error);
      fragile::arm(1);
      EXPECT_THROW(c.try_send(fragile(1)), std::runtime_error);
      c.send(fragile(2));
      done.wait();
      EXPECT_EQ(fragile::alive, 0);
    }
  });
}

TEST_P(channel, a_move_from_a_waiting_sender_that_throws_leaves_it_waiting) {
  in_main([] {
    const auto c = make_chan<fragile>();
    wait_group done;
    const int before = parked(wait_reason::chan_send);
    done.go([c] { c.send(fragile(1)); });
    EXPECT_TRUE(eventually_parked(wait_reason::chan_send, before, 1));
    fragile::arm(1);
    EXPECT_THROW(c.recv(), std::runtime_error);
    fragile::arm(1);
    EXPECT_THROW(c.try_recv(), std::runtime_error);
    EXPECT_EQ(c.recv()->value, 1);
    done.wait();
    EXPECT_EQ(fragile::alive, 0);
  });
}

// The receiver takes the buffer's head, and the sender's element moves up into the buffer. Whoever is told of the
// exception: the head arrives once, and the sender's element arrives or its sender knows that it does not.
TEST_P(channel, a_move_up_into_the_full_buffer_that_throws_loses_nothing_silently) {
  in_main([] {
    const auto c = make_chan<fragile>(2);
    c.send(fragile(1));
    c.send(fragile(2));
    std::atomic<bool> sender_knows{false};
    const int before = parked(wait_reason::chan_send);
    wait_group done;
    done.go([c, &sender_knows] {
      try {
        c.send(fragile(3));
      } catch (const std::runtime_error&) {
        sender_knows = true;
      }
    });
    EXPECT_TRUE(eventually_parked(wait_reason::chan_send, before, 1));
    fragile::arm(3);
    std::vector<int> received;
    while (received.size() < 2) {
      try {
        received.push_back(c.recv()->value);
      } catch (const std::runtime_error&) {
      }
    }
    fragile::arm(0, 0);
    done.wait();
    if (!sender_knows) received.push_back(c.recv()->value);
    EXPECT_EQ(received, sender_knows ? std::vector<int>({1, 2}) : std::vector<int>({1, 2, 3}));
    EXPECT_EQ(c.len(), 0u);
    EXPECT_EQ(fragile::alive, 0);
  });
}

// The same for a plain send and a select, and a receiver whose thread, to which it is locked, gets no memory.
TEST_P(channel, no_memory_is_needed_for_a_move_up_that_throws) {
  in_main([] {
    for (const bool by_select : {false, true}) {
      const auto c = make_chan<fragile>(1);
      c.send(fragile(1));
      const wait_reason reason = by_select ? wait_reason::select : wait_reason::chan_send;
      const int before = parked(reason);
      wait_group done;
      done.go([=] {
        const auto send = [=] {
          if (by_select)
            select(on_send(c, fragile(2)), on_recv(chan<int>()));
          else
            c.send(fragile(2));
        };
        EXPECT_THROW(send(), std::runtime_error);
      });
      EXPECT_TRUE(eventually_parked(reason, before, 1));
      fragile::arm(2);
      lock_os_thread();
      out_of_memory = true;
      const auto v = c.recv();
      out_of_memory = false;
      unlock_os_thread();
      EXPECT_EQ(v->value, 1);
      done.wait();
      EXPECT_EQ(c.len(), 0u);
      EXPECT_EQ(c.try_recv().status, recv_status::empty);
      EXPECT_EQ(fragile::alive, 1);
    }
    EXPECT_EQ(fragile::alive, 0);
  });
}

// -- Foreign threads
// ---------------------------------------------------------------------------------------------------

void add_up(const recv_chan<int>& c, std::atomic<long>& sum) {
  for (const int value : c) sum += value;
}

void send_all(const send_chan<int>& c, int n) {
  for (int i = 1; i <= n; ++i) c.send(i);
}

void join(std::vector<std::thread>& threads) {
  for (std::thread& t : threads) blocking([&] { t.join(); });
}

TEST_P(channel, foreign_threads_send_to_goroutines) {
  in_main([] {
    for (const std::size_t capacity : {0, 3}) {
      const int n = scaled(500);
      const auto c = make_chan<int>(capacity);
      std::atomic<long> sum{0};
      wait_group receivers;
      for (int i = 0; i < 3; ++i) receivers.go([c, &sum] { add_up(c, sum); });
      std::vector<std::thread> senders;
      for (int i = 0; i < 3; ++i) senders.emplace_back([c, n] { send_all(c, n); });
      join(senders);
      c.close();
      receivers.wait();
      EXPECT_EQ(sum, 3L * n * (n + 1) / 2);
    }
  });
}

TEST_P(channel, foreign_threads_receive_from_goroutines) {
  in_main([] {
    for (const std::size_t capacity : {0, 3}) {
      const int n = scaled(500);
      const auto c = make_chan<int>(capacity);
      std::atomic<long> sum{0};
      std::vector<std::thread> receivers;
      for (int i = 0; i < 3; ++i) receivers.emplace_back([c, &sum] { add_up(c, sum); });
      wait_group senders;
      for (int i = 0; i < 3; ++i) senders.go([c, n] { send_all(c, n); });
      senders.wait();
      c.close();
      join(receivers);
      EXPECT_EQ(sum, 3L * n * (n + 1) / 2);
    }
  });
}

TEST_P(channel, main_may_wait_for_a_foreign_thread_alone) {
  in_main([] {
    const auto c = make_chan<int>();
    std::thread thread([c] {
      c.send(1);
      EXPECT_EQ(c.recv(), 2);
    });
    EXPECT_EQ(c.recv(), 1);
    c.send(2);
    thread.join();
  });
}

TEST(channel_between_threads, works_without_a_run) {
  for (const std::size_t capacity : kCapacities) {
    const int n = scaled(500);
    const auto c = make_chan<int>(capacity);
    std::atomic<long> sum{0};
    std::vector<std::thread> receivers, senders;
    for (int i = 0; i < 3; ++i) receivers.emplace_back([c, &sum] { add_up(c, sum); });
    for (int i = 0; i < 3; ++i) senders.emplace_back([c, n] { send_all(c, n); });
    join(senders);
    c.close();
    join(receivers);
    EXPECT_EQ(sum, 3L * n * (n + 1) / 2);
    EXPECT_EQ(c.try_recv().status, recv_status::closed);
    EXPECT_EQ(text_of<closed_channel>([&] { c.send(1); }), "send on closed channel");
  }
}

TEST(channel_between_threads, outlives_the_run_in_which_it_was_made) {
  chan<std::string> c;
  run([&c] {
    c = make_chan<std::string>(2);
    c.send("from a goroutine");
  });
  c.send("from a thread");
  run([&c] {
    EXPECT_EQ(c.recv(), "from a goroutine");
    EXPECT_EQ(c.recv(), "from a thread");
  });
}

}  // namespace
