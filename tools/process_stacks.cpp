// SPDX-License-Identifier: Apache-2.0
#include "tools/process_stacks.h"

#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <weft/error.h>

#include "runtime/debug_info.h"
#include "runtime/traceback.h"

namespace weft::tools {
namespace {

using std::chrono::steady_clock;

constexpr std::size_t kMostFrames = 256;
constexpr std::chrono::seconds kLookAnewAfter{1};  // for what was loaded since, when a pc is in no known file
#if defined(__x86_64__)
constexpr unsigned kStackPointer = 7, kDwarfRegisters = 17;
#elif defined(__aarch64__)
constexpr unsigned kStackPointer = 31, kDwarfRegisters = 32, kPc = 32;
#endif

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

bool is_library_function(std::string_view name) { return name.starts_with("std::") || name.starts_with("__gnu_cxx::"); }

bool is_signal_frame(std::string_view name) { return name == "__restore_rt" || name == "__kernel_rt_sigreturn"; }

bool is_system_library(std::string_view path) {
  static constexpr auto kNames =
      std::to_array<std::string_view>({"libc.so", "libpthread.so", "ld-linux", "liburing.so", "[vdso"});
  const std::string_view name = file_name(path);
  return std::any_of(kNames.begin(), kNames.end(), [name](std::string_view one) { return name.starts_with(one); });
}

}  // namespace

class process_stacks::session {
 public:
  explicit session(int pid) : pid_(pid), dwfl_(dwfl_begin(&kCallbacks)) {
    report();
    if (!dwfl_ || !dwfl_attach_state(dwfl_.get(), nullptr, pid, &kThreads, this))
      throw error(fmt_failure(dwfl_errmsg(-1)));
  }
  session(const session&) = delete;
  session& operator=(const session&) = delete;

  walk unwind(const weft_sample& sample) {
    sample_ = &sample;
    found_ = {};
    behind_signal_ = false;
    dwfl_getthread_frames(dwfl_.get(), pid_, add_frame, this);
    sample_ = nullptr;
    return std::move(found_);
  }

  const std::vector<frame>& frames_at(std::uintptr_t pc) {
    const auto known = known_.find(pc);
    if (known != known_.end()) return known->second;
    return known_.emplace(pc, look_up(pc)).first->second;
  }

 private:
  std::string fmt_failure(const char* why) const {
    return "the files of process " + std::to_string(pid_) + " cannot be read: " + (why ? why : "no memory");
  }

  // -- Its files --

  void report() {
    if (!dwfl_) return;
    reported_ = steady_clock::now();
    info_.forget();
    known_.clear();
    dwfl_report_begin(dwfl_.get());
    dwfl_linux_proc_report(dwfl_.get(), pid_);
    dwfl_report_end(dwfl_.get(), nullptr, nullptr);
    dwfl_getmodules(dwfl_.get(), open_module, this, 0);
  }

  static int open_module(Dwfl_Module* module, void** of, const char*, Dwarf_Addr, void* self) {
    *of = self;
    GElf_Addr bias = 0;
    dwfl_module_getelf(module, &bias);
    return DWARF_CB_OK;
  }

  static int find_elf(Dwfl_Module* module, void** of, const char* name, Dwarf_Addr base, char** path, Elf** elf) {
    const auto* self = static_cast<const session*>(*of);
    const int fd = self && name[0] == '/' ? self->open_as_it_sees(name) : -1;
    if (fd < 0) return dwfl_linux_proc_find_elf(module, of, name, base, path, elf);
    *path = strdup(name);
    return fd;
  }

  // A program that was replaced meanwhile is still to be had.
  int open_as_it_sees(std::string_view name) const {
    constexpr std::string_view kDeleted = " (deleted)";
    const std::string folder = "/proc/" + std::to_string(pid_);
    char program[PATH_MAX];
    const ssize_t n = readlink((folder + "/exe").c_str(), program, sizeof program);
    std::string_view running(program, n > 0 ? static_cast<std::size_t>(n) : 0);
    if (running.ends_with(kDeleted)) running.remove_suffix(kDeleted.size());
    if (name.ends_with(kDeleted)) name.remove_suffix(kDeleted.size());
    const std::string path = name == running ? folder + "/exe" : folder + "/root" + std::string(name);
    return open(path.c_str(), O_RDONLY | O_CLOEXEC);
  }

  // -- A walk --

  static pid_t next_thread(Dwfl*, void* self, void** thread) {
    if (*thread) return 0;
    *thread = self;
    return static_cast<session*>(self)->pid_;
  }

  static bool get_thread(Dwfl*, pid_t, void* self, void** thread) {
    *thread = self;
    return true;
  }

