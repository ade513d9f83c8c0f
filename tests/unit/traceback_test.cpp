// SPDX-License-Identifier: Apache-2.0
// Stack walks and their text: from here, from a fault, from a parked fiber; what is shown of them and what is left out.
#include "runtime/traceback.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/context/detail/fcontext.hpp>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "runtime/sanitizer.h"

// After the call that matters: no tail call, and no folding of functions that would else be the same.
#define TEXT_OF(x) #x
#define STAY_AT_LINE(line) asm volatile("/* " TEXT_OF(line) " */" ::: "memory")
#define STAY_IN_FRAME() STAY_AT_LINE(__LINE__)

namespace fiber = boost::context::detail;

using pc_array = std::array<std::uintptr_t, 256>;

// Names that the tests look for, of external linkage, one call a line.
namespace traceback_sample {

int outer_line, middle_line, inner_line, fault_line, wild_line;

[[gnu::noinline]] std::size_t walk_here(std::span<std::uintptr_t> pcs, std::size_t skip) {
  const std::size_t n = weft::rt::unwind_here(pcs, skip);
  STAY_IN_FRAME();
  return n;
}

[[gnu::noinline]] std::size_t walk_at_depth(int depth, std::span<std::uintptr_t> pcs) {
  const std::size_t n = depth == 0 ? weft::rt::unwind_here(pcs) : walk_at_depth(depth - 1, pcs);
  STAY_IN_FRAME();
  return n;
}

inline __attribute__((always_inline)) std::size_t walk_inlined(std::span<std::uintptr_t> pcs) {
  const std::size_t n = weft::rt::unwind_here(pcs);
  STAY_IN_FRAME();
  return n;
}

[[gnu::noinline]] std::size_t walk_through_inlined(std::span<std::uintptr_t> pcs) {
  const std::size_t n = walk_inlined(pcs);
  STAY_IN_FRAME();
  return n;
}

template <class T>
[[gnu::noinline]] std::size_t walk_in_template(T pcs) {
  const std::size_t n = weft::rt::unwind_here(pcs);
  STAY_IN_FRAME();
  return n;
}

[[gnu::noinline]] void park_inner(fiber::fcontext_t to) {
  inner_line = __LINE__ + 1;
  fiber::jump_fcontext(to, nullptr);
  STAY_IN_FRAME();
}

[[gnu::noinline]] void park_middle(fiber::fcontext_t to) {
  middle_line = __LINE__ + 1;
  park_inner(to);
  STAY_IN_FRAME();
}

// alloca makes the frame pointer the base of this frame.
[[gnu::noinline]] void park_outer(fiber::fcontext_t to, std::size_t extra) {
  auto* bytes = static_cast<volatile char*>(__builtin_alloca(extra));
  bytes[0] = 1;
  outer_line = __LINE__ + 1;
  park_middle(to);
  STAY_IN_FRAME();
}

[[gnu::noinline]] void fault(volatile int* where) {
  fault_line = __LINE__ + 1;
  *where = 1;
  STAY_IN_FRAME();
}

[[gnu::noinline]] void call_wild(void (*where)()) {
  asm volatile("" : "+r"(where));
  wild_line = __LINE__ + 1;
  where();
  STAY_IN_FRAME();
}

}  // namespace traceback_sample

namespace weft::rt {
[[gnu::noinline]] std::size_t sample_inside(std::span<std::uintptr_t> pcs) {
  const std::size_t n = unwind_here(pcs);
  STAY_IN_FRAME();
  return n;
}
}  // namespace weft::rt

namespace weft::detail {
template <class F>
[[gnu::noinline]] std::size_t sample_entry(F f) {
  const std::size_t n = f();
  STAY_IN_FRAME();
  return n;
}
}  // namespace weft::detail

