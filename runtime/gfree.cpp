// SPDX-License-Identifier: Apache-2.0
// Where Gs and their stacks come from and go to. Go: gfget, gfput, gfpurge, allgs.
//
// A P keeps up to 64 dead Gs and gives half to its node's list when it has more; a P without any takes 32 at a time.
// Stacks the same, with lists of their own (stack.cpp). A G or a stack that ends on another node goes back to its own,
// where its memory is. New Gs are cut from slabs, which are never given back,
// so a pointer to a G stays one; the list of slabs is what dumps walk. The first slab is small; the others are
// 2 MiB and lie in huge pages where the kernel has them: making a million Gs faults 128 times instead of 65,000.
#include <sys/mman.h>
#include <array>
#include <new>

#include "runtime/proc.h"
#include "runtime/sanitizer.h"

namespace weft::rt {
namespace {

constexpr int kSpillAt = 64, kBatch = 32;
constexpr std::size_t kFirstSlab = 64 << 10, kSlab = 2 << 20;

struct slab {
  slab* next;
  std::size_t size;               // bytes, header included
  std::atomic<std::size_t> used;  // Gs made
};

// The shared free Gs are a list of lists: taking one must not walk through memory that nobody has used for long. In the
// first G of each list, which is free, `closure` is the next list and `closure_align` the length.
struct g_store {
  core_lock lock;
  g* free = nullptr;
  std::atomic<slab*> slabs{nullptr};
};

auto& stores = *new std::array<g_store, kMaxNodes>;  // by node::index

g* first_g(slab* s) { return reinterpret_cast<g*>(reinterpret_cast<std::byte*>(s) + sizeof(g)); }
std::size_t capacity(const slab* s) { return s->size / sizeof(g) - 1; }

// Only where there is a choice.
int place_for(int home) { return sched.nnodes.load(std::memory_order_acquire) > 1 ? node_at(home).id : -1; }

slab* new_slab(g_store& store, slab* before, int node) {
  const std::size_t size = before ? kSlab : kFirstSlab;
  // Twice the size, to cut a piece out that is aligned for huge pages.
  void* p = mmap(nullptr, before ? 2 * size : size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  auto* at = static_cast<std::byte*>(p);
  if (before) {
    std::byte* const aligned =
        reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(at) + size - 1) & ~(size - 1));
    if (aligned > at) munmap(at, static_cast<std::size_t>(aligned - at));
    if (aligned + size < at + 2 * size) munmap(aligned + size, static_cast<std::size_t>(at + size - aligned));
    madvise(aligned, size, MADV_HUGEPAGE);
    at = aligned;
  }
  if (node >= 0) numa::prefer_node(at, size, node);
  register_roots(at, size);
  auto* s = ::new (at) slab{before, size, {0}};
  store.slabs.store(s, std::memory_order_release);
  return s;
}

g_store& store_of(int home) { return stores[static_cast<std::size_t>(home)]; }

// Under the store's lock. A list of up to n Gs that have never been used.
g* cut_gs(int home, int n, int& cut) {
  g_store& store = store_of(home);
  slab* s = store.slabs.load(std::memory_order_relaxed);
  if (!s || s->used.load(std::memory_order_relaxed) == capacity(s)) s = new_slab(store, s, place_for(home));
  g* list = nullptr;
  for (cut = 0; cut < n && s->used.load(std::memory_order_relaxed) < capacity(s); ++cut) {
    const std::size_t index = s->used.load(std::memory_order_relaxed);
    g* const gp = ::new (first_g(s) + index) g;
    s->used.store(index + 1, std::memory_order_release);  // pairs with for_each_g()
    gp->store = static_cast<std::uint16_t>(home);
    gp->schedlink = list;
    list = gp;
  }
  return list;
}

// A list of free Gs, n of them if they must be made. Throws std::bad_alloc.
g* take_shared(int home, int n, int& taken) {
  g_store& store = store_of(home);
  lock_guard hold(store.lock);
  if (!store.free) return cut_gs(home, n, taken);
  g* const list = store.free;
  store.free = static_cast<g*>(list->closure);
  if (store.free) __builtin_prefetch(&store.free->closure);
  taken = static_cast<int>(list->closure_align);
  list->closure_align = 0;
  return list;
}

// A list of n of one store, ended by null.
void give_shared(g* list, int n) {
  g_store& store = store_of(list->store);
  lock_guard hold(store.lock);
  list->closure = store.free;
  list->closure_align = static_cast<std::size_t>(n);
  store.free = list;
}

// Gives n of this P's free Gs away.
void spill_gs(p* pp, int n) {
  g* const first = pp->free_gs;
  g* last = first;
  for (int i = 1; i < n; ++i) last = last->schedlink;
  pp->free_gs = last->schedlink;
  pp->nfree_gs -= n;
  last->schedlink = nullptr;
  give_shared(first, n);
}

// For a thread without a P.
g* take_one_shared(int home) {
  int taken = 0;
  g* const gp = take_shared(home, 1, taken);
  if (taken > 1) give_shared(gp->schedlink, taken - 1);
  return gp;
}

// What starting a goroutine writes.
void prefetch(const g* gp) {
  __builtin_prefetch(gp, 1);
  __builtin_prefetch(&gp->fn, 1);
  __builtin_prefetch(&gp->inline_closure, 1);
}

void spill_stacks(p* pp, int n) {
  stack* const first = pp->free_stacks;
  stack* last = first;
  for (int i = 1; i < n; ++i) last = last->next;
  pp->free_stacks = last->next;
  pp->nfree_stacks -= n;
  last->next = nullptr;
  stack_free(first);
}

}  // namespace

