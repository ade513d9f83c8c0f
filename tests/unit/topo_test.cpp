// SPDX-License-Identifier: Apache-2.0
// `weft topo`: the drawing and the JSON of described machines, and the command line.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/child.h"
#include "tests/unit/topologies.h"
#include "tools/topo_command.h"

namespace {

using namespace weft;
using nlohmann::json;
using weft::test::child_result;
using weft::test::in_child;
namespace shapes = numa::shapes;

std::string drawn(const std::string& machine, const char* ps = nullptr) {
  return tools::draw_topology(numa::parse_description(machine), ps ? *numa::parse_wish(ps) : numa::ps_wish{});
}

TEST(topo_drawing, shows_nodes_caches_cores_distances_and_ps) {
  EXPECT_EQ(drawn("node 0 cpus 0-1,4-5 memory 16G\nnode 1 cpus 2-3 memory 512M\nnode 2 memory 3G\ndistance 0 1 21\n"
                  "distance 0 2 255\ncore 0,4\ncore 1,5\ncache 0,4\ncache 1,5\noffline 3\nquota 3.5"),
            "node 0: 4 CPUs, 16 GiB, 3 Ps\n"
            "  cache of CPUs 0,4\n"
            "    core 0: P 0          4: P 3\n"
            "  cache of CPUs 1,5\n"
            "    core 1: P 2          5: -\n"
            "node 1: 1 CPU, 512 MiB, 1 P\n"
            "  cache of CPUs 2\n"
            "    CPU  2: P 1\n"
            "node 2: 0 CPUs, 3.0 GiB, 0 Ps\n"
            "\n"
            "Distances      0    1    2\n"
            "        0     10   21    ?\n"
            "        1     21   10   20\n"
            "        2      ?   20   10\n"
            "\n"
            "CPUs switched off: 3\n"
            "CPU quota: 3.5 CPUs\n"
            "4 Ps: GOMAXPROCS=node0=3,node1=1\n");
}

TEST(topo_drawing, places_the_ps_that_are_asked_for) {
  EXPECT_NE(drawn(shapes::text(2, 2), "node0=3,node1=0").find("    CPU  0: P 0, P 2\n    CPU  1: P 1\n"),
            std::string::npos);
  EXPECT_NE(drawn(shapes::text(2, 2), "node0=3,node1=0").find("    CPU  2: -\n"), std::string::npos);
  EXPECT_NE(drawn(shapes::text(2, 2), "3").find("3 Ps: GOMAXPROCS=node0=2,node1=1\n"), std::string::npos);
}

TEST(topo_json, tells_the_same) {
  const json told =
      json::parse(tools::json_of(numa::parse_description(shapes::kMemless), *numa::parse_wish("node1=1")));
  EXPECT_EQ(told["nodes"].size(), 2u);
  EXPECT_EQ(told["nodes"][1]["cpus"], (std::vector<int>{2, 3}));
  EXPECT_EQ(told["nodes"][1]["memory"], 0);
  EXPECT_EQ(told["nodes"][1]["distances"]["0"], 21);
  EXPECT_EQ(told["nodes"][1]["ps"], 1);
  EXPECT_EQ(told["cpus"].size(), 4u);
  EXPECT_EQ(told["cpus"][0]["ps"], (std::vector<int>{0}));
  EXPECT_EQ(told["offline"], json::array());
  EXPECT_TRUE(told["quota"].is_null());
  EXPECT_EQ(told["ps"], 3);
  EXPECT_EQ(told["gomaxprocs"], "node0=2,node1=1");
}

child_result topo(std::vector<std::string> arguments, const weft::test::variables& environment = {}) {
  return in_child(environment, [&] {
    arguments.insert(arguments.begin(), "topo");
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    return tools::topo_command(static_cast<int>(argv.size()), argv.data());
  });
}

class topo_file : public testing::Test {
 protected:
  topo_file() : path_(std::filesystem::temp_directory_path() / ("weft-topo-" + std::to_string(getpid()))) {}
  ~topo_file() override { std::filesystem::remove(path_); }
  std::string write(const std::string& text) {
    std::ofstream(path_) << text;
    return path_;
  }
  const std::filesystem::path path_;
};

TEST_F(topo_file, is_drawn_instead_of_this_machine) {
  const child_result r = topo({"--file", write(shapes::kMemless)});
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.out, drawn(shapes::kMemless));
}

TEST_F(topo_file, that_is_false_is_named_with_the_line) {
  const std::string path = write("node 0 cpus 0-3\ncore 9\n");
  const child_result r = topo({"--file", path});
  EXPECT_TRUE(r.exited(2)) << r;
  EXPECT_EQ(r.err,
            "weft topo: " + path + ": line 2: CPU 9: expected a CPU of a node line above (see 'weft topo --help')\n");
  EXPECT_TRUE(topo({"--file", write("")}).exited(2));
}

TEST_F(topo_file, that_cannot_be_read_is_named) {
  for (const char* path : {"/nonexistent/file", "/tmp"}) {
    const child_result r = topo({"--file", path});
    EXPECT_TRUE(r.exited(1)) << r;
    EXPECT_TRUE(r.err.starts_with("weft topo: " + std::string(path) + ": ")) << r;
  }
}

TEST_F(topo_file, is_what_describe_prints) {
  const std::string text = topo({"--describe", "--file", write(shapes::kCcx)}).out;
  EXPECT_EQ(topo({"--describe", "--file", write(text)}).out, text);
}

TEST(topo_command, takes_the_number_of_ps_from_the_environment_or_the_command_line) {
  EXPECT_NE(topo({}, {{"GOMAXPROCS", "5"}}).out.find("\n5 Ps: "), std::string::npos);
  EXPECT_NE(topo({"--gomaxprocs", "6"}, {{"GOMAXPROCS", "5"}}).out.find("\n6 Ps: "), std::string::npos);
  const child_result r = topo({"--gomaxprocs", "node0"});
  EXPECT_TRUE(r.exited(2)) << r;
  EXPECT_TRUE(r.err.starts_with("weft topo: GOMAXPROCS=node0: expected ")) << r;
  EXPECT_TRUE(topo({"--json", "--describe"}).exited(2));
  EXPECT_TRUE(topo({"--help"}).exited(0));
}

TEST(topo_command, draws_this_machine) {
  const child_result r = topo({});
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "");
  EXPECT_TRUE(r.out.starts_with("node ")) << r;
  EXPECT_NO_THROW(json::parse(topo({"--json"}).out));
}

}  // namespace
