// SPDX-License-Identifier: Apache-2.0
#include "tools/tune_command.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "numa/topology.h"
#include "numa/wish.h"
#include "tools/fleet.h"
#include "tools/live.h"
#include "tools/terminal.h"
#include "tools/trial.h"
#include "tools/tuner.h"
#include "tools/usage.h"

namespace weft::tools {
namespace {

constexpr const char* kName = "weft tune";
constexpr const char* kWhat = R"(Find the number of Ps on each NUMA node with which a program does best:
weft tune [OPTION]... [--] PROGRAM [ARGUMENT]...
weft tune --live PID --metric NAME [OPTION]...
weft tune --prometheus URL [--json])";
constexpr const char* kFooter = R"(
Runs the program again and again with other values of GOMAXPROCS, begins with what it would have without
tune, and changes one node at a time, in steps that get smaller, as long as that is better for sure (95 %).
What is better: a shorter run, or, with --metric, a counter of the program's (weft::metrics::counter, or one
of the runtime's) that grows faster. The program gets no input, and its output goes nowhere.

With --live a process that runs already gets other numbers of Ps while it works, each for --for seconds (2)
and half a second before them. What is found stays in effect there; if nothing is better for sure, or the
search ends early, the process gets back what it had, and does so by itself within seconds if weft tune dies.

With --prometheus nothing is tried: the table shows what a Prometheus server that has the rules of
share/weft/weft-rules.yml knows of all programs, and where more Ps are wanted (goroutines wait though all Ps
run) or fewer (threads wait for CPUs that others have), by the measure that GOMAXPROCS=auto goes by.

Else the table shows, for each number of Ps tried, means of what the program reported: how long goroutines waited
for a P and threads for a CPU (99th percentile; the latter with the probes only), steals a second and how
many of them went to another node.

Exit status: 0, 1 if the program cannot be run or fails, 2 for a wrong command line.

Examples:
  weft tune -- ./batch input                              the run time
  weft tune --metric requests --for 5 -- ./server         a server that does not end by itself
  weft tune --live 1234 --metric requests                 a server that others use meanwhile
  weft tune --prometheus http://prometheus:9090           a fleet
  weft tune --dry-run -- ./batch                          what would be tried
  eval $(weft tune --json -- ./batch | jq -r '"export " + .environment')

--for must leave a program that is started 3 seconds: it reports every second.)";

constexpr double kShortestLimit = 3;  // two reports, a second apart
constexpr double kShortestWatch = 0.1, kUsualWatch = 2;

struct options {
  program what;
  int pid = 0;  // of a process that runs; 0: a program is started
  std::string metric, start, prometheus;
  search_limits limits;
  bool dry_run = false, json = false;
};

// What there is to choose: the nodes that have CPUs, and where the search begins.
struct nodes_to_tune {
  std::vector<int> ids;
  point start, most;
};

// Means of what the runs at one point reported.
struct figures {
  sample cpu_seconds, runq_p99, kernel_p99, steals, far;
};

nodes_to_tune read_nodes(const std::string& start) {
  const numa::topology machine = numa::topology::discover();
  const char* const variable = std::getenv("GOMAXPROCS");
  const std::string text = !start.empty() ? start : variable ? variable : "";
  const auto wish = text.empty() ? numa::ps_wish{} : numa::parse_wish(text);
  if (!wish) throw std::invalid_argument(fmt::format("GOMAXPROCS={}: expected {}", text, numa::kWishForm));
  nodes_to_tune all;
  for (const numa::node_ps& each : numa::placement_of(*wish, machine)) {
    if (each.node < 0) continue;
    const auto cpus = std::count_if(machine.cpus().begin(), machine.cpus().end(),
                                    [&](int cpu) { return machine.node_of_cpu(cpu) == each.node; });
    all.ids.push_back(each.node);
    all.start.push_back(each.ps);
    all.most.push_back(std::max(static_cast<int>(cpus), each.ps));
  }
  if (all.ids.empty()) throw std::runtime_error("no node is known: nothing to choose");
  return all;
}

nodes_to_tune nodes_of(const process_ps& has) {
  nodes_to_tune all;
  for (const process_ps::on_node& each : has.nodes) {
    all.ids.push_back(each.node);
    all.start.push_back(each.ps);
    all.most.push_back(std::max(each.cpus, each.ps));
  }
  return all;
}

