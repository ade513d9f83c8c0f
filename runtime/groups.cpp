// SPDX-License-Identifier: Apache-2.0
// Goroutines looked at while everything goes on: what each does, and which have what in common.
//
// Nothing holds a goroutine still: it may go on, end, and its stack be unmapped, while it is looked at. So its stack is
// never touched: it is copied by a system call that fails where nothing is, and unwound in the copy (unwind.h). If the
// G is still as it was afterwards, the copy is that of a goroutine that stayed parked, but for one that went round in
// between and parked again where it had been: its frames may then be mixed.
#include <algorithm>
#include <array>
#include <compare>
#include <map>
#include <vector>

#include "runtime/clock.h"
#include "runtime/proc.h"
#include "runtime/traceback.h"

namespace weft::rt {
namespace {

constexpr std::size_t kMostStacks = 10'000;  // to unwind one takes some 20 us, and no M can be made meanwhile
constexpr std::size_t kMostFrames = 64;

// What belongs to a G's holder.
struct glimpse {
  const void* context;
  const stack* stk;
  std::uintptr_t creator_pc;
  std::uint64_t creator_id, id;
  g_status status;
  wait_reason reason;
  bool foreign;
  std::uint32_t run;

  bool operator==(const glimpse&) const = default;
};

#if defined(__SANITIZE_THREAD__)
[[gnu::no_sanitize_thread, gnu::noinline]]
#endif
glimpse
look_at_g(const g* gp) {
  return {gp->context,
          gp->stk,
          gp->creator_pc,
          gp->creator_id,
          gp->id.load(std::memory_order_relaxed),
          gp->status.load(std::memory_order_relaxed),
          gp->reason.load(std::memory_order_relaxed),
          gp->foreign,
          gp->run};
}

// Null: it is none, or of another run().
const char* doing_of(const glimpse& seen) {
  if (seen.foreign || left_behind(seen.run)) return nullptr;
  switch (seen.status) {
    case g_status::runnable: return "runnable";
    case g_status::running: return "running";
    case g_status::syscall: return "syscall";
    case g_status::preempted: return "preempted";
    case g_status::waiting: return name_of(seen.reason);
    case g_status::idle:
    case g_status::dead: break;
  }
  return nullptr;
}

// A name's text may end with its goroutine.
std::string copy_name(const char* name) {
  if (!name) return "";
  std::array<char, 64> text{};
  const auto at = reinterpret_cast<std::uintptr_t>(name);
  const std::size_t to_page_end = 4096 - at % 4096;
  if (!read_memory(at, text.data(), std::min(text.size() - 1, to_page_end))) return "";
  return text.data();
}

std::vector<std::uintptr_t> copied_frames(const glimpse& of) {
  stack where;
  if (!read_memory(reinterpret_cast<std::uintptr_t>(of.stk), static_cast<void*>(&where), sizeof where)) return {};
  std::vector<std::uintptr_t> pcs(kMostFrames);
  pcs.resize(unwind_copied(of.context, where.low(), where.high(), pcs));
  return pcs;
}

// Goroutines with the same one are shown together.
struct group_key {
  std::string state;
  std::vector<std::uintptr_t> pcs;
  const char* instead;  // of frames; null: there are some, or it has not begun
  std::uintptr_t creator_pc;
  std::uint64_t creator_id;

  auto operator<=>(const group_key&) const = default;  // NOLINT(modernize-use-nullptr): no null is written
};

const char* why_no_stack(g_status status) {
  switch (status) {
    case g_status::running: return "\tgoroutine running on other thread; stack unavailable\n";
    case g_status::preempted: return "\tgoroutine preempted in mid-code; stack unavailable\n";
    case g_status::syscall: return "\tgoroutine in a blocking call; stack unavailable\n";
    default: return nullptr;
  }
}

class collection {
 public:
  void add(const g* gp) {
    const glimpse seen = look_at_g(gp);
    const char* const doing = doing_of(seen);
    if (!doing) return;
    const std::int64_t since = gp->wait_since.load(std::memory_order_relaxed);
    const bool waits = seen.status == g_status::waiting && since != 0;
    const auto waited = static_cast<std::uint64_t>(std::max<std::int64_t>(waits ? now_ - since : 0, 0));
    groups_[key_of(gp, seen, doing)].push_back({seen.id, waited, copy_name(gp->name.load(std::memory_order_relaxed))});
  }

  std::vector<goroutine_group> take() {
    std::vector<goroutine_group> shown;
    for (auto& [key, members] : groups_) {
      std::sort(members.begin(), members.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
      shown.push_back({key.state, key.instead ? key.instead : format_frames(key.pcs),
                       creator_text(key.creator_pc, key.creator_id), std::move(members)});
    }
    std::stable_sort(shown.begin(), shown.end(),
                     [](const auto& a, const auto& b) { return a.members.size() > b.members.size(); });
    return shown;
  }

 private:
  group_key key_of(const g* gp, const glimpse& seen, const char* doing) {
    group_key key{doing, {}, why_no_stack(seen.status), seen.creator_pc, seen.creator_id};
    if (gp->lockedm.load(std::memory_order_relaxed) && seen.status != g_status::preempted)
      key.state += ", locked to thread";
    if (key.instead || !seen.stk) return key;
    if (stacks_++ >= kMostStacks) {
      key.instead = "\ttoo many goroutines; stack not looked at\n";
      return key;
    }
    key.pcs = copied_frames(seen);
    if (look_at_g(gp) == seen) return key;
    key.pcs.clear();
    key.instead = "\tgoroutine went on meanwhile; stack unavailable\n";
    return key;
  }

  std::map<group_key, std::vector<goroutine_group::member>> groups_;
  std::size_t stacks_ = 0;
  const std::int64_t now_ = nanotime();
};

}  // namespace

const char* doing_of(const g* gp) { return doing_of(look_at_g(gp)); }

std::vector<goroutine_group> group_goroutines() {
  collection all;
  for_each_g([](g* gp, void* to) { static_cast<collection*>(to)->add(gp); }, &all);
  return all.take();
}

}  // namespace weft::rt
