// SPDX-License-Identifier: Apache-2.0
#include "runtime/barrier.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/proc.h"

namespace weft::rt {

std::atomic<bool> asymmetric_barriers{false};

void init_barriers() {
#if !defined(__SANITIZE_THREAD__)
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0)
    asymmetric_barriers.store(true, std::memory_order_seq_cst);
#endif
}

void membarrier_all() {
  // Nobody's light barriers would be worth anything.
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0)
    fatal_throw("", "membarrier is refused that was granted before");
}

}  // namespace weft::rt