g* gfget(p* pp, int home) {
  int taken = 0;
  if (!pp) return take_one_shared(home);
  if (!pp->free_gs) {
    pp->free_gs = take_shared(pp->home_index, kBatch, taken);
    pp->nfree_gs = taken;
  }
  g* const gp = pp->free_gs;
  pp->free_gs = gp->schedlink;
  --pp->nfree_gs;
  if (const g* next = pp->free_gs) prefetch(next);
  return gp;
}

void gfput(p* pp, g* gp) {
  if (!pp || gp->store != pp->home_index) [[unlikely]] {
    gp->schedlink = nullptr;
    return give_shared(gp, 1);
  }
  gp->schedlink = pp->free_gs;
  pp->free_gs = gp;
  if (++pp->nfree_gs >= kSpillAt) spill_gs(pp, kBatch);
}

stack* stack_get(p* pp) {
  stack* s = pp->free_stacks;
  if (!s) return stack_alloc(0, pp->home_index);
  pp->free_stacks = s->next;
  --pp->nfree_stacks;
  return s;
}

void stack_put(p* pp, stack* s) {
  s->next = nullptr;
  if (s->size != default_stack_size() || s->home != pp->home_index) return stack_free(s);
  s->next = pp->free_stacks;
  pp->free_stacks = s;
  if (++pp->nfree_stacks >= kSpillAt) spill_stacks(pp, kBatch);
}

void release_free_lists(p* pp) {
  if (pp->nfree_gs > 0) spill_gs(pp, pp->nfree_gs);
  if (pp->nfree_stacks > 0) spill_stacks(pp, pp->nfree_stacks);
}

int count_goroutines() {
  std::int64_t n = sched.created_elsewhere.load(std::memory_order_relaxed);
  const int nps = sched.nps.load(std::memory_order_acquire);
  for (int i = 0; i < nps; ++i) {
    const p* const pp = sched.allp[static_cast<std::size_t>(i)].load(std::memory_order_acquire);
    n += static_cast<std::int64_t>(pp->created.get()) - static_cast<std::int64_t>(pp->ended.get());
  }
  return static_cast<int>(n);
}

void for_each_g(void (*f)(g* gp, void* argument), void* argument) {
  for (const g_store& store : stores)
    for (slab* s = store.slabs.load(std::memory_order_acquire); s; s = s->next)
      for (std::size_t i = 0, n = s->used.load(std::memory_order_acquire); i < n; ++i) f(first_g(s) + i, argument);
}

}  // namespace weft::rt
