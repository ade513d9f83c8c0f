// SPDX-License-Identifier: Apache-2.0
//
// The scheduler on several NUMA nodes: where Ps are and goroutines run, what stays at home and what leaves it, changing
// the Ps of a node and the machine under load. On machines that are described (their CPUs are not there, so Ms are not
// pinned); and on the one at hand, of any shape, where threads, stacks and memory must really be where they belong.
//
// WEFT_TEST_OWN_MACHINE=1  the machine is a virtual one: its CPUs may be switched off, its cgroups changed
// (tests/vm/run.py)
#include <weft/numa.h>
#include <weft/runtime.h>

#include <dirent.h>
#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "runtime/gomaxprocs.h"
#include "tests/described_machine.h"
#include "tests/fixture.h"
#include "tests/unit/topologies.h"

namespace {

using namespace weft;
using namespace weft::test;
namespace shapes = numa::shapes;

template <class F>
void run_on(const numa::topology& machine, F body, const char* ps = nullptr) {
  const described_machine described(machine);
  run_options options;
  options.gomaxprocs_on_nodes = ps;
  run(options, body);
}

// The CPUs and nodes of the Ps that are wanted now.
std::multiset<int> wanted_cpus() {
  std::multiset<int> cpus;
  for (int i = 0; i < rt::sched.nps.load(); ++i)
    if (!rt::surplus(rt::p_at(i))) cpus.insert(rt::p_at(i)->c->id);
  return cpus;
}

std::uint64_t counter(const char* name) { return metrics::read().counters.at(name); }

// A goroutine that runs on that node, and waits there for its turns.
struct resident {
  chan<unit> turn = make_chan<unit>();
  std::atomic<int> last_node{-1};
  std::atomic<int> turns{0};

  void start(int node, wait_group& done) {
    done.add(1);
    go({.node = node}, [this, &done] {
      while (turn.recv()) {
        last_node = current_node();
        ++turns;
      }
      done.done();
    });
  }
};

// -- Placement --------------------------------------------------------------------------------------------------------

TEST(ps_on_nodes, are_one_for_each_cpu_by_default) {
  for (int nodes : {1, 2, 4, 16}) {
    const numa::topology machine = shapes::regular(nodes, 2);
    run_on(machine, [&] {
      EXPECT_EQ(num_node(), nodes);
      EXPECT_EQ(num_cpu(), 2 * nodes);
      EXPECT_EQ(gomaxprocs(), 2 * nodes);
      for (int node = 0; node < nodes; ++node) EXPECT_EQ(gomaxprocs_on_node(node), 2);
      EXPECT_EQ(gomaxprocs_on_node(nodes), 0);
      EXPECT_EQ(gomaxprocs_on_node(-1), 0);
      EXPECT_EQ(wanted_cpus(), std::multiset<int>(machine.cpus().begin(), machine.cpus().end()));
    });
  }
}

TEST(ps_on_nodes, pack_a_node_under_a_quota) {
  run_on(numa::parse_description(shapes::text(2, 4) + "quota 3.5"), [] {
    EXPECT_EQ(gomaxprocs_on_node(0), 4);
    EXPECT_EQ(gomaxprocs_on_node(1), 0);
  });
}

TEST(ps_on_nodes, follow_a_vector) {
  const auto body = [] {
    EXPECT_EQ(gomaxprocs(), 5);
    EXPECT_EQ(gomaxprocs_on_node(0), 1);
    EXPECT_EQ(gomaxprocs_on_node(1), 4);
  };
  run_on(shapes::regular(2, 4), body, "node0=1");
  run_on(shapes::regular(2, 4), body, "node0=1,node1=4");
  run_on(shapes::regular(2, 8), body, "node1=4,node0=1");
}

TEST(ps_on_nodes, that_are_not_there_are_named_and_passed_over) {
  testing::internal::CaptureStderr();
  run_on(
      shapes::regular(2, 2), [] { EXPECT_EQ(gomaxprocs(), 3); }, "node7=9,node0=1");
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "weft: GOMAXPROCS: node7 has no CPUs for us: going on without it\n");
}