// As it stands in the environment.
std::string text_of(const nodes_to_tune& nodes, const point& at) {
  std::string text;
  for (std::size_t i = 0; i < at.size(); ++i)
    text += fmt::format("{}node{}={}", i == 0 ? "" : ",", nodes.ids[i], at[i]);
  return text;
}

std::string ending_of(const program_run& run) {
  if (WIFSIGNALED(run.status)) return fmt::format("was killed by signal {}", WTERMSIG(run.status));
  return fmt::format("ended with status {}", WEXITSTATUS(run.status));
}

bool succeeded(const program_run& run) {
  if (run.by_limit) return true;
  return WIFEXITED(run.status) && WEXITSTATUS(run.status) == 0;
}

std::string names_of(const report& from) {
  std::string names;
  for (const auto& [name, value] : from.counters) names += (names.empty() ? "" : ", ") + name;
  return names;
}

void check_metric(const report& told, const std::string& metric) {
  if (!told.counters.contains(metric))
    throw std::runtime_error(fmt::format("the program has no counter '{}'; it has {}", metric, names_of(told)));
}

// How fast the counter grew: from the first report to the last, where there are two, so that the start is left out.
double rate_of(const program_run& run, const std::string& metric) {
  if (!run.latest) throw std::runtime_error("the program has reported nothing: is it a weft program that calls run()?");
  check_metric(*run.latest, metric);
  const bool two = run.first->seconds < run.latest->seconds;
  const auto first = run.first->counters.find(metric);
  const double before = two && first != run.first->counters.end() ? first->second : 0;
  const double seconds = run.latest->seconds - (two ? run.first->seconds : 0);
  return seconds > 0 ? (run.latest->counters.at(metric) - before) / seconds : 0;
}

class tuner {
 public:
  explicit tuner(const options& wanted)
      : options_(wanted),
        process_(wanted.pid == 0 ? nullptr : std::make_unique<live_program>(wanted.pid, wanted.what.limit)),
        nodes_(process_ ? nodes_of(process_->at_first()) : read_nodes(wanted.start)) {
    if (process_) check_metric(process_->now(), wanted.metric);
  }

  const nodes_to_tune& nodes() const { return nodes_; }
  search_result search() {
    search_result found =
        search_best(nodes_.start, nodes_.most, options_.limits, [this](const point& at) { return measure(at); });
    erase_progress();
    if (process_ && found.best != nodes_.start) process_->keep(text_of(nodes_, found.best));
    return found;
  }
  void erase_progress() {
    if (shows_progress_) fmt::print(stderr, "\r\033[K");
    std::fflush(stderr);
  }
  const figures& of(const point& at) { return figures_[at]; }
  bool reported() const { return reported_; }

 private:
  double measure(const point& at) {
    const std::string gomaxprocs = text_of(nodes_, at);
    ++runs_;
    if (shows_progress_) fmt::print(stderr, "\r\033[Krun {}: {}{}", runs_, gomaxprocs, best_text());
    std::fflush(stderr);
    const program_run run = process_ ? process_->run(gomaxprocs) : run_once(options_.what, gomaxprocs);
    if (!succeeded(run))
      throw std::runtime_error(fmt::format("the program {} with GOMAXPROCS={}{}{}", ending_of(run), gomaxprocs,
                                           run.last_error.empty() ? "" : ": ", run.last_error));
    note(at, run);
    const double score = options_.metric.empty() ? 1 / run.seconds : rate_of(run, options_.metric);
    if (score > best_) {
      best_ = score;
      best_at_ = gomaxprocs;
    }
    return score;
  }

  std::string best_text() const { return best_at_.empty() ? "" : fmt::format(" (fastest so far: {})", best_at_); }

