// SPDX-License-Identifier: Apache-2.0
// futex(2), for this process only. Waits end on a wake, on a changed word, on a signal, or at the deadline: callers
// loop.
#pragma once

#include <atomic>
#include <cstdint>

namespace weft::rt {

constexpr std::int64_t kNever = INT64_MAX;

/// Sleeps while word == expected, until `deadline` (CLOCK_MONOTONIC ns, kNever: none). False: the deadline has passed.
bool futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, std::int64_t deadline = kNever);
void futex_wake(std::atomic<std::uint32_t>& word, int count = 1);

/// A one-shot event for one sleeper: a thread sleeps on it until somebody gives it a value. Go: runtime.note.
///
/// The sleeper may sleep elsewhere than here, in poll(2) say: between begin_elsewhere() and end_elsewhere() the one who
/// posts first is told that it has to wake it there. One that sleeps there, or in wait_claimable(), can be claimed:
/// then it comes back only with what the claimer posts.
///
/// Word: an atomic that futex_wait() and futex_wake() know; the model checker has one of its own.
template <class Word>
class basic_note {
  using value_type = typename Word::value_type;

 public:
  static constexpr std::uint32_t kNothing = 0;
  /// Forgets what was posted, and returns it.
  std::uint32_t take() { return word_.exchange(kNothing, std::memory_order_acquire); }
  /// Returns what was posted (and clears it), or kNothing at the deadline.
  std::uint32_t wait(std::int64_t deadline = kNever) {
    for (;;) {
      if (const std::uint32_t value = take()) return value;
      if (!futex_wait(word_, kNothing, deadline)) return take();
    }
  }
  /// Wakes the sleeper with `value`; release: what was written before is visible to it. True: it sleeps elsewhere.
  bool post(std::uint32_t value) {
    const value_type before = word_.exchange(value, std::memory_order_acq_rel);
    if (before == kElsewhere) return true;
    futex_wake(word_);
    return before == kClaimedElsewhere;
  }
  /// Posts only if nothing has been posted yet.
  bool post_if_empty(std::uint32_t value) {
    // Begins with the exchange, not with a load, which could come before what the caller has just written.
    for (value_type before = kNothing;;) {
      const value_type expected = before;
      if (word_.compare_exchange_strong(before, value, std::memory_order_acq_rel, std::memory_order_relaxed)) {
        if (expected == kElsewhere) return true;
        futex_wake(word_);
        return false;
      }
      if (before != 0 && before != kElsewhere && before != kWatching) return false;
    }
  }

  /// The sleeper. False: something has been posted already.
  bool begin_elsewhere() { return exchange(kNothing, kElsewhere); }
  /// What has been posted meanwhile, or kNothing. If it has been claimed, waits for what comes.
  std::uint32_t end_elsewhere() { return end(kElsewhere); }
  /// As wait(), but can be claimed.
  std::uint32_t wait_claimable(std::int64_t deadline) {
    if (!exchange(kNothing, kWatching)) return wait();
    while (futex_wait(word_, kWatching, deadline) && word_.load(std::memory_order_relaxed) == kWatching) {
    }
    return end(kWatching);
  }
  /// Anybody: true means that it slept, and is the caller's, who must post.
  bool claim() { return exchange(kElsewhere, kClaimedElsewhere) || exchange(kWatching, kClaimedHere); }

 private:
  // Nobody posts these.
  static constexpr value_type kElsewhere = 0x7fffffff, kClaimedElsewhere = 0x7ffffffe;
  static constexpr value_type kWatching = 0x7ffffffd, kClaimedHere = 0x7ffffffc;

  bool exchange(value_type before, value_type after) {
    return word_.compare_exchange_strong(before, after, std::memory_order_acq_rel, std::memory_order_relaxed);
  }
  std::uint32_t end(value_type how) {
    value_type value = word_.load(std::memory_order_relaxed);
    for (;;) {
      if (value == kClaimedElsewhere || value == kClaimedHere) {
        futex_wait(word_, value);
        value = word_.load(std::memory_order_relaxed);
      } else if (word_.compare_exchange_weak(value, kNothing, std::memory_order_acquire, std::memory_order_relaxed)) {
        return value == how ? kNothing : static_cast<std::uint32_t>(value);
      }
    }
  }

  Word word_{kNothing};
};
using note = basic_note<std::atomic<std::uint32_t>>;

}  // namespace weft::rt
