// SPDX-License-Identifier: Apache-2.0
// Threads' stacks come from the programs of bpf/stack_sampler.h, and are summed up by their program counters; names are
// looked up once, in the end. Parked goroutines, of which the kernel knows nothing, are asked for from time to time,
// and each that is seen waiting counts for the time since the last answer.
#include "tools/profiler.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include <weft/attach.h>
#include <weft/error.h>

#include "bpf/capabilities.h"
#include "bpf/stack_sampler.h"
#include "runtime/syscall_name.h"
#include "tools/observe.h"
#include "tools/process_stacks.h"

namespace weft::tools {
namespace {

using std::chrono::steady_clock;

// A process under observation.
class subject {
 public:
  explicit subject(int pid)
      : pid_(pid), pidfd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))), program_(program_of(pid)) {}
  subject(subject&& other) noexcept
      : pid_(other.pid_), pidfd_(std::exchange(other.pidfd_, -1)), program_(std::move(other.program_)) {}
  ~subject() {
    if (pidfd_ >= 0) close(pidfd_);
  }
  subject(const subject&) = delete;
  subject& operator=(const subject&) = delete;
  subject& operator=(subject&&) = delete;

  int pid() const { return pid_; }
  int pidfd() const { return pidfd_; }
  const std::string& program() const { return program_; }
  bool has_ended() const {
    pollfd end{pidfd_, POLLIN, 0};
    return pidfd_ < 0 || poll(&end, 1, 0) > 0;
  }

  // It counts no more; why is one line.
  void leave(const std::string& why) {
    left_ = true;
    news_ = why;
  }
  bool has_left() const { return left_; }
  std::string take_news() { return std::exchange(news_, {}); }

 private:
  const int pid_;
  int pidfd_;
  std::string program_;
  bool left_ = false;
  std::string news_{};
};

class common : public profiler {
 public:
  common(profile::kind what, const std::vector<int>& pids, int hz) : kind_(what), hz_(hz) {
    for (const int pid : pids) subjects_.emplace_back(pid);
  }

  std::vector<std::string> news() override {
    std::vector<std::string> lines;
    for (subject& s : subjects_) {
      if (!s.has_left() && s.has_ended()) s.leave("process " + std::to_string(s.pid()) + " has ended");
      if (const std::string line = s.take_news(); !line.empty())
        lines.push_back(line + "; what it did until then counts");
    }
    return lines;
  }

  bool is_over() const override {
    return std::all_of(subjects_.begin(), subjects_.end(),
                       [](const subject& s) { return s.has_left() || s.has_ended(); });
  }

 protected:
  using amounts = std::map<std::pair<std::vector<std::string>, std::string>, std::uint64_t>;  // by frames and reason

  double seconds() const { return std::chrono::duration<double>(steady_clock::now() - began_).count(); }

  profile begin_result(double lasted) const {
    profile made;
    made.what = kind_;
    made.seconds = lasted;
    made.hz = hz_;
    for (const subject& s : subjects_) made.processes.push_back({s.pid(), s.program()});
    return made;
  }

  static void add(profile& to, int pid, const amounts& of) {
    for (const auto& [where, amount] : of)
      if (amount != 0) to.stacks.push_back({pid, where.first, where.second, amount});
  }

  static void sort(profile& made) {
    std::stable_sort(made.stacks.begin(), made.stacks.end(),
                     [](const auto& a, const auto& b) { return a.amount > b.amount; });
  }

  profile::kind kind() const { return kind_; }

  std::vector<subject> subjects_;
  const steady_clock::time_point began_ = steady_clock::now();

 private:
  const profile::kind kind_;
  const int hz_;
};

// -- Threads ----------------------------------------------------------------------------------------------------------

std::uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

std::string reason_text(int reason) {
  switch (reason) {
    case WEFT_SAMPLE_PREEMPTED: return "preempted";
    case WEFT_SAMPLE_STOPPED: return "stopped";
    default: return rt::syscall_name(reason);
  }
}

using frames = std::vector<frame>;

// What a thread of the runtime does between goroutines begins here, on the first thread below the user's main().
frames::const_iterator begin_of_scheduling(const frames& all) {
  return std::find_if(all.begin(), all.end(), [](const frame& f) { return f.function == "weft::rt::schedule"; });
}

// The outermost function that a user wrote; the end: there is none.
frames::const_iterator begin_of_work(const frames& all) {
  if (begin_of_scheduling(all) != all.end()) return all.end();
  const auto from = std::find_if_not(all.begin(), all.end(), [](const frame& f) { return f.is_entry; });
  const bool users = std::any_of(from, all.end(), [](const frame& f) { return !f.is_runtime && !f.is_library; });
  return users ? from : all.end();
}

