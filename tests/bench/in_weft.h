// SPDX-License-Identifier: Apache-2.0
//
// What weft's benchmark programs share beyond bench.h: every work runs as the main goroutine of a runtime of o.procs
// Ps.

#pragma once

#include <weft/runtime.h>

#include <cstdint>

#include "tests/bench/bench.h"

namespace bench {

template <void (*Work)(const options&)>
void in_weft(const options& o) {
  weft::run_options runtime;
  runtime.gomaxprocs = o.procs;
  weft::run(runtime, [&] { Work(o); });
}

inline double per_op(std::int64_t start, std::int64_t ops) {
  return static_cast<double>(now_ns() - start) / static_cast<double>(ops);
}

}  // namespace bench
