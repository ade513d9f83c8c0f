// SPDX-License-Identifier: Apache-2.0
// The ground of the model checks: policies that run the lock-free classes of runtime/ on Relacy's atomics, and the
// harness that explores a suite and reports.
//
// Relacy runs the threads of a suite as coroutines, switches between them at every atomic operation and lets a load
// return any value that the C++ memory model allows (of the last three). Plain data lives in var<T>, which reports
// data races. A thread that waits for ever is a deadlock or a livelock, and so a lost wake-up.
//
// There are two policies, because barrier.h has two meanings:
//   fences      both barriers are sequentially consistent fences (membarrier refused, TSan)
//   membarrier  the light barrier is nothing; the heavy one is a full barrier in all threads at one moment
// one more, one_cpu: threads that take turns on one CPU see all of each other's writes and need no barrier; and
// shared_cpu, where some threads do and others have the membarrier.
// Each protocol is checked on every policy that it may meet. What no policy shows: a membarrier that reaches CPUs at
// different moments, which matters only to protocols of three parties with a single heavy barrier.
//
// Build: c++ -std=c++20 -O1 -I. NAME_model.cpp (the warnings of Relacy are those of a system header).
// NAME_model [factor]: multiplies the iterations of the random searches. mutations.sh shows that the models can fail.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <type_traits>

#include <relacy/relacy.hpp>

// Relacy rewrites the language for the code it tests; that code is here behind a policy instead.
#undef memory_order_relaxed
#undef memory_order_consume
#undef memory_order_acquire
#undef memory_order_release
#undef memory_order_acq_rel
#undef memory_order_seq_cst
#undef new
#undef delete
#undef malloc
#undef calloc
#undef realloc
#undef free
#undef assert
#undef errno
#undef futex
#undef sched_yield
#undef VAR
#undef $

namespace weft::model {

/// Where in the tested code an operation is: Relacy's history shows it.
inline rl::debug_info here(const char* function = __builtin_FUNCTION(), const char* file = __builtin_FILE(),
                           unsigned line = __builtin_LINE()) {
  return {function, file, line};
}

constexpr rl::memory_order relacy_order(std::memory_order order) {
  switch (order) {
    case std::memory_order_relaxed: return rl::mo_relaxed;
    case std::memory_order_consume: return rl::mo_consume;
    case std::memory_order_acquire: return rl::mo_acquire;
    case std::memory_order_release: return rl::mo_release;
    case std::memory_order_acq_rel: return rl::mo_acq_rel;
    default: return rl::mo_seq_cst;
  }
}

/// Threads with a CPU each.
struct side_by_side {
  side_by_side() {}
};

/// Made before each operation of a thread: those below `sharing` take turns on one CPU, and whoever comes to run there
/// has seen all that the one before it did. So an operation begins where it can be preempted, and goes on alone.
class taking_turns {
 public:
  taking_turns() {
    rl::context& c = rl::ctx();
    c.sched();
    c.disable_preemption();
    rl::thread_info_base* const self = c.threadx_;
    if (self->index_ >= static_cast<int>(sharing_)) return;
    for (unsigned i = 0; last_ && last_ != self && i < threads_; ++i)
      self->acq_rel_order_[i] = std::max(self->acq_rel_order_[i], last_->acq_rel_order_[i]);
    last_ = self;
  }
  ~taking_turns() { rl::ctx().enable_preemption(); }
  taking_turns(const taking_turns&) = delete;
  taking_turns& operator=(const taking_turns&) = delete;

  /// By a suite's before().
  static void begin(unsigned threads, unsigned sharing) {
    threads_ = threads;
    sharing_ = sharing;
    last_ = nullptr;
  }

 private:
  static inline unsigned threads_ = 0, sharing_ = 0;
  static inline const rl::thread_info_base* last_ = nullptr;
};

/// std::atomic's face on Relacy's atomic. Strong: every operation is sequentially consistent, whatever it asks for.
template <class T, bool Strong, class Turn = side_by_side>
class checked_atomic {
 public:
  using value_type = T;
  checked_atomic() : word_(T{}) {}
  explicit checked_atomic(T value) : word_(value) {}

  T load(std::memory_order order, rl::debug_info at = here()) const {
    const Turn turn;
    return word_.load(mo(order), at);
  }
  void store(T value, std::memory_order order, rl::debug_info at = here()) {
    const Turn turn;
    word_.store(value, mo(order), at);
  }
  T exchange(T value, std::memory_order order, rl::debug_info at = here()) {
    const Turn turn;
    return word_.exchange(value, mo(order), at);
  }
  T fetch_add(T value, std::memory_order order, rl::debug_info at = here()) {
    const Turn turn;
    return word_.fetch_add(value, mo(order), at);
  }
  T fetch_sub(T value, std::memory_order order, rl::debug_info at = here()) {
    const Turn turn;
    return word_.fetch_sub(value, mo(order), at);
  }
  T fetch_and(T value, std::memory_order order, rl::debug_info at = here()) {
    const Turn turn;
    return word_.fetch_and(value, mo(order), at);
  }
  T fetch_or(T value, std::memory_order order, rl::debug_info at = here()) {
    const Turn turn;
    return word_.fetch_or(value, mo(order), at);
  }
  bool compare_exchange_strong(T& expected, T value, std::memory_order order, std::memory_order failure,
                               rl::debug_info at = here()) {
    const Turn turn;
    return word_.compare_exchange(rl::bool_t<false>(), expected, value, mo(order), mo(failure), at);
  }
  bool compare_exchange_weak(T& expected, T value, std::memory_order order, std::memory_order failure,
                             rl::debug_info at = here()) {
    const Turn turn;
    return word_.compare_exchange(rl::bool_t<true>(), expected, value, mo(order), mo(failure), at);
  }