TEST(ps_on_nodes, can_all_be_taken_from_a_node_but_not_from_all) {
  run_on(shapes::regular(2, 2), [] {
    EXPECT_EQ(gomaxprocs_on_node(1, 0), 2);
    EXPECT_EQ(gomaxprocs_on_node(1), 0);
    EXPECT_EQ(gomaxprocs(), 2);
    EXPECT_EQ(current_node(), 0);
    EXPECT_EQ(gomaxprocs_on_node(0, 0), 2);
    EXPECT_EQ(gomaxprocs_on_node(0), 2);
    EXPECT_EQ(gomaxprocs_on_node(5, 3), 0);
    EXPECT_EQ(gomaxprocs_on_node(1, 3), 0);
    EXPECT_EQ(gomaxprocs_on_node(1, -1), 3);
    EXPECT_EQ(gomaxprocs(), 5);
    EXPECT_EQ(gomaxprocs(4), 5);
    EXPECT_EQ(gomaxprocs_on_node(1), 2);
  });
}

TEST(ps_on_nodes, that_main_runs_on_can_be_taken_away) {
  run_on(shapes::regular(2, 2), [] {
    for (int i = 0; i < scaled(50); ++i) {
      const int here = current_node();
      gomaxprocs_on_node(1 - here, 1);
      gomaxprocs_on_node(here, 0);
      EXPECT_TRUE(eventually([&] { return current_node() == 1 - here; }));
      gomaxprocs_on_node(here, 2);
    }
  });
}

// -- Home -------------------------------------------------------------------------------------------------------------

class going_home : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(one_to_sixteen, going_home, testing::Values(1, 2, 4, 8, 16));

TEST_P(going_home, a_goroutine_starts_on_the_node_that_is_asked_for) {
  const int nodes = GetParam();
  run_on(shapes::regular(nodes, 1), [nodes] {
    wait_group done;
    std::atomic<int> at_home{0};
    const int each = scaled(200);
    for (int i = 0; i < each; ++i)
      for (int node = 0; node < nodes; ++node) {
        done.add(1);
        go({.node = node}, [&, node] {
          at_home += current_node() == node ? 1 : 0;
          done.done();
        });
        if (i % 8 == 0) yield();
      }
    done.wait();
    // What waits long because its P is busy may be fetched by another node.
    EXPECT_GE(at_home + static_cast<int>(counter("node_moves")), each * nodes);
  });
}

TEST_P(going_home, a_woken_goroutine_runs_where_it_first_ran) {
  const int nodes = GetParam();
  run_on(shapes::regular(nodes, 2), [nodes] {
    std::vector<resident> all(static_cast<std::size_t>(nodes));
    wait_group done;
    for (int node = 0; node < nodes; ++node) all[static_cast<std::size_t>(node)].start(node, done);
    const int rounds = scaled(300);
    for (int round = 0; round < rounds; ++round)
      for (resident& each : all) {
        each.turn.send({});
        EXPECT_TRUE(eventually([&] { return each.turns == round + 1; }));
      }
    const auto moves = counter("node_moves");
    for (resident& each : all) each.turn.close();
    done.wait();
    std::printf("%d nodes: %llu moves in %d turns\n", nodes, static_cast<unsigned long long>(moves), nodes * rounds);
  });
}

