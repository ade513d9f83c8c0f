// SPDX-License-Identifier: Apache-2.0
// Which metrics there are, under the names and labels that Prometheus' conventions ask for: base units, the unit last
// in the name, _total for what only grows. OpenMetrics 1.0: a family's lines stand together, its metadata first.
//
// A histogram is shown with a bound at each power of two of nanoseconds, always the same ones, so that histograms of
// different processes can be added up. They are bounds of the snapshot's buckets too, so nothing is interpolated.
#include "runtime/openmetrics.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <initializer_list>
#include <string_view>

namespace weft::rt {
namespace {

using metrics::histogram;
using metrics::node_snapshot;
using metrics::p_snapshot;
using metrics::snapshot;
using values = std::map<std::string, std::uint64_t>;

constexpr int kFirstBound = 6, kLastBound = 36;  // 64 ns to 69 s

struct label {
  std::string_view name;
  std::string value;
};
using labels = std::vector<label>;

enum class kind { counter, gauge, histogram };

std::string text_of(double value) {
  std::array<char, 32> digits;
  return {digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr};
}

std::string escaped(std::string_view value) {
  std::string text;
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    text += c == '\n' ? std::string_view("\\n") : std::string_view(&c, 1);
  }
  return text;
}

class writer {
 public:
  explicit writer(exposition format) : format_(format) {}

  /// The samples that follow are of this family.
  void family(std::string_view name, kind type, std::string_view help) {
    constexpr std::string_view kTypes[] = {"counter", "gauge", "histogram"};
    name_ = name;
    suffix_ = type == kind::counter ? "_total" : "";
    const std::string shown = name_ + (format_ == exposition::prometheus ? suffix_ : "");
    text_ += "# TYPE " + shown + ' ' + std::string(kTypes[static_cast<std::size_t>(type)]) + '\n';
    if (format_ == exposition::openmetrics && name.ends_with("_seconds")) text_ += "# UNIT " + shown + " seconds\n";
    text_ += "# HELP " + shown + ' ' + std::string(help) + '\n';
  }
  void sample(const labels& at, std::uint64_t value) { line(suffix_, at, std::to_string(value)); }
  void sample(const labels& at, double value) { line(suffix_, at, text_of(value)); }

  void sample(labels at, const histogram& value) {
    const std::vector<histogram::bucket> buckets = value.buckets();
    auto next = buckets.begin();
    std::uint64_t below = 0;
    at.push_back({"le", ""});
    for (int bits = kFirstBound; bits <= kLastBound; ++bits) {
      const long long bound_ns = 1LL << bits;
      for (; next != buckets.end() && std::llround(next->lower * 1e9) < bound_ns; ++next) below += next->count;
      at.back().value = text_of(static_cast<double>(bound_ns) / 1e9);
      line("_bucket", at, std::to_string(below));
    }
    at.back().value = "+Inf";
    line("_bucket", at, std::to_string(value.count()));
    at.pop_back();
    line("_sum", at, text_of(value.sum()));
    line("_count", at, std::to_string(value.count()));
  }

  std::string take() {
    if (format_ == exposition::openmetrics) text_ += "# EOF\n";
    return std::move(text_);
  }

 private:
  void line(std::string_view suffix, const labels& at, std::string_view value) {
    text_.append(name_).append(suffix);
    for (std::size_t i = 0; i < at.size(); ++i)
      text_.append(i == 0 ? "{" : ",").append(at[i].name).append("=\"").append(escaped(at[i].value)).append("\"");
    text_.append(at.empty() ? " " : "} ").append(value).append("\n");
  }

