// SPDX-License-Identifier: Apache-2.0
// What different threads write does not share a cache line (tests/unit/layout_test.cpp has the list).
//
// Within a node, lines of 64 bytes are kept apart. Between objects of different nodes it is pairs of lines: the
// prefetchers of x86 fetch the neighbour of a line with it, and would fetch what another node is about to write.
#pragma once

#include <cstddef>

namespace weft::rt {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kLinePair = 2 * kCacheLine;

/// Defined by the test that looks at the offsets of private members.
struct layout;

}  // namespace weft::rt
