// SPDX-License-Identifier: Apache-2.0
// The forms in which a profile is told, and the manifest that has a cluster make them. run_tests.py starts tests in the
// repository's root.
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <string>

#include <nlohmann/json.hpp>

#include "tests/child.h"
#include "tests/command.h"
#include "tools/flame_graph.h"
#include "tools/profile.h"

namespace {

using namespace weft::tools;
using nlohmann::json;
using weft::test::count_of;

profile on_cpu() {
  profile made;
  made.seconds = 2;
  made.hz = 99;
  made.processes = {{7, "server"}};
  made.stacks = {{7, {"main", "serve", "parse"}, "", 60}, {7, {"main", "serve"}, "", 30}, {7, {"idle"}, "", 10}};
  return made;
}

profile off_cpu() {
  profile made;
  made.what = profile::kind::off_cpu;
  made.seconds = 2;
  made.processes = {{7, "server"}, {8, "server"}};
  made.stacks = {{8, {"main", "load"}, "read", 1'500'000}, {7, {"main"}, "page fault", 500}};
  return made;
}

TEST(profile, folds_stacks) {
  EXPECT_EQ(folded(on_cpu()), "server;main;serve;parse 60\nserver;main;serve 30\nserver;idle 10\n");
}

TEST(profile, folds_the_reason_as_the_innermost_frame_and_tells_processes_apart) {
  EXPECT_EQ(folded(off_cpu()), "server (8);main;load;[read] 1500000\nserver (7);main;[page fault] 500\n");
}

TEST(profile, keeps_the_separators_out_of_names) {
  profile made = on_cpu();
  made.stacks = {{7, {"a;b\nc d"}, "", 1}};
  EXPECT_EQ(folded(made), "server;a:b:c d 1\n");
}

TEST(profile, is_told_as_json) {
  const json samples = json::parse(json_of(on_cpu()));
  EXPECT_EQ(samples, json::parse(R"({"kind": "on-CPU", "seconds": 2.0, "hz": 99, "lost": 0,
    "processes": [{"pid": 7, "program": "server"}],
    "stacks": [{"pid": 7, "frames": ["main", "serve", "parse"], "reason": null, "samples": 60},
               {"pid": 7, "frames": ["main", "serve"], "reason": null, "samples": 30},
               {"pid": 7, "frames": ["idle"], "reason": null, "samples": 10}]})"));
  const json times = json::parse(json_of(off_cpu()));
  EXPECT_EQ(times["kind"], "off-CPU");
  EXPECT_EQ(times["hz"], nullptr);
  EXPECT_EQ(times["stacks"][0], json::parse(R"({"pid": 8, "frames": ["main", "load"], "reason": "read",
    "microseconds": 1500000})"));
}

TEST(profile, is_told_as_a_table) {
  EXPECT_EQ(table(on_cpu(), {}),
            "server (7), 2 s: on-CPU, 100 samples\n"
            "\n"
            "    self   total                    function\n"
            "  60.0 %  60.0 %  **********        parse\n"
            "  30.0 %  90.0 %  *****             serve\n"
            "  10.0 %  10.0 %  **                idle\n"
            "   0.0 %  90.0 %                    main\n"
            "\n"
            "  60.0 %  60 samples\n"
            "          parse\n"
            "          serve\n"
            "          main\n"
            "\n"
            "  30.0 %  30 samples\n"
            "          serve\n"
            "          main\n"
            "\n"
            "  10.0 %  10 samples\n"
            "          idle\n");
}

TEST(profile, counts_a_function_that_calls_itself_once) {
  profile made = on_cpu();
  made.stacks = {{7, {"f", "g", "f"}, "", 4}};
  EXPECT_NE(table(made, {}).find(" 100.0 % 100.0 %  ****************  f\n"), std::string::npos) << table(made, {});
}

TEST(profile, tells_times_and_reasons_in_the_table) {
  const std::string text = table(off_cpu(), {});
  EXPECT_TRUE(text.starts_with("server (7), server (8), 2 s: off-CPU, 1.50 s\n") ||
              text.starts_with("server (8), server (7), 2 s: off-CPU, 1.50 s\n"))
      << text;
  EXPECT_NE(text.find("\n 100.0 %  1.50 s [read], process 8\n"), std::string::npos) << text;
}

TEST(profile, says_what_was_lost) {
  profile made = on_cpu();
  made.lost = 5;
  EXPECT_TRUE(table(made, {}).starts_with("server (7), 2 s: on-CPU, 100 samples, 5 more samples lost\n"));
  EXPECT_NE(flame_graph(made).find("5 more lost"), std::string::npos);
}

// Every tag that is opened is closed, in order.
void expect_nested(const std::string& xml) {
  static const std::regex tag(R"(<(/?)([a-z]+)[^<>]*?(/?)>)");
  std::string text = xml.substr(xml.find("?>") + 2);
  const std::size_t script = text.find("<![CDATA["), end = text.find("]]>");
  ASSERT_LT(script, end);
  text.erase(script, end + 3 - script);
  std::vector<std::string> open;
  for (std::sregex_iterator at(text.begin(), text.end(), tag), none; at != none; ++at) {
    const std::smatch& found = *at;
    if (found.length(3) != 0) continue;
    if (found.length(1) == 0) {
      open.push_back(found[2]);
      continue;
    }
    ASSERT_FALSE(open.empty());
    EXPECT_EQ(open.back(), found[2]);
    open.pop_back();
  }
  EXPECT_TRUE(open.empty());
}

TEST(flame_graph, has_a_frame_for_each_function_in_its_place) {
  const std::string drawn = flame_graph(on_cpu());
  expect_nested(drawn);
  EXPECT_EQ(count_of("<g class=\"f\">", drawn), 5) << drawn;
  EXPECT_NE(drawn.find("<title>serve (90 samples, 90.00 %)</title>"), std::string::npos) << drawn;
  EXPECT_NE(drawn.find("<title>server (100 samples, 100.00 %)</title>"), std::string::npos) << drawn;
}

TEST(flame_graph, is_the_same_for_the_same_profile) { EXPECT_EQ(flame_graph(on_cpu()), flame_graph(on_cpu())); }

TEST(flame_graph, needs_no_other_file) {
  const std::string drawn = flame_graph(off_cpu());
  EXPECT_EQ(count_of("http", drawn), 1) << "the namespace only";
  EXPECT_EQ(count_of("href", drawn), 0);
}

TEST(flame_graph, escapes_names) {
  profile made = on_cpu();
  made.processes[0].program = "<a&\"\x01\xff>";
  made.stacks = {{7, {"f<g&>"}, "", 1}};
  const std::string drawn = flame_graph(made);
  expect_nested(drawn);
  EXPECT_NE(drawn.find("<title>f&lt;g&amp;&gt; (1 sample, 100.00 %)</title>"), std::string::npos) << drawn;
  EXPECT_NE(drawn.find("<title>&lt;a&amp;&quot;??&gt; ("), std::string::npos) << drawn;
}

TEST(flame_graph, leaves_out_what_is_too_narrow_to_be_seen) {
  profile made = on_cpu();
  made.stacks = {{7, {"wide"}, "", 1'000'000}, {7, {"narrow", "deep", "deeper"}, "", 1}};
  const std::string drawn = flame_graph(made);
  EXPECT_EQ(count_of("<g class=\"f\">", drawn), 2) << drawn;
  EXPECT_EQ(count_of("narrow", drawn), 0);
}

TEST(flame_graph, of_nothing_says_so) {
  profile made = on_cpu();
  made.stacks.clear();
  expect_nested(flame_graph(made));
  EXPECT_NE(flame_graph(made).find("nothing was seen"), std::string::npos);
}

TEST(flame_graph, has_a_script_that_can_be_parsed) {
  if (!weft::test::has_program("node")) GTEST_SKIP() << "no node";
  const std::string drawn = flame_graph(on_cpu());
  const std::size_t begin = drawn.find("<![CDATA[") + 9;
  const weft::test::folder here;
  std::ofstream(here.file("script.js")) << drawn.substr(begin, drawn.find("]]>") - begin);
  const weft::test::child_result r = weft::test::in_child([&] {
    weft::test::exec({"node", "--check", here.file("script.js")});
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(profile_daemonset, is_a_manifest_without_more_privilege_than_it_needs) {
  const weft::test::child_result r = weft::test::in_child([] {
    weft::test::exec({"python3", "-c", R"py(
import sys
try:
    import yaml
except ImportError:
    sys.exit(77)
made = yaml.safe_load(open('tools/weft-profile-daemonset.yml'))
assert made['apiVersion'] == 'apps/v1' and made['kind'] == 'DaemonSet'
template = made['spec']['template']
assert template['metadata']['labels'] == made['spec']['selector']['matchLabels']
pod = template['spec']
assert pod['hostPID'] is True
[container] = pod['containers']
security = container['securityContext']
assert security['privileged'] is False
assert security['capabilities'] == {'drop': ['ALL'], 'add': ['BPF', 'PERFMON', 'SYS_PTRACE', 'DAC_OVERRIDE']}
assert {m['name'] for m in container['volumeMounts']} == {v['name'] for v in pod['volumes']}
)py"});
  });
  if (r.exited(77)) GTEST_SKIP() << "no python3-yaml";
  EXPECT_TRUE(r.exited(0)) << r;
}

}  // namespace
