// SPDX-License-Identifier: Apache-2.0
// What the simulated programs do, each balanced over the nodes and from one node alone. All compute for some tens of
// microseconds at a time, and have somewhat more to do than there are Ps.
#include "tests/sim/simulation.h"

namespace weft::sim {
namespace {

// Independent tasks: a request comes from outside, is answered, and its connection waits for the next one.
class server : public workload {
 public:
  explicit server(bool one_node) : one_node_(one_node) {}

  void begin(simulation& world) override {
    const int nodes = world.wanted().nodes;
    for (int i = 0; i < kConnectionsPerP * world.ps(); ++i) {
      const int home = one_node_ ? 0 : i % nodes;
      // Balanced, each has its memory where its first request is answered.
      world.ready_later(world.make(0, home, one_node_ ? 0 : -1), world.random_time(kThink));
    }
  }
  ns compute(simulation& world, task&) override { return world.random_time(kAnswer); }
  bool done(simulation& world, task& t) override {
    world.count_unit();
    if (!world.closing()) world.ready_later(t, world.random_time(kThink));
    return false;
  }

 private:
  static constexpr int kConnectionsPerP = 6;
  static constexpr ns kAnswer = 20'000, kThink = 60'000;
  const bool one_node_;
};

// Fork-join: a root starts a burst of children, which work on its memory, waits for all of them, and begins anew.
class fork_join : public workload {
 public:
  explicit fork_join(bool one_node) : one_node_(one_node) {}

  void begin(simulation& world) override {
    const int roots = one_node_ ? 1 : world.wanted().nodes;
    for (int i = 0; i < roots; ++i) {
      pending_.push_back(0);
      roots_.push_back(&world.make(i, i, i));
      children_.emplace_back();
      for (int child = 0; child < kChildrenPerP * world.ps() / roots; ++child)
        children_.back().push_back(&world.make(roots + i, i, i));
      world.started();
      world.ready(*roots_.back());
    }
  }
  ns compute(simulation& world, task& t) override { return is_root(t) ? kRoot : world.random_time(kChild); }
  bool done(simulation& world, task& t) override {
    if (!is_root(t)) {
      const auto i = static_cast<std::size_t>(t.role) - roots_.size();
      world.count_unit();
      if (--pending_[i] == 0) world.ready(*roots_[i]);
      return false;
    }
    if (world.closing()) return false;
    const auto i = static_cast<std::size_t>(t.role);
    for (task* const child : children_[i]) {
      ++pending_[i];
      world.started();
      child->home = t.home;
      world.ready(*child);
    }
    return false;
  }

 private:
  bool is_root(const task& t) const { return static_cast<std::size_t>(t.role) < roots_.size(); }

  static constexpr int kChildrenPerP = 16;
  static constexpr ns kRoot = 2000, kChild = 20'000;
  const bool one_node_;
  std::vector<task*> roots_;
  std::vector<std::vector<task*>> children_;
  std::vector<int> pending_;
};

// Producers and consumers in pairs over a buffered channel: both on one node, or the consumer on the next one.
class pipeline : public workload {
 public:
  explicit pipeline(bool across) : across_(across) {}

  void begin(simulation& world) override {
    const int nodes = world.wanted().nodes;
    for (int i = 0; i < kPairsPerP * world.ps(); ++i) {
      const int node = i % nodes, there = across_ ? (node + 1) % nodes : node;
      pairs_.push_back({&world.make(2 * i, node, node), &world.make(2 * i + 1, there, there)});
      world.started();
      world.ready(*pairs_.back().producer);
    }
  }
  ns compute(simulation& world, task&) override { return world.random_time(kWork); }
  bool done(simulation& world, task& t) override {
    pair& mine = pairs_[static_cast<std::size_t>(t.role / 2)];
    return t.role % 2 == 0 ? send(world, mine) : received(world, mine);
  }

 private:
  struct pair {
    task* producer;
    task* consumer;
    int buffered = 0;
    bool full = false, empty = true;  // somebody is parked for that
  };

  static bool send(simulation& world, pair& mine) {
    if (world.closing()) return false;
    ++mine.buffered;
    if (mine.empty) {
      mine.empty = false;
      world.ready(*mine.consumer);
    }
    mine.full = mine.buffered == kBuffer;
    return !mine.full;
  }
  static bool received(simulation& world, pair& mine) {
    world.count_unit();
    --mine.buffered;
    if (mine.full) {
      mine.full = false;
      world.ready(*mine.producer);
    }
    mine.empty = mine.buffered == 0;
    return !mine.empty;
  }

  static constexpr int kPairsPerP = 2, kBuffer = 8;
  static constexpr ns kWork = 10'000;
  const bool across_;
  std::vector<pair> pairs_;
};

}  // namespace

const std::vector<std::string>& workload_names() {
  static const std::vector<std::string> names = {"server",   "server_one_node", "fork_join", "fork_join_one_node",
                                                 "pipeline", "pipeline_across"};
  return names;
}

std::unique_ptr<workload> make_workload(std::string_view name) {
  if (name == "server" || name == "server_one_node") return std::make_unique<server>(name != "server");
  if (name == "fork_join" || name == "fork_join_one_node") return std::make_unique<fork_join>(name != "fork_join");
  if (name == "pipeline" || name == "pipeline_across") return std::make_unique<pipeline>(name != "pipeline");
  return nullptr;
}

}  // namespace weft::sim