  void note(const point& at, const program_run& run) {
    figures& all = figures_[at];
    all.cpu_seconds.add(run.cpu_seconds);
    if (!run.latest) return;
    reported_ = true;
    const report& last = *run.latest;
    const auto p99 = [&](const char* name, sample& into) {
      if (const auto found = last.histograms.find(name); found != last.histograms.end() && found->second.count > 0)
        into.add(found->second.p99);
    };
    p99("runq_wait", all.runq_p99);
    p99("kernel_runq_wait", all.kernel_p99);
    const auto counter = [&](const char* name) {
      const auto found = last.counters.find(name);
      return found == last.counters.end() ? 0.0 : found->second;
    };
    const double far = counter("far_steals"), steals = std::max(counter("steals") + counter("robberies"), far);
    if (last.seconds > 0) all.steals.add(steals / last.seconds);
    if (steals > 0) all.far.add(far / steals);
  }

  const options& options_;
  const std::unique_ptr<live_program> process_;  // else the program is started
  const nodes_to_tune nodes_;
  std::map<point, figures> figures_;
  int runs_ = 0;
  double best_ = 0;
  std::string best_at_;
  bool reported_ = false;
  const bool shows_progress_ = live_line_wanted(STDERR_FILENO);
};

// -- What is shown ----------------------------------------------------------------------------------------------------

std::string time_text(const sample& of) { return of.size() == 0 ? "-" : tools::time_text(of.mean()); }

// Scores are rates; of a run time they are one over the seconds.
double shown(const options& wanted, double score) { return wanted.metric.empty() ? 1 / score : score; }

sample shown(const options& wanted, const sample& scores) {
  sample values;
  for (const double score : scores.values()) values.add(shown(wanted, score));
  return values;
}

std::string table_of(const options& wanted, tuner& tuned, const search_result& found) {
  std::vector<std::vector<std::string>> lines = {{"GOMAXPROCS", "runs",
                                                  wanted.metric.empty() ? "seconds" : wanted.metric + "/s", "+-",
                                                  "CPU s", "runq wait", "CPU wait", "steals/s", "far"}};
  for (const trial& each : found.trials) {
    const sample values = shown(wanted, each.scores);
    const figures& f = tuned.of(each.at);
    const double half = values.size() < 2 ? 0 : values.mean() - mean_interval(values).low;
    lines.push_back({text_of(tuned.nodes(), each.at), std::to_string(values.size()),
                     fmt::format("{:.4g}", values.mean()),
                     values.size() < 2 ? "-" : fmt::format("{:.1f} %", 100 * half / values.mean()),
                     fmt::format("{:.3g}", f.cpu_seconds.mean()), time_text(f.runq_p99), time_text(f.kernel_p99),
                     f.steals.size() == 0 ? "-" : fmt::format("{:.0f}", f.steals.mean()),
                     f.far.size() == 0 ? "-" : fmt::format("{:.0f} %", 100 * f.far.mean())});
  }
  std::vector<std::size_t> widths(lines.front().size());
  for (const auto& line : lines)
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  std::string text;
  for (const auto& line : lines) {
    text += fmt::format("{:<{}}", line[0], widths[0]);
    for (std::size_t i = 1; i < line.size(); ++i) text += fmt::format("  {:>{}}", line[i], widths[i]);
    text += '\n';
  }
  return text;
}

// What a process has at the end of a search.
std::string state_text(const options& wanted, const tuner& tuned, const search_result& found) {
  if (wanted.pid == 0) return "";
  if (found.best != tuned.nodes().start) return fmt::format("Process {} has it now.\n", wanted.pid);
  return fmt::format("Process {} has what it had before.\n", wanted.pid);
}

std::string choice_text(const tuner& tuned, const search_result& found) {
  const std::string line = fmt::format("GOMAXPROCS={}\n", text_of(tuned.nodes(), found.best));
  const std::string stopped = found.exhausted ? "The budget is used up; the search was not over.\n" : "";
  if (found.best == tuned.nodes().start)
    return fmt::format("{}Nothing is better for sure than what the program has now:\n{}", stopped, line);
  return fmt::format("{}{:.1f} % more throughput than {} (95 % sure of {:.1f} to {:.1f} %):\n{}", stopped,
                     100 * (found.found.mean() / found.first.mean() - 1), text_of(tuned.nodes(), tuned.nodes().start),
                     100 * found.gain.low, 100 * found.gain.high, line);
}

void add_subject(nlohmann::ordered_json& to, const options& wanted) {
  if (wanted.pid == 0)
    to["program"] = wanted.what.words;
  else
    to["process"] = wanted.pid;
}

