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

void siblings(tree& files, int cpu, const std::string& list) {
  files.write("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list", list + "\n");
}

TEST(binding_order, takes_cores_before_smt_siblings_and_node_after_node) {
  tree files;
  for (int cpu : {0, 4}) siblings(files, cpu, "0,4");
  for (int cpu : {1, 5}) siblings(files, cpu, "1,5");
  for (int cpu : {2, 3}) siblings(files, cpu, "2-3");
  for (int cpu : {6, 7}) siblings(files, cpu, "6-7");
  const std::vector<node> nodes = {{0, {0, 1, 4, 5}, 0}, {1, {2, 3, 6, 7}, 0}};
  EXPECT_EQ(binding_order(nodes, {0, 1, 2, 3, 4, 5, 6, 7}, files.path()), (cpu_list{0, 1, 2, 6, 4, 5, 3, 7}));
}

TEST(binding_order, takes_the_sibling_of_a_thread_that_is_not_allowed_as_a_core) {
  tree files;
  for (int cpu : {0, 2}) siblings(files, cpu, "0,2");
  for (int cpu : {1, 3}) siblings(files, cpu, "1,3");
  EXPECT_EQ(binding_order({{0, {1, 2, 3}, 0}}, {1, 2, 3}, files.path()), (cpu_list{1, 2, 3}));
}

TEST(binding_order, puts_cpus_of_no_known_node_last_and_takes_undescribed_ones_as_cores) {
  tree files;
  EXPECT_EQ(binding_order({{0, {5}, 0}, {2, {1, 3}, 0}}, {0, 1, 3, 5}, files.path()), (cpu_list{5, 1, 3, 0}));
}

TEST(topology_of_parts, maps_cpus_to_nodes_and_keeps_cpuless_nodes) {
  const topology machine({{0, {0, 1}, 1}, {1, {}, 2}, {3, {1500}, 0}}, {0, 1, 1500, 7}, std::vector<int>(9, 20));
  EXPECT_EQ(machine.nodes().size(), 3u);
  EXPECT_TRUE(machine.nodes()[1].cpus.empty());
  EXPECT_EQ(machine.node_of_cpu(1), 0);
  EXPECT_EQ(machine.node_of_cpu(1500), 3);
  for (int cpu : {-1, 2, 7, 1501}) EXPECT_EQ(machine.node_of_cpu(cpu), -1) << cpu;
}

TEST(topology_of_parts, takes_unknown_distances_as_far_and_self_as_local) {
  const topology machine({{0, {0}, 0}, {2, {1}, 0}}, {0, 1}, {0, 21, 0, 10});
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

}  // namespace
