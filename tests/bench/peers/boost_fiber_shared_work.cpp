// SPDX-License-Identifier: Apache-2.0
//
// The works of boost_fiber.h over shared_work, one queue for all threads; see boost_fiber.cpp.

#include "tests/bench/peers/boost_fiber.h"

int main(int argc, char** argv) { return boost_fiber::run_main<boost::fibers::algo::shared_work>(argc, argv); }
