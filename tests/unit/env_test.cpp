// SPDX-License-Identifier: Apache-2.0
// What the environment and run_options say: each value that is allowed, which of the two counts, and that a malformed
// one ends the process with one line that names the variable, the value and the form it must have.
#include "runtime/env.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/stack.h"
#include "tests/child.h"
#include "tests/fixture.h"

namespace {

using namespace weft;
using namespace weft::test;
using rt::assist;

constexpr std::size_t kKi = 1024;

class settings : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"GOMAXPROCS", "WEFT_STACK_SIZE", "WEFT_KERNEL_ASSIST", "WEFT_TRACE", "WEFT_DEBUG"})
      cleared_.push_back(std::make_unique<environment>(name, ""));
  }

 private:
  std::vector<std::unique_ptr<environment>> cleared_;
};

TEST(stack_size, is_bytes_or_a_number_with_a_unit) {
  const std::pair<const char*, std::size_t> sizes[] = {{"65536", 64 * kKi},
                                                       {"16384", 16 * kKi},
                                                       {"64k", 64 * kKi},
                                                       {"64K", 64 * kKi},
                                                       {"1m", kKi * kKi},
                                                       {"1M", kKi * kKi},
                                                       {"8M", 8 * kKi * kKi},
                                                       {"1g", kKi * kKi * kKi},
                                                       {"1G", kKi * kKi * kKi},
                                                       {"16k", 16 * kKi},
                                                       {"1073741824", kKi * kKi * kKi},
                                                       {"0064k", 64 * kKi}};
  for (const auto& [text, size] : sizes) EXPECT_EQ(rt::parse_stack_size(text), size) << text;
}

TEST(stack_size, is_rounded_up_to_pages) {
  EXPECT_EQ(rt::parse_stack_size("16385"), 20 * kKi);
  EXPECT_EQ(rt::parse_stack_size("65535"), 64 * kKi);
  EXPECT_EQ(rt::parse_stack_size("65537"), 68 * kKi);
}

TEST(stack_size, is_nothing_else) {
  for (const char* text : {"",
                           "k",
                           "0",
                           "0k",
                           "16383",
                           "15k",
                           "1",
                           "1073741825",
                           "2G",
                           "1025M",
                           "99999999999999999999",
                           "18446744073709551616",
                           "17179869184G",
                           "-64k",
                           "+64k",
                           " 64k",
                           "64k ",
                           "64 k",
                           "64kb",
                           "64kk",
                           "64KiB",
                           "0x10000",
                           "1.5M",
                           "1e6",
                           "M1",
                           "64t"})
    EXPECT_EQ(rt::parse_stack_size(text), 0u) << text;
}

TEST_F(settings, are_the_defaults_where_nothing_is_said) {
  const rt::settings s = rt::read_settings({});
  EXPECT_EQ(s.ps.number, 0);
  EXPECT_TRUE(s.ps.on_nodes.empty());
  EXPECT_EQ(s.stack_size, 0u);
  EXPECT_EQ(s.tier, assist::bpf);
  EXPECT_FALSE(s.tier_by_name);
  EXPECT_TRUE(s.pin);
  EXPECT_EQ(s.debug.schedtrace_ms, 0);
  EXPECT_FALSE(s.debug.chaos);
  EXPECT_EQ(s.debug.max_ms, rt::kMaxMs);
}

TEST_F(settings, come_from_the_environment) {
  const environment procs("GOMAXPROCS", "7"), stack("WEFT_STACK_SIZE", "128k"), tier("WEFT_KERNEL_ASSIST", "off");
  const rt::settings s = rt::read_settings({});
  EXPECT_EQ(s.ps.number, 7);
  EXPECT_EQ(s.stack_size, 128 * kKi);
  EXPECT_EQ(s.tier, assist::off);
}

TEST_F(settings, of_ps_may_be_given_for_each_node) {
  using weft::numa::placement;
  EXPECT_EQ(weft::numa::parse_wish("node0=6,node1=2")->on_nodes, (placement{{0, 6}, {1, 2}}));
  EXPECT_EQ(weft::numa::parse_wish("node3=0")->on_nodes, (placement{{3, 0}}));
  EXPECT_TRUE(weft::numa::parse_wish("auto")->automatic);
  for (const char* const each : {"8", "node0=6,node1=2", "auto"})
    EXPECT_EQ(weft::numa::text_of(*weft::numa::parse_wish(each)), each);
  EXPECT_EQ(weft::numa::text_of({}), "");
  EXPECT_FALSE(weft::numa::parse_wish("automatic"));
  const environment procs("GOMAXPROCS", "node1=5");
  EXPECT_EQ(rt::read_settings({}).ps.on_nodes, (placement{{1, 5}}));
  EXPECT_EQ(rt::read_settings({}).ps.number, 0);
  run_options options;
  options.gomaxprocs_on_nodes = "node0=3";
  EXPECT_EQ(rt::read_settings(options).ps.on_nodes, (placement{{0, 3}}));
}

