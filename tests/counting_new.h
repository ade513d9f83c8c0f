// SPDX-License-Identifier: Apache-2.0
// Replaces operator new and delete by some that count. To be included by the one source file of a test's program.
// Objects that are aligned more strictly than std::max_align_t are not counted.
#pragma once

#include <atomic>
#include <cstdlib>
#include <new>

#include "runtime/m.h"

namespace weft::test {

inline std::atomic<long> allocations{0};         // ever, on threads that run goroutines
inline std::atomic<long> allocated{0};           // and not freed
inline thread_local bool out_of_memory = false;  // new throws std::bad_alloc on this thread

}  // namespace weft::test

// Inlined, a new and a delete would look as if they did not belong together.
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  void* const p = weft::test::out_of_memory ? nullptr : std::malloc(size);
  if (!p) return nullptr;
  if (weft::rt::this_m()) weft::test::allocations.fetch_add(1, std::memory_order_relaxed);
  weft::test::allocated.fetch_add(1, std::memory_order_relaxed);
  return p;
}

[[gnu::noinline]] void* operator new(std::size_t size) {
  void* const p = operator new(size, std::nothrow);
  if (!p) throw std::bad_alloc();
  return p;
}

[[gnu::noinline]] void operator delete(void* p) noexcept {
  if (p) weft::test::allocated.fetch_sub(1, std::memory_order_relaxed);
  std::free(p);
}

[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { operator delete(p); }
