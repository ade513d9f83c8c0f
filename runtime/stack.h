// SPDX-License-Identifier: Apache-2.0
// Goroutine stacks: reserved address space, committed by use, guarded at the low end.
//
// Stacks of the default size come from a reservation for each NUMA node, cut into equal slots; a slot is given to a
// goroutine, used, and kept warm for the next one. Each slot's lowest page is a guard: MADV_GUARD_INSTALL (Linux 6.13)
// leaves the reservation one mapping, however many guards there are; without it each guard is a PROT_NONE page and
// costs two mappings, so guards stop (with one line on stderr) when vm.max_map_count is near. Other sizes are mapped
// one by one and unmapped at the goroutine's end.
//
// The memory of a stack lies on its node where there is a choice: that is said to the kernel before anybody touches it.
// A free stack goes back to the lists of its node.
//
// The free ones lie in two lists for each node: warm (still has its pages) and cold (given back to the kernel).
// scavenge_stacks() gives back half of what was never needed since the call before.
//
// The descriptor of a stack lies at its high end, in the page that every goroutine touches anyway.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::rt {

constexpr std::size_t kDefaultStackSize = 64 << 10;
constexpr std::size_t kMainStackSize = 8 << 20;
constexpr std::size_t kMinStackSize = 16 << 10;
constexpr std::size_t kMaxStackSize = std::size_t{1} << 30;

struct stack {
  void* context = nullptr;    // where its goroutine loop waits for the next G; null: not yet started
  stack* next = nullptr;      // in a free list
  std::byte* base = nullptr;  // lowest address, of the guard page
  std::size_t size = 0;       // bytes reserved, guard and descriptor included
  std::uint16_t home = 0;     // whose pool it is from
  bool slot = false;          // from a reservation
  bool guarded = false;
  void* fiber = nullptr;       // TSan's
  void* fake_stack = nullptr;  // ASan's
  unsigned valgrind_id = 0;

  std::uintptr_t low() const { return reinterpret_cast<std::uintptr_t>(base); }
  std::uintptr_t high() const { return low() + size; }
};

/// Sets the default size for the stacks of the next goroutines (a multiple of the page size, within the limits above).
void set_default_stack_size(std::size_t size);
std::size_t default_stack_size();

/// From now on the memory of new stacks of that pool lies on that node; < 0: anywhere, as at first. Before others use
/// it.
void place_stacks(int home, int node);
/// A stack of `size` bytes (0: the default) of the pool `home`, a node's index; null when memory, address space or
/// mappings are exhausted. Thread-safe.
stack* stack_alloc(std::size_t size, int home = 0);
/// Takes back stacks linked by `next`. Thread-safe.
void stack_free(stack* list);
/// Gives the pages of stacks that have not been needed for a while back to the kernel, at most `most` of them; returns
/// how many warm ones are left. Called by sysmon.
std::size_t scavenge_stacks(std::size_t most);
/// Stacks of the default size by what becomes of them: in use, free with their pages, free without. Thread-safe.
struct stack_counts {
  std::size_t used = 0, warm = 0, cold = 0;
};
stack_counts count_stacks(int home);
/// Where a stack's usable part starts, for make_fcontext.
inline void* stack_top(stack* s) { return s; }
inline std::size_t stack_guard_size() { return 4096; }

}  // namespace weft::rt