// A goroutine that weft has preempted waits in a signal's handler: the handler is nothing of its own.
frames::const_iterator begin_of_preemption(const frames& all) {
  const auto parks =
      std::find_if(all.begin(), all.end(), [](const frame& f) { return f.function.ends_with("::park_in_handler"); });
  if (parks == all.end()) return parks;
  return std::find_if(all.begin(), parks, [](const frame& f) { return f.is_signal; });
}

// Without what is around the user's work; of a thread of the runtime, without what starts any thread.
std::vector<std::string> names_of(const frames& all) {
  auto from = begin_of_work(all);
  if (from == all.end()) from = begin_of_scheduling(all);
  if (from == all.end()) from = std::find_if(all.begin(), all.end(), [](const frame& f) { return f.is_runtime; });
  if (from == all.end()) from = all.begin();
  std::vector<std::string> names;
  const auto to = begin_of_preemption(all);
  for (; from != to; ++from) names.push_back(from->function);
  return names;
}

class thread_profiler final : public common {
 public:
  thread_profiler(profile::kind what, const std::vector<int>& pids, int hz) : common(what, pids, hz) {
    bpf::stack_sampler::options wanted;
    wanted.wanted = on_cpu() ? bpf::stack_sampler::what::on_cpu : bpf::stack_sampler::what::off_cpu;
    wanted.hz = hz;
    for (const subject& s : subjects_) {
      wanted.pidfds.push_back(s.pidfd());
      stacks_.emplace_back(s.pid());
    }
    std::string why_not;
    sampler_ = bpf::stack_sampler::start(wanted, why_not);
    if (sampler_) return;
    const char* const hint = bpf::may_load() ? "" : "; --parked needs no privilege";
    throw error(std::string("cannot sample ") + name_of(what) + " stacks: " + why_not + hint);
  }

  bool look() override {
    return sampler_->take_some([this](const bpf::stack_sample& sample) { take(sample); });
  }

  profile result() override {
    const double lasted = seconds();
    sampler_->stop();
    while (look()) {
    }
    const std::uint64_t now = monotonic_ns();
    for (const auto& [tid, left] : off_) add_time(left, now - left.since);
    profile made = begin_result(lasted);
    made.lost = sampler_->lost();
    for (std::size_t i = 0; i < subjects_.size(); ++i) add(made, subjects_[i].pid(), named(i));
    sort(made);
    return made;
  }

 private:
  struct place {
    std::size_t target;
    int reason;
    bool truncated;
    std::vector<std::uintptr_t> pcs;
    bool operator<(const place& other) const {
      return std::tie(target, reason, truncated, pcs) <
             std::tie(other.target, other.reason, other.truncated, other.pcs);
    }
  };
  struct absence {
    std::uint64_t* to;  // in sums_
    std::uint64_t since, weight;
  };

  bool on_cpu() const { return kind() == profile::kind::on_cpu; }

  static void add_time(const absence& left, std::uint64_t ns) { *left.to += ns * left.weight; }

  void take(const bpf::stack_sample& sample) {
    if (sample.target >= stacks_.size()) return;
    if (sample.kind == WEFT_SAMPLE_BACK) {
      if (const auto left = off_.extract(sample.tid)) add_time(left.mapped(), sample.ns);
      return;
    }
    process_stacks::walk seen = stacks_[sample.target].unwind(sample);
    if (seen.pcs.empty()) return;
    std::uint64_t& sum = sums_[{sample.target, sample.kind == WEFT_SAMPLE_OFF_CPU ? sample.reason : 0, seen.truncated,
                                std::move(seen.pcs)}];
    if (sample.kind == WEFT_SAMPLE_ON_CPU)
      sum += sample.weight;
    else
      off_[sample.tid] = {&sum, sample.ns, sample.weight};
  }

  amounts named(std::size_t target) {
    amounts all;
    for (const auto& [where, sum] : sums_) {
      if (where.target != target) continue;
      const frames all_frames = stacks_[target].frames_of(where.pcs);
      const bool waits_for_work = begin_of_work(all_frames) == all_frames.end();
      if (!on_cpu() && waits_for_work) continue;
      std::vector<std::string> names = names_of(all_frames);
      if (where.truncated) names.insert(names.begin(), "[truncated]");
      const bool preempted = begin_of_preemption(all_frames) != all_frames.end();
      const std::string reason = on_cpu() ? "" : preempted ? "runnable" : reason_text(where.reason);
      all[{std::move(names), reason}] += on_cpu() ? sum : sum / 1000;
    }
    return all;
  }

