// SPDX-License-Identifier: Apache-2.0
// What a process tells others of itself, while it runs: the page that both sides map.
//
// The page is the beginning of a memfd of the process. It has no name in any folder: whoever may look into
// /proc/PID/fd, the same user or root, finds it there, also from outside of a container; when the process ends it is
// gone.
//   Who asks:     1. locks the file (flock; the kernel unlocks it for one that dies)
//                 2. writes what the question is about, if anything, behind the page, and its size;
//                    request = what was there, its ticket one higher, and the question
//                 3. waits until answer == request; reads the answer behind the page; cuts it off; unlocks
//   The process:  sysmon sees request != answer on its rounds and wakes the template thread, which
//                 1. writes the answer into the file, behind the page, and its size
//                 2. answer = request (release: with what it wrote)
// Nobody in the process waits for anybody who asks; while nobody does, all that it costs is a load for each of sysmon's
// rounds. Rejected: the Ps' histograms themselves in shared memory (whoever asks would have to know the scheduler's
// structs, whose lives end with their Ms; and goroutines' states have to be counted by somebody anyway); a socket (a
// thread, or a poller's part, to answer it).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace weft::rt {

constexpr std::uint32_t kExportVersion = 3;  // of this page and of what is packed behind it
constexpr const char* kExportName = "weft-export";
constexpr std::int64_t kExportPage = 4096;
constexpr std::array<char, 4> kExportMagic{'w', 'e', 'f', 't'};

enum class question : std::uint8_t { metrics, costs, goroutines, trace, ps };  // trace: see trace_file.cpp

struct export_page {
  std::array<char, 4> magic = kExportMagic;
  std::uint32_t version = kExportVersion;
  std::int32_t pid = 0;  // in the innermost namespace: a forked child has its parent's page among its descriptors
  std::atomic<std::uint32_t> active{0};               // a run() is active
  alignas(64) std::atomic<std::uint64_t> request{0};  // ticket << 8 | question; by who has locked the file
  alignas(64) std::atomic<std::uint64_t> answer{0};   // by the process
  std::atomic<std::uint64_t> size{0};                 // bytes behind the page, of the question, then of the answer
};
static_assert(sizeof(export_page) <= kExportPage && std::atomic<std::uint64_t>::is_always_lock_free);

// The process's side.
/// Before a run(). Where it cannot be, nobody can ask.
void start_export();
void stop_export();
/// Whether somebody has asked and has no answer yet. Any thread.
bool export_wanted();
/// Whether somebody has asked of late and may soon again. sysmon's.
bool export_in_use(std::int64_t now);
/// By the template thread.
void answer_export();

}  // namespace weft::rt
