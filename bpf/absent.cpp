// SPDX-License-Identifier: Apache-2.0
//
// Stands in for the rest of this folder where there was no clang or bpftool to build the programs with.
#include "bpf/probes.h"
#include "bpf/stack_sampler.h"

namespace weft::bpf {
namespace {

constexpr const char* kWhyNot = "built without clang, bpftool or libbpf";

}  // namespace

std::unique_ptr<probes> probes::load(std::size_t, std::string& why_not, variant) {
  why_not = kWhyNot;
  return nullptr;
}

std::unique_ptr<stack_sampler> stack_sampler::start(const options&, std::string& why_not) {
  why_not = kWhyNot;
  return nullptr;
}

}  // namespace weft::bpf
