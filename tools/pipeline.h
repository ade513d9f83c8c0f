// SPDX-License-Identifier: Apache-2.0
// Hashing many files at once and giving the results in order.
//
// Go's idiom: a source goroutine makes, for each file, a channel for one result, sends that channel into a queue, and
// starts a goroutine that will fill it. Who receives the queue's channels in turn has the results in order. Two bounds
// hold whatever the number of files is: the hasher_pool's on files being read, and the queue's capacity on files that
// are read, or are to be read next, behind one that takes longer.
#pragma once

#include <functional>
#include <string>

#include "tools/progress.h"
#include "tools/sum_line.h"

namespace weft::tools {

struct work_item {
  std::string path;
  std::string error;         ///< not empty: could not be found or read
  sha256_digest digest{};    ///< of what was read
  sha256_digest expected{};  ///< the source's own
};

/// Gives the next item; false: there is none. Runs in a goroutine of its own. An item with an error is not read.
using item_source = std::function<bool(work_item&)>;

struct item_sink {
  std::function<bool(const work_item&)> take;  ///< gets the items in the source's order; false: stop, no more is wanted
  std::function<void()> before_wait;           ///< called when the next item is not ready
};

/// Runs the source's items through `parallel` readers at most, and returns when the sink has had them all and every
/// goroutine that was started has ended. To be called within weft::run().
void hash_in_order(const item_source& source, const item_sink& sink, int parallel, progress& counted);

}  // namespace weft::tools
