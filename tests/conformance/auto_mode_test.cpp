// SPDX-License-Identifier: Apache-2.0
// GOMAXPROCS=auto in a program that runs. What it decides is tested in unit/auto_ps_test.cpp.
#include <weft/weft.h>

#include <atomic>
#include <chrono>

#include "runtime/gomaxprocs.h"
#include "tests/child.h"

namespace {

using namespace weft;
using namespace std::chrono_literals;
using weft::test::child_result;
using weft::test::in_child;

template <class F>
child_result automatic(F body) {
  return in_child({{"GOMAXPROCS", "auto"}}, [&] { run(body); });
}

TEST(automatic_gomaxprocs, begins_with_the_default) {
  int usual = 0;
  const child_result plain = in_child({{"GOMAXPROCS", ""}}, [&] { return run([] { return gomaxprocs(); }); });
  if (WIFEXITED(plain.status)) usual = WEXITSTATUS(plain.status);
  const child_result r = automatic([&] {
    EXPECT_EQ(gomaxprocs(), usual);
    EXPECT_TRUE(rt::ps_are_automatic());
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(automatic_gomaxprocs, ends_when_the_program_asks_for_a_number) {
  const child_result r = automatic([] {
    gomaxprocs(1);
    EXPECT_FALSE(rt::ps_are_automatic());
    EXPECT_FALSE(rt::place_ps_automatically(current_node(), 1));
    EXPECT_EQ(gomaxprocs(), 1);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

TEST(automatic_gomaxprocs, keeps_to_the_machine_and_loses_nothing_under_load) {
  const child_result r = automatic([] {
    std::atomic<int> rounds{0};
    std::atomic<bool> stop{false};
    wait_group done;
    const int here = current_node();
    for (int i = 0; i < 64; ++i)
      done.go([&] {
        for (; !stop; ++rounds) yield();
      });
    for (int i = 0; i < 25; ++i) {
      sleep_for(100ms);
      EXPECT_GE(gomaxprocs(), 1);
      EXPECT_LE(gomaxprocs(), num_cpu());
      rt::place_ps_automatically(here, 1 + i % num_cpu());  // as if it had decided so
    }
    stop = true;
    done.wait();
    EXPECT_GT(rounds, 0);
  });
  EXPECT_TRUE(r.exited(0)) << r;
}

}  // namespace