std::string json_of(const options& wanted, tuner& tuned, const search_result& found) {
  using nlohmann::ordered_json;
  const auto mean_or_null = [](const sample& of) { return of.size() == 0 ? ordered_json() : ordered_json(of.mean()); };
  ordered_json all;
  add_subject(all, wanted);
  all["unit"] = wanted.metric.empty() ? "seconds" : wanted.metric + "/s";
  all["trials"] = ordered_json::array();
  for (const trial& each : found.trials) {
    const sample values = shown(wanted, each.scores);
    const figures& f = tuned.of(each.at);
    all["trials"].push_back({{"gomaxprocs", text_of(tuned.nodes(), each.at)},
                             {"values", values.values()},
                             {"mean", mean_or_null(values)},
                             {"cpu_seconds", mean_or_null(f.cpu_seconds)},
                             {"runq_wait_p99", mean_or_null(f.runq_p99)},
                             {"kernel_runq_wait_p99", mean_or_null(f.kernel_p99)},
                             {"steals_per_second", mean_or_null(f.steals)},
                             {"far_steals_share", mean_or_null(f.far)}});
  }
  all["start"] = text_of(tuned.nodes(), tuned.nodes().start);
  all["gomaxprocs"] = text_of(tuned.nodes(), found.best);
  all["gain"] = nullptr;
  if (found.best != tuned.nodes().start)
    all["gain"] = {
        {"mean", found.found.mean() / found.first.mean() - 1}, {"low", found.gain.low}, {"high", found.gain.high}};
  all["budget_used_up"] = found.exhausted;
  all["environment"] = fmt::format("GOMAXPROCS={}", text_of(tuned.nodes(), found.best));
  return all.dump(2) + "\n";
}

std::string plan_of(const options& wanted, const nodes_to_tune& nodes) {
  std::vector<std::string> tried;
  for (const point& each : first_round(nodes.start, nodes.most)) tried.push_back(text_of(nodes, each));
  if (wanted.json) {
    nlohmann::ordered_json all;
    add_subject(all, wanted);
    all.update({{"start", text_of(nodes, nodes.start)},
                {"most", text_of(nodes, nodes.most)},
                {"first_round", tried},
                {"min_runs", wanted.limits.min_runs},
                {"max_runs", wanted.limits.max_runs}});
    return all.dump(2) + "\n";
  }
  std::string text =
      fmt::format("Begins with GOMAXPROCS={}, at most {}; {} to {} runs of each.\n", text_of(nodes, nodes.start),
                  text_of(nodes, nodes.most), wanted.limits.min_runs, wanted.limits.max_runs);
  if (tried.empty()) return text + "There is nothing else to try.\n";
  text += "Then, as long as nothing is better, in smaller steps after these:\n";
  for (const std::string& each : tried) text += fmt::format("  {}\n", each);
  return text;
}

int show_fleet(const options& wanted) {
  const std::vector<fleet_node> fleet = read_fleet(prometheus_server(wanted.prometheus));
  const std::string text = wanted.json ? json_of(fleet).dump(2) + "\n" : table_of(fleet);
  return print_text(kName, text) ? kStatusOk : kStatusFailed;
}

int tune(const options& wanted) {
  if (!wanted.prometheus.empty()) return show_fleet(wanted);
  tuner tuned(wanted);
  if (wanted.dry_run) return print_text(kName, plan_of(wanted, tuned.nodes())) ? kStatusOk : kStatusFailed;
  try {
    const search_result found = tuned.search();
    if (!tuned.reported())
      fmt::print(stderr, "{}: the program has reported nothing: is it a weft program that calls run()?\n", kName);
    const std::string text = wanted.json ? json_of(wanted, tuned, found)
                                         : table_of(wanted, tuned, found) + "\n" + choice_text(tuned, found) +
                                               state_text(wanted, tuned, found);
    return print_text(kName, text) ? kStatusOk : kStatusFailed;
  } catch (...) {
    tuned.erase_progress();
    throw;
  }
}