TEST(a_goroutine_that_was_fetched, goes_home_when_it_is_woken) {
  run_on(shapes::regular(2, 1), [] {
    enum class fate { never_there, away };
    constexpr int kAtATime = 32;  // more than the batch of the P, which switches: nobody robs that
    const int here = current_node();
    std::atomic<bool> busy{true};
    std::atomic<int> back{0};
    wait_group done;
    chan<fate> fates = make_chan<fate>(2 * kAtATime);
    chan<unit> again = make_chan<unit>();
    const auto goroutine = [&, here] {
      if (current_node() != here) return fates.send(fate::never_there);
      while (busy && current_node() == here) yield();
      if (current_node() == here) return;
      fates.send(fate::away);
      while (again.recv()) back += current_node() == here ? 1 : 0;  // it may be fetched once more on its way
    };
    for (int i = 0; i < kAtATime; ++i) done.go(goroutine);
    const auto next_fate = [&fates] {  // waiting, not polling: the other node idles
      std::optional<fate> next;
      select(on_recv(fates, [&next](std::optional<fate> f) { next = f; }), on_timeout(kPatience, [] {}));
      return next;
    };
    std::optional<fate> next;
    while ((next = next_fate()) == fate::never_there) done.go(goroutine);
    EXPECT_EQ(next, fate::away);
    busy = false;
    EXPECT_TRUE(eventually([&] { return again.try_send({}) && back > 0; }));
    again.close();
    done.wait();
  });
}

TEST(a_node_without_ps, has_its_goroutines_run_by_the_nearest) {
  run_on(shapes::regular(4, 1), [] {
    gomaxprocs_on_node(3, 0);
    wait_group done;
    std::atomic<int> ran{0};
    for (int i = 0; i < 100; ++i) {
      done.add(1);
      go({.node = 3}, [&] {
        EXPECT_NE(current_node(), 3);
        ++ran;
        done.done();
      });
    }
    done.wait();
    EXPECT_EQ(ran, 100);
  });
}

TEST(a_node_that_is_not_there, is_as_good_as_any) {
  run_on(numa::parse_description(shapes::kCpuless), [] {
    for (int node : {1, 7, 1000, -2}) {
      wait_group done;
      done.add(1);
      go({.node = node}, [&] {
        EXPECT_EQ(current_node(), 0);
        done.done();
      });
      done.wait();
    }
  });
}

// Work is conserved: all of it is queued on one node, whose single P stays busy.
TEST(work_of_a_busy_node, is_fetched_by_others_that_have_none) {
  run_on(shapes::regular(2, 1), [] {
    std::atomic<bool> stop{false};
    std::atomic<int> here{0}, away{0};
    wait_group done;
    const int node = current_node();
    for (int i = 0; i < 64; ++i)
      done.go([&, node] {
        ++(current_node() == node ? here : away);
        while (!stop) sched_yield();
      });
    EXPECT_TRUE(eventually([&] { return away > 0; }));
    stop = true;
    done.wait();
    EXPECT_GT(counter("far_steals"), 0u);
  });
}

TEST(timers_of_a_busy_node, wake_their_goroutines_in_the_end) {
  run_on(shapes::regular(3, 1), [] {
    wait_group done;
    for (int i = 0; i < scaled(300); ++i) {
      done.add(1);
      go({.node = i % 3}, [&done, i] {
        sleep_for(std::chrono::microseconds(10 * (i % 10)));
        done.done();
      });
    }
    done.wait();
  });
}

// -- Changes under load -----------------------------------------------------------------------------------------------

// Goroutines on all nodes that sleep, talk and yield, while `change` is called again and again.
void under_load(int nodes, const std::function<void(int)>& change) {
  const int n = scaled(400);
  std::atomic<int> ran{0};
  wait_group done;
  const auto c = make_chan<int>(4);
  for (int i = 0; i < n; ++i) {
    done.add(1);
    go({.node = i % nodes}, [&, i] {
      for (int round = 0; round < 10; ++round) {
        if (i % 2 == 0)
          c.send(i);
        else
          c.recv();
        if (round % 3 == 0) sleep_for(std::chrono::microseconds(i % 7 * 50));
        yield();
      }
      ++ran;
      done.done();
    });
  }
  for (int i = 0; ran < n; ++i) {
    change(i);
    yield();
    if (i % 8 == 0) sleep_for(std::chrono::microseconds(300));
  }
  done.wait();
  EXPECT_EQ(ran, n);
}

