// SPDX-License-Identifier: Apache-2.0
// Names and lines by libdw. See symbols.h for what is promised.
//
// One Dwfl session serves the process, under one lock. It is reported anew when the loader's counters say that objects
// came or went; results are kept by pc, as the same few pcs make up most of a dump. Who holds the lock
//  - has every asynchronous signal blocked: the holder is on the shared look-up stack, and must not be preempted there;
//  - runs on the look-up stack, entered by jump_fcontext and left before the lock is released;
//  - may fault there. The handler, on the same thread, sees that its thread is the holder, and does without libdw.
// A holder that never returns, frozen while the process dies, costs a report kLockPatience and its line numbers.
#include "runtime/symbols.h"

#include <dlfcn.h>
#include <elfutils/libdwfl.h>
#include <link.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <boost/context/detail/fcontext.hpp>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "runtime/debug_info.h"
#include "runtime/sanitizer.h"

namespace weft::rt {
namespace {

constexpr std::size_t kLookupStackBytes = 1 << 20;  // libdw 0.188 was seen to use 160 KiB
constexpr std::size_t kGuardBytes = 64 << 10;       // the largest page size there is
constexpr std::size_t kMaxKnownPcs = 4096;
constexpr std::chrono::seconds kLockPatience{1};

class signals_blocked {
 public:
  signals_blocked() {
    sigset_t all;
    sigfillset(&all);
    for (int synchronous : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&all, synchronous);
    pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  ~signals_blocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  signals_blocked(const signals_blocked&) = delete;
  signals_blocked& operator=(const signals_blocked&) = delete;

 private:
  sigset_t before_;
};

// How often objects were loaded and unloaded so far, by the loader's count.
struct load_count {
  unsigned long long adds = 0;
  unsigned long long subs = 0;
  bool operator==(const load_count&) const = default;
};

load_count current_load_count() {
  load_count count;
  dl_iterate_phdr(
      [](dl_phdr_info* object, std::size_t, void* data) {
        *static_cast<load_count*>(data) = {object->dlpi_adds, object->dlpi_subs};
        return 1;
      },
      &count);
  return count;
}

code_location without_debug_info(std::uintptr_t pc, std::uintptr_t lookup) {
  code_location location;
  location.offset = pc;
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(lookup), &info) == 0) return location;
  if (info.dli_fname != nullptr) location.file = info.dli_fname;
  if (info.dli_sname != nullptr) location.function = function_name(info.dli_sname);
  location.offset = pc - reinterpret_cast<std::uintptr_t>(info.dli_sname != nullptr ? info.dli_saddr : info.dli_fbase);
  return location;
}

// Every member function wants the symbol lock held. Lives for ever: a report may be printed while the process exits.
class symbol_table {
 public:
  const std::vector<code_location>& find(std::uintptr_t pc, pc_kind kind);

 private:
  void refresh();
  std::vector<code_location> look_up(std::uintptr_t pc, std::uintptr_t lookup);

