// SPDX-License-Identifier: Apache-2.0
// The tree of contexts. Go: context.go.
//
// Nodes are of four kinds: values, walls (without_cancel), cancel_nodes, after_nodes. Each keeps its parent by a
// counted reference. Downwards only what has to be told of an end is known: a cancel_node has a list of the
// cancel_nodes and after_nodes whose nearest canceller it is. Values and walls are in no list and have no lock.
//
// One lock a cancel_node, that of its done channel, guards how it has ended, its list, and the links of those in it. No
// two are ever held together, and nothing but links and flags is touched under one. That the channel is closed *is*
// that err() tells a reason: one store under that lock makes both true.
//
// An end:
//   1. under the lock: unless it has ended before, note how and why, close the channel, take its receivers. Wake them;
//      stop the timer.
//   2. do that for the first child in the list and for what is below it, then for the next. In a loop: a chain may be
//      as long as memory allows.
//   3. leave the parent's list, last of all.
// Who comes second to an end goes the same way and helps, down into children that have ended too, so when cancel()
// returns everything below has ended, whoever did it.
// A child that comes: under the parent's lock it sees either the end, and shares it, or gets into the list, where the
// end finds it. If it has ended itself meanwhile (its timer runs already) it leaves the list again.
//
// What goes: a list does not keep cancel_nodes. One whose last reference is gone leaves the list under the parent's
// lock; an end that finds it there first sees its count at zero and leaves it alone. The timer does not keep it
// either: it has a reference to the node's memory only. Who holds the done channel holds the node (done_chan).
//
// A pending after_node has to run though nobody holds a context any more, so the list and the node keep each other, as
// long as an end can come at all. It can while there is one of its sources: a cancel_handle, a timer, a place in the
// list of a parent of which the same is true. When the last goes the node has "ended" too (context_end::never): its
// children lose that source, and its after_nodes are let go of. So nothing is left behind, although there is no garbage
// collector and nobody has to cancel.
#pragma once

#include "weft/context.h"

namespace weft::detail {

/// never: it cannot be cancelled any more, by anything.
enum class context_end : std::uint8_t { none, canceled, timed_out, never };

/// What has to be told of an end.
struct context_child : context_node {
  context_child(context_ref up, cancel_node* self) : context_node(std::move(up)), itself(self) {}

  cancel_node* const itself;      // null: an after_node
  context_child* next = nullptr;  // all three: guarded by the lock of the canceller above
  context_child* prev = nullptr;
  bool listed = false;
};

/// The channel of done(). It stands in its node and is never freed alone: while somebody refers to it, that counts as
/// one reference to the node.
struct done_chan : hchan {
  explicit done_chan(cancel_node* n);
  cancel_node* const node;
};

/// What can be cancelled.
struct cancel_node final : context_child {
  cancel_node(context_ref up, std::int64_t deadline)
      : context_child(std::move(up), this), when(deadline), above(canceller), done(this) {
    canceller = this;
  }
  void dispose() noexcept override;
  void release_memory() noexcept {
    if (memory.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  bool over() const noexcept { return done.closed.load(std::memory_order_acquire); }

  const std::int64_t when;   // kNever: no deadline
  cancel_node* const above;  // the canceller above
  done_chan done;
  context_end how = context_end::none;  // these three: guarded by done.lock; final once done is closed
  std::exception_ptr cause;             // null: none of its own
  context_child* children = nullptr;
  std::atomic<int> sources{1};           // the first cancel_handle
  std::atomic<std::uint32_t> memory{1};  // all references are one, the timer is another
  call_ptr timer;                        // null: the deadline is the parent's, or has passed
};

}  // namespace weft::detail
