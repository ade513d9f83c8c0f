// SPDX-License-Identifier: Apache-2.0
// Stack walks by libunwind. See unwind.h for what is promised.
//
// libunwind reads the memory of the frames itself, and checks each page before it does (Debian builds it with
// conservative checks), so that a wrong frame pointer ends a walk. What it cannot know is added here: a parked stack
// has bounds, its stack pointer only grows, and every pc on it is in an executable segment of a loaded object.
#define UNW_LOCAL_ONLY

#include "runtime/unwind.h"

#include <libunwind.h>
#include <link.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>
#include <vector>

namespace weft::rt {
namespace {

struct code_query {
  std::uintptr_t pc;
  bool found;
};

int find_code(dl_phdr_info* object, std::size_t, void* data) {
  auto* query = static_cast<code_query*>(data);
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const auto& segment = object->dlpi_phdr[i];
    const std::uintptr_t start = object->dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0 && query->pc - start < segment.p_memsz) {
      query->found = true;
    }
  }
  return query->found ? 1 : 0;
}

bool is_code(std::uintptr_t pc) {
  code_query query{pc, false};
  dl_iterate_phdr(find_code, &query);
  return query.found;
}

// ---- Walks

struct stack_bounds {
  std::uintptr_t lo = 0;
  std::uintptr_t hi = UINTPTR_MAX;
  bool known = false;

  bool contain(std::uintptr_t sp) const { return sp >= lo && sp < hi; }
};

struct frame {
  unw_word_t pc = 0;
  unw_word_t sp = 0;
};

bool read_frame(unw_cursor_t& cursor, frame& f) {
  return unw_get_reg(&cursor, UNW_REG_IP, &f.pc) == 0 && unw_get_reg(&cursor, UNW_REG_SP, &f.sp) == 0 && f.pc != 0;
}

bool moved_out(const frame& from, const frame& to, const stack_bounds& bounds) {
  return bounds.known ? to.sp > from.sp : to.sp != from.sp || to.pc != from.pc;
}

// `exact`: the first pc is where the frame was interrupted, not where a call will return to.
std::size_t walk(unw_cursor_t& cursor, bool exact, const stack_bounds& bounds, std::size_t skip,
                 std::span<std::uintptr_t> pcs) {
  std::size_t n = 0;
  frame f;
  if (!read_frame(cursor, f)) return 0;
  while (n < pcs.size()) {
    if (!bounds.contain(f.sp) || (bounds.known && !is_code(exact ? f.pc : f.pc - 1))) break;
    if (skip > 0) {
      --skip;
    } else {
      pcs[n++] = exact ? f.pc + 1 : f.pc;
    }
    exact = unw_is_signal_frame(&cursor) > 0;
    frame next;
    if (unw_step(&cursor) <= 0 || !read_frame(cursor, next) || !moved_out(f, next, bounds)) break;
    f = next;
  }
  return n;
}

// What jump_fcontext leaves on the stack it switches away from (and make_fcontext lays out for the first switch),
// Boost 1.74 to 1.83, src/asm/jump_*_elf_gas.S. After the switch back the stack pointer is just above the block.
#if defined(__x86_64__)
struct saved_registers {
  std::uint64_t fp_control;  // mxcsr, x87 control word
  std::uint64_t r12, r13, r14, r15, rbx, rbp;
  std::uint64_t pc;
};
static_assert(sizeof(saved_registers) == 64);

void load_registers(const saved_registers& saved, std::uintptr_t block, unw_context_t& context) {
  auto& gregs = context.uc_mcontext.gregs;
  gregs[REG_R12] = static_cast<greg_t>(saved.r12);
  gregs[REG_R13] = static_cast<greg_t>(saved.r13);
  gregs[REG_R14] = static_cast<greg_t>(saved.r14);
  gregs[REG_R15] = static_cast<greg_t>(saved.r15);
  gregs[REG_RBX] = static_cast<greg_t>(saved.rbx);
  gregs[REG_RBP] = static_cast<greg_t>(saved.rbp);
  gregs[REG_RIP] = static_cast<greg_t>(saved.pc);
  const std::uintptr_t sp = block + sizeof saved;
  gregs[REG_RSP] = static_cast<greg_t>(sp);
}

// The callee of a wild call has no frame: its caller's return address is on top of the stack.
bool return_from_wild_call(unw_context_t& context) {
  auto& gregs = context.uc_mcontext.gregs;
  auto sp = static_cast<std::uintptr_t>(gregs[REG_RSP]);
  std::uintptr_t pc = 0;
  if (!read_memory(sp, &pc, sizeof pc) || !is_code(pc - 1)) return false;
  gregs[REG_RIP] = static_cast<greg_t>(pc);
  sp += sizeof pc;
  gregs[REG_RSP] = static_cast<greg_t>(sp);
  return true;
}