TEST(changing_the_vector, under_load_loses_nothing) {
  run_on(shapes::regular(4, 2), [] {
    under_load(4, [](int i) { gomaxprocs_on_node(i % 4, i / 4 % 4); });
    under_load(4, [](int i) { gomaxprocs(1 + i % 9); });
  });
}

TEST(a_changing_machine, takes_its_ps_along_and_loses_nothing) {
  run_on(shapes::regular(2, 4), [] {
    const std::string text = shapes::text(2, 4);
    const std::vector<numa::topology> machines{
        numa::parse_description(text + "offline 1-3"), numa::parse_description(text + "allowed 4-7"),
        numa::parse_description(text + "allowed 0"), numa::parse_description(text + "allowed 0,4,7"),
        numa::parse_description(text)};
    under_load(2, [&](int i) {
      const numa::topology& next = machines[static_cast<std::size_t>(i) % machines.size()];
      rt::follow_machine(next);
      EXPECT_EQ(wanted_cpus(), std::multiset<int>(next.cpus().begin(), next.cpus().end()));
    });
  });
}

TEST(a_changing_machine, keeps_a_number_of_ps_that_was_asked_for) {
  run_on(shapes::regular(2, 4), [] {
    gomaxprocs(3);
    rt::follow_machine(numa::parse_description(shapes::text(2, 4) + "allowed 2-3"));
    EXPECT_EQ(gomaxprocs(), 3);
    EXPECT_EQ(wanted_cpus(), (std::multiset<int>{2, 2, 3}));
    rt::follow_machine(shapes::regular(2, 4));
    EXPECT_EQ(gomaxprocs(), 3);
  });
}

TEST(a_changing_machine, follows_the_quota) {
  run_on(shapes::regular(2, 4), [] {
    rt::follow_machine(numa::parse_description(shapes::text(2, 4) + "quota 2.5"));
    EXPECT_EQ(gomaxprocs(), 3);
    EXPECT_EQ(gomaxprocs_on_node(1), 0);
    rt::follow_machine(shapes::regular(2, 4));
    EXPECT_EQ(gomaxprocs(), 8);
  });
}

TEST(a_changing_machine, without_a_node_of_the_vector_is_told) {
  testing::internal::CaptureStderr();
  run_on(
      shapes::regular(2, 4),
      [] {
        rt::follow_machine(numa::parse_description(shapes::text(2, 4) + "allowed 0-3"));
        EXPECT_EQ(gomaxprocs(), 2);
        rt::follow_machine(shapes::regular(2, 4));
        EXPECT_EQ(gomaxprocs(), 5);
      },
      "node0=2,node1=3");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "weft: node 1 has no CPUs for us any more: its 3 Ps are gone\n");
}

// -- The machine at hand ----------------------------------------------------------------------------------------------

// One goroutine on each P, all at the same time.
template <class F>
void on_every_p(F f) {
  std::atomic<int> arrived{0};
  wait_group done;
  const int ps = gomaxprocs();
  for (int i = 0; i < ps; ++i)
    done.go([&] {
      ++arrived;
      while (arrived < ps) sched_yield();
      f();
    });
  done.wait();
}

TEST(on_this_machine, every_m_runs_on_the_cpu_of_its_p) {
  run([] {
    on_every_p([] {
      cpu_set_t set;
      int p;
      do {  // on a slow machine it may be preempted between the two questions, and go on elsewhere
        p = current_p();
        ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
      } while (current_p() != p);
      const rt::cpu& c = *rt::p_at(p)->c;
      if (c.number < 0) return;
      EXPECT_EQ(CPU_COUNT(&set), 1);
      EXPECT_TRUE(CPU_ISSET(static_cast<std::size_t>(c.number), &set));
    });
  });
}

