// SPDX-License-Identifier: Apache-2.0
// Sockets on several NUMA nodes: each file is with the poller of its goroutine's node, and nobody's are forgotten,
// whichever Ps compute, idle, or are not there. On machines that are described, and on the one at hand.
// The poller is opened once for a process, for the nodes that there are then: so each machine has a process.
#include <weft/net.h>
#include <weft/numa.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "runtime/netpoll.h"
#include "tests/child.h"
#include "tests/described_machine.h"
#include "tests/fixture.h"
#include "tests/sockets.h"
#include "tests/unit/topologies.h"

namespace {

using namespace weft;
using namespace weft::test;
namespace shapes = numa::shapes;

// The files in each epoll instance of this process.
std::map<int, std::set<int>> polled_files() {
  std::map<int, std::set<int>> found;
  for (const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(each.path(), gone) != "anon_inode:[eventpoll]") continue;
    const int epoll = std::stoi(each.path().filename());
    std::ifstream info("/proc/self/fdinfo/" + std::to_string(epoll));
    std::set<int>& files = found[epoll];
    for (std::string word; info >> word;)
      if (int fd; word == "tfd:" && info >> fd) files.insert(fd);
  }
  return found;
}

// One that answers on a node whatever a client anywhere says.
struct echo_on_node {
  tcp_pair pair = connected();
  std::atomic<int> began_on{-1};  // another node may have fetched it before

  void start(int node, wait_group& done) {
    done.add(1);
    go({.node = node}, [this, &done] {
      began_on = current_node();
      std::array<std::byte, 64> buffer;
      std::error_code error;
      while (const std::size_t n = pair.server.read_some(buffer, error))
        pair.server.write_all({buffer.data(), n}, error);
      done.done();
    });
  }
  void ask() {
    pair.client.write_all(bytes("x"));
    EXPECT_EQ(read_text(pair.client, 1), "x");
  }
};

// One on each node; all wait now.
void start_all(std::vector<echo_on_node>& servers, wait_group& done) {
  for (int node = 0; node < num_node(); ++node) servers[static_cast<std::size_t>(node)].start(node, done);
  ASSERT_TRUE(eventually_parked(wait_reason::io_wait, 0, num_node()));
}

void end_all(std::vector<echo_on_node>& servers, wait_group& done) {
  for (echo_on_node& each : servers) each.pair.client.close();
  done.wait();
}

class net_nodes : public testing::TestWithParam<int> {
 protected:
  // A process with as many nodes of two CPUs, or with this machine's (0).
  template <class F>
  void on_machine(F body) {
    const child_result r = in_child([body] {
      std::optional<described_machine> described;
      if (GetParam() != 0) described.emplace(shapes::regular(GetParam(), 2));
      run([body] {
        body();
        EXPECT_TRUE(eventually([] { return rt::poll_waiters() == 0; })) << rt::poll_waiters();
      });
    });
    EXPECT_TRUE(r.exited(0)) << r;
  }
  // All nodes' servers, and what is to be done with them.
  template <class F>
  void with_servers(F body) {
    on_machine([body] {
      std::vector<echo_on_node> servers(static_cast<std::size_t>(num_node()));
      wait_group done;
      start_all(servers, done);
      body(servers);
      end_all(servers, done);
    });
  }
};

INSTANTIATE_TEST_SUITE_P(, net_nodes, testing::Values(0, 2, 4), [](const auto& info) {
  return info.param == 0 ? std::string("own") : "described" + std::to_string(info.param);
});

TEST_P(net_nodes, files_are_with_their_goroutine_s_node) {
  on_machine([] {
    std::vector<echo_on_node> servers(static_cast<std::size_t>(num_node()));
    const auto before = polled_files();
    EXPECT_EQ(before.size(), servers.size());
    wait_group done;
    start_all(servers, done);
    std::multiset<std::size_t> came, expected;
    for (const auto& [epoll, files] : polled_files()) came.insert(files.size() - before.at(epoll).size());
    for (int node = 0; node < num_node(); ++node)
      expected.insert(static_cast<std::size_t>(std::count_if(
          servers.begin(), servers.end(), [node](const echo_on_node& each) { return each.began_on == node; })));
    EXPECT_EQ(came, expected);
    for (echo_on_node& each : servers) each.ask();
    end_all(servers, done);
  });
}

TEST_P(net_nodes, are_served_while_a_node_computes) {
  with_servers([](std::vector<echo_on_node>& servers) {
    for (int busy = 0; busy < num_node(); ++busy) {
      std::atomic<bool> stop{false};
      wait_group computing;
      for (int i = 0; i < gomaxprocs_on_node(busy); ++i) {
        computing.add(1);
        go({.node = busy}, [&] {
          while (!stop) {
          }
          computing.done();
        });
      }
      for (echo_on_node& each : servers) each.ask();
      stop = true;
      computing.wait();
    }
  });
}

TEST_P(net_nodes, are_served_while_all_others_yield) {
  with_servers([](std::vector<echo_on_node>& servers) {
    std::atomic<bool> stop{false};
    wait_group busy;
    for (int node = 0; node < num_node(); ++node)
      for (int i = 0; i < 2 * gomaxprocs_on_node(node); ++i) {
        busy.add(1);
        go({.node = node}, [&] {
          while (!stop) yield();
          busy.done();
        });
      }
    for (int i = 0; i < scaled(20); ++i)
      for (echo_on_node& each : servers) each.ask();
    stop = true;
    busy.wait();
  });
}

TEST_P(net_nodes, of_a_node_that_loses_its_ps_are_served_by_others) {
  with_servers([](std::vector<echo_on_node>& servers) {
    std::vector<int> ps;
    for (int node = 0; node < num_node(); ++node) ps.push_back(gomaxprocs_on_node(node));
    for (int alone = 0; alone < num_node(); ++alone) {
      gomaxprocs_on_node(alone, ps[static_cast<std::size_t>(alone)]);
      for (int node = 0; node < num_node(); ++node)
        if (node != alone) gomaxprocs_on_node(node, 0);
      for (int i = 0; i < scaled(20); ++i)
        for (echo_on_node& each : servers) each.ask();
    }
  });
}

// Readers and writers of the same files on different nodes, which register them at the same time.
TEST_P(net_nodes, both_directions_of_a_file_are_in_one_place) {
  on_machine([] {
    for (int i = 0; i < scaled(50); ++i) {
      const auto pair = std::make_shared<tcp_pair>(connected());
      const std::string text(1 << 20, 'x');
      wait_group done;
      for (tcp_conn* const end : {&pair->client, &pair->server}) {
        done.add(2);
        go({.node = i % num_node()}, [&, end] {
          end->write_all(bytes(text));
          done.done();
        });
        go({.node = (i + 1) % num_node()}, [&, end] {
          EXPECT_TRUE(read_text(*end, text.size()) == text);
          done.done();
        });
      }
      done.wait();
      std::size_t files = 0;
      for (const auto& [epoll, in_it] : polled_files()) files += in_it.size();
      EXPECT_LE(files, 3u);
      pair->client.close();
      pair->server.close();
    }
    EXPECT_FALSE(rt::netpoll.active());
  });
}

}  // namespace