  Dwfl* dwfl_ = nullptr;
  load_count reported_{};
  debug_info info_;
  std::unordered_map<std::uintptr_t, std::vector<code_location>> known_[2];
};

// Only debug files on this machine are looked for: dwfl_standard_find_debuginfo might ask a server.
const Dwfl_Callbacks kDwflCallbacks = {dwfl_linux_proc_find_elf, dwfl_build_id_find_debuginfo, nullptr, nullptr};

void symbol_table::refresh() {
  const load_count now = current_load_count();
  if (dwfl_ != nullptr && now == reported_) return;
  if (dwfl_ == nullptr) dwfl_ = dwfl_begin(&kDwflCallbacks);
  if (dwfl_ == nullptr) return;
  info_.forget();
  for (auto& known : known_) known.clear();
  dwfl_report_begin(dwfl_);  // keeps the modules that are reported again unchanged, with all that was read of them
  dwfl_linux_proc_report(dwfl_, getpid());
  dwfl_report_end(dwfl_, nullptr, nullptr);
  reported_ = now;
}

const std::vector<code_location>& symbol_table::find(std::uintptr_t pc, pc_kind kind) {
  refresh();
  auto& known = known_[kind == pc_kind::exact];
  if (const auto it = known.find(pc); it != known.end()) return it->second;
  auto locations = look_up(pc, kind == pc_kind::exact ? pc : pc - 1);
  if (known.size() >= kMaxKnownPcs) known.clear();
  return known.insert_or_assign(pc, std::move(locations)).first->second;
}

std::vector<code_location> symbol_table::look_up(std::uintptr_t pc, std::uintptr_t lookup) {
  std::vector<code_location> found;
  if (dwfl_ != nullptr) found = info_.look_up(dwfl_, pc, lookup);
  if (!found.empty()) return found;
  found.push_back(without_debug_info(pc, lookup));
  if (found.back().file.empty() && dwfl_ != nullptr) found.back().file = debug_info::module_at(dwfl_, lookup);
  return found;
}

struct symbol_lock_state {
  std::timed_mutex mutex;
  std::atomic<pthread_t> holder{};
  symbol_table* table = nullptr;  // guarded by mutex, as is stack
  std::byte* stack = nullptr;     // kLookupStackBytes, a guard below
};

symbol_lock_state& lock_state() {
  static auto* state = new symbol_lock_state;
  return *state;
}

bool ensure_ready(symbol_lock_state& state) {
  if (state.table == nullptr) state.table = new symbol_table;
  if (state.stack != nullptr) return true;
  void* mapped =
      mmap(nullptr, kGuardBytes + kLookupStackBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (mapped == MAP_FAILED) return false;
  auto* stack = static_cast<std::byte*>(mapped) + kGuardBytes;
  if (mprotect(stack, kLookupStackBytes, PROT_READ | PROT_WRITE) != 0) {
    munmap(mapped, kGuardBytes + kLookupStackBytes);
    return false;
  }
  state.stack = stack;
  return true;
}

struct stack_job {
  void (*run)(void*) noexcept;
  void* argument;
};

namespace fiber = boost::context::detail;

void run_stack_job(fiber::transfer_t caller) {
  const void* caller_stack = nullptr;
  std::size_t caller_size = 0;
  after_switch_stack(nullptr, &caller_stack, &caller_size);
  const auto* job = static_cast<const stack_job*>(caller.data);
  job->run(job->argument);
  before_switch_stack(nullptr, caller_stack, caller_size);
  fiber::jump_fcontext(caller.fctx, nullptr);
}

void run_on_stack(std::byte* stack, stack_job job) {
  const fiber::fcontext_t entry = fiber::make_fcontext(stack + kLookupStackBytes, kLookupStackBytes, run_stack_job);
  void* fake_stack = nullptr;
  before_switch_stack(&fake_stack, stack, kLookupStackBytes);
  fiber::jump_fcontext(entry, &job);
  after_switch_stack(fake_stack, nullptr, nullptr);
}

std::vector<code_location> look_up_all(symbol_table& table, std::span<const std::uintptr_t> pcs, pc_kind kind) {
  std::vector<code_location> out;
  for (const std::uintptr_t pc : pcs) {
    const auto& locations = table.find(pc, kind);
    out.insert(out.end(), locations.begin(), locations.end());
  }
  return out;
}

struct locate_job {
  symbol_table* table;
  std::span<const std::uintptr_t> pcs;
  pc_kind kind;
  std::vector<code_location> found;

  static void run(void* self) noexcept {
    auto* job = static_cast<locate_job*>(self);
    try {
      job->found = look_up_all(*job->table, job->pcs, job->kind);
    } catch (...) {
      job->found.clear();
    }
  }
};

// False when libdw is out of reach: this thread is in it, another won't leave it, or there is no memory for its stack.
bool locate_by_debug_info(locate_job& job) {
  const signals_blocked no_preemption;
  symbol_lock_state& state = lock_state();
  if (state.holder.load(std::memory_order_relaxed) == pthread_self()) return false;
  // By the system clock: gcc 12's thread sanitizer doesn't know pthread_mutex_clocklock.
  const std::unique_lock lock(state.mutex, std::chrono::system_clock::now() + kLockPatience);
  if (!lock.owns_lock() || !ensure_ready(state)) return false;
  job.table = state.table;
  state.holder.store(pthread_self(), std::memory_order_relaxed);
  run_on_stack(state.stack, {locate_job::run, &job});
  state.holder.store(pthread_t{}, std::memory_order_relaxed);
  return !job.found.empty();
}

}  // namespace

std::vector<code_location> locate(std::span<const std::uintptr_t> pcs, pc_kind kind) {
  locate_job job{nullptr, pcs, kind, {}};
  if (pcs.empty() || locate_by_debug_info(job)) return std::move(job.found);
  for (const std::uintptr_t pc : pcs) job.found.push_back(without_debug_info(pc, kind == pc_kind::exact ? pc : pc - 1));
  return std::move(job.found);
}

std::vector<code_location> symbolize_inlined(std::uintptr_t pc, pc_kind kind) noexcept {
  try {
    return locate(std::span(&pc, 1), kind);
  } catch (...) {
    return {};
  }
}

code_location symbolize(std::uintptr_t pc, pc_kind kind) noexcept {
  auto locations = symbolize_inlined(pc, kind);
  return locations.empty() ? code_location{} : std::move(locations.front());
}

}  // namespace weft::rt