TEST(on_this_machine, ps_are_where_the_topology_says) {
  const numa::topology machine = numa::topology::discover();
  run([&] {
    EXPECT_EQ(num_cpu(), static_cast<int>(machine.cpus().size()));
    for (const numa::node& n : machine.nodes()) {
      if (machine.cpu_quota() < num_cpu() && !n.cpus.empty()) continue;
      EXPECT_EQ(gomaxprocs_on_node(n.id), static_cast<int>(n.cpus.size()));
    }
    on_every_p([&] {
      const rt::cpu& c = *rt::p_at(current_p())->c;
      EXPECT_TRUE(c.number < 0 || machine.node_of_cpu(c.number) == current_node());
    });
  });
}

TEST(on_this_machine, a_stack_lies_on_the_node_where_its_goroutine_started) {
  const numa::topology machine = numa::topology::discover();
  run([&] {
    std::atomic<int> told{0}, right{0};
    wait_group done;
    for (const numa::node& n : machine.nodes()) {
      if (n.cpus.empty()) continue;
      for (int i = 0; i < 50; ++i) {
        done.add(1);
        go({.node = n.id}, [&] {
          char here[100];
          *static_cast<volatile char*>(here) = 1;
          const int where = numa::node_of(here);
          if (where >= 0) ++told;
          if (where == machine.nearest_memory(current_node())) ++right;
          yield();
          done.done();
        });
      }
    }
    done.wait();
    EXPECT_EQ(right, told);
  });
}

TEST(on_this_machine, an_affinity_that_shrinks_and_grows_again_is_followed) {
  const numa::topology machine = numa::topology::discover();
  if (machine.cpus().size() < 2) GTEST_SKIP() << "needs two CPUs";
  run([&] {
    const auto set_all = [](const std::vector<int>& cpus) {  // as taskset --all-tasks does
      cpu_set_t set;
      CPU_ZERO(&set);
      for (int cpu : cpus) CPU_SET(static_cast<std::size_t>(cpu), &set);
      DIR* const tasks = opendir("/proc/self/task");
      while (const dirent* task = readdir(tasks))
        if (task->d_name[0] != '.') sched_setaffinity(std::atoi(task->d_name), sizeof set, &set);
      closedir(tasks);
    };
    const int before = gomaxprocs();
    const int last = machine.cpus().back();
    wait_group done;
    std::atomic<bool> stop{false};
    for (int i = 0; i < 4; ++i)
      done.go([&] {
        while (!stop) yield();
      });
    set_all({last});
    EXPECT_TRUE(eventually([&] { return gomaxprocs() == 1; }));
    EXPECT_EQ(wanted_cpus(), (std::multiset<int>{last}));
    std::vector<int> all = machine.cpus();
    set_all(all);
    EXPECT_TRUE(eventually([&] { return gomaxprocs() == before; }));
    stop = true;
    done.wait();
    EXPECT_TRUE(eventually([&] {
      set_all(all);  // again: a thread that was being made is not in the list
      std::atomic<int> astray{0};
      on_every_p([&astray] { astray += sched_getcpu() != rt::p_at(current_p())->c->number; });
      return astray == 0;
    }));
  });
}

// -- A machine of our own ---------------------------------------------------------------------------------------------

bool write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.flush();
  return file.good();
}

