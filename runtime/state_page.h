// SPDX-License-Identifier: Apache-2.0
// What the kernel says of Ms while the tier is bpf: their slots of the state page (bpf/probes.h).
#pragma once

#include <string>

#include "bpf/probes.h"
#include "runtime/thread_state.h"
#include "weft/metrics.h"

namespace weft::rt {

struct m;

/// Before a run(): loads the probes, unless an earlier run() has. False: it cannot be; why_not is one line. with_costs:
/// the programs that measure what the kernel charges as well, and switches them on; that they cannot be loaded is said
/// on stderr.
bool open_state_page(bool with_costs, std::string& why_not);

/// A slot for the calling thread, until it gives it back. None (null) if all are in use or the kernel refuses: for this
/// thread, the tier is that of the sentinel then.
class slot_lease {
 public:
  slot_lease() = default;
  slot_lease(const slot_lease&) = delete;
  slot_lease& operator=(const slot_lease&) = delete;
  /// Both: by the thread itself.
  void take(bpf::doing what = bpf::doing::user_code);
  void give_back();
  /// Any thread.
  bpf::slot* get() const { return slot_.load(std::memory_order_acquire); }

 private:
  std::atomic<bpf::slot*> slot_{nullptr};
  std::uint32_t number_ = 0;
};

/// Any thread; null: none, or the probes are lost.
const bpf::slot* slot_of(const m* mp);

/// What an M's thread does, by its slot if it has one. Any thread.
thread_state look_at(const m* mp);

/// Forgets the counts of earlier run()s.
void reset_kernel_metrics();
/// What the kernel has measured of Ms since the last run() began.
void add_kernel_metrics(metrics::snapshot& all);
/// What the kernel charges on the CPUs of a node, as far as it was measured.
void add_kernel_costs(metrics::node_costs& shown);
/// Empty: done.
std::string measure_kernel(bool on);

}  // namespace weft::rt
