// SPDX-License-Identifier: Apache-2.0
//
// Topology and CPU quota. What the machine at hand cannot show (other node shapes, SMT, cgroups) is described: by parts
// for a topology, by a directory tree that each test makes for sysfs, /proc and cgroup file systems.
#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "numa/cgroup.h"
#include "numa/topology.h"

namespace {

using namespace weft::numa;
using cpu_list = std::vector<int>;

class tree {
 public:
  tree() {
    std::string name = (std::filesystem::temp_directory_path() / "weft-numa-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  ~tree() { std::filesystem::remove_all(path_); }
  tree(const tree&) = delete;
  tree& operator=(const tree&) = delete;

  void write(const std::string& file, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(path_ + file).parent_path());
    std::ofstream(path_ + file) << text;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class cpu_quota_in_tree : public testing::Test {
 protected:
  void cgroup(const std::string& lines) { files_.write("/proc/self/cgroup", lines); }
  void mounts(const std::string& lines) { files_.write("/proc/self/mountinfo", lines); }
  void max(const std::string& directory, const std::string& text) { files_.write(directory + "/cpu.max", text); }
  void cfs(const std::string& directory, const std::string& quota, const std::string& period) {
    files_.write(directory + "/cpu.cfs_quota_us", quota);
    files_.write(directory + "/cpu.cfs_period_us", period);
  }
  double quota() const { return cpu_quota_under(files_.path()); }

  tree files_;
};

const std::string kV2Mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
const std::string kV1Mount = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n";

TEST_F(cpu_quota_in_tree, is_infinite_without_any_file) { EXPECT_TRUE(std::isinf(quota())); }

TEST_F(cpu_quota_in_tree, v2_is_read_from_the_own_cgroup) {
  cgroup("0::/a/b\n");
  mounts("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + kV2Mount);
  max("/sys/fs/cgroup/a/b", "150000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 1.5);
}

TEST_F(cpu_quota_in_tree, v2_max_is_no_limit) {
  cgroup("0::/a\n");
  mounts(kV2Mount);
  max("/sys/fs/cgroup/a", "max 100000\n");
  EXPECT_TRUE(std::isinf(quota()));
}

TEST_F(cpu_quota_in_tree, v2_tighter_ancestor_wins) {
  cgroup("0::/a/b/c\n");
  mounts(kV2Mount);
  max("/sys/fs/cgroup/a", "250000 100000\n");
  max("/sys/fs/cgroup/a/b", "max 100000\n");
  max("/sys/fs/cgroup/a/b/c", "400000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 2.5);
}

TEST_F(cpu_quota_in_tree, v2_tighter_child_wins) {
  cgroup("0::/a/b\n");
  mounts(kV2Mount);
  max("/sys/fs/cgroup/a", "400000 100000\n");
  max("/sys/fs/cgroup/a/b", "50000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 0.5);
}

TEST_F(cpu_quota_in_tree, siblings_do_not_count) {
  cgroup("0::/a\n");
  mounts(kV2Mount);
  max("/sys/fs/cgroup/a", "300000 100000\n");
  max("/sys/fs/cgroup/b", "100000 100000\n");
  max("/sys/fs/cgroup/a/child", "100000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 3);
}

TEST_F(cpu_quota_in_tree, v1_is_read_from_the_cpu_hierarchy) {
  cgroup("4:memory:/m\n3:cpuset:/x\n2:cpu,cpuacct:/a\n1:name=systemd:/s\n");
  mounts("33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n" + kV1Mount);
  cfs("/sys/fs/cgroup/cpu,cpuacct/a", "120000\n", "100000\n");
  cfs("/sys/fs/cgroup/cpuset/x", "10000\n", "100000\n");
  EXPECT_DOUBLE_EQ(quota(), 1.2);
}

TEST_F(cpu_quota_in_tree, v1_minus_one_is_no_limit) {
  cgroup("2:cpu,cpuacct:/a\n");
  mounts(kV1Mount);
  cfs("/sys/fs/cgroup/cpu,cpuacct/a", "-1\n", "100000\n");
  EXPECT_TRUE(std::isinf(quota()));
}

TEST_F(cpu_quota_in_tree, v1_tighter_ancestor_wins_up_to_the_mount_point) {
  cgroup("2:cpu,cpuacct:/a/b\n");
  mounts(kV1Mount);
  cfs("/sys/fs/cgroup/cpu,cpuacct", "200000\n", "100000\n");
  cfs("/sys/fs/cgroup/cpu,cpuacct/a", "-1\n", "100000\n");
  cfs("/sys/fs/cgroup/cpu,cpuacct/a/b", "600000\n", "200000\n");
  EXPECT_DOUBLE_EQ(quota(), 2);
}

TEST_F(cpu_quota_in_tree, hybrid_takes_the_tighter_of_both_hierarchies) {
  cgroup("2:cpu,cpuacct:/old\n0::/new\n");
  mounts(kV1Mount + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  cfs("/sys/fs/cgroup/cpu,cpuacct/old", "300000\n", "100000\n");
  EXPECT_DOUBLE_EQ(quota(), 3);
  max("/sys/fs/cgroup/unified/new", "200000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 2);
}

TEST_F(cpu_quota_in_tree, bind_mounted_part_of_the_hierarchy_is_resolved) {
  cgroup("2:cpu,cpuacct:/docker/c1/inner\n");
  mounts("32 31 0:29 /docker/c1 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n");
  cfs("/sys/fs/cgroup/cpu", "150000\n", "100000\n");
  cfs("/sys/fs/cgroup/cpu/inner", "250000\n", "100000\n");
  EXPECT_DOUBLE_EQ(quota(), 1.5);
}

TEST_F(cpu_quota_in_tree, part_of_the_hierarchy_that_does_not_hold_us_is_ignored) {
  cgroup("2:cpu,cpuacct:/docker/c10\n");
  mounts("32 31 0:29 /docker/c1 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n");
  cfs("/sys/fs/cgroup/cpu", "150000\n", "100000\n");
  EXPECT_TRUE(std::isinf(quota()));
}

TEST_F(cpu_quota_in_tree, mount_from_above_the_cgroup_namespace_is_an_ancestor) {
  cgroup("0::/\n");
  mounts("30 23 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  max("/sys/fs/cgroup", "700000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 7);
}

TEST_F(cpu_quota_in_tree, cgroup_outside_of_the_namespace_and_the_mount_is_ignored) {
  cgroup("0::/../other\n");
  mounts(kV2Mount);
  max("/sys/fs/cgroup", "100000 100000\n");
  max("/sys/fs/other", "100000 100000\n");
  EXPECT_TRUE(std::isinf(quota()));
}

TEST_F(cpu_quota_in_tree, names_with_spaces_and_colons_are_resolved) {
  cgroup("0::/a b/x:y\n");
  mounts("30 23 0:26 /a\\040b /mnt/cg\\040two rw - cgroup2 cgroup2 rw\n");
  max("/mnt/cg two/x:y", "110000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 1.1);
}

TEST_F(cpu_quota_in_tree, malformed_limit_is_ignored_and_its_ancestor_counts) {
  mounts(kV2Mount);
  cgroup("0::/a/b\n");
  max("/sys/fs/cgroup/a", "300000 100000\n");
  for (const char* text : {"", "\n", "100000\n", "abc 100000\n", "100000 abc\n", "100000 0\n", "0 100000\n",
                           "-5 100000\n", "1 2 3\n", "99999999999999999999999 1\n", "10x 100\n"}) {
    max("/sys/fs/cgroup/a/b", text);
    EXPECT_DOUBLE_EQ(quota(), 3) << text;
  }
}

TEST_F(cpu_quota_in_tree, v1_quota_without_a_period_is_ignored) {
  cgroup("2:cpu:/a\n");
  mounts(kV1Mount);
  files_.write("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "100000\n");
  EXPECT_TRUE(std::isinf(quota()));
}

TEST_F(cpu_quota_in_tree, malformed_proc_lines_are_skipped) {
  cgroup("garbage\n:\n0:\n0::/a\n");
  mounts("- - -\n\n30 23 cgroup2\n30 23 0:26 / /mnt rw -\n30 23 0:26 / /mnt rw - cgroup2\n" + kV2Mount);
  max("/sys/fs/cgroup/a", "200000 100000\n");
  EXPECT_DOUBLE_EQ(quota(), 2);
}

TEST(cpu_quota, of_this_process_is_positive) { EXPECT_GT(cpu_quota(), 0); }

TEST(default_gomaxprocs, rounds_the_quota_up_to_at_least_2_and_stays_below_the_cpus) {
  EXPECT_EQ(gomaxprocs_for(8, 1.2), 2);
  EXPECT_EQ(gomaxprocs_for(8, 2.5), 3);
  EXPECT_EQ(gomaxprocs_for(8, 3.0), 3);
  EXPECT_EQ(gomaxprocs_for(8, 0.1), 2);
  EXPECT_EQ(gomaxprocs_for(8, 100), 8);
  EXPECT_EQ(gomaxprocs_for(8, INFINITY), 8);
  EXPECT_EQ(gomaxprocs_for(1, 0.5), 1);
  EXPECT_EQ(gomaxprocs_for(1, INFINITY), 1);
  EXPECT_EQ(gomaxprocs_for(0, INFINITY), 1);
}

TEST(default_gomaxprocs, of_this_machine_is_within_its_cpus) {
  const topology machine = topology::discover();
  EXPECT_GE(default_gomaxprocs(machine), 1);
  EXPECT_LE(default_gomaxprocs(machine), static_cast<int>(machine.cpus().size()));
}

TEST(cpu_lists, are_parsed_in_the_kernels_form) {
  EXPECT_EQ(parse_cpu_list("0"), (cpu_list{0}));
  EXPECT_EQ(parse_cpu_list("0-2,8,1030-1031"), (cpu_list{0, 1, 2, 8, 1030, 1031}));
  EXPECT_EQ(parse_cpu_list(""), cpu_list{});
}

TEST(cpu_lists, are_empty_when_malformed) {
  for (const char* list : {"x", "1,x", "3-1", "1-", "-1", "1;2", "1,,2", "99999999999", "0-2147483647"}) {
    EXPECT_EQ(parse_cpu_list(list), cpu_list{}) << list;
  }
}

// A tree that describes nodes, cores and caches as sysfs does.
class sysfs_tree : public testing::Test {
 protected:
  void node(int id, const std::string& cpus, const std::string& distances, const std::string& kilobytes) {
    const std::string directory = "/sys/devices/system/node/node" + std::to_string(id);
    files_.write(directory + "/cpulist", cpus + "\n");
    files_.write(directory + "/distance", distances + "\n");
    files_.write(directory + "/meminfo", "\nNode 0 MemTotal:  " + kilobytes + " kB\nNode 0 MemFree: 1 kB\n");
  }
  void online_nodes(const std::string& list) { files_.write("/sys/devices/system/node/online", list + "\n"); }
  void siblings(int cpu, const std::string& list) {
    files_.write(directory_of(cpu) + "/topology/thread_siblings_list", list + "\n");
  }
  void cache(int cpu, int index, int level, const std::string& list) {
    const std::string directory = directory_of(cpu) + "/cache/index" + std::to_string(index);
    files_.write(directory + "/level", std::to_string(level) + "\n");
    files_.write(directory + "/shared_cpu_list", list + "\n");
  }
  static std::string directory_of(int cpu) { return "/sys/devices/system/cpu/cpu" + std::to_string(cpu); }
  topology read(const cpu_list& allowed) const { return read_topology(files_.path(), allowed); }

  tree files_;
};

TEST_F(sysfs_tree, that_is_empty_is_one_node_of_cores_that_share_a_cache) {
  const topology machine = read({1, 4});
  ASSERT_EQ(machine.nodes().size(), 1u);
  EXPECT_EQ(machine.nodes()[0].cpus, (cpu_list{1, 4}));
  EXPECT_GT(machine.nodes()[0].memory, 0u);
  EXPECT_EQ(machine.find_cpu(4)->core, 4);
  EXPECT_EQ(machine.find_cpu(4)->cache, 1);
  EXPECT_TRUE(machine.offline().empty());
}

TEST_F(sysfs_tree, nodes_have_their_cpus_memory_and_distances) {
  online_nodes("0,2");
  node(0, "0-1", "10 21", "1024");
  node(2, "2-3", "21 10", "2048");
  const topology machine = read({0, 1, 3});
  ASSERT_EQ(machine.nodes().size(), 2u);
  EXPECT_EQ(machine.nodes()[1].id, 2);
  EXPECT_EQ(machine.nodes()[1].cpus, cpu_list{3});
  EXPECT_EQ(machine.nodes()[1].memory, 2048u * 1024);
  EXPECT_EQ(machine.distance(0, 2), 21);
}

TEST_F(sysfs_tree, cpuless_and_memoryless_nodes_stay) {
  online_nodes("0-1");
  node(0, "0-1", "10 40", "0");
  node(1, "", "40 10", "2048");
  const topology machine = read({0, 1});
  ASSERT_EQ(machine.nodes().size(), 2u);
  EXPECT_TRUE(machine.nodes()[1].cpus.empty());
  EXPECT_EQ(machine.nearest_memory(0), 1);
}

TEST_F(sysfs_tree, siblings_and_caches_are_named_by_their_lowest_allowed_cpu) {
  for (int cpu = 0; cpu < 8; ++cpu) {
    siblings(cpu, std::to_string(cpu & ~1) + "-" + std::to_string(cpu | 1));
    cache(cpu, 0, 1, std::to_string(cpu));
    cache(cpu, 1, 3, cpu < 4 ? "0-3" : "4-7");
    cache(cpu, 2, 2, std::to_string(cpu));
  }
  const topology machine = read({1, 2, 3, 4, 5, 6, 7});
  EXPECT_EQ(machine.find_cpu(1)->core, 1);
  EXPECT_EQ(machine.find_cpu(3)->core, 2);
  EXPECT_EQ(machine.find_cpu(3)->cache, 1);
  EXPECT_EQ(machine.find_cpu(7)->cache, 4);
}

TEST_F(sysfs_tree, a_cache_that_spans_nodes_counts_as_one_in_each) {
  online_nodes("0-1");
  node(0, "0-1", "10 11", "1");
  node(1, "2-3", "11 10", "1");
  for (int cpu = 0; cpu < 4; ++cpu) cache(cpu, 0, 3, "0-3");
  EXPECT_EQ(read({0, 1, 2, 3}).find_cpu(3)->cache, 2);
}

TEST_F(sysfs_tree, offline_cpus_are_known) {
  files_.write("/sys/devices/system/cpu/present", "0-7\n");
  files_.write("/sys/devices/system/cpu/online", "0,2-4,7\n");
  EXPECT_EQ(read({0, 2}).offline(), (cpu_list{1, 5, 6}));
}

TEST_F(sysfs_tree, a_cpu_that_no_node_lists_has_no_known_node) {
  online_nodes("0");
  node(0, "0", "10", "1");
  EXPECT_EQ(read({0, 5}).node_of_cpu(5), -1);
  EXPECT_EQ(read({0, 5}).cpus(), (cpu_list{0, 5}));
}

TEST(topology_of_parts, maps_cpus_to_nodes_and_keeps_cpuless_nodes) {
  const topology machine({.nodes = {{3, {}, 0}, {0, {}, 1}, {1, {}, 2}},
                          .cpus = {{1500, 3, 1500, 1500}, {0, 0, 0, 0}, {1, 0, 1, 0}, {7, -1, 7, 7}}});
  ASSERT_EQ(machine.nodes().size(), 3u);
  EXPECT_EQ(machine.nodes()[0].cpus, (cpu_list{0, 1}));
  EXPECT_TRUE(machine.nodes()[1].cpus.empty());
  EXPECT_EQ(machine.node_of_cpu(1), 0);
  EXPECT_EQ(machine.node_of_cpu(1500), 3);
  for (int cpu : {-1, 2, 7, 1501}) EXPECT_EQ(machine.node_of_cpu(cpu), -1) << cpu;
  EXPECT_EQ(machine.cpus(), (cpu_list{0, 1500, 1, 7}));
}

TEST(topology_of_parts, takes_unknown_distances_as_far_and_self_as_local) {
  const topology machine({.nodes = {{0, {}, 0}, {2, {}, 0}}, .distances = {0, 21, 0, 10}, .cpus = {{0, 0, 0, 0}}});
  EXPECT_EQ(machine.distance(0, 0), 10);
  EXPECT_EQ(machine.distance(2, 2), 10);
  EXPECT_EQ(machine.distance(0, 2), 21);
  EXPECT_EQ(machine.distance(2, 0), 255);
  EXPECT_EQ(machine.distance(0, 1), 255);
  EXPECT_EQ(machine.distance(-1, 0), 255);
}

TEST(topology_discovered, covers_every_allowed_cpu_once) {
  const topology machine = topology::discover();
  const std::set<int> all(machine.cpus().begin(), machine.cpus().end());
  EXPECT_FALSE(all.empty());
  EXPECT_EQ(all.size(), machine.cpus().size());
  ASSERT_FALSE(machine.nodes().empty());
  std::set<int> seen;
  for (const node& n : machine.nodes()) {
    EXPECT_EQ(machine.distance(n.id, n.id), 10);
    EXPECT_TRUE(std::is_sorted(n.cpus.begin(), n.cpus.end()));
    for (int cpu : n.cpus) {
      EXPECT_TRUE(all.count(cpu));
      EXPECT_TRUE(seen.insert(cpu).second);
      EXPECT_EQ(machine.node_of_cpu(cpu), n.id);
    }
  }
}

TEST(topology_discovered, respects_the_affinity_of_the_calling_thread) {
  const int last = topology::discover().cpus().back();
  if (last >= CPU_SETSIZE) GTEST_SKIP() << "needs a CPU below " << CPU_SETSIZE;
  std::thread([last] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    const topology machine = topology::discover();
    EXPECT_EQ(machine.cpus(), cpu_list{last});
    EXPECT_EQ(default_gomaxprocs(machine), 1);
    std::size_t in_nodes = 0;
    for (const node& n : machine.nodes()) in_nodes += n.cpus.size();
    EXPECT_EQ(in_nodes, 1u);
  }).join();
}

TEST(topology_discovered, writes_nothing_to_stderr) {
  testing::internal::CaptureStderr();
  topology::discover();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(memory_on_a_node, is_zeroed_and_there) {
  constexpr std::size_t kSize = 100'000;
  auto* const memory = static_cast<unsigned char*>(alloc_on_node(kSize, 0));
  EXPECT_EQ(std::count(memory, memory + kSize, 0), static_cast<std::ptrdiff_t>(kSize));
  memory[kSize - 1] = 1;
  weft::numa::free(memory, kSize);
}

TEST(memory_on_a_node, lies_on_that_node_once_it_is_touched) {
  const topology machine = topology::discover();
  for (const node& n : machine.nodes()) {
    if (n.memory == 0) continue;
    void* const memory = alloc_on_node(1, n.id);
    EXPECT_LT(node_of(memory), 0);
    *static_cast<volatile char*>(memory) = 1;
    const int where = node_of(memory);
    EXPECT_TRUE(where == n.id || where < 0) << where;  // not told where the kernel has no move_pages()
    weft::numa::free(memory, 1);
  }
}

TEST(memory_on_a_node, comes_from_elsewhere_without_a_word_if_there_is_no_such_node) {
  const topology machine = topology::discover();
  testing::internal::CaptureStderr();
  for (int node : {-1, 63, 1023, 100'000}) {
    void* const memory = alloc_on_node(5000, node);
    *static_cast<volatile char*>(memory) = 1;
    weft::numa::free(memory, 5000);
  }
  for (const node& n : machine.nodes()) weft::numa::free(alloc_on_node(0, n.id), 0);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(memory_on_a_node, that_cannot_be_had_is_bad_alloc) {
  EXPECT_THROW(alloc_on_node(SIZE_MAX, 0), std::bad_alloc);
  EXPECT_THROW(alloc_on_node(SIZE_MAX / 2, 0), std::bad_alloc);
  EXPECT_THROW(allocator<long>(0).allocate(SIZE_MAX / 4), std::bad_alloc);
}

TEST(numa_allocator, serves_containers) {
  std::vector<int, allocator<int>> numbers(allocator<int>(0));
  for (int i = 0; i < 10'000; ++i) numbers.push_back(i);
  EXPECT_EQ(numbers[9'999], 9'999);
  const auto other = numbers;
  EXPECT_EQ(other, numbers);
  EXPECT_EQ(other.get_allocator(), allocator<long>(0));
  EXPECT_NE(other.get_allocator(), allocator<int>(1));
}

}  // namespace
