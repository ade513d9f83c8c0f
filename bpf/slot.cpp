// SPDX-License-Identifier: Apache-2.0
#include "bpf/probes.h"

namespace weft::bpf {

snapshot read_slot(const slot& s) {
  const auto load = [](const auto& field) { return __atomic_load_n(&field, __ATOMIC_RELAXED); };
  for (;;) {
    const event before = read_event(s);
    const snapshot copy{before,
                        load(s.since_ns),
                        load(s.off_ns),
                        load(s.blocks),
                        load(s.parks),
                        load(s.wakeups),
                        load(s.preemptions),
                        load(s.mm_switches),
                        load(s.migrations),
                        load(s.minor_faults),
                        load(s.major_faults),
                        load(s.cpu)};
    std::atomic_thread_fence(std::memory_order_acquire);
    if (read_event(s) == before) return copy;
  }
}

}  // namespace weft::bpf
