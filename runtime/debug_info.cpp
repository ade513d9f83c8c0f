// SPDX-License-Identifier: Apache-2.0
#include "runtime/debug_info.h"

#include <dwarf.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>

namespace weft::rt {
namespace {

struct free_deleter {
  void operator()(void* p) const { std::free(p); }
};

using die_ranges = debug_info::die_ranges;

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

std::string path_of(Dwfl_Module* module) {
  const char* path = dwfl_module_info(module, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr);
  return path != nullptr ? path : "";
}

}  // namespace

const die_ranges& debug_info::units_of(Dwfl_Module* module) {
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
debug_info::unit debug_info::find_unit(Dwfl_Module* module, std::uintptr_t lookup) {
  unit found;
  found.cu = dwfl_module_addrdie(module, lookup, &found.bias);
  if (found.cu != nullptr || dwfl_module_getdwarf(module, &found.bias) == nullptr) return found;
  found.cu = const_cast<Dwarf_Die*>(find_range(units_of(module), lookup - found.bias));
  return found;
}

// dwarf_getscopes would read the unit anew for every pc, and passes over functions inside of a namespace's DIE
// (clang's).
const die_ranges& debug_info::functions_of(Dwarf_Die* cu) {
  const auto [it, fresh] = functions_.try_emplace(cu->addr);
  if (fresh) {
    append_functions(*cu, it->second);
    sort_ranges(it->second);
  }
  return it->second;
}

// Appends the functions that were inlined at `pc`, innermost first, and leaves in `location` the one that they are in.
void debug_info::expand_inlined(Dwarf_Die* cu, Dwarf_Addr pc, code_location& location,
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

std::vector<code_location> debug_info::look_up(Dwfl* dwfl, std::uintptr_t pc, std::uintptr_t lookup) {
  Dwfl_Module* module = dwfl_addrmodule(dwfl, lookup);
  std::vector<code_location> out;
  if (module == nullptr) return out;
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
  if (location.function.empty()) return {};
  if (location.file.empty()) location.file = path_of(module);
  out.push_back(std::move(location));
  return out;
}

std::string debug_info::module_at(Dwfl* dwfl, std::uintptr_t pc) {
  Dwfl_Module* module = dwfl_addrmodule(dwfl, pc);
  return module != nullptr ? path_of(module) : "";
}

void debug_info::forget() {
  units_.clear();
  functions_.clear();
}

}  // namespace weft::rt
