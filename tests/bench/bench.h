// SPDX-License-Identifier: Apache-2.0
//
// What every benchmark program shares, weft's and the peers' alike: one command line, one form of result, one clock.
//
//   prog list                              the names of the program's works, one a line
//   prog WORK [--procs P] [--ops N]        runs one work; each result is one JSON object on a line of its own
//
// A work measures in a fresh process, so that no work inherits another's heap, stacks or thread pool.
// The header knows nothing of weft: a peer includes it without touching the library that it is compared with.

#pragma once

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

constexpr std::int64_t kMicrosecond = 1'000;
constexpr std::int64_t kMillisecond = 1'000'000;
constexpr std::int64_t kSecond = 1'000'000'000;

// Enough for a distribution's picture; the quantiles of the thinned samples differ from the full ones by 1/2000 at
// most.
constexpr std::size_t kMaxPrintedSamples = 2000;

// A program's exit status where this machine lacks what a work needs; run.py knows it.
constexpr int kNotHere = 77;

struct options {
  int procs = 1;
  std::int64_t ops = 0;
};

struct work {
  std::string_view name;
  std::int64_t default_ops;
  void (*run)(const options&);
};

inline std::int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * kSecond + t.tv_nsec;
}

inline void compute_for(std::int64_t ns) {
  for (const std::int64_t end = now_ns() + ns; now_ns() < end;) {
  }
}

// The longest time between two calls of `on`, until it says no.
template <class F>
std::int64_t longest_gap_ns(F&& on) {
  std::int64_t longest = 0;
  for (std::int64_t last = now_ns(); on();) {
    const std::int64_t now = now_ns();
    longest = std::max(longest, now - last);
    last = now;
  }
  return longest;
}

// A raw nanosleep(2): the blocking call that the works about blocking make.
inline void kernel_sleep(std::int64_t ns) {
  timespec t{.tv_sec = static_cast<time_t>(ns / kSecond), .tv_nsec = static_cast<long>(ns % kSecond)};
  nanosleep(&t, nullptr);
}

[[noreturn]] inline void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

// User and system time of the process so far, in seconds.
inline double cpu_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](timeval t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// A line of /proc/self/status in bytes, as "VmRSS" or "VmPTE"; 0 if the kernel has no such line.
inline double status_bytes(std::string_view key) {
  std::FILE* file = std::fopen("/proc/self/status", "re");
  if (file == nullptr) die("/proc/self/status");
  char line[256];
  double bytes = 0;
  while (std::fgets(line, sizeof line, file) != nullptr) {
    const std::string_view text(line);
    if (text.starts_with(key) && text.substr(key.size()).starts_with(':')) {
      bytes = std::strtod(line + key.size() + 1, nullptr) * 1024;
    }
  }
  std::fclose(file);
  return bytes;
}

inline void report(std::string_view name, const options& o, double value, const char* unit) {
  std::printf("{\"work\": \"%.*s\", \"procs\": %d, \"ops\": %lld, \"value\": %.6g, \"unit\": \"%s\"}\n",
              static_cast<int>(name.size()), name.data(), o.procs, static_cast<long long>(o.ops), value, unit);
  std::fflush(stdout);
}

// Latencies of single operations, in nanoseconds; reported in microseconds. Not thread safe: one goroutine adds.
class latencies {
 public:
  explicit latencies(std::int64_t expected) { samples_.reserve(static_cast<std::size_t>(expected)); }

  void add(std::int64_t ns) { samples_.push_back(ns); }

  void report(std::string_view name, const options& o) {
    if (samples_.empty()) {
      std::fprintf(stderr, "%.*s: no sample\n", static_cast<int>(name.size()), name.data());
      std::exit(1);
    }
    std::sort(samples_.begin(), samples_.end());
    std::printf(
        "{\"work\": \"%.*s\", \"procs\": %d, \"ops\": %lld, \"value\": %.3f, \"unit\": \"us\", "
        "\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"max\": %.3f, \"samples_us\": [",
        static_cast<int>(name.size()), name.data(), o.procs, static_cast<long long>(o.ops), at(0.5), at(0.5), at(0.9),
        at(0.99), at(1));
    const std::size_t printed = std::min(samples_.size(), kMaxPrintedSamples);
    for (std::size_t i = 0; i < printed; ++i) {
      const double q = printed == 1 ? 0 : static_cast<double>(i) / static_cast<double>(printed - 1);
      std::printf("%s%.3f", i == 0 ? "" : ",", at(q));
    }
    std::printf("]}\n");
    std::fflush(stdout);
  }

 private:
  double at(double q) const {
    return static_cast<double>(samples_[static_cast<std::size_t>(q * static_cast<double>(samples_.size() - 1))]) / 1e3;
  }

  std::vector<std::int64_t> samples_;
};

[[noreturn]] inline void usage(std::span<const work> works) {
  std::fprintf(stderr, "usage: list | WORK [--procs P] [--ops N], where WORK is one of:\n");
  for (const work& w : works) std::fprintf(stderr, "  %.*s\n", static_cast<int>(w.name.size()), w.name.data());
  std::exit(2);
}

inline std::int64_t positive(std::string_view text, std::span<const work> works) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 1) usage(works);
  return value;
}

// The body of every program's main().
inline int run_main(int argc, char** argv, std::span<const work> works) {
  const std::span<char*> args(argv, static_cast<std::size_t>(argc));
  if (args.size() < 2) usage(works);
  const std::string_view name = args[1];
  if (name == "list") {
    for (const work& w : works) std::printf("%.*s\n", static_cast<int>(w.name.size()), w.name.data());
    return 0;
  }
  const auto chosen = std::find_if(works.begin(), works.end(), [&](const work& w) { return w.name == name; });
  if (chosen == works.end()) usage(works);
  options o{.procs = 1, .ops = chosen->default_ops};
  for (std::size_t i = 2; i < args.size(); i += 2) {
    const std::string_view flag = args[i];
    if (i + 1 == args.size()) usage(works);
    if (flag == "--procs") {
      o.procs = static_cast<int>(positive(args[i + 1], works));
    } else if (flag == "--ops") {
      o.ops = positive(args[i + 1], works);
    } else {
      usage(works);
    }
  }
  chosen->run(o);
  return 0;
}

}  // namespace bench
