// SPDX-License-Identifier: Apache-2.0
// The stacks of another process: from a copied piece of stack to program counters, and from these to names, by libdw.
//
// The program's own tables tell where each caller's registers were saved, so that code need not keep frame pointers.
// All that is read of the process itself is its list of mapped files; these are opened at once, so that names can still
// be looked up after its end, and as it sees them, which may be another container's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bpf/stack_sample.h"

namespace weft::tools {

struct frame {
  std::string function{};   ///< qualified name; "[library]" where none is known
  bool is_runtime = false;  ///< the runtime's own, between the program's code and what it waits for
  bool is_entry = false;    ///< the runtime's or the C++ library's, around the outermost function that a user wrote
  bool is_library = false;  ///< of the C or C++ library
  bool is_signal = false;   ///< what the kernel puts between the interrupted function and the handler
};

class process_stacks {
 public:
  /// Throws weft::error of one line.
  explicit process_stacks(int pid);
  ~process_stacks();
  process_stacks(process_stacks&&) noexcept;
  process_stacks& operator=(process_stacks&&) noexcept;

  struct walk {
    std::vector<std::uintptr_t> pcs{};  ///< innermost first; all are return addresses, or made to look like one
    bool truncated = false;             ///< the stack goes on where the copy ends
  };
  walk unwind(const weft_sample& sample);

  /// The frames of all, inlined ones included, outermost first.
  std::vector<frame> frames_of(const std::vector<std::uintptr_t>& pcs);

 private:
  class session;
  std::unique_ptr<session> of_;
};

}  // namespace weft::tools
