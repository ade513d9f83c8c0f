// SPDX-License-Identifier: Apache-2.0
#include "runtime/stack.h"

#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <new>
#include <vector>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(low, high) 0
#define VALGRIND_STACK_DEREGISTER(id) (void)(id)
#endif

#include "runtime/cache_line.h"
#include "runtime/costs.h"
#include "runtime/lock.h"
#include "runtime/sanitizer.h"
#include "weft/numa.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102  // Linux 6.13; older headers do not know it
#endif

namespace weft::rt {
namespace {

// Room for four million default stacks; address space costs nothing. Smaller tries follow where a limit refuses it.
constexpr std::size_t kReservations[] = {std::size_t{256} << 30, std::size_t{32} << 30, std::size_t{4} << 30,
                                         std::size_t{512} << 20};
constexpr std::size_t kGrow = std::size_t{16} << 20;  // made accessible at a time
constexpr std::size_t kMappingsLeft = 4096;           // of vm.max_map_count, for everybody else

struct alignas(kLinePair) pool {
  core_lock lock;
  int node = -1;  // where its memory is to lie; -1: anywhere
  std::size_t stack_size = kDefaultStackSize;
  std::byte* base = nullptr;  // of the reservation
  std::size_t reserved = 0, open = 0, used = 0;
  stack* warm = nullptr;
  std::vector<std::uintptr_t>& cold = *new std::vector<std::uintptr_t>;  // bases; bit 0: guarded. Never destroyed
  std::size_t nwarm = 0, low_water = 0;
};

auto& pools = *new std::array<pool, kMaxNodes>;  // by node::index

pool& pool_of(int home) { return pools[static_cast<std::size_t>(home)]; }

std::atomic<std::size_t> default_size{kDefaultStackSize};

enum class guards { unknown, madvise, mprotect, exhausted };
// LeakSanitizer reads whole mappings, and a page with an installed guard looks readable to it.
std::atomic<guards> guard_kind{kAddressSanitizer ? guards::mprotect : guards::unknown};
std::atomic<std::size_t> guard_mappings{0};

std::size_t max_mappings() {
  static const std::size_t limit = [] {
    std::size_t value = 65530;
    if (std::FILE* f = std::fopen("/proc/sys/vm/max_map_count", "re")) {
      if (std::fscanf(f, "%zu", &value) != 1) value = 65530;
      std::fclose(f);
    }
    return value;
  }();
  return limit;
}

bool guards_exhausted() {
  if (guard_kind.exchange(guards::exhausted) != guards::exhausted)
    std::fprintf(stderr,
                 "weft: no more guard pages: vm.max_map_count is %zu; further goroutine stacks are unguarded "
                 "(raise the sysctl, or run Linux 6.13 or newer)\n",
                 max_mappings());
  return false;
}

bool install_guard(std::byte* page) {
  guards kind = guard_kind.load(std::memory_order_relaxed);
  if (kind == guards::unknown || kind == guards::madvise) {
    if (madvise(page, stack_guard_size(), MADV_GUARD_INSTALL) == 0) {
      guard_kind.store(guards::madvise, std::memory_order_relaxed);
      return true;
    }
    guard_kind.store(kind = guards::mprotect, std::memory_order_relaxed);
  }
  if (kind == guards::exhausted) return false;
  if (guard_mappings.fetch_add(2, std::memory_order_relaxed) + kMappingsLeft > max_mappings() ||
      mprotect(page, stack_guard_size(), PROT_NONE) != 0)
    return guards_exhausted();
  return true;
}

stack* describe(std::byte* base, std::size_t size, int home, bool slot, bool guarded) {
  stack* s = ::new (base + size - sizeof(stack)) stack;
  s->base = base;
  s->size = size;
  s->home = static_cast<std::uint16_t>(home);
  s->slot = slot;
  s->guarded = guarded;
  s->fiber = create_fiber();
  s->valgrind_id = VALGRIND_STACK_REGISTER(base, base + size);
  return s;
}

// What no stack has been cut from. Under the lock.
void give_back_reservation(pool& stacks) {
  if (!stacks.base) return;
  if (stacks.reserved > stacks.used) munmap(stacks.base + stacks.used, stacks.reserved - stacks.used);
  stacks.base = nullptr;
}

bool reserve(pool& stacks) {
  give_back_reservation(stacks);
  for (std::size_t size : kReservations) {
    void* p = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) continue;
    madvise(p, size, MADV_DONTDUMP);  // or a core file is as large as the reservation
    stacks.base = static_cast<std::byte*>(p);
    stacks.reserved = size;
    stacks.open = stacks.used = 0;
    return true;
  }
  return false;
}

// The next slot of the reservation, never used before; null when there is none. Under the lock.
std::byte* next_slot(pool& stacks) {
  if (!stacks.base && !reserve(stacks)) return nullptr;
  if (stacks.used + stacks.stack_size > stacks.reserved && !reserve(stacks)) return nullptr;
  while (stacks.used + stacks.stack_size > stacks.open) {
    const std::size_t grow = std::min(kGrow, stacks.reserved - stacks.open);
    std::byte* at = stacks.base + stacks.open;
    if (grow == 0 || mprotect(at, grow, PROT_READ | PROT_WRITE) != 0) return nullptr;
    if (stacks.node >= 0) numa::prefer_node(at, grow, stacks.node);
    madvise(at, grow, MADV_DODUMP);
    madvise(at, grow, MADV_NOHUGEPAGE);  // a huge page under a stack would commit all of it
    register_roots(at, grow);
    stacks.open += grow;
  }
  std::byte* slot = stacks.base + stacks.used;
  stacks.used += stacks.stack_size;
  return slot;
}

stack* slot_alloc(int home) {
  pool& stacks = pool_of(home);
  std::byte* fresh = nullptr;
  std::size_t size;
  {
    lock_guard hold(stacks.lock);
    if (stack* s = stacks.warm) {
      stacks.warm = s->next;
      stacks.low_water = std::min(stacks.low_water, --stacks.nwarm);
      return s;
    }
    size = stacks.stack_size;
    if (!stacks.cold.empty()) {
      const std::uintptr_t cold = stacks.cold.back();
      stacks.cold.pop_back();
      return describe(reinterpret_cast<std::byte*>(cold & ~std::uintptr_t{1}), size, home, true, (cold & 1) != 0);
    }
    fresh = next_slot(stacks);
  }
  return fresh ? describe(fresh, size, home, true, install_guard(fresh)) : nullptr;
}

stack* single_alloc(std::size_t size, int home) {
  void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  if (const int node = pool_of(home).node; node >= 0) numa::prefer_node(p, size, node);
  madvise(p, size, MADV_NOHUGEPAGE);
  register_roots(p, size);
  auto* base = static_cast<std::byte*>(p);
  return describe(base, size, home, false, install_guard(base));
}

void undescribe(stack* s) {
  destroy_fiber(s->fiber);
  VALGRIND_STACK_DEREGISTER(s->valgrind_id);
  unpoison(s->base, s->size);
}

void discard(stack* s) {
  undescribe(s);
  if (!s->slot) unregister_roots(s->base, s->size);  // LeakSanitizer passes over parts that are no longer mapped
  if (s->guarded && guard_kind.load(std::memory_order_relaxed) != guards::madvise)
    guard_mappings.fetch_sub(2, std::memory_order_relaxed);
  munmap(s->base, s->size);
}

// Gives all its pages back, the descriptor's too; the guard stays. Returns its entry in the list of cold ones.
std::uintptr_t make_cold(stack* s) {
  undescribe(s);
  std::byte* const base = s->base;
  const bool guarded = s->guarded;
  const std::size_t guard = guarded ? stack_guard_size() : 0;
  madvise(base + guard, s->size - guard, MADV_DONTNEED);
  return reinterpret_cast<std::uintptr_t>(base) | (guarded ? 1 : 0);
}

}  // namespace