  static bool set_registers(Dwfl_Thread* thread, void* self) {
    const weft_sample& sample = *static_cast<session*>(self)->sample_;
    std::array<Dwarf_Word, kDwarfRegisters> values;
    std::copy_n(sample.registers, values.size(), values.begin());
#if defined(__aarch64__)
    dwfl_thread_state_register_pc(thread, sample.registers[kPc]);
#endif
    return dwfl_thread_state_registers(thread, 0, values.size(), values.data());
  }

  static bool read_word(Dwfl*, Dwarf_Addr at, Dwarf_Word* word, void* self) {
    auto& to = *static_cast<session*>(self);
    const weft_sample& sample = *to.sample_;
    const std::uint64_t offset = at - sample.registers[kStackPointer];
    if (offset <= sample.stack_size && sample.stack_size - offset >= sizeof *word) {
      std::memcpy(word, sample.stack + offset, sizeof *word);
      return true;
    }
    if (to.behind_signal_) return to.read_live(at, word);
    const bool cut_off = sample.stack_size > WEFT_SAMPLE_STACK - WEFT_SAMPLE_PAGE;
    if (cut_off && at > sample.registers[kStackPointer]) to.found_.truncated = true;
    return false;
  }

  static int add_frame(Dwfl_Frame* state, void* self) {
    auto& to = *static_cast<session*>(self);
    Dwarf_Addr pc = 0;
    bool interrupted = false;
    if (!dwfl_frame_pc(state, &pc, &interrupted) || pc == 0) return DWARF_CB_ABORT;
    if (interrupted && !to.found_.pcs.empty()) to.behind_signal_ = true;
    to.found_.pcs.push_back(interrupted ? pc + 1 : pc);
    if (!to.is_known(pc)) return DWARF_CB_ABORT;
    return to.found_.pcs.size() < kMostFrames ? DWARF_CB_OK : DWARF_CB_ABORT;
  }

  // A goroutine that was preempted by a signal waits in the handler, whose stack, of which there is a copy, is another.
  bool read_live(Dwarf_Addr at, Dwarf_Word* word) const {
    iovec here{word, sizeof *word};
    iovec there{reinterpret_cast<void*>(at), sizeof *word};
    return process_vm_readv(pid_, &here, 1, &there, 1, 0) == sizeof *word;
  }

  bool is_known(std::uintptr_t pc) const { return dwfl_addrmodule(dwfl_.get(), pc) != nullptr; }

  // -- Names --

  std::vector<frame> look_up(std::uintptr_t pc) {
    if (!is_known(pc - 1) && steady_clock::now() - reported_ > kLookAnewAfter) report();
    const std::string library = rt::debug_info::module_at(dwfl_.get(), pc - 1);
    std::vector<frame> all;
    for (const rt::code_location& at : info_.look_up(dwfl_.get(), pc, pc - 1))
      all.push_back({at.function, rt::is_inner_frame(at), rt::is_outer_frame(at),
                     is_system_library(library) || is_library_function(at.function), is_signal_frame(at.function)});
    if (!all.empty()) return all;
    rt::code_location unknown;
    unknown.file = library;
    const std::string name = library.empty() ? "[unknown]" : "[" + std::string(file_name(library)) + "]";
    return {{name, rt::is_inner_frame(unknown), rt::is_outer_frame(unknown), is_system_library(library), false}};
  }

  struct end {
    void operator()(Dwfl* dwfl) const { dwfl_end(dwfl); }
  };

  // Only debug files on this machine are looked for: dwfl_standard_find_debuginfo might ask a server.
  static constexpr Dwfl_Callbacks kCallbacks = {find_elf, dwfl_build_id_find_debuginfo, nullptr, nullptr};
  static constexpr Dwfl_Thread_Callbacks kThreads = {next_thread,   get_thread, read_word,
                                                     set_registers, nullptr,    nullptr};

  const int pid_;
  const std::unique_ptr<Dwfl, end> dwfl_;
  steady_clock::time_point reported_;
  rt::debug_info info_;
  std::unordered_map<std::uintptr_t, std::vector<frame>> known_;
  const weft_sample* sample_ = nullptr;  // of the walk that is under way, with what it has found
  walk found_;
  bool behind_signal_ = false;
};

process_stacks::process_stacks(int pid) : of_(std::make_unique<session>(pid)) {}
process_stacks::~process_stacks() = default;
process_stacks::process_stacks(process_stacks&&) noexcept = default;
process_stacks& process_stacks::operator=(process_stacks&&) noexcept = default;

process_stacks::walk process_stacks::unwind(const weft_sample& sample) { return of_->unwind(sample); }

std::vector<frame> process_stacks::frames_of(const std::vector<std::uintptr_t>& pcs) {
  std::vector<frame> all;
  for (const std::uintptr_t pc : pcs) {
    const std::vector<frame>& at = of_->frames_at(pc);
    all.insert(all.end(), at.begin(), at.end());
  }
  std::reverse(all.begin(), all.end());
  return all;
}

}  // namespace weft::tools
