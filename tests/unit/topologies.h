// SPDX-License-Identifier: Apache-2.0
// Machines that are not there, as text (see numa/description.h): the shapes on which every placement policy is tested.
#pragma once

#include <string>

#include "numa/description.h"

namespace weft::numa::shapes {

// `nodes` nodes of `cores` cores with `threads` SMT siblings each, numbered as Linux does on most machines: all cores
// of all nodes first, then their siblings. Nodes stand on a line, 6 further apart with each step.
inline std::string text(int nodes, int cores, int threads = 1) {
  std::string all;
  const auto id = [&](int node, int core, int thread) { return (thread * nodes + node) * cores + core; };
  for (int node = 0; node < nodes; ++node) {
    all += "node " + std::to_string(node) + " cpus ";
    for (int thread = 0; thread < threads; ++thread)
      all +=
          (thread ? "," : "") + std::to_string(id(node, 0, thread)) + "-" + std::to_string(id(node, cores - 1, thread));
    all += " memory 16G\n";
  }
  for (int a = 0; a < nodes; ++a)
    for (int b = a + 1; b < nodes; ++b)
      all += "distance " + std::to_string(a) + " " + std::to_string(b) + " " + std::to_string(10 + 6 * (b - a)) + "\n";
  if (threads == 1) return all;
  for (int node = 0; node < nodes; ++node)
    for (int core = 0; core < cores; ++core) {
      all += "core " + std::to_string(id(node, core, 0));
      for (int thread = 1; thread < threads; ++thread) all += "," + std::to_string(id(node, core, thread));
      all += "\n";
    }
  return all;
}

inline topology regular(int nodes, int cores, int threads = 1) {
  return parse_description(text(nodes, cores, threads));
}

inline constexpr const char* kCpuless = "node 0 cpus 0-3 memory 8G\nnode 1 memory 4G\ndistance 0 1 40\n";
inline constexpr const char* kMemless = "node 0 cpus 0-1 memory 8G\nnode 1 cpus 2-3\ndistance 0 1 21\n";
inline constexpr const char* kCcx =
    "node 0 cpus 0-7 memory 8G\ncache 0-3\ncache 4-7\ncore 0-1\ncore 2-3\ncore 4-5\ncore 6-7\n";
inline constexpr const char* kOffline =
    "node 0 cpus 0-3 memory 8G\nnode 1 cpus 4-7 memory 8G\ndistance 0 1 21\noffline 1,4-6\n";

}  // namespace weft::numa::shapes