// Empty: nothing is.
std::string wrong_for_program(const options& wanted) {
  if (wanted.what.words.empty()) return "expected a program to run, or --live PID";
  if (wanted.what.limit > 0 && wanted.metric.empty()) return "--for needs --metric";
  if (wanted.what.limit > 0 && wanted.what.limit < kShortestLimit)
    return fmt::format("--for: a program that is started needs {} seconds", kShortestLimit);
  return "";
}

std::string wrong_for_fleet(const options& wanted) {
  const bool alone = wanted.pid == 0 && wanted.what.words.empty() && wanted.metric.empty() && wanted.start.empty() &&
                     wanted.what.limit == 0 && !wanted.dry_run;
  return alone ? "" : "--prometheus goes with --json only";
}

std::string wrong_for_process(const options& wanted) {
  if (!wanted.what.words.empty()) return "--live takes no program to run";
  if (wanted.metric.empty()) return "--live needs --metric";
  if (!wanted.start.empty()) return "--live begins with what the process has: no --gomaxprocs";
  return "";
}

std::string wrong_in(const options& wanted) {
  if (wanted.limits.max_runs < wanted.limits.min_runs) return "--max-runs is less than --min-runs";
  if (!wanted.prometheus.empty()) return wrong_for_fleet(wanted);
  return wanted.pid == 0 ? wrong_for_program(wanted) : wrong_for_process(wanted);
}

// Whoever waits for us sees that it was the signal.
int end_by(int signal) {
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, signal);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
  sigprocmask(SIG_UNBLOCK, &one, nullptr);
  return 128 + signal;
}

}  // namespace

int tune_command(int argc, char** argv) {
  options wanted;
  double worth_percent = 100 * wanted.limits.worth;
  CLI::App app(kWhat, kName);
  app.add_option("--live", wanted.pid, "Tune this process, while it works, instead of running a program")
      ->type_name("PID")
      ->check(CLI::PositiveNumber);
  app.add_option("--prometheus", wanted.prometheus, "Show what this Prometheus server says of all programs")
      ->type_name("URL");
  app.add_option("--metric", wanted.metric, "The counter that is to grow fast, instead of the run time")
      ->type_name("NAME");
  app.add_option("--for", wanted.what.limit,
                 "End the program after so many seconds (SIGTERM), needs --metric; with --live: watch it so long")
      ->type_name("SECONDS")
      ->check(CLI::Range(kShortestWatch, 86'400.0));
  app.add_option("--gomaxprocs", wanted.start, "Where to begin; else GOMAXPROCS of the environment, else the default")
      ->type_name("PS");
  app.add_option("--min-runs", wanted.limits.min_runs, "Runs of a number of Ps before it is judged")
      ->check(CLI::Range(2, 1000));
  app.add_option("--max-runs", wanted.limits.max_runs, "After so many it counts as no better")
      ->check(CLI::Range(2, 1000));
  app.add_option("--budget", wanted.limits.budget, "Runs in all")->check(CLI::Range(1, 1'000'000));
  app.add_option("--worth", worth_percent, "A gain below so many per cent is none")->check(CLI::Range(0.0, 100.0));
  app.add_flag("--dry-run", wanted.dry_run, "Only tell what would be tried");
  app.add_flag("--json", wanted.json, "Print JSON instead of a table");
  app.prefix_command();
  app.footer(kFooter);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? print_information(kName, app, e) : usage_error(kName, e.what());
  }
  wanted.limits.worth = worth_percent / 100;
  wanted.what.words = app.remaining();
  const std::string first = wanted.what.words.empty() ? "" : wanted.what.words.front();
  if (first == "--") wanted.what.words.erase(wanted.what.words.begin());
  if (first != "--" && first.starts_with('-')) return usage_error(kName, fmt::format("unknown option '{}'", first));
  if (const std::string wrong = wrong_in(wanted); !wrong.empty()) return usage_error(kName, wrong);
  if (wanted.pid != 0 && wanted.what.limit == 0) wanted.what.limit = kUsualWatch;
  try {
    return tune(wanted);
  } catch (const interrupted& by) {
    return end_by(by.signal);
  } catch (const std::invalid_argument& e) {
    return usage_error(kName, e.what());
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}: {}\n", kName, e.what());
    return kStatusFailed;
  }
}

}  // namespace weft::tools