TEST_F(settings, of_run_options_come_first) {
  const environment procs("GOMAXPROCS", "7"), stack("WEFT_STACK_SIZE", "128k"), tier("WEFT_KERNEL_ASSIST", "off");
  run_options options;
  options.gomaxprocs = 3;
  options.stack_size = 256 * kKi;
  options.kernel_assist = "sentinel";
  const rt::settings s = rt::read_settings(options);
  EXPECT_EQ(s.ps.number, 3);
  EXPECT_EQ(s.stack_size, 256 * kKi);
  EXPECT_EQ(s.tier, assist::sentinel);
}

TEST_F(settings, of_run_options_hide_a_malformed_variable) {
  const environment procs("GOMAXPROCS", "x"), stack("WEFT_STACK_SIZE", "x"), tier("WEFT_KERNEL_ASSIST", "x");
  run_options options;
  options.gomaxprocs = 3;
  options.stack_size = 256 * kKi;
  options.kernel_assist = "off";
  EXPECT_EQ(rt::read_settings(options).ps.number, 3);
}

TEST_F(settings, reach_to_their_limits) {
  for (int n : {1, 2, 1023, rt::kMaxPs}) {
    const environment procs("GOMAXPROCS", std::to_string(n));
    EXPECT_EQ(rt::read_settings({}).ps.number, n);
  }
  for (std::size_t size : {rt::kMinStackSize, rt::kMaxStackSize}) {
    const environment stack("WEFT_STACK_SIZE", std::to_string(size));
    EXPECT_EQ(rt::read_settings({}).stack_size, size);
  }
}

TEST_F(settings, name_the_tier) {
  struct {
    const char* text;
    assist tier;
    bool by_name;
  } const tiers[] = {{"auto", assist::bpf, false},
                     {"bpf", assist::bpf, true},
                     {"sentinel", assist::sentinel, true},
                     {"off", assist::off, true},
                     {"", assist::bpf, false}};
  for (const auto& [text, tier, by_name] : tiers) {
    const environment wanted("WEFT_KERNEL_ASSIST", text);
    EXPECT_EQ(rt::read_settings({}).tier, tier) << text;
    EXPECT_EQ(rt::read_settings({}).tier_by_name, by_name) << text;
  }
}

TEST_F(settings, of_debug_are_a_list) {
  const environment debug("WEFT_DEBUG",
                          "schedtrace=1000,chaos=18446744073709551615,maxthreads=10,kernelcosts=1,filering=0,pin=1");
  const rt::settings s = rt::read_settings({});
  EXPECT_EQ(s.debug.schedtrace_ms, 1000);
  EXPECT_TRUE(s.debug.chaos);
  EXPECT_EQ(s.debug.chaos_seed, UINT64_MAX);
  EXPECT_EQ(s.debug.max_ms, 10);
  EXPECT_TRUE(s.debug.kernel_costs);
  EXPECT_FALSE(s.debug.file_ring);
  EXPECT_TRUE(s.pin);
}

TEST_F(settings, of_debug_may_stand_alone) {
  {
    const environment debug("WEFT_DEBUG", "chaos=0");
    const rt::settings s = rt::read_settings({});
    EXPECT_TRUE(s.debug.chaos);
    EXPECT_EQ(s.debug.chaos_seed, 0u);
    EXPECT_EQ(s.debug.schedtrace_ms, 0);
  }
  {
    const environment debug("WEFT_DEBUG", "schedtrace=0");
    EXPECT_EQ(rt::read_settings({}).debug.schedtrace_ms, 0);
  }
}

