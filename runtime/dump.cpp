// SPDX-License-Identifier: Apache-2.0
// Goroutines as text, in Go's form. Go: traceback.go.
#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "runtime/clock.h"
#include "runtime/proc.h"
#include "runtime/traceback.h"

namespace weft::rt {
namespace {

std::string wait_time(const g* gp) {
  const std::int64_t since = gp->wait_since.load(std::memory_order_relaxed);
  const std::int64_t seconds = since == 0 ? 0 : (nanotime() - since) / 1'000'000'000;
  if (seconds < 1) return "";
  if (seconds < 60) return ", " + std::to_string(seconds) + (seconds == 1 ? " second" : " seconds");
  return ", " + std::to_string(seconds / 60) + (seconds < 120 ? " minute" : " minutes");
}

const char* state_of(const g* gp) {
  if (const m* self = this_m(); self && self->curg == gp) return "running";  // whatever it was about to do
  switch (gp->status.load(std::memory_order_relaxed)) {
    case g_status::idle: return "idle";
    case g_status::runnable: return "runnable";
    case g_status::running: return "running";
    case g_status::syscall: return "syscall";
    case g_status::waiting: return name_of(gp->reason.load(std::memory_order_relaxed));
    case g_status::dead: return "dead";
    case g_status::preempted: return "runnable";  // Go's word
  }
  return "?";
}

// The world is not stopped: a goroutine that is about to park may not have saved its context yet, and one that has just
// been woken uses it no more. unwind_parked() sees that what it is given is no register block then.
#if defined(__SANITIZE_THREAD__)
[[gnu::no_sanitize_thread, gnu::noinline]]
#endif
const void*
context_of(const g* gp) {
  return gp->context;
}

// Empty: it has just gone on.
std::string frames_of_preempted(const g* gp) {
  std::uintptr_t pcs[256];
  const m* const mp = gp->lockedm.load(std::memory_order_acquire);
  if (!mp || !mp->parked.load(std::memory_order_acquire)) return "";
  const void* const interrupted = mp->interrupted.load(std::memory_order_acquire);
  return format_frames({pcs, unwind_interrupted(interrupted, gp->stk->low(), gp->stk->high(), pcs)});
}

std::string frames_of(const g* gp) {
  std::uintptr_t pcs[256];
  const m* const self = this_m();
  if (self && self->curg == gp) return format_frames({pcs, unwind_here(pcs, 1)});
  switch (gp->status.load(std::memory_order_relaxed)) {
    case g_status::running: return "\tgoroutine running on other thread; stack unavailable\n";
    case g_status::preempted: return frames_of_preempted(gp);
    case g_status::syscall: return "\tgoroutine in a blocking call; stack unavailable\n";
    default: break;
  }
  if (!gp->stk) return "";  // has not started
  return format_frames({pcs, unwind_parked(context_of(gp), gp->stk->low(), gp->stk->high(), pcs)});
}

// What stands between newproc() and the function that a user wrote; all of it is inlined there.
bool starts_goroutines(const code_location& at) {
  static constexpr auto kNames =
      std::to_array<std::string_view>({"weft::go", "weft::wait_group::go", "weft::task_group::go",
                                       "weft::task_group::try_go", "weft::task_group::spawn", "weft::after_func"});
  const std::string_view name = at.function;
  if (name.starts_with("weft::rt::") || name.starts_with("weft::detail::")) return true;
  return std::find(kNames.begin(), kNames.end(), name.substr(0, name.find('<'))) != kNames.end();
}

bool alive(const g* gp) {
  const g_status status = gp->status.load(std::memory_order_relaxed);
  return status != g_status::idle && status != g_status::dead && !left_behind(gp->run);
}

}  // namespace

std::string goroutine_header(const g* gp) {
  std::string text = "goroutine " + std::to_string(gp->id.load(std::memory_order_relaxed)) + " [" + state_of(gp);
  if (gp->status.load(std::memory_order_relaxed) == g_status::waiting) text += wait_time(gp);
  const bool preempted = gp->status.load(std::memory_order_relaxed) == g_status::preempted;
  if (gp->lockedm.load(std::memory_order_relaxed) && !preempted) text += ", locked to thread";
  text += "]";
  if (const char* name = gp->name.load(std::memory_order_relaxed)) text += std::string(" \"") + name + "\"";
  return text + ":\n";
}

std::string creator_text(std::uintptr_t pc, std::uint64_t id) {
  if (pc == 0) return "";
  const std::vector<code_location> frames = symbolize_inlined(pc);
  if (frames.empty()) return "";
  auto at = std::find_if_not(frames.begin(), frames.end(), starts_goroutines);
  if (at == frames.end()) --at;
  std::string text = "created by " + (at->function.empty() ? std::string("?") : at->function);
  if (id != 0) text += " in goroutine " + std::to_string(id);
  text += "\n";
  if (!at->file.empty()) text += "\t" + at->file + ":" + std::to_string(at->line) + "\n";
  return text;
}

std::string goroutine_creator(const g* gp) { return creator_text(gp->creator_pc, gp->creator_id); }

std::string format_goroutine(const g* gp) { return goroutine_header(gp) + frames_of(gp) + goroutine_creator(gp); }

std::string format_all_goroutines() {
  std::vector<const g*> all;
  for_each_g(
      [](g* gp, void* list) {
        if (alive(gp)) static_cast<std::vector<const g*>*>(list)->push_back(gp);
      },
      &all);
  std::sort(all.begin(), all.end(), [](const g* a, const g* b) { return a->id.load() < b->id.load(); });
  std::string text;
  for (const g* gp : all) text += "\n" + format_goroutine(gp);
  return text;
}

}  // namespace weft::rt