  const exposition format_;
  std::string name_, suffix_, text_;
};

// ---- Histograms

struct histogram_family {
  const char* key;
  const char* name;
  const char* help;
};
constexpr histogram_family kOfNodes[] = {
    {"runq_wait", "weft_runq_wait_seconds", "Time from a goroutine's being runnable until it ran."},
    {"wakeup_to_run", "weft_wakeup_to_run_seconds", "Time from a goroutine's being woken until it ran."},
    {"handoff", "weft_handoff_seconds", "Time from taking a P from a blocked thread until it ran the next goroutine."},
    {"blocked", "weft_blocked_seconds", "Time that threads stayed in the kernel after they lost their P there."}};
constexpr histogram_family kOfProcess[] = {
    {"kernel_blocked", "weft_kernel_blocked_seconds", "Time that threads slept in the kernel."},
    {"kernel_runq_wait", "weft_kernel_runq_wait_seconds",
     "Time that threads were runnable before the kernel gave them a CPU."}};

void write_histograms(writer& out, const snapshot& all) {
  for (const histogram_family& family : kOfNodes) {
    out.family(family.name, kind::histogram, family.help);
    for (const node_snapshot& node : all.nodes)
      if (const auto found = node.histograms.find(family.key); found != node.histograms.end())
        out.sample({{"node", std::to_string(node.node)}}, found->second);
  }
  for (const histogram_family& family : kOfProcess) {
    const auto found = all.histograms.find(family.key);
    if (found == all.histograms.end()) continue;
    out.family(family.name, kind::histogram, family.help);
    out.sample({}, found->second);
  }
}

// ---- Counters

// One of a family's samples: the counter's name in the snapshot, and what the family's label says of it.
struct part {
  const char* key;
  const char* value = nullptr;
};
struct counter_family {
  const char* name;
  const char* help;
  std::vector<part> parts;
  const char* label = nullptr;
};

bool in_nanoseconds(std::string_view key) {
  return key.ends_with("_ns") || key.starts_with("probe_ns_") || key.starts_with("blocked_ns_");
}

void write_counter(writer& out, const counter_family& family, const values& counters, const labels& at) {
  for (const part& each : family.parts) {
    const auto found = counters.find(each.key);
    if (found == counters.end()) continue;
    labels all = at;
    if (family.label) all.push_back({family.label, each.value});
    if (in_nanoseconds(found->first))
      out.sample(all, static_cast<double>(found->second) / 1e9);
    else
      out.sample(all, found->second);
  }
}

const std::vector<counter_family>& counters_of_ps() {
  static const std::vector<counter_family> all{
      {"weft_time_slices", "Time slices that goroutines began.", {{"schedticks"}}},
      {"weft_steals",
       "Times that an idle P took goroutines from another, by what the two share: the core, the cache, the node.",
       {{"core_steals", "core"}, {"cache_steals", "cache"}, {"node_steals", "node"}, {"far_steals", "far"}},
       "distance"},
      {"weft_robberies", "Times that an idle P took what was to run next on another.", {{"robberies"}}},
      {"weft_takes",
       "Times that the P was taken from a thread that had blocked or computed for too long.",
       {{"takes"}}},
      {"weft_handoffs", "Those of them that ended with another goroutine running.", {{"handoffs"}}},
      {"weft_preemptions", "Times that a goroutine was stopped because its time slice was over.", {{"preemptions"}}},
      {"weft_node_moves", "Goroutines that came from another NUMA node.", {{"node_moves"}}}};
  return all;
}

const std::vector<counter_family>& counters_of_nodes() {
  static const std::vector<counter_family> all{
      {"weft_handoff_decisions",
       "What was decided about blocked threads, and how it turned out.",
       {{"handoffs_at_once", "at_once"}, {"handoff_waits_won", "wait_won"}, {"handoff_waits_lost", "wait_lost"}},
       "outcome"},
      {"weft_handoff_regret_seconds", "What knowing the future would have saved in handoffs.", {{"handoff_regret_ns"}}},
      {"weft_spins",
       "Searches for work by threads without any, by whether some came in time.",
       {{"spins_won", "won"}, {"spins_lost", "lost"}},
       "outcome"},
      {"weft_spin_regret_seconds", "CPU time that was spent looking for work in vain.", {{"spin_regret_ns"}}}};
  return all;
}

const std::vector<counter_family>& counters_of_process() {
  static const std::vector<counter_family> all{
      {"weft_goroutines_created", "Goroutines that were started.", {{"goroutines_created"}}},
      {"weft_cgroup_throttled_periods",
       "Periods in which a CPU quota stopped the process.",
       {{"cgroup_throttled_periods"}}},
      {"weft_cgroup_throttled_seconds", "Time for which a CPU quota stopped the process.", {{"cgroup_throttled_ns"}}},
      {"weft_kernel_blocks", "Times that a thread with something to do slept in the kernel.", {{"kernel_blocks"}}},
      {"weft_kernel_preemptions", "Times that the kernel took a thread's CPU away.", {{"kernel_preemptions"}}},
      {"weft_kernel_mm_switches", "Switches to a thread that changed the page table.", {{"kernel_mm_switches"}}},
      {"weft_kernel_migrations", "Switches to a thread on another CPU than before.", {{"kernel_migrations"}}},
      {"weft_faults", "Page faults by kind.", {{"minor_faults", "minor"}, {"major_faults", "major"}}, "kind"},
      {"weft_page_faults",
       "Page faults by access, while the kernel's costs are measured.",
       {{"page_faults_read", "read"}, {"page_faults_write", "write"}, {"page_faults_instruction", "instruction"}},
       "access"},
      {"weft_tlb_flushes",
       "TLB flushes by reason, while the kernel's costs are measured.",
       {{"tlb_flushes_task_switch", "task_switch"},
        {"tlb_flushes_remote_shootdown", "remote_shootdown"},
        {"tlb_flushes_local_shootdown", "local_shootdown"},
        {"tlb_flushes_local_mm_shootdown", "local_mm_shootdown"},
        {"tlb_flushes_remote_send_ipi", "remote_send_ipi"}},
       "reason"}};
  return all;
}

// Counters whose names end with what the label says: a probe's program, a system call.
counter_family family_of(const snapshot& all, const char* name, const char* help, std::string_view prefix,
                         const char* label) {
  counter_family family{name, help, {}, label};
  for (auto at = all.counters.lower_bound(std::string(prefix));
       at != all.counters.end() && at->first.starts_with(prefix); ++at)
    family.parts.push_back({at->first.c_str(), at->first.c_str() + prefix.size()});
  return family;
}

bool any(const counter_family& family, const values& counters) {
  return std::any_of(family.parts.begin(), family.parts.end(), [&](const part& p) { return counters.contains(p.key); });
}

void write_process_counter(writer& out, const counter_family& family, const snapshot& all) {
  if (!any(family, all.counters)) return;
  out.family(family.name, kind::counter, family.help);
  write_counter(out, family, all.counters, {});
}

void write_counters(writer& out, const snapshot& all) {
  for (const counter_family& family : counters_of_ps()) {
    out.family(family.name, kind::counter, family.help);
    for (const p_snapshot& p : all.ps)
      write_counter(out, family, p.counters, {{"node", std::to_string(p.node)}, {"p", std::to_string(p.p)}});
  }
  for (const counter_family& family : counters_of_nodes()) {
    out.family(family.name, kind::counter, family.help);
    for (const node_snapshot& node : all.nodes)
      write_counter(out, family, node.counters, {{"node", std::to_string(node.node)}});
  }
  for (const counter_family& family : counters_of_process()) write_process_counter(out, family, all);
  const auto write_named = [&](const char* name, const char* help, const char* prefix, const char* label) {
    write_process_counter(out, family_of(all, name, help, prefix, label), all);
  };
  write_named("weft_blocked_calls", "Times that a thread lost its P in a system call.", "blocked_times_in_", "call");
  write_named("weft_blocked_call_seconds", "Time that threads stayed there after that.", "blocked_ns_in_", "call");
  write_named("weft_probe_runs", "Runs of the probes, while the kernel counts them.", "probe_runs_", "program");
  write_named("weft_probe_seconds", "CPU time of the probes, the same.", "probe_ns_", "program");
}

// ---- Gauges

void write_states(writer& out, const char* name, const char* help, const values& states) {
  out.family(name, kind::gauge, help);
  for (const auto& [state, n] : states) out.sample({{"state", state}}, n);
}

// What goroutines wait for is a second label.
void write_goroutines(writer& out, const snapshot& all) {
  constexpr std::string_view kStates[] = {"running", "runnable", "syscall", "preempted"};
  out.family("weft_goroutines", kind::gauge, "Goroutines by state, and by what they wait for.");
  for (const std::string_view state : kStates) {
    const auto found = all.goroutines.find(std::string(state));
    out.sample({{"state", std::string(state)}}, found == all.goroutines.end() ? 0 : found->second);
  }
  for (const auto& [doing, n] : all.goroutines)
    if (std::find(std::begin(kStates), std::end(kStates), doing) == std::end(kStates))
      out.sample({{"state", "waiting"}, {"reason", doing}}, n);
}

void write_tier(writer& out, const snapshot& all) {
  constexpr const char* kTiers[] = {"off", "sentinel", "bpf"};
  const auto found = all.counters.find("kernel_assist");
  out.family("weft_kernel_assist", kind::gauge, "1 for how blocked threads are found: by polling, a sentinel, probes.");
  for (std::uint64_t i = 0; i < std::size(kTiers); ++i)
    out.sample({{"tier", kTiers[i]}}, std::uint64_t{found != all.counters.end() && found->second == i});
}

template <class T>
void write_of_nodes(writer& out, const snapshot& all, const char* name, const char* help, T node_snapshot::*value) {
  out.family(name, kind::gauge, help);
  for (const node_snapshot& node : all.nodes)
    out.sample({{"node", std::to_string(node.node)}}, static_cast<std::uint64_t>(node.*value));
}

void write_gauges(writer& out, const snapshot& all) {
  write_of_nodes(out, all, "weft_gomaxprocs", "Ps: how many goroutines may run at a time.", &node_snapshot::gomaxprocs);
  write_of_nodes(out, all, "weft_idle_ps", "Ps without work.", &node_snapshot::idle_ps);
  write_of_nodes(out, all, "weft_spinning_threads", "Threads that look for work.", &node_snapshot::spinning);
  write_of_nodes(out, all, "weft_global_queue_length", "Goroutines in the node's global run queue.",
                 &node_snapshot::queued);
  out.family("weft_run_queue_length", kind::gauge, "Goroutines in the P's run queue.");
  for (const p_snapshot& p : all.ps)
    out.sample({{"node", std::to_string(p.node)}, {"p", std::to_string(p.p)}}, p.queued);
  out.family("weft_stacks", kind::gauge, "Goroutine stacks of the default size, by state.");
  for (const node_snapshot& node : all.nodes)
    for (const auto& [state, n] : node.stacks) out.sample({{"node", std::to_string(node.node)}, {"state", state}}, n);
  write_goroutines(out, all);
  write_states(out, "weft_threads", "Threads that run goroutines, by state.", all.threads);
  write_tier(out, all);
}

}  // namespace

std::string format_metrics(const snapshot& all, exposition format) {
  writer out(format);
  write_gauges(out, all);
  write_histograms(out, all);
  write_counters(out, all);
  return out.take();
}

}  // namespace weft::rt

namespace weft::metrics {

std::string openmetrics() { return rt::format_metrics(read(), rt::exposition::openmetrics); }
std::string prometheus() { return rt::format_metrics(read(), rt::exposition::prometheus); }

}  // namespace weft::metrics