TEST_F(settings, of_the_flight_recorder) {
  EXPECT_EQ(rt::read_settings({}).recorder.path, "");
  {
    const environment trace("WEFT_TRACE", "file:/tmp/a");
    const rt::recorder_settings s = rt::read_settings({}).recorder;
    EXPECT_EQ(s.path, "/tmp/a");
    EXPECT_EQ(s.seconds, 5);
    EXPECT_EQ(s.histogram, "");
  }
  const environment trace("WEFT_TRACE", "file:/tmp/a,seconds=30,p99=handoff:250us");
  const rt::recorder_settings s = rt::read_settings({}).recorder;
  EXPECT_EQ(s.path, "/tmp/a");
  EXPECT_EQ(s.seconds, 30);
  EXPECT_EQ(s.histogram, "handoff");
  EXPECT_EQ(s.most_ns, 250'000u);
}

TEST_F(settings, without_pinning_have_no_sentinel) {
  {
    const environment debug("WEFT_DEBUG", "pin=0");
    const rt::settings s = rt::read_settings({});
    EXPECT_FALSE(s.pin);
    EXPECT_EQ(s.tier, assist::off);
  }
  run_options options;
  options.pin = false;
  EXPECT_EQ(rt::read_settings(options).tier, assist::off);
  // The variable cannot turn it on again.
  const environment debug("WEFT_DEBUG", "pin=1");
  EXPECT_FALSE(rt::read_settings(options).pin);
}

TEST_F(settings, say_so_where_a_sentinel_was_asked_for_that_cannot_work) {
  const auto said = [](const char* tier) {
    return in_child({{"WEFT_KERNEL_ASSIST", tier}, {"WEFT_DEBUG", "pin=0"}},
                    [] { EXPECT_EQ(rt::read_settings({}).tier, assist::off); });
  };
  const child_result by_name = said("sentinel");
  EXPECT_TRUE(by_name.exited(0)) << by_name;
  EXPECT_EQ(lines_of(by_name.err).size(), 1u) << by_name;
  EXPECT_NE(by_name.err.find("sentinel"), std::string::npos) << by_name;
  const child_result insists = said("bpf");
  EXPECT_TRUE(insists.exited(2)) << insists;
  EXPECT_EQ(insists.err, "weft: kernel assist bpf is not possible: the threads are not to be pinned\n") << insists;
  for (const char* tier : {"auto", "off"}) {
    const child_result silent = said(tier);
    EXPECT_TRUE(silent.exited(0)) << silent;
    EXPECT_EQ(silent.err, "") << silent;
  }
}

void expect_malformed(const child_result& r, const std::string& name, const std::string& value,
                      const std::string& form) {
  EXPECT_TRUE(r.exited(2)) << name << "=" << value << ": " << r;
  EXPECT_EQ(lines_of(r.err).size(), 1u) << r;
  EXPECT_TRUE(r.err.starts_with("weft: " + name + "=" + value + ": expected ")) << r;
  EXPECT_NE(r.err.find(form), std::string::npos) << r;
  EXPECT_TRUE(r.err.ends_with("\n")) << r;
  EXPECT_EQ(r.out, "") << r;
}

struct malformed {
  const char* name;
  std::vector<std::string> values;
  const char* form;  // part of what the line says
};

TEST_F(settings, that_are_malformed_end_the_process_with_one_line) {
  const malformed all[] = {
      {"GOMAXPROCS",
       {"0",
        "-1",
        "1025",
        "4x",
        "x",
        " 4",
        "4 ",
        "+4",
        "1.5",
        "0x4",
        "99999999999999999999",
        "4,5",
        "node0",
        "node0=",
        "node=1",
        "node-1=1",
        "node0=-1",
        "node0=1025",
        "node0=1000,node1=100",
        "node0=1,node0=2",
        "node0=1,",
        ",node0=1",
        "node0=1;node1=2",
        "node0=1,4",
        "Node0=1",
        "node0 = 1"},
       "node0=6,node1=2"},
      {"WEFT_STACK_SIZE", {"1k", "2G", "64kb", "big", "-64k", "16383"}, "64k"},
      {"WEFT_KERNEL_ASSIST", {"on", "Sentinel", "sentinel ", "1", "off,auto"}, "sentinel"},
      {"WEFT_TRACE",
       {"/tmp/a", "file:", "file:a", "file:/tmp/", "file:/a,x", "file:/a,seconds=0", "file:/a,seconds",
        "file:/a,p99=runq_wait", "file:/a,p99=runq_wait:5", "file:/a,p99=runq_wait:0ms", "file:/a,p99=nothing:5ms",
        "file:/a,p99=runq_wait:61s", "file:/a,,seconds=1"},
       "p99=runq_wait:5ms"},
      {"WEFT_DEBUG",
       {"x",
        "schedtrace",
        "schedtrace=",
        "schedtrace=x",
        "schedtrace=-1",
        "schedtrace=1s",
        "chaos",
        "chaos=-1",
        "chaos=x",
        "pin",
        "pin=2",
        "pin=no",
        "maxthreads=0",
        "maxthreads=10001",
        "maxthreads=x",
        "schedtrace=10,x=1",
        "schedtrace=10;pin=0",
        "schedtrace=99999999999999999999",
        "SCHEDTRACE=1",
        "=1",
        ",pin=0"},
       "schedtrace=MS"}};
  for (const malformed& variable : all)
    for (const std::string& value : variable.values)
      expect_malformed(in_child({{variable.name, value}}, [] { rt::read_settings({}); }), variable.name, value,
                       variable.form);
}

TEST_F(settings, of_run_options_that_are_malformed_are_named) {
  const auto with = [](auto change) {
    return in_child([change] {
      run_options options;
      change(options);
      rt::read_settings(options);
    });
  };
  expect_malformed(with([](run_options& o) { o.gomaxprocs = -3; }), "run_options.gomaxprocs", "-3", "1 to 1024");
  expect_malformed(with([](run_options& o) { o.gomaxprocs = 1025; }), "run_options.gomaxprocs", "1025", "1 to 1024");
  expect_malformed(with([](run_options& o) { o.gomaxprocs_on_nodes = "two"; }), "run_options.gomaxprocs_on_nodes",
                   "two", "node0=6,node1=2");
  expect_malformed(with([](run_options& o) { o.stack_size = 100; }), "run_options.stack_size", "100", "64k");
  expect_malformed(with([](run_options& o) { o.kernel_assist = "maybe"; }), "run_options.kernel_assist", "maybe",
                   "sentinel");
}

}  // namespace
