// SPDX-License-Identifier: Apache-2.0
// What libdw tells of a program counter: function, line, what was inlined there. Of any process, as the Dwfl says; of
// this one by symbols.h, and of others by the profiler.
//
// libdw needs more than 150 KiB of stack. Not thread-safe.
#pragma once

#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/symbols.h"

namespace weft::rt {

class debug_info {
 public:
  // A range of code; addresses are the file's, without the load bias.
  struct die_range {
    Dwarf_Addr start;
    Dwarf_Addr end;
    Dwarf_Die die;
  };
  using die_ranges = std::vector<die_range>;  // disjoint, sorted

  // look_up: all source-level frames at `lookup`, innermost first; `pc` is what their offsets are told of. Empty: no
  // function is known there.
  std::vector<code_location> look_up(Dwfl* dwfl, std::uintptr_t pc, std::uintptr_t lookup);

  // module_at: the path of the file that is mapped there; "": there is none.
  static std::string module_at(Dwfl* dwfl, std::uintptr_t pc);

  // forget: to be called before modules are reported anew.
  void forget();

 private:
  struct unit {
    Dwarf_Die* cu = nullptr;
    Dwarf_Addr bias = 0;
  };

  unit find_unit(Dwfl_Module* module, std::uintptr_t lookup);
  const die_ranges& units_of(Dwfl_Module* module);
  const die_ranges& functions_of(Dwarf_Die* cu);
  void expand_inlined(Dwarf_Die* cu, Dwarf_Addr pc, code_location& location, std::vector<code_location>& out);

  std::unordered_map<Dwfl_Module*, die_ranges> units_;
  std::unordered_map<const void*, die_ranges> functions_;  // by the unit's place in the mapped debug data
};

}  // namespace weft::rt
