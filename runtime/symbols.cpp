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
#include <dwarf.h>
#include <elfutils/libdw.h>
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
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "runtime/sanitizer.h"

namespace weft::rt {
namespace {

constexpr std::size_t kLookupStackBytes = 1 << 20;  // libdw 0.188 was seen to use 160 KiB
constexpr std::size_t kGuardBytes = 64 << 10;       // the largest page size there is
constexpr std::size_t kMaxKnownPcs = 4096;
constexpr std::chrono::seconds kLockPatience{1};

struct free_deleter {
  void operator()(void* p) const { std::free(p); }
};

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

struct die_range {
  Dwarf_Addr start;
  Dwarf_Addr end;
  Dwarf_Die die;
};

// Disjoint ranges of code, sorted; addresses are the file's, without the load bias.
using die_ranges = std::vector<die_range>;

struct unit {
  Dwarf_Die* cu = nullptr;
  Dwarf_Addr bias = 0;
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
  unit find_unit(Dwfl_Module* module, std::uintptr_t lookup);
  const die_ranges& units_of(Dwfl_Module* module);
  const die_ranges& functions_of(Dwarf_Die* cu);
  void expand_inlined(Dwarf_Die* cu, Dwarf_Addr pc, code_location& location, std::vector<code_location>& out);

  Dwfl* dwfl_ = nullptr;
  load_count reported_{};
  std::unordered_map<Dwfl_Module*, die_ranges> units_;
  std::unordered_map<const void*, die_ranges> functions_;  // by the unit's place in the mapped debug data
  std::unordered_map<std::uintptr_t, std::vector<code_location>> known_[2];
};

// Only debug files on this machine are looked for: dwfl_standard_find_debuginfo might ask a server.
const Dwfl_Callbacks kDwflCallbacks = {dwfl_linux_proc_find_elf, dwfl_build_id_find_debuginfo, nullptr, nullptr};

void symbol_table::refresh() {
  const load_count now = current_load_count();
  if (dwfl_ != nullptr && now == reported_) return;
  if (dwfl_ == nullptr) dwfl_ = dwfl_begin(&kDwflCallbacks);
  if (dwfl_ == nullptr) return;
  units_.clear();
  functions_.clear();
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

void append_ranges(Dwarf_Die* die, die_ranges& out) {
  Dwarf_Addr base = 0, start = 0, end = 0;
  for (std::ptrdiff_t at = 0; (at = dwarf_ranges(die, at, &base, &start, &end)) > 0;) {
    if (start < end) out.push_back({start, end, *die});
  }
}

void sort_ranges(die_ranges& ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.start < b.start; });
}

const Dwarf_Die* find_range(const die_ranges& ranges, Dwarf_Addr pc) {
  auto it = std::upper_bound(ranges.begin(), ranges.end(), pc, [](Dwarf_Addr a, const auto& r) { return a < r.start; });
  return it != ranges.begin() && pc < (--it)->end ? &it->die : nullptr;
}

const die_ranges& symbol_table::units_of(Dwfl_Module* module) {
  const auto [it, fresh] = units_.try_emplace(module);
  if (fresh) {
    Dwarf_Addr bias = 0;
    for (Dwarf_Die* cu = nullptr; (cu = dwfl_module_nextcu(module, cu, &bias)) != nullptr;)
      append_ranges(cu, it->second);
    sort_ranges(it->second);
  }
  return it->second;
}

// clang writes no .debug_aranges, which is all that dwfl_module_addrdie reads: then the units' own ranges have to do.
unit symbol_table::find_unit(Dwfl_Module* module, std::uintptr_t lookup) {
  unit found;
  found.cu = dwfl_module_addrdie(module, lookup, &found.bias);
  if (found.cu != nullptr || dwfl_module_getdwarf(module, &found.bias) == nullptr) return found;
  found.cu = const_cast<Dwarf_Die*>(find_range(units_of(module), lookup - found.bias));
  return found;
}

bool may_hold_functions(int tag) {
  return tag == DW_TAG_namespace || tag == DW_TAG_class_type || tag == DW_TAG_structure_type ||
         tag == DW_TAG_union_type || tag == DW_TAG_subprogram || tag == DW_TAG_lexical_block;
}

// Not recursive, as how deep blocks and classes nest is the program's choice.
void append_functions(const Dwarf_Die& root, die_ranges& out) {
  std::vector<Dwarf_Die> parents{root};
  while (!parents.empty()) {
    Dwarf_Die parent = parents.back();
    parents.pop_back();
    Dwarf_Die die;
    if (dwarf_child(&parent, &die) != 0) continue;
    do {
      const int tag = dwarf_tag(&die);
      if (!may_hold_functions(tag)) continue;
      if (tag == DW_TAG_subprogram) append_ranges(&die, out);
      if (dwarf_haschildren(&die) > 0) parents.push_back(die);
    } while (dwarf_siblingof(&die, &die) == 0);
  }
}

// dwarf_getscopes would read the unit anew for every pc, and passes over functions inside of a namespace's DIE
// (clang's).
const die_ranges& symbol_table::functions_of(Dwarf_Die* cu) {
  const auto [it, fresh] = functions_.try_emplace(cu->addr);
  if (fresh) {
    append_functions(*cu, it->second);
    sort_ranges(it->second);
  }
  return it->second;
}

std::string source_file(Dwarf_Die* cu, Dwarf_Word index) {
  Dwarf_Files* files = nullptr;
  std::size_t count = 0;
  if (dwarf_getsrcfiles(cu, &files, &count) != 0 || index >= count) return {};
  const char* name = dwarf_filesrc(files, index, nullptr, nullptr);
  return name != nullptr ? name : "";
}

// Where the function was declared, which is where its namespaces and classes are around it.
Dwarf_Die declaration_of(Dwarf_Die die) {
  for (unsigned reference : {DW_AT_abstract_origin, DW_AT_specification}) {
    Dwarf_Attribute attribute;
    Dwarf_Die target;
    if (dwarf_attr(&die, reference, &attribute) != nullptr && dwarf_formref_die(&attribute, &target) != nullptr)
      die = target;
  }
  return die;
}

// For functions of internal linkage, which compilers give no linkage name.
std::string qualified_name(Dwarf_Die* function) {
  Dwarf_Die declaration = declaration_of(*function);
  Dwarf_Die* raw = nullptr;
  const int count = dwarf_getscopes_die(&declaration, &raw);
  const std::unique_ptr<Dwarf_Die[], free_deleter> scopes(count > 0 ? raw : nullptr);
  const char* own = dwarf_diename(function);
  std::string name = own != nullptr ? own : "";
  for (int i = 1; i < count; ++i) {
    const int tag = dwarf_tag(&scopes[i]);
    const char* scope = dwarf_diename(&scopes[i]);
    if (tag == DW_TAG_namespace && scope == nullptr) scope = "(anonymous namespace)";
    const bool named = tag == DW_TAG_namespace || tag == DW_TAG_class_type || tag == DW_TAG_structure_type ||
                       tag == DW_TAG_union_type || tag == DW_TAG_subprogram;
    if (named && scope != nullptr) name.insert(0, "::").insert(0, scope);
  }
  return name;
}

std::string die_function_name(Dwarf_Die* function) {
  for (unsigned linkage : {DW_AT_linkage_name, DW_AT_MIPS_linkage_name}) {
    Dwarf_Attribute attribute;
    const char* symbol = dwarf_formstring(dwarf_attr_integrate(function, linkage, &attribute));
    if (symbol != nullptr) return function_name(symbol);
  }
  return qualified_name(function);
}

// Moves `location` from an inlined function to the place it was inlined into.
void move_to_call_site(Dwarf_Die* inlined, Dwarf_Die* cu, code_location& location) {
  Dwarf_Attribute attribute;
  Dwarf_Word value = 0;
  location.file.clear();
  location.line = 0;
  if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &attribute), &value) == 0) {
    location.file = source_file(cu, value);
  }
  if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attribute), &value) == 0) {
    location.line = static_cast<int>(value);
  }
}

