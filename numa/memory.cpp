// SPDX-License-Identifier: Apache-2.0
// Memory on a node. mbind() directly and not libnuma's allocation functions: those print to stderr when a node has no
// memory or the cpuset excludes it. Always preferred, never bound: a process must not die because a node is full.
#include <numaif.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>

#include "weft/numa.h"

namespace weft::numa {
namespace {

constexpr std::size_t kMaskBits = 1024;  // the kernel's most nodes (MAX_NUMNODES)
constexpr std::size_t kWordBits = 8 * sizeof(unsigned long);

// What whole pages make of a size; 0: too large.
std::size_t whole_pages(std::size_t size) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size == 0 ? page : (size + page - 1) & ~(page - 1);
}

}  // namespace

bool prefer_node(void* start, std::size_t size, int node) {
  if (node < 0 || static_cast<std::size_t>(node) >= kMaskBits) return false;
  std::array<unsigned long, kMaskBits / kWordBits> mask{};
  const auto bit = static_cast<std::size_t>(node);
  mask[bit / kWordBits] = 1ul << bit % kWordBits;
  // The kernel takes the number of bits plus one.
  return mbind(start, size, MPOL_PREFERRED, mask.data(), kMaskBits + 1, 0) == 0;
}

void* alloc_on_node(std::size_t size, int node) {
  const std::size_t length = whole_pages(size);
  if (length == 0) throw std::bad_alloc();
  void* const memory = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  prefer_node(memory, length, node);
  return memory;
}

void free(void* memory, std::size_t size) {
  if (memory) munmap(memory, whole_pages(size));
}

int node_of(const void* address) {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  auto* start = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(address) & ~(page - 1));
  int status = -1;
  return move_pages(0, 1, &start, nullptr, &status, 0) == 0 ? status : -1;
}

}  // namespace weft::numa