class in_a_vm : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::getenv("WEFT_TEST_OWN_MACHINE")) GTEST_SKIP() << "not in a virtual machine";
    if (machine_.cpus().size() < 2) GTEST_SKIP() << "needs two CPUs";
  }

  // As eventually(), where a second may take minutes: emulated CPUs on a busy machine.
  template <class F>
  static bool in_the_end(F done) {
    for (int i = 0; i < 10; ++i)
      if (eventually(done)) return true;
    return false;
  }

  // Goroutines on all Ps, while body() runs in main.
  template <class F>
  static void run_under_load(F body) {
    run([&] {
      std::atomic<bool> stop{false};
      std::atomic<int> ended{0};
      wait_group done;
      const int n = 4 * gomaxprocs();
      for (int i = 0; i < n; ++i)
        done.go([&, i] {
          while (!stop) i % 4 == 0 ? yield() : sleep_for(std::chrono::milliseconds(2));
          ++ended;
        });
      body();
      stop = true;
      done.wait();
      EXPECT_EQ(ended, n);
    });
  }

  const numa::topology machine_ = numa::topology::discover();
};

TEST_F(in_a_vm, a_cpu_that_is_switched_off_loses_its_p_and_gets_it_back) {
  const int last = *std::max_element(machine_.cpus().begin(), machine_.cpus().end());
  const std::string online = "/sys/devices/system/cpu/cpu" + std::to_string(last) + "/online";
  run_under_load([&] {
    const int before = gomaxprocs();
    for (int i = 0; i < 2; ++i) {
      ASSERT_TRUE(write_file(online, "0"));
      EXPECT_TRUE(in_the_end([&] { return gomaxprocs() == before - 1; }));
      EXPECT_EQ(wanted_cpus().count(last), 0u);
      ASSERT_TRUE(write_file(online, "1"));
      EXPECT_TRUE(in_the_end([&] { return gomaxprocs() == before; }));
    }
    EXPECT_EQ(wanted_cpus(), std::multiset<int>(machine_.cpus().begin(), machine_.cpus().end()));
  });
}

class in_a_cgroup : public in_a_vm {
 protected:
  void SetUp() override {
    in_a_vm::SetUp();
    if (IsSkipped()) return;
    for (const char* controller : {"+cpu", "+cpuset"}) write_file(kRoot + "cgroup.subtree_control", controller);
    std::filesystem::create_directory(kOurs);
    if (!write_file(kOurs + "cgroup.procs", "0")) GTEST_SKIP() << "no cgroup v2";
  }
  void TearDown() override {
    write_file(kRoot + "cgroup.procs", "0");
    std::error_code ignored;
    std::filesystem::remove(kOurs, ignored);
  }
  const std::string kRoot = "/sys/fs/cgroup/", kOurs = kRoot + "weft/";
};

TEST_F(in_a_cgroup, a_cpuset_that_shrinks_and_grows_again_is_followed) {
  const int last = *std::max_element(machine_.cpus().begin(), machine_.cpus().end());
  run_under_load([&] {
    const int before = gomaxprocs();
    for (int i = 0; i < 2; ++i) {
      ASSERT_TRUE(write_file(kOurs + "cpuset.cpus", std::to_string(last)));
      EXPECT_TRUE(in_the_end([] { return gomaxprocs() == 1; }));
      EXPECT_EQ(wanted_cpus(), (std::multiset<int>{last}));
      ASSERT_TRUE(write_file(kOurs + "cpuset.cpus", "0-" + std::to_string(last)));
      EXPECT_TRUE(in_the_end([&] { return gomaxprocs() == before; }));
    }
    on_every_p([] { EXPECT_EQ(sched_getcpu(), rt::p_at(current_p())->c->number); });
  });
}

TEST_F(in_a_cgroup, a_quota_is_followed_and_what_it_stops_is_counted) {
  run_under_load([&] {
    const int before = gomaxprocs();
    ASSERT_TRUE(write_file(kOurs + "cpu.max", "120000 100000"));
    EXPECT_TRUE(in_the_end([] { return gomaxprocs() == 2; }));
    EXPECT_TRUE(in_the_end([] { return counter("cgroup_throttled_periods") > 0; }));
    ASSERT_TRUE(write_file(kOurs + "cpu.max", "max 100000"));
    EXPECT_TRUE(in_the_end([&] { return gomaxprocs() == before; }));
  });
}

}  // namespace