// The block or inlined function within `parent` that `pc` is in.
bool child_at(Dwarf_Die& parent, Dwarf_Addr pc, Dwarf_Die& child) {
  if (dwarf_child(&parent, &child) != 0) return false;
  do {
    const int tag = dwarf_tag(&child);
    if ((tag == DW_TAG_inlined_subroutine || tag == DW_TAG_lexical_block) && dwarf_haspc(&child, pc) > 0) return true;
  } while (dwarf_siblingof(&child, &child) == 0);
  return false;
}

// Appends the functions that were inlined at `pc`, innermost first, and leaves in `location` the one that they are in.
void symbol_table::expand_inlined(Dwarf_Die* cu, Dwarf_Addr pc, code_location& location,
                                  std::vector<code_location>& out) {
  const Dwarf_Die* function = find_range(functions_of(cu), pc);
  if (function == nullptr) return;
  Dwarf_Die at = *function;
  if (location.function.empty()) location.function = die_function_name(&at);
  std::vector<Dwarf_Die> inlined;
  for (Dwarf_Die child; child_at(at, pc, child); at = child) {
    if (dwarf_tag(&child) == DW_TAG_inlined_subroutine) inlined.push_back(child);
  }
  for (auto it = inlined.rbegin(); it != inlined.rend(); ++it) {
    out.push_back({die_function_name(&*it), location.file, location.line, 0, true});
    move_to_call_site(&*it, cu, location);
  }
}

std::vector<code_location> symbol_table::look_up(std::uintptr_t pc, std::uintptr_t lookup) {
  Dwfl_Module* module = dwfl_ != nullptr ? dwfl_addrmodule(dwfl_, lookup) : nullptr;
  if (module == nullptr) return {without_debug_info(pc, lookup)};
  std::vector<code_location> out;
  code_location location;
  GElf_Off into = 0;
  GElf_Sym symbol;
  const char* name = dwfl_module_addrinfo(module, lookup, &into, &symbol, nullptr, nullptr, nullptr);
  if (name != nullptr) {
    location.function = function_name(name);
    location.offset = into + (pc - lookup);
  }
  const unit found = find_unit(module, lookup);
  if (Dwarf_Line* line = found.cu != nullptr ? dwarf_getsrc_die(found.cu, lookup - found.bias) : nullptr) {
    const char* file = dwarf_linesrc(line, nullptr, nullptr);
    if (file != nullptr) location.file = file;
    dwarf_lineno(line, &location.line);
  }
  if (found.cu != nullptr) expand_inlined(found.cu, lookup - found.bias, location, out);
  if (location.function.empty()) location = without_debug_info(pc, lookup);
  if (location.file.empty()) {
    const char* path = dwfl_module_info(module, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr);
    if (path != nullptr) location.file = path;
  }
  out.push_back(std::move(location));
  return out;
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
