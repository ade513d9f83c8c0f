// SPDX-License-Identifier: Apache-2.0
// For the body of an in_child(): what a process without privilege, or in a sandbox, may not do.
#pragma once

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <ostream>
#include <string>

#include "bpf/capabilities.h"
#include "tests/child.h"

namespace weft::test {

inline constexpr uid_t kNobody = 65534;

inline void become_nobody() {
  if (getuid() == 0 && setresuid(kNobody, kNobody, kNobody) != 0) skip_in_child("setresuid is refused");
  EXPECT_TRUE(bpf::drop_capabilities());
}

/// Who may do what: root everything, an ordinary user nothing, and one that got CAP_BPF and CAP_PERFMON just that.
enum class user { root, with_two_capabilities, ordinary };

inline std::ostream& operator<<(std::ostream& out, user who) {
  constexpr std::array kNames = {"root", "a_user_with_two_capabilities", "an_ordinary_user"};
  return out << kNames[static_cast<std::size_t>(who)];
}

/// As if a service manager had started this process for nobody with the two capabilities, and with no limit of locked
/// memory, as which the probes count before 5.11.
inline void become_nobody_with_two_capabilities() {
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &unlimited);
  prctl(PR_SET_KEEPCAPS, 1);
  if (setresgid(kNobody, kNobody, kNobody) != 0 || setresuid(kNobody, kNobody, kNobody) != 0)
    skip_in_child("setresuid is refused");
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  for (const int capability : {CAP_BPF, CAP_PERFMON}) {
    __user_cap_data_struct& word = sets[static_cast<std::size_t>(CAP_TO_INDEX(capability))];
    word.effective = word.permitted |= CAP_TO_MASK(capability);
  }
  if (syscall(SYS_capset, &header, sets.data()) != 0) skip_in_child("not all of the two capabilities are here");
  prctl(PR_SET_DUMPABLE, 1);  // an exec would have done so
}

inline void become(user who) {
  if (who == user::ordinary) return become_nobody();
  if (geteuid() != 0) skip_in_child("not root");
  if (who == user::with_two_capabilities) become_nobody_with_two_capabilities();
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

inline std::string name_of_user(const testing::TestParamInfo<user>& info) {
  return "as_" + testing::PrintToString(info.param);
}

inline void refuse_bpf(int error) { refuse_call(SYS_bpf, error); }

}  // namespace weft::test
