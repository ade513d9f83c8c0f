// SPDX-License-Identifier: Apache-2.0
// For the body of an in_child(): what a process without privilege, or in a sandbox, may not do.
#pragma once

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>

#include "bpf/capabilities.h"
#include "tests/child.h"

namespace weft::test {

inline constexpr uid_t kNobody = 65534;

inline void become_nobody() {
  if (getuid() == 0 && setresuid(kNobody, kNobody, kNobody) != 0) skip_in_child("setresuid is refused");
  EXPECT_TRUE(bpf::drop_capabilities());
}

/// From now on this system call ends with the error.
inline void refuse_call(unsigned number, int error) {
  const std::array<sock_filter, 4> program{
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{program.size(), const_cast<sock_filter*>(program.data())};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0) skip_in_child("no seccomp filters here");
}

inline void refuse_bpf(int error) { refuse_call(SYS_bpf, error); }

}  // namespace weft::test
