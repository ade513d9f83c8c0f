// SPDX-License-Identifier: Apache-2.0
// Simulates weft's policy beside Go's on machines of several shapes; a line of JSON for each run (see run.py).
#include <cstdio>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "tests/sim/simulation.h"

namespace {

using namespace weft::sim;

void print(const setup& s, const result& r) {
  const nlohmann::ordered_json line = {{"work", s.work},
                                       {"nodes", s.nodes},
                                       {"ps_per_node", s.ps_per_node},
                                       {"remote", s.remote},
                                       {"policy", s.policy},
                                       {"seed", s.seed},
                                       {"throughput", r.throughput},
                                       {"home_share", r.home_share},
                                       {"idle_beside_work", r.idle_beside_work},
                                       {"wait_p50", r.wait_p50},
                                       {"wait_p99", r.wait_p99},
                                       {"runs", r.runs},
                                       {"steals", r.steals},
                                       {"far_steals", r.far_steals},
                                       {"lost", r.lost}};
  fmt::print("{}\n", line.dump());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<int> nodes{1, 2, 4, 8, 16};
  std::vector<double> remotes{1.5, 2, 3};
  std::vector<std::string> works = workload_names();
  int rounds = 3, milliseconds = 20;
  setup s;
  CLI::App app("Simulates weft's scheduling policy and Go's on machines of several NUMA nodes", "sim");
  app.add_option("--nodes", nodes, "Numbers of nodes")->delimiter(',')->check(CLI::Range(1, 64));
  app.add_option("--ps", s.ps_per_node, "Ps on each node")->check(CLI::Range(1, 16));
  app.add_option("--remote", remotes, "What computing far from one's memory costs")
      ->delimiter(',')
      ->check(CLI::Range(1.1, 25.0));
  app.add_option("--work", works, "Workloads")->delimiter(',')->check(CLI::IsMember(workload_names()));
  app.add_option("--rounds", rounds, "Runs of each, with seeds of their own")->check(CLI::Range(1, 1000));
  app.add_option("--seed", s.seed, "Of the first round");
  app.add_option("--ms", milliseconds, "Simulated time of a run")->check(CLI::Range(1, 10'000));
  CLI11_PARSE(app, argc, argv);
  s.duration = ns{milliseconds} * 1'000'000;
  const std::uint64_t first_seed = s.seed;
  for (const std::string& work : works)
    for (const int n : nodes)
      for (const double remote : n > 1 ? remotes : std::vector<double>{remotes.front()})
        for (int round = 0; round < rounds; ++round)
          for (const char* const policy : {"weft", "go"}) {
            s.work = work;
            s.nodes = n;
            s.remote = remote;
            s.seed = first_seed + static_cast<std::uint64_t>(round);
            s.policy = policy;
            print(s, simulate(s));
          }
}
