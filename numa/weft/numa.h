// SPDX-License-Identifier: Apache-2.0
// The machine's NUMA nodes as this process may use them, and memory on a node of one's choice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <vector>

/// The machine's NUMA nodes, and memory on them.
namespace weft::numa {

inline constexpr int kLocalDistance = 10;  ///< ACPI SLIT: a node to itself
inline constexpr int kFarDistance = 255;   ///< ACPI SLIT: unreachable; stands for every distance that is not known

/// A NUMA node.
struct node {
  int id;                 ///< its number; numbers may have gaps
  std::vector<int> cpus;  ///< allowed and online, ascending; none: memory only, or none of its CPUs allowed
  std::uint64_t memory;   ///< bytes; 0 if it has none or the kernel does not tell
};

/// An allowed CPU, and what it shares with others. A core, and a cache, is named by the lowest number of an allowed CPU
/// that it belongs to; a cache that spans nodes counts as one in each.
struct cpu {
  int id;     ///< its number
  int node;   ///< the number of its node; -1: not known
  int core;   ///< equal for SMT siblings
  int cache;  ///< equal for those that share the last level of cache
};

/// The nodes and CPUs that a process may use: a snapshot, which never changes. There is at least one node and one CPU.
/// Readable from any thread.
class topology {
 public:
  /// What a topology is made of. `nodes`: their `cpus` are ignored, those of `cpus` count. `distances`: a row a node,
  /// in the order of `nodes`; 0, or missing: not known.
  struct parts {
    std::vector<node> nodes{};                                   ///< in any order
    std::vector<int> distances{};                                ///< see above
    std::vector<cpu> cpus{};                                     ///< the allowed ones, in any order
    std::vector<int> offline{};                                  ///< CPUs that are there, but switched off
    double cpu_quota = std::numeric_limits<double>::infinity();  ///< see topology::cpu_quota()
  };

  /// Reads the machine as the calling thread may use it: its affinity, within its cpuset and the CPUs that are online.
  /// So a thread that is bound to one CPU finds that CPU only. Without NUMA support all allowed CPUs are in node 0.
  /// Throws std::system_error if the affinity cannot be read. Go: the CPU count of runtime.NumCPU.
  static topology discover();

  /// A topology of the given parts.
  explicit topology(parts made_of);

  /// All nodes, also those without CPUs, by ascending number.
  const std::vector<node>& nodes() const { return nodes_; }

  /// The distance between two nodes, by number, as in ACPI's SLIT: kLocalDistance to itself, kFarDistance if it is not
  /// known.
  int distance(int from, int to) const;

  /// The allowed CPUs in the order in which Ps are bound to them: one thread of each physical core first, then their
  /// SMT siblings; within each of these, the nodes by turns.
  const std::vector<int>& cpus() const { return order_; }

  /// An allowed CPU; null: it is not allowed.
  const cpu* find_cpu(int number) const;

  /// The number of the CPU's node; -1 if the CPU is not allowed or its node is not known.
  int node_of_cpu(int number) const;

  /// CPUs that are there, but switched off, ascending.
  const std::vector<int>& offline() const { return offline_; }

  /// The CPU time that cgroups leave to this process, in CPUs' worth, such as 1.5; infinity: all of it.
  double cpu_quota() const { return cpu_quota_; }

  /// The node itself if it has memory, else the nearest that has; -1: no node is known to have any.
  int nearest_memory(int node) const;

 private:
  std::vector<node> nodes_;
  std::vector<int> distances_;
  std::vector<cpu> cpus_;  // by number
  std::vector<int> order_;
  std::vector<int> offline_;
  double cpu_quota_;
};

/// Memory whose pages lie on that node where the kernel can do it, and on others where not (no such node, none free
/// there): placement is a wish, and nothing is printed. Whole pages, zeroed; throws std::bad_alloc when memory is
/// short. Any thread. The pages are placed when they are first touched.
void* alloc_on_node(std::size_t size, int node);

/// Gives memory of alloc_on_node() back; `size` as it was. Null: nothing is done.
void free(void* memory, std::size_t size);

/// The number of the node on which the page at `address` lies; < 0: not known, for example because nobody has touched
/// it yet. A system call.
int node_of(const void* address);

/// Puts the pages of [start, start + size) that nobody has touched yet on that node where the kernel can do it. `start`
/// at a page's beginning. False: the kernel does not. Any thread.
bool prefer_node(void* start, std::size_t size, int node);

/// An allocator, as the standard library's containers want it, of alloc_on_node(). For what is large: every allocation
/// is whole pages. Throws std::bad_alloc.
template <class T>
class allocator {
 public:
  using value_type = T;  ///< what the standard asks for

  /// Memory on that node.
  explicit allocator(int node) noexcept : node_(node) {}
  /// The same node, another type.
  template <class U>
  allocator(const allocator<U>& other) noexcept : node_(other.node()) {}

  /// Room for n objects.
  T* allocate(std::size_t n) {
    if (n > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_array_new_length();
    return static_cast<T*>(alloc_on_node(n * sizeof(T), node_));
  }
  /// Gives it back.
  void deallocate(T* memory, std::size_t n) noexcept { numa::free(memory, n * sizeof(T)); }

  /// The number of the node.
  int node() const noexcept { return node_; }

 private:
  int node_;
};

/// Memory of one may be given back by the other: placement is not remembered. Equal if they place alike.
template <class T, class U>
bool operator==(const allocator<T>& a, const allocator<U>& b) noexcept {
  return a.node() == b.node();
}

}  // namespace weft::numa
