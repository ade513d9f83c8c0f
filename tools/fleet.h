// SPDX-License-Identifier: Apache-2.0
// What Prometheus knows of all weft programs that it watches, and what that says about their numbers of Ps. Nothing is
// tried: it is the judgement that GOMAXPROCS=auto begins with, on the means of the last minutes.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tools/prometheus.h"

namespace weft::tools {

enum class advice { fits, more, fewer };

/// A NUMA node of a program.
struct fleet_node {
  std::string job, instance;
  int node = 0, ps = 0;
  double busy = 0;         ///< share of the Ps that had work
  double gs_waiting = 0;   ///< goroutines that could run and had no P, on average
  double ms_waiting = -1;  ///< threads that could run and had no CPU, the whole program's; -1: it has no probes
  double runq_p99 = 0;     ///< seconds
  double far_steals = -1;  ///< share of its steals that crossed a node; -1: it had none
  advice what = advice::fits;
};

/// By job, instance and node. Throws std::runtime_error of one line, also where the rules of weft-rules.yml are not
/// loaded.
std::vector<fleet_node> read_fleet(const prometheus_server& from);

/// What follows from the rest of it.
advice advice_for(const fleet_node& seen);

/// Seconds, as the tables of `weft tune` show them.
std::string time_text(double s);
std::string table_of(const std::vector<fleet_node>& fleet);
nlohmann::ordered_json json_of(const std::vector<fleet_node>& fleet);

}  // namespace weft::tools