namespace {

using weft::rt::code_location;

std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::vector<code_location> symbolize_all(std::span<const std::uintptr_t> pcs) {
  std::vector<code_location> out;
  for (const std::uintptr_t pc : pcs) out.push_back(weft::rt::symbolize(pc));
  return out;
}

std::size_t position(const std::string& text, const std::string& part) {
  const std::size_t at = text.find(part);
  EXPECT_NE(at, std::string::npos) << part << " is not in\n" << text;
  return at;
}

// A stack of its own, with an unreadable page at both ends, and a fiber parked three functions deep on it.
class parked_fiber {
 public:
  parked_fiber() {
    map_ = static_cast<std::byte*>(mmap(nullptr, kSize + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(map_ + kPage, kSize, PROT_READ | PROT_WRITE);
    fcontext_ = fiber::make_fcontext(map_ + kPage + kSize, kSize, entry);
    switch_to_fiber();
  }
  ~parked_fiber() {
    switch_to_fiber();
    munmap(map_, kSize + 2 * kPage);
  }
  parked_fiber(const parked_fiber&) = delete;
  parked_fiber& operator=(const parked_fiber&) = delete;

  void* fcontext() const { return fcontext_; }
  std::uintptr_t guard() const { return reinterpret_cast<std::uintptr_t>(map_); }
  std::uintptr_t lo() const { return guard() + kPage; }
  std::uintptr_t hi() const { return lo() + kSize; }

 private:
  static constexpr std::size_t kPage = 64 << 10;
  static constexpr std::size_t kSize = 256 << 10;

  void switch_to_fiber() {
    void* fake = nullptr;
    weft::rt::before_switch_stack(&fake, map_ + kPage, kSize);
    fcontext_ = fiber::jump_fcontext(fcontext_, nullptr).fctx;
    weft::rt::after_switch_stack(fake, nullptr, nullptr);
  }

  // The jump back to the constructor is in park_inner(), the one to the destructor here.
  static void entry(fiber::transfer_t caller) {
    const void* bottom = nullptr;
    std::size_t size = 0;
    weft::rt::after_switch_stack(nullptr, &bottom, &size);
    weft::rt::before_switch_stack(nullptr, bottom, size);
    traceback_sample::park_outer(caller.fctx, 100);
    weft::rt::after_switch_stack(nullptr, nullptr, nullptr);
    weft::rt::before_switch_stack(nullptr, bottom, size);
    fiber::jump_fcontext(caller.fctx, nullptr);
  }

  std::byte* map_ = nullptr;
  fiber::fcontext_t fcontext_ = nullptr;
};

TEST(traceback, finds_the_function_and_file_of_its_own_frames) {
  pc_array pcs;
  const std::size_t n = traceback_sample::walk_here(pcs, 0);
  ASSERT_GE(n, 2u);
  const auto first = weft::rt::symbolize(pcs[0]);
  EXPECT_EQ(first.function, "traceback_sample::walk_here");
  EXPECT_EQ(file_name(first.file), "traceback_test.cpp");
  EXPECT_GT(first.line, 0);
  EXPECT_GT(first.offset, 0u);
  EXPECT_NE(weft::rt::symbolize(pcs[1]).function.find("finds_the_function_and_file"), std::string::npos);
}

TEST(traceback, skip_leaves_out_the_innermost_frames) {
  pc_array pcs;
  ASSERT_GE(traceback_sample::walk_here(pcs, 1), 1u);
  EXPECT_NE(weft::rt::symbolize(pcs[0]).function.find("skip_leaves_out"), std::string::npos);
}

TEST(traceback, a_walk_fills_no_more_than_the_span) {
  pc_array pcs{};
  EXPECT_EQ(traceback_sample::walk_at_depth(20, std::span(pcs).first(5)), 5u);
  EXPECT_EQ(pcs[5], 0u);
  EXPECT_EQ(traceback_sample::walk_here({}, 0), 0u);
}

TEST(traceback, exact_pcs_are_not_taken_for_return_addresses) {
  const auto start = reinterpret_cast<std::uintptr_t>(&traceback_sample::walk_here);
  const auto location = weft::rt::symbolize(start, weft::rt::pc_kind::exact);
  EXPECT_EQ(location.function, "traceback_sample::walk_here");
  EXPECT_EQ(location.offset, 0u);
}

TEST(traceback, inlined_functions_are_frames) {
  pc_array pcs;
  ASSERT_GE(traceback_sample::walk_through_inlined(pcs), 1u);
  const auto locations = weft::rt::symbolize_inlined(pcs[0]);
  ASSERT_EQ(locations.size(), 2u);
  EXPECT_EQ(locations[0].function, "traceback_sample::walk_inlined");
  EXPECT_TRUE(locations[0].inlined);
  EXPECT_EQ(locations[1].function, "traceback_sample::walk_through_inlined");
  EXPECT_FALSE(locations[1].inlined);
  EXPECT_EQ(file_name(locations[1].file), "traceback_test.cpp");
  EXPECT_GT(locations[1].line, locations[0].line);
}

TEST(traceback, template_functions_have_no_return_type) {
  pc_array pcs;
  ASSERT_GE(traceback_sample::walk_in_template(std::span<std::uintptr_t>(pcs)), 1u);
  const std::string name = weft::rt::symbolize(pcs[0]).function;
  EXPECT_TRUE(name.starts_with("traceback_sample::walk_in_template<std::span<")) << name;
}

TEST(traceback, a_parked_fiber_shows_its_functions_and_lines) {
  const parked_fiber parked;
  pc_array pcs;
  const std::size_t n = weft::rt::unwind_parked(parked.fcontext(), parked.lo(), parked.hi(), pcs);
  ASSERT_GE(n, 4u);
  ASSERT_LE(n, 6u);
  const auto locations = symbolize_all(std::span(pcs).first(n));
  const std::pair<std::string, int> expected[] = {{"traceback_sample::park_inner", traceback_sample::inner_line},
                                                  {"traceback_sample::park_middle", traceback_sample::middle_line},
                                                  {"traceback_sample::park_outer", traceback_sample::outer_line}};
  for (std::size_t i = 0; i < std::size(expected); ++i) {
    EXPECT_EQ(locations[i].function, expected[i].first);
    EXPECT_EQ(locations[i].line, expected[i].second);
    EXPECT_EQ(file_name(locations[i].file), "traceback_test.cpp");
  }
  EXPECT_NE(locations[3].function.find("parked_fiber::entry"), std::string::npos);
}

TEST(traceback, a_parked_walk_stays_within_its_bounds) {
  const parked_fiber parked;
  pc_array pcs;
  const auto block = reinterpret_cast<std::uintptr_t>(parked.fcontext());
  const std::size_t all = weft::rt::unwind_parked(parked.fcontext(), parked.lo(), parked.hi(), pcs);
  EXPECT_EQ(weft::rt::unwind_parked(parked.fcontext(), block, block + 16, pcs), 0u);
  const std::size_t few = weft::rt::unwind_parked(parked.fcontext(), block, block + 72 + 8 * sizeof(void*), pcs);
  EXPECT_LT(few, all);
  EXPECT_EQ(weft::rt::unwind_parked(parked.fcontext(), parked.hi(), parked.hi() + 4096, pcs), 0u);
  EXPECT_EQ(weft::rt::unwind_parked(parked.fcontext(), parked.hi(), parked.lo(), pcs), 0u);
}

TEST(traceback, a_copy_of_a_parked_stack_shows_the_same) {
  const parked_fiber parked;
  pc_array pcs{}, copied{};
  const std::size_t n = weft::rt::unwind_parked(parked.fcontext(), parked.lo(), parked.hi(), pcs);
  EXPECT_EQ(weft::rt::unwind_copied(parked.fcontext(), parked.lo(), parked.hi(), copied), n);
  EXPECT_EQ(copied, pcs);
}

TEST(traceback, a_stack_that_is_gone_shows_nothing) {
  pc_array pcs;
  constexpr std::size_t kSize = 64 << 10;
  void* const gone = mmap(nullptr, kSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(gone, MAP_FAILED);
  munmap(gone, kSize);
  const auto lo = reinterpret_cast<std::uintptr_t>(gone);
  EXPECT_EQ(weft::rt::unwind_copied(static_cast<std::byte*>(gone) + 1024, lo, lo + kSize, pcs), 0u);
  EXPECT_EQ(weft::rt::unwind_copied(nullptr, 0, kSize, pcs), 0u);
}

TEST(traceback, a_new_fiber_has_nothing_to_show) {
  alignas(16) static std::byte stack[64 << 10];
  const auto lo = reinterpret_cast<std::uintptr_t>(stack);
  void* fresh = fiber::make_fcontext(stack + sizeof stack, sizeof stack, [](fiber::transfer_t) {});
  pc_array pcs;
  const std::size_t n = weft::rt::unwind_parked(fresh, lo, lo + sizeof stack, pcs);
  EXPECT_LE(n, 1u);
}

TEST(traceback, garbage_register_blocks_give_no_frames) {
  pc_array pcs;
  alignas(16) static std::byte stack[4096];
  const auto lo = reinterpret_cast<std::uintptr_t>(stack);
  for (const int fill : {0x00, 0x5a, 0xff}) {
    std::memset(stack, fill, sizeof stack);
    EXPECT_EQ(weft::rt::unwind_parked(stack + 1024, lo, lo + sizeof stack, pcs), 0u);
  }
  EXPECT_EQ(weft::rt::unwind_parked(nullptr, 0, UINTPTR_MAX, pcs), 0u);
  EXPECT_EQ(weft::rt::unwind_parked(reinterpret_cast<void*>(0x1000), 0, UINTPTR_MAX, pcs), 0u);
  EXPECT_EQ(weft::rt::unwind_parked(reinterpret_cast<void*>(0x1001), 0x1000, 0x9000, pcs), 0u);
  const auto top = UINTPTR_MAX - 15;
  EXPECT_EQ(weft::rt::unwind_parked(reinterpret_cast<void*>(top), 0, UINTPTR_MAX, pcs), 0u);
  const parked_fiber parked;
  EXPECT_EQ(weft::rt::unwind_parked(reinterpret_cast<void*>(parked.guard()), parked.guard(), parked.hi(), pcs), 0u);
}

TEST(traceback, wrong_registers_in_a_block_end_the_walk) {
  const parked_fiber parked;
  auto* words = static_cast<std::uintptr_t*>(parked.fcontext());
#if defined(__x86_64__)
  constexpr std::size_t kWords = 7;  // all but the pc
#else
  constexpr std::size_t kWords = 20;
#endif
  std::vector<std::uintptr_t> saved(words, words + kWords);
  pc_array pcs;
  const std::uintptr_t values[] = {
      0,           8,           parked.guard() + 4096, parked.lo() - 8,        parked.hi() - 8,
      parked.hi(), UINTPTR_MAX, UINTPTR_MAX - 7,       std::uintptr_t{1} << 63};
  for (const std::uintptr_t value : values) {
    std::fill(words, words + kWords, value);
    EXPECT_GE(weft::rt::unwind_parked(parked.fcontext(), parked.lo(), parked.hi(), pcs), 1u);
  }
  std::copy(saved.begin(), saved.end(), words);
}

#ifndef __SANITIZE_ADDRESS__  // which rightly objects to the overwriting
TEST(traceback, an_overwritten_stack_ends_the_walk) {
  pc_array pcs;
  for (const int fill : {0x00, 0x41, 0xff}) {
    const parked_fiber parked;
    auto* above = static_cast<std::byte*>(parked.fcontext()) + 0xb0;
    const std::size_t size = parked.hi() - reinterpret_cast<std::uintptr_t>(above);
    const std::vector<std::byte> saved(above, above + size);
    std::memset(above, fill, size);
    EXPECT_LE(weft::rt::unwind_parked(parked.fcontext(), parked.lo(), parked.hi(), pcs), 3u);
    std::memcpy(above, saved.data(), size);
  }
}
#endif

pc_array fault_pcs;
std::size_t fault_frames;
sigjmp_buf after_fault;

void record_fault(int, siginfo_t*, void* context) {
  fault_frames = weft::rt::unwind_from(*static_cast<ucontext_t*>(context), fault_pcs);
  siglongjmp(after_fault, 1);
}

class fault_recorder {
 public:
  fault_recorder() {
    struct sigaction action {};
    action.sa_sigaction = record_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &before_);
  }
  ~fault_recorder() { sigaction(SIGSEGV, &before_, nullptr); }
  fault_recorder(const fault_recorder&) = delete;
  fault_recorder& operator=(const fault_recorder&) = delete;

 private:
  struct sigaction before_ {};
};

TEST(traceback, a_fault_is_shown_at_its_line) {
  const fault_recorder recorder;
  static void* const sealed = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (sigsetjmp(after_fault, 1) == 0) traceback_sample::fault(static_cast<int*>(sealed));
  munmap(sealed, 4096);
  ASSERT_GE(fault_frames, 2u);
  const auto location = weft::rt::symbolize(fault_pcs[0]);
  EXPECT_EQ(location.function, "traceback_sample::fault");
  EXPECT_EQ(location.line, traceback_sample::fault_line);
  EXPECT_NE(weft::rt::symbolize(fault_pcs[1]).function.find("a_fault_is_shown"), std::string::npos);
}

TEST(traceback, a_wild_call_is_shown_by_its_caller) {
  const fault_recorder recorder;
  if (sigsetjmp(after_fault, 1) == 0) traceback_sample::call_wild(nullptr);
  ASSERT_GE(fault_frames, 2u);
  const auto location = weft::rt::symbolize(fault_pcs[0]);
  EXPECT_EQ(location.function, "traceback_sample::call_wild");
  EXPECT_EQ(location.line, traceback_sample::wild_line);
}

void walk_in_handler(int) {
  fault_frames = weft::rt::unwind_here(fault_pcs);
  STAY_IN_FRAME();
}

TEST(traceback, a_walk_goes_through_a_signal_frame) {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = walk_in_handler;
  sigaction(SIGUSR1, &action, &before);
  raise(SIGUSR1);
  sigaction(SIGUSR1, &before, nullptr);
  const std::string text = weft::rt::format_frames(std::span(fault_pcs).first(fault_frames));
  EXPECT_LT(position(text, "walk_in_handler(...)"), position(text, "a_walk_goes_through_a_signal_frame"));
}

TEST(traceback, unknown_pcs_have_a_location_all_the_same) {
  for (const std::uintptr_t pc : {std::uintptr_t{0}, std::uintptr_t{1}, std::uintptr_t{0x1234}, ~std::uintptr_t{0}}) {
    const auto location = weft::rt::symbolize(pc);
    EXPECT_EQ(location.function, "");
    EXPECT_EQ(location.line, 0);
  }
  const std::uintptr_t pc = 0x1234;
  EXPECT_EQ(weft::rt::format_frames(std::span(&pc, 1)), "?(...)\n\t? +0x1234\n");
  EXPECT_EQ(weft::rt::format_frames({}), "");
}

TEST(traceback, libraries_that_are_loaded_later_are_found) {
  pc_array pcs;
  ASSERT_GE(traceback_sample::walk_here(pcs, 0), 1u);
  ASSERT_NE(weft::rt::symbolize(pcs[0]).function, "");
  void* library = dlopen("libthread_db.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) GTEST_SKIP() << dlerror();
  const auto pc = reinterpret_cast<std::uintptr_t>(dlsym(library, "td_ta_new"));
  ASSERT_NE(pc, 0u);
  EXPECT_EQ(weft::rt::symbolize(pc, weft::rt::pc_kind::exact).function, "td_ta_new");
  dlclose(library);
  EXPECT_NE(weft::rt::symbolize(pcs[0]).function, "");
}

TEST(traceback, look_ups_work_from_many_threads) {
  pc_array pcs;
  const std::size_t n = traceback_sample::walk_at_depth(3, pcs);
  const std::string expected = weft::rt::format_frames(std::span(pcs).first(n));
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) EXPECT_EQ(weft::rt::format_frames(std::span(pcs).first(n)), expected);
    });
  }
  for (auto& t : threads) t.join();
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // their frames are larger
constexpr std::size_t kSmallStack = 256 << 10;

void* report_on_small_stack(void*) {
  pc_array pcs;
  const std::size_t n = traceback_sample::walk_at_depth(3, pcs);
  EXPECT_NE(weft::rt::format_frames(std::span(pcs).first(n)), "");
  const auto libc = reinterpret_cast<std::uintptr_t>(dlsym(RTLD_DEFAULT, "qsort"));
  EXPECT_NE(weft::rt::symbolize(libc, weft::rt::pc_kind::exact).function, "");
  return nullptr;
}

TEST(traceback, the_callers_stack_pays_less_than_48_kib) {
  constexpr int kPaint = 0xa5;
  void* stack = mmap(nullptr, kSmallStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(stack, MAP_FAILED);
  std::memset(stack, kPaint, kSmallStack);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, stack, kSmallStack);
  pthread_t thread;
  ASSERT_EQ(pthread_create(&thread, &attributes, report_on_small_stack, nullptr), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  const auto* bytes = static_cast<unsigned char*>(stack);
  const auto* used = std::find_if(bytes, bytes + kSmallStack, [](unsigned char b) { return b != kPaint; });
  EXPECT_LT(static_cast<std::size_t>(bytes + kSmallStack - used), 48u << 10);
  munmap(stack, kSmallStack);
}
#endif

TEST(traceback, runtime_frames_are_left_out_at_the_top) {
  pc_array pcs;
  const std::size_t n = weft::rt::sample_inside(pcs);
  ASSERT_GE(n, 2u);
  EXPECT_EQ(weft::rt::symbolize(pcs[0]).function, "weft::rt::sample_inside");
  const std::string text = weft::rt::format_frames(std::span(pcs).first(n));
  EXPECT_EQ(text.find("sample_inside"), std::string::npos);
  const std::string test = "(anonymous namespace)::traceback_runtime_frames_are_left_out_at_the_top_Test::TestBody";
  EXPECT_TRUE(text.starts_with(test + "(...)\n\t")) << text;
}

TEST(traceback, runtime_frames_are_shown_when_there_are_no_others) {
  pc_array pcs;
  ASSERT_GE(weft::rt::sample_inside(pcs), 1u);
  EXPECT_TRUE(weft::rt::format_frames(std::span(pcs).first(1)).starts_with("weft::rt::sample_inside(...)\n\t"));
}

TEST(traceback, runtime_frames_between_user_frames_stay) {
  pc_array pcs;
  const std::size_t n = weft::detail::sample_entry([&pcs] { return traceback_sample::walk_here(pcs, 0); });
  const std::string text = weft::rt::format_frames(std::span(pcs).first(n));
  const std::size_t entry = position(text, "weft::detail::sample_entry<");
  EXPECT_LT(position(text, "traceback_sample::walk_here(...)"), entry);
  EXPECT_LT(entry, position(text, "runtime_frames_between_user_frames_stay_Test::TestBody(...)"));
}

TEST(traceback, the_frames_of_a_goroutines_entry_are_left_out_at_the_bottom) {
  const std::vector<code_location> frames = {{"weft::rt::park", "p.cpp", 1, 1, false},
                                             {"jump_fcontext", "", 0, 1, false},
                                             {"user", "u.cpp", 7, 0x1f, false},
                                             {"std::__invoke_impl<void>", "invoke.h", 2, 0, true},
                                             {"weft::detail::call<f>", "c.h", 3, 0, true},
                                             {"weft::rt::goroutine_entry", "e.cpp", 4, 9, false},
                                             {"make_fcontext", "lib.so", 0, 0x2f, false}};
  EXPECT_EQ(weft::rt::format_locations(frames), "user(...)\n\tu.cpp:7 +0x1f\n");
}

TEST(traceback, nameless_frames_are_the_runtimes_in_its_libraries_only) {
  const std::vector<code_location> frames = {{"weft::rt::on_terminate", "t.cpp", 1, 1, false},
                                             {"", "/lib/libstdc++.so.6", 0, 0xa8e1a, false},
                                             {"std::terminate", "/lib/libstdc++.so.6", 0, 0x15, false},
                                             {"__cxa_throw", "/lib/libstdc++.so.6", 0, 0x48, false},
                                             {"", "/lib/libuser.so", 0, 0x10, false},
                                             {"user", "u.cpp", 7, 0x1f, false}};
  EXPECT_EQ(weft::rt::format_locations(frames), "?(...)\n\t/lib/libuser.so +0x10\nuser(...)\n\tu.cpp:7 +0x1f\n");
}

TEST(traceback, exception_machinery_is_the_runtimes) {
  const char* runtime[] = {"__cxa_throw",    "std::terminate",          "_Unwind_RaiseException",
                           "jump_fcontext",  "make_fcontext",           "__gnu_cxx::__verbose_terminate_handler",
                           "weft::rt::park", "weft::detail::call<int>", "__cxxabiv1::__terminate"};
  for (const char* name : runtime) {
    EXPECT_TRUE(weft::rt::is_runtime_frame(name)) << name;
  }
  for (const char* name : {"", "main", "weft::chan<int>::send", "weft::rtx", "user<weft::rt::g>", "std::terminated"}) {
    EXPECT_FALSE(weft::rt::is_runtime_frame(name)) << name;
  }
}

TEST(traceback, long_stacks_are_cut_in_the_middle) {
  const auto stack_of = [](int depth) {
    std::vector<code_location> frames;
    for (int i = 0; i < depth; ++i) frames.push_back({"f" + std::to_string(i), "f.cpp", i + 1, 1, false});
    return weft::rt::format_locations(frames);
  };
  EXPECT_EQ(stack_of(100).find("elided"), std::string::npos);
  const std::string text = stack_of(123);
  EXPECT_NE(text.find("\nf49(...)\n\tf.cpp:50 +0x1\n...23 frames elided...\nf73(...)\n"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("\nf122(...)\n\tf.cpp:123 +0x1\n"));
}

TEST(traceback, deep_recursion_is_cut_in_the_middle) {
  pc_array pcs;
  const std::size_t n = traceback_sample::walk_at_depth(150, pcs);
  ASSERT_GT(n, 150u);
  const std::string text = weft::rt::format_frames(std::span(pcs).first(n));
  EXPECT_NE(text.find(" frames elided...\n"), std::string::npos);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\t'), 100);
}

TEST(traceback, names_are_cut_to_the_qualified_name) {
  const std::pair<const char*, const char*> cases[] = {
      {"main", "main"},
      {"f", "f"},
      {"f.cold", "f"},
      {"f.constprop.0", "f"},
      {"_Z1fi", "f"},
      {"_ZN1a1bEv", "a::b"},
      {"_ZNK1a1bEv", "a::b"},
      {"_ZN12_GLOBAL__N_11fEi", "(anonymous namespace)::f"},
      {"_Z1fIiEvT_", "f<int>"},
      {"_Z1fIiEmT_", "f<int>"},
      {"_Z1fIiESt6vectorIiSaIiEET_", "f<int>"},
      {"_Z1fIiEDTcl1gfp_EET_", "f<int>"},
      {"_ZN1aclEv", "a::operator()"},
      {"_ZN1acvbEv", "a::operator bool"},
      {"_ZN1acvmEv", "a::operator unsigned long"},
      {"_ZN1alsEi", "a::operator<<"},
      {"_ZN1altIiEEbT_", "a::operator< <int>"},
      {"_ZN1agtIiEEbT_", "a::operator><int>"},
      {"_ZN1aptEv", "a::operator->"},
      {"_ZNK1aixEi", "a::operator[]"},
      {"_ZN1a8operatorEi", "a::operator"},
      {"_Znwm", "operator new"},
      {"_ZlsIcERSoS0_T_", "operator<< <char>"},
      {"_ZZ4mainENKUlvE_clEv", "main::{lambda()#1}::operator()"},
      {"_ZZN1a1bEiENKUlvE_clEv", "a::b(int)::{lambda()#1}::operator()"},
      {"_ZZNK1a1bEiENKUlvE_clEv", "a::b(int) const::{lambda()#1}::operator()"},
      {"_ZThn8_N1a1bEv", "a::b"},
      {"_Z1fv.cold", "f"},
      {"_Z1fB5cxx11v", "f[abi:cxx11]"},
      {"_Znonsense", "_Znonsense"},
      {"clock_nanosleep@GLIBC_2.2.5", "clock_nanosleep"},
      {"_ZNSt6thread4joinEv@@GLIBCXX_3.4.11", "std::thread::join"},
      {"", ""},
  };
  for (const auto& [symbol, name] : cases) EXPECT_EQ(weft::rt::function_name(symbol), name) << symbol;
}

TEST(traceback, a_report_is_written_at_once) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
  pc_array pcs;
  const std::size_t n = traceback_sample::walk_at_depth(5, pcs);
  weft::rt::print_frames(ends[0], std::span(pcs).first(n));
  std::string received(64 << 10, '\0');
  received.resize(static_cast<std::size_t>(read(ends[1], received.data(), received.size())));
  EXPECT_EQ(received, weft::rt::format_frames(std::span(pcs).first(n)));
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
