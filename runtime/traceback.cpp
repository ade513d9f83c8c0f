// SPDX-License-Identifier: Apache-2.0
// Go's text for stack traces.
#include "runtime/traceback.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <iterator>

namespace weft::rt {
namespace {

bool starts_with_any(std::string_view name, std::span<const std::string_view> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](auto prefix) { return name.starts_with(prefix); });
}

bool is_any(std::string_view name, std::span<const std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// What is around the outermost function that a user wrote: a thread's start, and std::invoke below a decayed callable.
bool is_entry_frame(std::string_view name) {
  static constexpr auto kPrefixes = std::to_array<std::string_view>(
      {"std::invoke", "std::__invoke", "std::apply", "std::__apply", "std::thread::", "__libc_start", "__clone"});
  static constexpr auto kNames =
      std::to_array<std::string_view>({"_start", "start_thread", "clone", "clone3", "execute_native_thread_routine"});
  return starts_with_any(name, kPrefixes) || is_any(name, kNames);
}

// run() and go() themselves are templates in this header.
bool is_of_public_header(const code_location& location) { return location.file.ends_with("weft/runtime.h"); }

std::span<const code_location> without_runtime_ends(std::span<const code_location> frames) {
  const auto first = std::find_if_not(frames.begin(), frames.end(), is_inner_frame);
  const auto last = std::find_if_not(frames.rbegin(), std::make_reverse_iterator(first), is_outer_frame).base();
  return first < last ? std::span<const code_location>(first, last) : frames;
}

void append_location(std::string& out, const code_location& location) {
  out += location.function.empty() ? "?" : location.function;
  out += "(...)\n\t";
  out += location.file.empty() ? "?" : location.file;
  if (location.line > 0) out += ":" + std::to_string(location.line);
  if (location.offset != 0 && !location.inlined) {
    std::array<char, 24> hex;
    std::snprintf(hex.data(), hex.size(), " +0x%jx", static_cast<std::uintmax_t>(location.offset));
    out += hex.data();
  }
  out += '\n';
}

}  // namespace

bool is_runtime_frame(std::string_view name) noexcept {
  static constexpr auto kPrefixes =
      std::to_array<std::string_view>({"weft::rt::", "weft::detail::", "boost::context::detail::", "_Unwind_",
                                       "__libunwind_", "__cxxabiv1::", "__cxa_"});
  static constexpr auto kNames = std::to_array<std::string_view>(
      {"jump_fcontext", "make_fcontext", "ontop_fcontext", "__gxx_personality_v0", "std::terminate",
       "std::rethrow_exception", "__gnu_cxx::__verbose_terminate_handler", "__restore_rt", "__kernel_rt_sigreturn"});
  return starts_with_any(name, kPrefixes) || is_any(name, kNames);
}

// Distributions strip the C++ runtime: between std::terminate's handler and __cxa_throw are functions without a name.
bool is_inner_frame(const code_location& location) noexcept {
  static constexpr auto kLibraries = std::to_array<std::string_view>({"libstdc++.so", "libgcc_s.so", "libunwind.so"});
  if (!location.function.empty()) return is_runtime_frame(location.function);
  return starts_with_any(std::string_view(location.file).substr(location.file.rfind('/') + 1), kLibraries);
}

bool is_outer_frame(const code_location& location) noexcept {
  return is_inner_frame(location) || is_entry_frame(location.function) || is_of_public_header(location);
}

std::string format_locations(std::span<const code_location> all) {
  const auto frames = without_runtime_ends(all);
  constexpr std::size_t kShown = kTracebackInnerFrames + kTracebackOuterFrames;
  const std::size_t inner = frames.size() > kShown ? kTracebackInnerFrames : frames.size();
  const std::size_t elided = frames.size() > kShown ? frames.size() - kShown : 0;
  std::string out;
  for (const auto& location : frames.first(inner)) append_location(out, location);
  if (elided > 0) out += "..." + std::to_string(elided) + " frames elided...\n";
  for (const auto& location : frames.subspan(inner + elided)) append_location(out, location);
  return out;
}

std::string format_frames(std::span<const std::uintptr_t> pcs) noexcept {
  try {
    return format_locations(locate(pcs, pc_kind::return_address));
  } catch (...) {
    return {};
  }
}

void print_frames(int fd, std::span<const std::uintptr_t> pcs) noexcept {
  const std::string text = format_frames(pcs);
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t written = write(fd, text.data() + at, text.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    at += static_cast<std::size_t>(written);
  }
}

}  // namespace weft::rt