std::uintptr_t interrupted_pc(const unw_context_t& context) {
  return static_cast<std::uintptr_t>(context.uc_mcontext.gregs[REG_RIP]);
}
#elif defined(__aarch64__)
struct saved_registers {
  std::uint64_t d8_to_d15[8];
  std::uint64_t x19_to_x28[10];
  std::uint64_t fp, lr;
  std::uint64_t pc;
  std::uint64_t padding;
};
static_assert(sizeof(saved_registers) == 0xb0);

void load_registers(const saved_registers& saved, std::uintptr_t block, unw_context_t& context) {
  auto& registers = context.uc_mcontext;
  std::copy(std::begin(saved.x19_to_x28), std::end(saved.x19_to_x28), registers.regs + 19);
  registers.regs[29] = saved.fp;
  registers.regs[30] = saved.lr;
  registers.pc = saved.pc;
  registers.sp = block + sizeof saved;
}

bool return_from_wild_call(unw_context_t& context) {
  auto& registers = context.uc_mcontext;
  if (!is_code(registers.regs[30] - 1)) return false;
  registers.pc = registers.regs[30];
  return true;
}

std::uintptr_t interrupted_pc(const unw_context_t& context) { return context.uc_mcontext.pc; }
#else
#error "the register block of jump_fcontext is known for x86-64 and arm64 only"
#endif

// Both ABIs keep the block on a 16-byte boundary.
bool may_hold_block(std::uintptr_t block, const stack_bounds& bounds) {
  return block % 16 == 0 && bounds.lo < bounds.hi && block >= bounds.lo && block < bounds.hi &&
         bounds.hi - block > sizeof(saved_registers);
}

}  // namespace

bool read_memory(std::uintptr_t from, void* to, std::size_t size) noexcept {
  iovec local{to, size};
  iovec remote{reinterpret_cast<void*>(from), size};
  return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

[[gnu::noinline]] std::size_t unwind_here(std::span<std::uintptr_t> pcs, std::size_t skip) noexcept {
  unw_context_t context;
  unw_cursor_t cursor;
  if (unw_getcontext(&context) != 0 || unw_init_local(&cursor, &context) != 0) return 0;
  return walk(cursor, false, {}, skip + 1, pcs);
}

std::size_t unwind_from(const ucontext_t& interrupted, std::span<std::uintptr_t> pcs) noexcept {
  static_assert(sizeof(unw_context_t) <= sizeof(ucontext_t), "unw_context_t is a prefix of ucontext_t");
  unw_context_t context;
  unw_cursor_t cursor;
  std::memcpy(static_cast<void*>(&context), &interrupted, sizeof context);
  bool exact = true;
  if (!is_code(interrupted_pc(context)) && return_from_wild_call(context)) exact = false;
  if (unw_init_local2(&cursor, &context, exact ? UNW_INIT_SIGNAL_FRAME : 0) != 0) return 0;
  return walk(cursor, exact, {}, 0, pcs);
}

std::size_t unwind_parked(const void* fcontext, std::uintptr_t stack_lo, std::uintptr_t stack_hi,
                          std::span<std::uintptr_t> pcs) noexcept {
  const stack_bounds bounds{stack_lo, stack_hi, true};
  const auto block = reinterpret_cast<std::uintptr_t>(fcontext);
  saved_registers saved;
  if (!may_hold_block(block, bounds) || !read_memory(block, &saved, sizeof saved) || !is_code(saved.pc - 1)) return 0;
  unw_context_t context{};
  unw_cursor_t cursor;
  load_registers(saved, block, context);
  if (unw_init_local(&cursor, &context) != 0) return 0;
  return walk(cursor, false, bounds, 0, pcs);
}

std::size_t unwind_interrupted(const void* interrupted, std::uintptr_t stack_lo, std::uintptr_t stack_hi,
                               std::span<std::uintptr_t> pcs) noexcept {
  unw_context_t context;
  unw_cursor_t cursor;
  if (!read_memory(reinterpret_cast<std::uintptr_t>(interrupted), &context, sizeof context)) return 0;
  if (unw_init_local2(&cursor, &context, UNW_INIT_SIGNAL_FRAME) != 0) return 0;
  return walk(cursor, true, {stack_lo, stack_hi, true}, 0, pcs);
}

// Words of the copy that point into the stack, such as saved frame pointers, are made to point into the copy.
std::size_t unwind_copied(const void* fcontext, std::uintptr_t stack_lo, std::uintptr_t stack_hi,
                          std::span<std::uintptr_t> pcs) {
  const auto block = reinterpret_cast<std::uintptr_t>(fcontext);
  if (!may_hold_block(block, {stack_lo, stack_hi, true})) return 0;
  struct alignas(16) line {
    std::uintptr_t words[16 / sizeof(std::uintptr_t)];
  };
  std::vector<line> copy((stack_hi - block) / sizeof(line));
  const std::size_t size = copy.size() * sizeof(line);
  if (!read_memory(block, copy.data(), size)) return 0;
  const auto low = reinterpret_cast<std::uintptr_t>(copy.data());
  for (line& each : copy)
    for (std::uintptr_t& word : each.words)
      if (word - block < size) word += low - block;
  return unwind_parked(copy.data(), low, low + size, pcs);
}

}  // namespace weft::rt
