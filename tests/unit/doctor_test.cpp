// SPDX-License-Identifier: Apache-2.0
// `weft doctor`: the tier that follows from what was found, how it is shown, and the whole on this machine, with and
// without privilege, in a sandbox, and where /proc and /sys are missing.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "bpf/probes.h"
#include "tests/child.h"
#include "tests/unprivileged.h"
#include "tools/doctor.h"
#include "tools/doctor_command.h"

namespace {

using namespace weft::tools;
using nlohmann::json;
using weft::test::child_result;
using weft::test::in_child;
using weft::test::variables;
using arguments = std::vector<std::string>;

constexpr std::size_t kColumns = 100;

// -- The tier ---------------------------------------------------------------------------------------------------------

// All that a tier depends on, as it has to be for the best one.
std::vector<check> all_well() {
  std::vector<check> checks;
  for (const char* name : {"environment", "kernel", "BTF", "capabilities", "probes", "pinning", "sched_idle"})
    checks.push_back({.name = name, .state = check_state::yes});
  return checks;
}

std::vector<check> all_well_but(const std::string& name, check_state state = check_state::no) {
  std::vector<check> checks = all_well();
  for (check& c : checks)
    if (c.name == name) {
      c.state = state;
      c.advice = "see to " + name;
    }
  return checks;
}

TEST(doctor_tier, is_bpf_where_probes_load_and_threads_can_be_pinned) {
  EXPECT_EQ(tier_of(all_well()), tier::bpf);
  EXPECT_EQ(tier_of(all_well_but("capabilities")), tier::bpf) << "the probes may have been handed over";
  EXPECT_EQ(tier_of(all_well_but("BTF", check_state::unknown)), tier::bpf);
}

TEST(doctor_tier, is_sentinel_without_probes) {
  EXPECT_EQ(tier_of(all_well_but("probes")), tier::sentinel);
  EXPECT_EQ(tier_of(all_well_but("probes", check_state::unknown)), tier::sentinel);
}

TEST(doctor_tier, is_off_where_sentinels_are_all_that_is_left_and_cannot_work) {
  EXPECT_EQ(tier_of(all_well_but("pinning")), tier::off);
  std::vector<check> checks = all_well_but("probes");
  checks.back().state = check_state::no;
  EXPECT_EQ(tier_of(checks), tier::off);
  EXPECT_EQ(tier_of({}), tier::off);
}

TEST(doctor_tier, is_no_better_than_the_environment_wants_it) {
  EXPECT_EQ(tier_of(all_well_but("environment", check_state::partly)), tier::sentinel);
  EXPECT_EQ(tier_of(all_well_but("environment", check_state::no)), tier::off);
}

TEST(doctor_tier, a_better_one_needs_what_is_missing_first) {
  EXPECT_EQ(advice_for_better_tier(all_well()), "");
  EXPECT_EQ(advice_for_better_tier(all_well_but("probes")), "see to probes");
  EXPECT_EQ(advice_for_better_tier(all_well_but("pinning")), "see to pinning");
  EXPECT_EQ(advice_for_better_tier(all_well_but("environment")), "see to environment");
  std::vector<check> checks = all_well_but("capabilities");
  checks[4].state = check_state::no;
  checks[6] = {.name = "sched_idle", .state = check_state::yes, .advice = "nothing"};
  EXPECT_EQ(advice_for_better_tier(checks), "see to capabilities");
}

TEST(doctor_tier, tells_the_exit_status) {
  EXPECT_EQ(exit_status(tier::bpf), 0);
  EXPECT_EQ(exit_status(tier::sentinel), 3);
  EXPECT_EQ(exit_status(tier::off), 4);
}

// -- Showing ----------------------------------------------------------------------------------------------------------

TEST(doctor_table, has_a_line_a_check_and_indented_advice) {
  const std::vector<check> checks = {{"a", check_state::yes, "1.2", "this", ""},
                                     {"long name", check_state::no, "", "that", "do it"},
                                     {"c", check_state::value, "none", "more", ""}};
  EXPECT_EQ(draw_checks(checks, false),
            "a          yes, 1.2                     this\n"
            "long name  no                           that\n"
            "    do it\n"
            "c          none                         more\n"
            "\n"
            "Tier off: threads that have blocked are found by polling, 20 us to 10 ms later\n");
}

TEST(doctor_table, puts_what_is_long_on_lines_of_its_own) {
  std::string words;
  for (int i = 0; i < 40; ++i) words += "word" + std::to_string(i) + " ";
  const std::string drawn = draw_checks({{"a", check_state::no, "a reason that is too long there", "g", words}}, false);
  const std::vector<std::string> lines = weft::test::lines_of(drawn);
  ASSERT_GE(lines.size(), 5u) << drawn;
  EXPECT_EQ(lines[1], "    a reason that is too long there");
  for (const std::string& line : lines) EXPECT_LE(line.size(), kColumns) << line;
  EXPECT_EQ(weft::test::count_of("word", drawn), 40);
}

TEST(doctor_table, is_coloured_only_if_asked) {
  EXPECT_EQ(draw_checks(all_well(), false).find('\033'), std::string::npos);
  EXPECT_NE(draw_checks(all_well(), true).find("\033[32myes\033[0m"), std::string::npos);
}

TEST(doctor_json, holds_everything) {
  std::vector<check> checks = all_well_but("probes");
  checks.push_back({"NUMA", check_state::value, "2", "gives \"this\"", ""});
  checks.push_back({"x", check_state::unknown, "\xff", "", ""});
  checks.push_back({"y", check_state::partly, "", "", ""});
  const json all = json::parse(json_of(checks));
  EXPECT_EQ(all["tier"], "sentinel");
  const auto row = [&](std::size_t i) { return all["checks"][i]; };
  EXPECT_EQ(row(4), (json{{"name", "probes"},
                          {"state", "no"},
                          {"ok", false},
                          {"value", ""},
                          {"gives", ""},
                          {"advice", "see to probes"}}));
  EXPECT_EQ(row(0)["ok"], true);
  EXPECT_EQ(row(7)["state"], "2");
  EXPECT_EQ(row(7)["ok"], nullptr);
  EXPECT_EQ(row(8)["state"], "not known");
  EXPECT_EQ(row(8)["ok"], nullptr);
  EXPECT_EQ(row(9)["ok"], false);
}

// -- The whole --------------------------------------------------------------------------------------------------------

int call(arguments given) {
  std::vector<char*> argv{const_cast<char*>("doctor")};
  for (std::string& argument : given) argv.push_back(argument.data());
  argv.push_back(nullptr);
  return doctor_command(static_cast<int>(argv.size()) - 1, argv.data());
}

// In a child after prepare(), and without what this process may have been started with.
template <class F>
child_result weft_doctor(const arguments& given, F prepare, const variables& with = {}) {
  return in_child([&] {
    for (const char* name : {"WEFT_DEBUG", "WEFT_BPF_FDS"}) unsetenv(name);
    for (const auto& [name, value] : with) setenv(name, value.c_str(), 1);
    prepare();
    return call(given);
  });
}

child_result weft_doctor(const arguments& given, const variables& with = {}) {
  return weft_doctor(
      given, [] {}, with);
}

json row_of(const json& all, const std::string& name) {
  for (const json& row : all["checks"])
    if (row["name"] == name) return row;
  ADD_FAILURE() << "no row " << name;
  return {};
}

// The report, if it is whole and its tier is what the exit status says.
json report_of(const child_result& result) {
  EXPECT_EQ(result.err, "");
  json all = json::parse(result.out, nullptr, false);
  EXPECT_TRUE(all.is_object()) << result;
  if (!all.is_object()) return {};
  const std::string tier = all["tier"];
  EXPECT_TRUE(result.exited(tier == "bpf" ? 0 : tier == "sentinel" ? 3 : 4)) << result;
  for (const json& row : all["checks"]) {
    for (const char* key : {"name", "state", "value", "gives", "advice"}) EXPECT_TRUE(row[key].is_string()) << row;
    EXPECT_TRUE(row["ok"].is_boolean() || row["ok"].is_null()) << row;
    EXPECT_NE(row["state"], "") << row;
    EXPECT_NE(row["gives"], "") << row;
    EXPECT_EQ(row["state"] == "yes", row["ok"] == true) << row;
  }
  return all;
}

TEST(doctor, tells_of_every_capability) {
  const child_result result = weft_doctor({"--json"});
  const json all = report_of(result);
  for (const char* name : {"environment", "kernel", "BTF", "capabilities", "probes", "unprivileged_bpf",
                           "RLIMIT_MEMLOCK", "pinning", "sched_idle", "RLIMIT_NICE", "PMU", "MADV_GUARD",
                           "epoll_pwait2", "io_uring", "NUMA", "cgroup CPU quota", "nohz_full CPUs"})
    row_of(all, name);
}

TEST(doctor, draws_what_the_json_tells) {
  const child_result table = weft_doctor({});
  const json all = report_of(weft_doctor({"--json"}));
  EXPECT_NE(table.out.find("\nTier " + all["tier"].get<std::string>() + ": "), std::string::npos) << table;
  for (const json& row : all["checks"])
    EXPECT_NE(table.out.find(row["name"].get<std::string>() + " "), std::string::npos) << row;
  for (const std::string& line : weft::test::lines_of(table.out)) EXPECT_LE(line.size(), kColumns) << line;
  EXPECT_EQ(table.out.find('\033'), std::string::npos) << "colours, though it is no terminal";
  EXPECT_EQ(table.err, "");
}

TEST(doctor, tells_who_has_no_privilege_how_to_get_it) {
  const auto lose_privilege = [] { weft::test::become_nobody(); };
  const child_result result = weft_doctor({"--json"}, lose_privilege);
  WEFT_SKIP_IF_CHILD_DID(result);
  const json all = report_of(result);
  EXPECT_NE(all["tier"], "bpf");
  EXPECT_EQ(row_of(all, "capabilities")["ok"], false);
  EXPECT_EQ(row_of(all, "probes")["ok"], false);
  EXPECT_NE(row_of(all, "capabilities")["advice"].get<std::string>().find("setcap"), std::string::npos);
  const child_result table = weft_doctor({}, lose_privilege);
  EXPECT_NE(table.out.find("\nTo do better: "), std::string::npos) << table;
  for (const std::string& line : weft::test::lines_of(table.out)) EXPECT_LE(line.size(), kColumns) << line;
}

TEST(doctor, counts_probes_that_were_handed_over) {
  const child_result result = weft_doctor({"--json"}, [] {
    std::string why_not;
    // The descriptors are somebody else's from now on.
    weft::bpf::probes* const loaded = weft::bpf::probes::load(1, why_not).release();
    if (!loaded) weft::test::skip_in_child(why_not);
    setenv("WEFT_BPF_FDS", loaded->hand_over().c_str(), 1);
    weft::test::become_nobody();
  });
  WEFT_SKIP_IF_CHILD_DID(result);
  const json all = report_of(result);
  EXPECT_EQ(row_of(all, "capabilities")["ok"], false);
  EXPECT_EQ(row_of(all, "probes")["value"], "by WEFT_BPF_FDS");
  EXPECT_EQ(all["tier"], "bpf");
}

TEST(doctor, sees_a_sandbox_that_refuses_bpf) {
  const child_result result = weft_doctor({"--json"}, [] { weft::test::refuse_bpf(EPERM); });
  WEFT_SKIP_IF_CHILD_DID(result);
  const json all = report_of(result);
  EXPECT_NE(all["tier"], "bpf");
  EXPECT_EQ(row_of(all, "probes")["state"], "no");
  EXPECT_NE(row_of(all, "probes")["value"], "");
}

TEST(doctor, sees_every_other_call_that_a_sandbox_refuses) {
  const std::vector<std::pair<unsigned, const char*>> refused = {{SYS_sched_setaffinity, "pinning"},
                                                                 {SYS_sched_setscheduler, "sched_idle"},
                                                                 {SYS_perf_event_open, "PMU"},
                                                                 {441, "epoll_pwait2"},
                                                                 {SYS_io_uring_setup, "io_uring"}};
  for (const auto& each : refused) {
    const unsigned number = each.first;
    const char* const name = each.second;
    const child_result result = weft_doctor({"--json"}, [&] { weft::test::refuse_call(number, EPERM); });
    WEFT_SKIP_IF_CHILD_DID(result);
    const json all = report_of(result);
    EXPECT_EQ(row_of(all, name)["state"], "no") << name;
    EXPECT_EQ(row_of(all, name)["value"], "Operation not permitted") << name;
    EXPECT_NE(row_of(all, name)["advice"], "") << name;
    EXPECT_TRUE(number != SYS_sched_setaffinity || all["tier"] == "off") << result;
  }
}

TEST(doctor, goes_on_without_proc_and_sys) {
  const child_result result = weft_doctor({"--json"}, [] {
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", "/sys", "tmpfs", 0, nullptr) != 0 || mount("none", "/proc", "tmpfs", 0, nullptr) != 0)
      weft::test::skip_in_child("cannot hide /proc and /sys");
  });
  WEFT_SKIP_IF_CHILD_DID(result);
  const json all = report_of(result);
  for (const char* name : {"BTF", "unprivileged_bpf", "NUMA", "cgroup CPU quota", "nohz_full CPUs"})
    EXPECT_EQ(row_of(all, name)["state"], "not known") << name;
}

TEST(doctor, heeds_the_environment) {
  const auto report = [](const char* name, const char* value) {
    return report_of(weft_doctor({"--json"}, {{name, value}}));
  };
  EXPECT_EQ(report("WEFT_KERNEL_ASSIST", "off")["tier"], "off");
  EXPECT_NE(report("WEFT_KERNEL_ASSIST", "sentinel")["tier"], "bpf");
  EXPECT_EQ(report("WEFT_KERNEL_ASSIST", "")["tier"], report("WEFT_KERNEL_ASSIST", "auto")["tier"]);
  EXPECT_EQ(report("WEFT_DEBUG", "schedtrace=1,pin=0")["tier"], "off");
  EXPECT_EQ(row_of(report("WEFT_KERNEL_ASSIST", "x\n\xff"), "environment")["ok"], false);
}

TEST(doctor, output_that_cannot_be_written_is_one_line) {
  for (const char* option : {"--help", "--json"}) {
    const child_result full = weft_doctor({option}, [] { dup2(open("/dev/full", O_WRONLY), STDOUT_FILENO); });
    EXPECT_EQ(full.err, "weft doctor: write error: No space left on device\n");
    EXPECT_TRUE(full.exited(1)) << full;
  }
}

TEST(doctor, a_wrong_command_line_is_one_line_and_status_2) {
  for (const arguments& wrong : {arguments{"--nonsense"}, arguments{"operand"}, arguments{"--json=maybe"}}) {
    const child_result result = weft_doctor(wrong);
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(result.err.starts_with("weft doctor: ")) << result;
    EXPECT_EQ(weft::test::count_of("\n", result.err), 1) << result;
    EXPECT_TRUE(result.exited(2)) << result;
  }
}

TEST(doctor, help) {
  const child_result result = weft_doctor({"--help"});
  for (const char* const part : {"--json", "Examples:", "Exit status:", "setcap"})
    EXPECT_NE(result.out.find(part), std::string::npos) << part;
  EXPECT_TRUE(result.exited(0));
}

TEST(doctor, is_a_subcommand) {
  const char* const command = std::getenv("WEFT_BIN");
  if (!command) GTEST_SKIP() << "WEFT_BIN does not name the command";
  const child_result result = in_child([&] {
    execl(command, "weft", "doctor", "--json", nullptr);
    return 127;
  });
  report_of(result);
}

}  // namespace
