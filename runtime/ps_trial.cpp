// SPDX-License-Identifier: Apache-2.0
#include "runtime/ps_trial.h"

#include <optional>

#include "numa/wish.h"
#include "runtime/clock.h"
#include "runtime/gomaxprocs.h"
#include "runtime/proc.h"

namespace weft::rt {
namespace {

// The template thread's.
struct ps_trial {
  numa::ps_wish before;
  std::uint64_t changes = 0;  // as of the trial's beginning: others have wished for nothing since
  std::int64_t ends = 0;
};
std::optional<ps_trial>& trial = *new std::optional<ps_trial>;

std::string why_not(const numa::ps_wish& wish) {
  for (const numa::node_ps& each : wish.on_nodes)
    if (each.ps > 0 && !numa::has_cpus(machine().machine, each.node))
      return "node " + std::to_string(each.node) + " has no CPUs that it may use";
  return "";
}

bool give(const numa::ps_wish& wish) {
  const visit inside;
  if (!inside.welcome || !sched.active.load(std::memory_order_acquire)) return false;
  place_ps(wish);
  ask_surplus_to_stop();
  wakep_everywhere();
  return true;
}

bool is_ours(const standing_wish& now) { return trial && trial->changes == now.changes; }

std::string follow(const ps_request& asked) {
  const auto wish = asked.wish.empty() ? numa::ps_wish{} : numa::parse_wish(asked.wish);
  if (!wish) return "was asked for GOMAXPROCS=" + asked.wish + ": expected " + numa::kWishForm;
  if (std::string reason = why_not(*wish); !reason.empty()) return reason;
  const standing_wish now = wish_for_ps();
  const numa::ps_wish before = is_ours(now) ? trial->before : now.wish;
  if (!give(*wish)) return "has ended its run()";
  trial.reset();
  if (asked.trial_ns > 0) trial = {before, wish_for_ps().changes, nanotime() + asked.trial_ns};
  return "";
}

process_ps ps_now() {
  const standing_wish now = wish_for_ps();
  process_ps told{.wish = numa::text_of(now.wish), .on_trial = is_ours(now), .nodes = {}};
  for (const numa::node& each : machine().machine.nodes())
    if (!each.cpus.empty())
      told.nodes.push_back({each.id, gomaxprocs_on_node(each.id), static_cast<int>(each.cpus.size())});
  return told;
}

}  // namespace

ps_answer answer_about_ps(const ps_request& asked) {
  ps_answer answer;
  if (asked.change) answer.refusal = follow(asked);
  answer.ps = ps_now();
  return answer;
}

void end_ps_trial_if_due() {
  if (!trial || nanotime() < trial->ends) return;
  if (is_ours(wish_for_ps())) give(trial->before);
  trial.reset();
}

}  // namespace weft::rt
