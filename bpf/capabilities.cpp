// SPDX-License-Identifier: Apache-2.0
#include "bpf/capabilities.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdint>

namespace weft::bpf {
namespace {

struct capability_sets {
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> words{};

  bool has(int capability) const {
    return (words[static_cast<std::size_t>(CAP_TO_INDEX(capability))].effective & CAP_TO_MASK(capability)) != 0;
  }
  void remove(int capability) {
    __user_cap_data_struct& word = words[static_cast<std::size_t>(CAP_TO_INDEX(capability))];
    word.effective &= ~CAP_TO_MASK(capability);
    word.permitted &= ~CAP_TO_MASK(capability);
    word.inheritable &= ~CAP_TO_MASK(capability);
  }
};

__user_cap_header_struct header_of_this_thread() { return {_LINUX_CAPABILITY_VERSION_3, 0}; }

bool read_sets(capability_sets& sets) {
  __user_cap_header_struct header = header_of_this_thread();
  return syscall(SYS_capget, &header, sets.words.data()) == 0;
}

}  // namespace

bool may_load() {
  capability_sets sets;
  return read_sets(sets) && (sets.has(CAP_SYS_ADMIN) || (sets.has(CAP_BPF) && sets.has(CAP_PERFMON)));
}

bool drop_capabilities(of_root root) {
  capability_sets sets;
  if (!read_sets(sets)) return false;
  if (sets.has(CAP_SYS_ADMIN) && root == of_root::keep) return true;
  sets.remove(CAP_BPF);
  sets.remove(CAP_PERFMON);
  __user_cap_header_struct header = header_of_this_thread();
  return syscall(SYS_capset, &header, sets.words.data()) == 0;
}

}  // namespace weft::bpf
