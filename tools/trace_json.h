// SPDX-License-Identifier: Apache-2.0
// A trace in Chrome's trace event format, which Perfetto (ui.perfetto.dev) and chrome://tracing open.
//
// A NUMA node is a process, a P is a thread of it: its track. There stand, one after the other and never two at a time:
// the goroutines that ran, with the announced calls that they made within; the handoffs, from the moment that the P was
// taken to that at which the next goroutine runs; and the gaps in which nothing was recorded. What the kernel gave the
// P's CPU to meanwhile has a track beside it. An arrow goes from where a goroutine was made runnable to where it runs.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include <weft/trace.h>

namespace weft::tools {

struct written_trace {
  std::uint64_t bytes = 0, slices = 0, arrows = 0;
  std::int64_t shown_ns = 0;  // from the trace's beginning
  bool whole = true;          // and not cut off there, for its size
};

/// Gives the text, piece by piece, to `write`, until that returns false; no more than `most_bytes` of it.
written_trace write_json(const trace& shown, std::uint64_t most_bytes,
                         const std::function<bool(std::string_view)>& write);

}  // namespace weft::tools
