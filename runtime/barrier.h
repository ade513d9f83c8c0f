// SPDX-License-Identifier: Apache-2.0
// Asymmetric barriers: the owner of a structure pays nothing, the rare stranger pays for both.
//
// Store-load order is what x86 and arm do not give for free, and what every Dekker-style protocol here needs ("I
// announce, then look whether you have"; "you announce, then look whether I have"). The frequent side calls
// light_barrier(), a compiler barrier; the rare side calls heavy_barrier(), membarrier(PRIVATE_EXPEDITED), which runs
// a full barrier on every CPU that runs a thread of this process. Measured on a 2-CPU VM: a locked instruction 7 ns,
// membarrier 0.16 us with nobody else running and 2.4 us with one thread running elsewhere.
// Where the kernel or a seccomp filter refuses membarrier, both become full fences. Under TSan too.
//
// The lock-free classes of this directory take the barriers and the atomics from a policy, so that the model checker
// (tests/model) runs the very same code on its own atomics, with both barriers as sequentially consistent fences.
#pragma once

#include <atomic>

namespace weft::rt {

/// Whether membarrier works; false until init_barriers().
extern std::atomic<bool> asymmetric_barriers;
/// Registers the process for membarrier. Idempotent, any thread.
void init_barriers();
/// What heavy_barrier() does when barriers are asymmetric.
void membarrier_all();

inline void full_fence() {
#if defined(__SANITIZE_THREAD__)
  // TSan does not model fences. It need not see this one: nothing is published by a fence alone.
#if defined(__x86_64__)
  asm volatile("lock; orl $0, (%%rsp)" ::: "memory", "cc");
#else
  asm volatile("dmb ish" ::: "memory");
#endif
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

/// The policy of the real machine.
struct hardware {
  template <class T>
  using atomic = std::atomic<T>;

  static void light_barrier() {
    if (asymmetric_barriers.load(std::memory_order_relaxed)) [[likely]]
      std::atomic_signal_fence(std::memory_order_seq_cst);
    else
      full_fence();
  }
  static void heavy_barrier() {
    if (asymmetric_barriers.load(std::memory_order_relaxed)) [[likely]]
      membarrier_all();
    else
      full_fence();
  }
  /// Between two looks at a word that another thread is about to change.
  static void relax() { cpu_relax(); }
};

}  // namespace weft::rt
