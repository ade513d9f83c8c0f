// SPDX-License-Identifier: Apache-2.0
//
// Stands in for the rest of this folder where there was no clang or bpftool to build the programs with.
#include "bpf/probes.h"

namespace weft::bpf {

std::unique_ptr<probes> probes::load(std::size_t, std::string& why_not, variant) {
  why_not = "built without clang, bpftool or libbpf";
  return nullptr;
}

}  // namespace weft::bpf