  std::vector<process_stacks> stacks_;
  std::unique_ptr<bpf::stack_sampler> sampler_;
  std::map<place, std::uint64_t> sums_;  // samples, or nanoseconds
  std::map<std::uint32_t, absence> off_;
};

// -- Goroutines -------------------------------------------------------------------------------------------------------

// "function(...)\n\tfile:line\n" for each frame, innermost first.
std::vector<std::string> functions_of(std::string_view dump) {
  std::vector<std::string> names;
  while (!dump.empty()) {
    std::string_view line = dump.substr(0, dump.find('\n'));
    dump.remove_prefix(std::min(line.size() + 1, dump.size()));
    if (line.starts_with('\t')) continue;
    if (line.ends_with("(...)")) line.remove_suffix(5);
    names.emplace_back(line);
  }
  std::reverse(names.begin(), names.end());
  return names;
}

class goroutine_profiler final : public common {
 public:
  goroutine_profiler(const std::vector<int>& pids, int hz)
      : common(profile::kind::parked, pids, hz), period_(1.0 / hz) {
    for (const int pid : pids) asked_.emplace_back(pid, began_);
  }

  bool look() override {
    const steady_clock::time_point now = steady_clock::now();
    if (now < next_) return false;
    next_ = now + std::chrono::duration_cast<steady_clock::duration>(period_);
    for (std::size_t i = 0; i < asked_.size(); ++i) ask(asked_[i], subjects_[i]);
    return false;
  }

  profile result() override {
    profile made = begin_result(seconds());
    for (std::size_t i = 0; i < asked_.size(); ++i) add(made, subjects_[i].pid(), asked_[i].sums);
    sort(made);
    return made;
  }

 private:
  struct asked {
    asked(int pid, steady_clock::time_point now) : process(pid), last(now) {}

    attachment process;
    steady_clock::time_point last;
    amounts sums{};
    bool answered = false;
  };

  void ask(asked& of, subject& who) try {
    if (who.has_left()) return;
    const std::vector<goroutine_group> groups = of.process.goroutines();
    const steady_clock::time_point now = steady_clock::now();
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(now - of.last).count();
    of.last = now;
    of.answered = true;
    for (const goroutine_group& group : groups) {
      const auto waiting = std::count_if(group.members.begin(), group.members.end(),
                                         [](const goroutine_group::member& g) { return g.since != 0; });
      if (waiting != 0) of.sums[{functions_of(group.stack), group.state}] += static_cast<std::uint64_t>(us * waiting);
    }
  } catch (const error& e) {
    // Of several, and of one that has told something, the profile is worth having without it.
    if (asked_.size() == 1 && !of.answered && !who.has_ended()) throw;
    who.leave(e.what());
  }

  std::vector<asked> asked_;
  const std::chrono::duration<double> period_;
  steady_clock::time_point next_{};
};

// All of a number in /proc.
int number_of(std::string_view name) {
  int number = 0;
  const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), number);
  return failed == std::errc() && end == name.data() + name.size() ? number : 0;
}

std::vector<int> all_processes() {
  std::vector<int> all;
  DIR* const folder = opendir("/proc");
  while (const dirent* const one = folder ? readdir(folder) : nullptr)
    if (const int pid = number_of(one->d_name)) all.push_back(pid);
  if (folder) closedir(folder);
  std::sort(all.begin(), all.end());
  return all;
}

bool runs_weft(int pid) try {
  const attachment possible(pid);
  return true;
} catch (const error&) {
  return false;
}

}  // namespace

std::unique_ptr<profiler> profiler::start(profile::kind what, const std::vector<int>& pids, int hz) {
  for (const int pid : pids) const attachment allowed(pid);
  if (what == profile::kind::parked) return std::make_unique<goroutine_profiler>(pids, hz);
  return std::make_unique<thread_profiler>(what, pids, hz);
}

std::unique_ptr<profiler> profiler::start_on_all(profile::kind what, int hz) {
  std::vector<int> pids = all_processes();
  for (;;) {
    std::erase_if(pids, [](int pid) { return !runs_weft(pid); });
    if (pids.empty()) throw error("no process here runs weft, of those that may be looked at");
    try {
      return start(what, pids, hz);
    } catch (const error&) {
      if (std::all_of(pids.begin(), pids.end(), runs_weft)) throw;
    }
  }
}

}  // namespace weft::tools
