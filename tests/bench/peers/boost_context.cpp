// SPDX-License-Identifier: Apache-2.0
//
// The floor: bare Boost.Context, whose switch weft is built on. No scheduler, no queue, one thread.

#include <array>
#include <boost/context/fiber.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>
#include <memory>
#include <utility>

#include "tests/bench/bench.h"

namespace {

namespace context = boost::context;

// As the published figures for Boost's own libraries; a pooled stack costs the same at any size.
constexpr std::size_t kStackSize = 16 * 1024;

void yield(const bench::options& o) {
  bool stop = false;
  context::fiber other(std::allocator_arg, context::pooled_fixedsize_stack(kStackSize), [&](context::fiber&& caller) {
    while (!stop) caller = std::move(caller).resume();
    return std::move(caller);
  });
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < o.ops; ++i) other = std::move(other).resume();
  const std::int64_t elapsed = bench::now_ns() - start;
  stop = true;
  other = std::move(other).resume();
  bench::report("yield", o, static_cast<double>(elapsed) / static_cast<double>(2 * o.ops), "ns");
}

void spawn_join_one(const bench::options& o) {
  context::pooled_fixedsize_stack stacks(kStackSize);
  const std::int64_t start = bench::now_ns();
  for (std::int64_t i = 0; i < o.ops; ++i) {
    context::fiber child(std::allocator_arg, stacks, [](context::fiber&& caller) { return std::move(caller); });
    child = std::move(child).resume();
  }
  const std::int64_t elapsed = bench::now_ns() - start;
  bench::report("spawn_join_one", o, static_cast<double>(elapsed) / static_cast<double>(o.ops), "ns");
}

constexpr std::array kWorks{
    bench::work{"yield", 10'000'000, yield},
    bench::work{"spawn_join_one", 2'000'000, spawn_join_one},
};

}  // namespace

int main(int argc, char** argv) { return bench::run_main(argc, argv, kWorks); }
