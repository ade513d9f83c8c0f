// SPDX-License-Identifier: Apache-2.0
// Memory for what grows under a lock of the runtime's: straight from the kernel. The allocator's own locks may be held
// by an M that was preempted (preempt.cpp), and waiting for one under a lock of ours could stop everybody.
#pragma once

#include <sys/mman.h>
#include <cstddef>
#include <new>

namespace weft::rt {

/// A standard allocator; for few and large pieces.
template <class T>
struct page_allocator {
  using value_type = T;
  page_allocator() = default;
  template <class U>
  page_allocator(const page_allocator<U>&) {}

  T* allocate(std::size_t n) {
    if (n > SIZE_MAX / sizeof(T)) throw std::bad_array_new_length();
    void* const p = mmap(nullptr, n * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    return static_cast<T*>(p);
  }
  void deallocate(T* p, std::size_t n) noexcept { munmap(p, n * sizeof(T)); }
  friend bool operator==(const page_allocator&, const page_allocator&) { return true; }
};

}  // namespace weft::rt
