// SPDX-License-Identifier: Apache-2.0
#include "tools/fleet.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <tuple>

#include <fmt/format.h>

#include "runtime/auto_ps.h"

namespace weft::tools {
namespace {

// job, instance, node; the node is empty for what is of the whole program.
using place = std::tuple<std::string, std::string, std::string>;

std::map<place, double> ask(const prometheus_server& from, const std::string& name) {
  std::map<place, double> all;
  for (const labelled_value& one : from.query(name))
    if (!std::isnan(one.value)) all[{one.label("job"), one.label("instance"), one.label("node")}] = one.value;
  return all;
}

double value_or(const std::map<place, double>& all, const place& at, double otherwise) {
  const auto found = all.find(at);
  return found == all.end() ? otherwise : found->second;
}

const char* text_of(advice what) {
  switch (what) {
    case advice::fits: return "fits";
    case advice::more: return "more";
    case advice::fewer: return "fewer";
  }
  return "";
}

std::string or_dash(double value, double factor, const char* unit) {
  return value < 0 ? "-" : fmt::format("{:.3g}{}", factor * value, unit);
}

}  // namespace

std::string time_text(double s) {
  return s < 1e-3 ? fmt::format("{:.1f} us", s * 1e6)
         : s < 1  ? fmt::format("{:.2f} ms", s * 1e3)
                  : fmt::format("{:.2f} s", s);
}

advice advice_for(const fleet_node& seen) {
  using rt::auto_ps;
  const double idle = seen.ps * (1 - seen.busy);
  if (seen.ms_waiting >= auto_ps::kWaitingMs) return seen.ps > 1 ? advice::fewer : advice::fits;
  const bool short_of_ps =
      seen.gs_waiting >= auto_ps::kWaitingGs && idle <= auto_ps::kIdle && seen.ms_waiting <= auto_ps::kHardlyAny;
  return short_of_ps ? advice::more : advice::fits;
}

std::vector<fleet_node> read_fleet(const prometheus_server& from) {
  const auto ps = ask(from, "weft_gomaxprocs > 0");
  if (ps.empty()) throw std::runtime_error("no program that runs weft is known there (weft_gomaxprocs has no values)");
  const auto busy = ask(from, "instance_node:weft_ps_busy:ratio");
  if (busy.empty())
    throw std::runtime_error("the recording rules of weft-rules.yml are not loaded there, or not yet evaluated");
  const auto gs_waiting = ask(from, "instance_node:weft_runq_pressure:rate5m");
  const auto ms_waiting = ask(from, "instance:weft_kernel_runq_pressure:rate5m");
  const auto runq_p99 = ask(from, "instance_node:weft_runq_wait_seconds:p99_5m");
  const auto far_steals = ask(from, "instance:weft_far_steals:ratio_rate5m");
  std::vector<fleet_node> all;
  for (const auto& [at, n] : ps) {
    const auto& [job, instance, node] = at;
    const place whole{job, instance, ""};
    fleet_node one{.job = job,
                   .instance = instance,
                   .node = std::atoi(node.c_str()),
                   .ps = static_cast<int>(n),
                   .busy = value_or(busy, at, 0),
                   .gs_waiting = value_or(gs_waiting, at, 0),
                   .ms_waiting = value_or(ms_waiting, whole, -1),
                   .runq_p99 = value_or(runq_p99, at, 0),
                   .far_steals = value_or(far_steals, whole, -1)};
    one.what = advice_for(one);
    all.push_back(std::move(one));
  }
  std::ranges::sort(all, {}, [](const fleet_node& one) { return std::tie(one.job, one.instance, one.node); });
  return all;
}

std::string table_of(const std::vector<fleet_node>& fleet) {
  std::size_t job = 3, instance = 8;
  for (const fleet_node& one : fleet) {
    job = std::max(job, one.job.size());
    instance = std::max(instance, one.instance.size());
  }
  std::string text = fmt::format("{:<{}}  {:<{}}  node   Ps   busy  Gs waiting  Ms waiting   runq p99    far  advice\n",
                                 "job", job, "instance", instance);
  for (const fleet_node& one : fleet)
    text += fmt::format("{:<{}}  {:<{}}  {:>4}  {:>3}  {:>3.0f} %  {:>10.2f}  {:>10}  {:>9}  {:>5}  {}\n", one.job, job,
                        one.instance, instance, one.node, one.ps, 100 * one.busy, one.gs_waiting,
                        or_dash(one.ms_waiting, 1, ""), time_text(one.runq_p99), or_dash(one.far_steals, 100, " %"),
                        text_of(one.what));
  return text;
}

nlohmann::ordered_json json_of(const std::vector<fleet_node>& fleet) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  const auto known = [](double value) { return value < 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(value); };
  for (const fleet_node& one : fleet)
    all.push_back({{"job", one.job},
                   {"instance", one.instance},
                   {"node", one.node},
                   {"ps", one.ps},
                   {"busy", one.busy},
                   {"goroutines_waiting", one.gs_waiting},
                   {"threads_waiting", known(one.ms_waiting)},
                   {"runq_wait_p99", one.runq_p99},
                   {"far_steals_share", known(one.far_steals)},
                   {"advice", text_of(one.what)}});
  return all;
}

}  // namespace weft::tools
