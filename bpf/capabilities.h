// SPDX-License-Identifier: Apache-2.0
//
// The capabilities that loading probes takes. They are a thread's, not a process's: drop them before there are others.
#pragma once

namespace weft::bpf {

// The calling thread has CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, which stands for both.
bool may_load();

enum class of_root : bool { keep, drop };

// Takes CAP_BPF and CAP_PERFMON from the calling thread for good. Who has CAP_SYS_ADMIN could do without them, so
// taking them there says little: nothing is done unless asked. False: the kernel refused.
bool drop_capabilities(of_root root = of_root::keep);

}  // namespace weft::bpf