  rl::atomic<T>& word() { return word_; }

 private:
  static constexpr rl::memory_order mo(std::memory_order order) {
    return Strong ? rl::mo_seq_cst : relacy_order(order);
  }
  rl::atomic<T> word_;
};

struct fences {
  static constexpr const char* kName = "fences";
  template <class T>
  using atomic = checked_atomic<T, false>;
  static void light_barrier(rl::debug_info at = here()) { rl::atomic_thread_fence(rl::mo_seq_cst, at); }
  static void heavy_barrier(rl::debug_info at = here()) { rl::atomic_thread_fence(rl::mo_seq_cst, at); }
  static void relax(rl::debug_info at = here()) { rl::yield(1, at); }
};

struct membarrier {
  static constexpr const char* kName = "membarrier";
  template <class T>
  using atomic = checked_atomic<T, false>;
  static void light_barrier() {}
  static void heavy_barrier(rl::debug_info at = here()) {
    rl::ctx().sched();
    rl::systemwide_fence(at);
  }
  static void relax(rl::debug_info at = here()) { rl::yield(1, at); }
};

struct one_cpu {
  static constexpr const char* kName = "one_cpu";
  template <class T>
  using atomic = checked_atomic<T, true>;
  static void light_barrier() {}
  static void heavy_barrier() {}
  static void relax(rl::debug_info at = here()) { rl::yield(1, at); }
};

/// Of threads that share a CPU, and others: the ones do without the heavy barrier, the others have it.
struct shared_cpu : membarrier {
  static constexpr const char* kName = "shared_cpu";
  template <class T>
  using atomic = checked_atomic<T, false, taking_turns>;
};

/// Plain data: two accesses that nothing orders, one of them a write, are a violation.
template <class T>
class var {
 public:
  var() : value_(T{}) {}
  explicit var(T value) : value_(value) {}
  T get(rl::debug_info at = here()) const { return value_(at).load(); }
  void set(T value, rl::debug_info at = here()) { value_(at).store(value); }

 private:
  rl::var<T> value_;
};

/// What must hold; otherwise the iteration ends as a violation.
inline void require(bool holds, const char* what, rl::debug_info at = here()) {
  if (!holds) rl::ctx().fail_test(what, rl::test_result_user_assert_failed, at);
}

/// FUTEX_WAIT: sleeps while the word is `value`; may return for no reason, and for no deadline.
template <class Turn>
bool futex_wait(checked_atomic<int, false, Turn>& word, int value, std::int64_t = 0, rl::debug_info at = here()) {
  rl::rl_futex(&word.word(), rl::RL_FUTEX_WAIT, value, nullptr, nullptr, 0, at);
  return true;
}
/// FUTEX_WAKE of one.
template <class Turn>
void futex_wake(checked_atomic<int, false, Turn>& word, rl::debug_info at = here()) {
  rl::rl_futex(&word.word(), rl::RL_FUTEX_WAKE, 1, nullptr, nullptr, 0, at);
}

/// A base for suites: Threads threads that run `void thread(unsigned index)`.
template <class Derived, int Threads>
using suite = rl::test_suite<Derived, Threads>;

/// Explores suites, stops at the first violation and prints its history.
class checker {
 public:
  checker(const char* name, int argc, char** argv) : name_(name), factor_(argc > 1 ? std::atof(argv[1]) : 1) {}

  /// That many random interleavings.
  template <class Suite>
  void random(const char* what, unsigned iterations) {
    rl::test_params params;
    params.search_type = rl::sched_random;
    params.iteration_count = static_cast<rl::iteration_t>(iterations * factor_) + 1;
    explore<Suite>(what, params);
  }
  /// All interleavings with at most `switches` preemptions.
  template <class Suite>
  void bounded(const char* what, unsigned switches) {
    rl::test_params params;
    params.search_type = rl::sched_bound;
    params.context_bound = switches;
    explore<Suite>(what, params);
  }
  /// All interleavings.
  template <class Suite>
  void full(const char* what) {
    rl::test_params params;
    params.search_type = rl::sched_full;
    explore<Suite>(what, params);
  }

  /// The program's exit status.
  int finish() const {
    if (failed_) return EXIT_FAILURE;
    std::printf("model %s: %llu interleavings ok\n", name_, static_cast<unsigned long long>(explored_));
    return EXIT_SUCCESS;
  }

 private:
  template <class Suite>
  void explore(const char* what, rl::test_params& params) {
    if (failed_) return;
    rl::ostringstream history, progress;  // Relacy's strings: it counts what is allocated otherwise as the suite's
    params.output_stream = &history;
    params.progress_stream = &progress;
    params.execution_depth_limit = 20000;
    const bool ok = rl::simulate<Suite>(params);
    explored_ += params.stop_iteration;
    if (std::getenv("WEFT_MODEL_VERBOSE"))
      std::printf("  %s: %s, %llu\n", name_, what, static_cast<unsigned long long>(params.stop_iteration));
    if (ok) return;
    failed_ = true;
    std::printf("model %s: %s: violated in interleaving %llu\n%s\n", name_, what,
                static_cast<unsigned long long>(params.stop_iteration), history.str().c_str());
  }

  const char* name_;
  double factor_;
  rl::iteration_t explored_ = 0;
  bool failed_ = false;
};

}  // namespace weft::model
