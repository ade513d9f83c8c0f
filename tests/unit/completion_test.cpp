// SPDX-License-Identifier: Apache-2.0
// What bash offers to complete the weft command with.
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/child.h"
#include "tests/command.h"
#include "tests/victim.h"

namespace {

using weft::test::child_result;
using weft::test::in_child;
using weft::test::lines_of;
using weft::test::weft_command;

// One a line; the last word is the one that the cursor stands behind.
std::vector<std::string> completions(const std::vector<std::string>& words) {
  const child_result r = in_child([&] {
    std::string script = "source tools/weft-completion.bash; COMP_WORDS=('" + std::string(weft_command()) + "'";
    for (const std::string& word : words) script += " '" + word + "'";
    script += "); COMP_CWORD=" + std::to_string(words.size()) + "; _weft; printf '%s\\n' \"${COMPREPLY[@]}\"";
    weft::test::exec({"bash", "--norc", "-c", script});
  });
  EXPECT_TRUE(r.exited(0)) << r;
  EXPECT_EQ(r.err, "");
  return lines_of(r.out);
}

using words = std::vector<std::string>;

class completion : public testing::Test {
 protected:
  void SetUp() override {
    if (access(weft_command(), X_OK) != 0) GTEST_SKIP() << "no weft command";
    if (!weft::test::has_program("bash")) GTEST_SKIP() << "no bash";
  }
};

TEST_F(completion, offers_subcommands) {
  EXPECT_EQ(completions({"do"}), (words{"doctor"}));
  EXPECT_EQ(completions({"--v"}), (words{"--version"}));
}

TEST_F(completion, offers_a_subcommands_options) {
  EXPECT_EQ(completions({"tune", "--m"}), (words{"--metric", "--min-runs", "--max-runs"}));
  EXPECT_EQ(completions({"hist", "--ti"}), (words{"--timestamp"}));
  EXPECT_EQ(completions({"profile", "--o"}), (words{"--on-cpu", "--off-cpu", "--output"}));
}

TEST_F(completion, offers_programs_after_two_dashes) {
  const words found = completions({"run", "--", "sha256su"});
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(found.front(), "sha256sum");
  EXPECT_EQ(completions({"run", "--", "sha256sum", "Makef"}), (words{"Makefile"}));
}

TEST_F(completion, offers_files) { EXPECT_EQ(completions({"sum", "READM"}), (words{"README.md"})); }

TEST_F(completion, offers_the_processes_that_run_weft) {
  weft::test::hold_out(weft::run_options{.gomaxprocs = 1}, [](const weft::test::victim& v) {
    const words found = completions({"top", "-p", std::to_string(v.pid())});
    EXPECT_EQ(found, (words{std::to_string(v.pid())}));
  });
}

}  // namespace