namespace {

// Slots have one size: the old ones stay with the goroutines that have them and are unmapped at their end.
void resize(pool& stacks, std::size_t size) {
  lock_guard hold(stacks.lock);
  if (size == stacks.stack_size) return;
  while (stack* s = stacks.warm) {
    stacks.warm = s->next;
    discard(s);
  }
  for (const std::uintptr_t cold : stacks.cold) {
    auto* const base = reinterpret_cast<std::byte*>(cold & ~std::uintptr_t{1});
    munmap(base, stacks.stack_size);
  }
  stacks.cold.clear();
  give_back_reservation(stacks);
  stacks.nwarm = stacks.low_water = 0;
  stacks.stack_size = size;
}

}  // namespace

void set_default_stack_size(std::size_t size) {
  default_size.store(size, std::memory_order_relaxed);
  for (pool& stacks : pools) resize(stacks, size);
}

void place_stacks(int home, int node) {
  pool& stacks = pool_of(home);
  lock_guard hold(stacks.lock);
  stacks.node = node;
}

std::size_t default_stack_size() { return default_size.load(std::memory_order_relaxed); }

stack* stack_alloc(std::size_t size, int home) {
  if (size == 0 || size == default_stack_size()) return slot_alloc(home);
  return single_alloc(size, home);
}

void stack_free(stack* list) {
  stack* discarded = nullptr;
  while (stack* s = list) {
    pool& stacks = pool_of(s->home);
    lock_guard hold(stacks.lock);
    // Almost always all are of one pool.
    for (; s && &pool_of(s->home) == &stacks; s = list) {
      list = s->next;
      stack*& to = s->slot && s->size == stacks.stack_size ? stacks.warm : discarded;
      if (&to == &stacks.warm) ++stacks.nwarm;
      s->next = to;
      to = s;
    }
  }
  while (stack* s = discarded) {
    discarded = s->next;
    discard(s);
  }
}

namespace {

std::size_t scavenge(pool& stacks, std::size_t most) {
  stack* victims = nullptr;
  std::size_t left;
  {
    lock_guard hold(stacks.lock);
    const std::size_t spare = stacks.low_water;  // warm ones that nobody needed since the call before
    for (std::size_t n = std::min(most, spare - spare / 2); n > 0; --n) {
      stack* s = stacks.warm;
      stacks.warm = s->next;
      --stacks.nwarm;
      s->next = victims;
      victims = s;
    }
    stacks.low_water = left = stacks.nwarm;
  }
  while (stack* s = victims) {
    victims = s->next;
    const std::uintptr_t cold = make_cold(s);
    lock_guard hold(stacks.lock);
    stacks.cold.push_back(cold);
  }
  return left;
}

}  // namespace

std::size_t scavenge_stacks(std::size_t most) {
  std::size_t left = 0;
  for (pool& stacks : pools) left += scavenge(stacks, most);
  return left;
}

stack_counts count_stacks(int home) {
  pool& stacks = pool_of(home);
  lock_guard hold(stacks.lock);
  stack_counts now{.warm = stacks.nwarm, .cold = stacks.cold.size()};
  const std::size_t made = stacks.used / stacks.stack_size, free = now.warm + now.cold;
  now.used = made > free ? made - free : 0;
  return now;
}

}  // namespace weft::rt
