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
/// Word: an atomic that futex_wait() and futex_wake() know; the model checker has one of its own.
template <class Word>
class basic_note {
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
  /// Wakes the sleeper with `value`; release: what was written before is visible to it.
  void post(std::uint32_t value) {
    word_.store(value, std::memory_order_release);
    futex_wake(word_);
  }
  /// Posts only if nothing has been posted yet.
  void post_if_empty(std::uint32_t value) {
    typename Word::value_type nothing = kNothing;
    if (word_.compare_exchange_strong(nothing, value, std::memory_order_release, std::memory_order_relaxed))
      futex_wake(word_);
  }

 private:
  Word word_{kNothing};
};
using note = basic_note<std::atomic<std::uint32_t>>;

}  // namespace weft::rt
