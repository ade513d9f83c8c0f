// SPDX-License-Identifier: Apache-2.0
//
// The works of boost_fiber.h over work_stealing: one queue a thread.

#include "tests/bench/peers/boost_fiber.h"

int main(int argc, char** argv) { return boost_fiber::run_main<boost::fibers::algo::work_stealing>(argc, argv); }
