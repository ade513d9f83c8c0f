// SPDX-License-Identifier: Apache-2.0
#include "runtime/env.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "runtime/metrics.h"

namespace weft::rt {
namespace {

constexpr std::uint64_t kMostNs = 60'000'000'000;  // that a p99 can be watched for

static_assert(kMaxPs == numa::kMostPs);

[[noreturn]] void malformed(const char* name, std::string_view value, const char* form) {
  std::fprintf(stderr, "weft: %s=%.*s: expected %s\n", name, static_cast<int>(value.size()), value.data(), form);
  std::exit(2);
}

template <class T>
bool parse(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

const char* variable(const char* name) {
  const char* const value = std::getenv(name);
  return value && *value ? value : nullptr;
}

numa::ps_wish read_gomaxprocs(const run_options& options) {
  const char* const text = options.gomaxprocs_on_nodes ? options.gomaxprocs_on_nodes : variable("GOMAXPROCS");
  if (options.gomaxprocs != 0) {
    if (options.gomaxprocs < 0 || options.gomaxprocs > kMaxPs)
      malformed("run_options.gomaxprocs", std::to_string(options.gomaxprocs), numa::kWishForm);
    return {options.gomaxprocs, {}};
  }
  if (!text) return {};
  const std::optional<numa::ps_wish> wish = numa::parse_wish(text);
  if (!wish)
    malformed(options.gomaxprocs_on_nodes ? "run_options.gomaxprocs_on_nodes" : "GOMAXPROCS", text, numa::kWishForm);
  return *wish;
}

std::size_t read_stack_size(const run_options& options) {
  constexpr const char* kForm = "bytes from 16k to 1G, such as 65536, 64k or 1M";
  const char* const name = options.stack_size ? "run_options.stack_size" : "WEFT_STACK_SIZE";
  const char* const value = variable("WEFT_STACK_SIZE");
  if (!options.stack_size && !value) return 0;
  const std::string text = options.stack_size ? std::to_string(options.stack_size) : value;
  const std::size_t size = parse_stack_size(text);
  if (size == 0) malformed(name, text, kForm);
  return size;
}

assist read_tier(const run_options& options, bool& by_name) {
  const char* const name = options.kernel_assist ? "run_options.kernel_assist" : "WEFT_KERNEL_ASSIST";
  const char* const value = options.kernel_assist ? options.kernel_assist : variable("WEFT_KERNEL_ASSIST");
  const std::string_view text = value ? value : "auto";
  by_name = text != "auto";
  if (text == "auto" || text == "bpf") return assist::bpf;
  if (text == "sentinel") return assist::sentinel;
  if (text == "off") return assist::off;
  malformed(name, text, "auto, bpf, sentinel or off");
}

bool is_address(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  int port = -1;
  return colon != text.npos && parse(text.substr(colon + 1), port) && port >= 0 && port <= 65535;
}

void read_metrics(settings& wanted) {
  const char* const value = variable("WEFT_METRICS");
  if (!value) return;
  const std::optional<metrics_wish> wish = parse_metrics(value);
  if (!wish) malformed("WEFT_METRICS", value, kMetricsForm);
  wanted.metrics_file = wish->file;
  wanted.metrics_address = wish->address;
}

// "5ms" in nanoseconds; 0 if malformed.
std::uint64_t parse_time(std::string_view text) {
  constexpr std::pair<std::string_view, std::uint64_t> kUnits[] = {
      {"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}};
  for (const auto& [unit, ns] : kUnits) {
    std::uint64_t n = 0;
    if (text.ends_with(unit) && parse(text.substr(0, text.size() - unit.size()), n) && n <= kMostNs / ns) return n * ns;
  }
  return 0;
}

// METRIC:TIME
bool parse_p99(std::string_view text, recorder_settings& recorder) {
  const std::size_t colon = std::min(text.find(':'), text.size());
  recorder.histogram = text.substr(0, colon);
  recorder.most_ns = parse_time(text.substr(std::min(colon + 1, text.size())));
  return recorder.most_ns != 0 && is_histogram(recorder.histogram);
}

bool parse_trace_item(std::string_view item, recorder_settings& recorder) {
  const std::size_t equals = std::min(item.find('='), item.size());
  const std::string_view key = item.substr(0, equals), value = item.substr(std::min(equals + 1, item.size()));
  if (key == "seconds") return parse(value, recorder.seconds) && recorder.seconds >= 1 && recorder.seconds <= 3600;
  return key == "p99" && parse_p99(value, recorder);
}

void read_trace(recorder_settings& recorder) {
  constexpr std::string_view kScheme = "file:";
  const char* const value = variable("WEFT_TRACE");
  if (!value) return;
  std::string_view left = value;
  const auto next = [&left] {
    const std::string_view item = left.substr(0, left.find(','));
    left.remove_prefix(std::min(left.size(), item.size() + 1));
    return item;
  };
  const std::string_view file = next(), path = file.starts_with(kScheme) ? file.substr(kScheme.size()) : "";
  bool good = path.starts_with('/') && !path.ends_with('/');
  while (good && !left.empty()) good = parse_trace_item(next(), recorder);
  if (!good) malformed("WEFT_TRACE", value, "file:/PATH[,seconds=N][,p99=METRIC:TIME], such as p99=runq_wait:5ms");
  recorder.path = path;
}

void read_debug(debug_settings& debug, bool& pin) {
  constexpr const char* kForm =
      "a list of schedtrace=MS, chaos=SEED, pin=0, maxthreads=N, kernelcosts=1, filering=0, separated by commas";
  const char* const value = variable("WEFT_DEBUG");
  if (!value) return;
  std::string_view left = value;
  while (!left.empty()) {
    const std::string_view item = left.substr(0, left.find(','));
    left.remove_prefix(std::min(left.size(), item.size() + 1));
    const std::size_t equals = item.find('=');
    const std::string_view key = item.substr(0, equals);
    const std::string_view number = equals == item.npos ? std::string_view() : item.substr(equals + 1);
    int flag = 0;
    bool good = false;
    if (key == "schedtrace") {
      good = parse(number, debug.schedtrace_ms) && debug.schedtrace_ms >= 0 && debug.schedtrace_ms <= 1'000'000'000;
    } else if (key == "chaos") {
      good = debug.chaos = parse(number, debug.chaos_seed);
    } else if (key == "maxthreads") {
      good = parse(number, debug.max_ms) && debug.max_ms >= 1 && debug.max_ms <= kMaxMs;
    } else if (key == "kernelcosts") {
      good = parse(number, flag) && (flag == 0 || flag == 1);
      debug.kernel_costs = flag == 1;
    } else if (key == "filering") {
      good = parse(number, flag) && (flag == 0 || flag == 1);
      debug.file_ring = flag == 1;
    } else if (key == "pin") {
      good = parse(number, flag) && (flag == 0 || flag == 1);
      pin = pin && flag == 1;
    }
    if (!good) malformed("WEFT_DEBUG", value, kForm);
  }
}

}  // namespace

void insist(const std::string& why_not) {
  std::fprintf(stderr, "weft: kernel assist bpf is not possible: %s\n", why_not.c_str());
  std::exit(2);
}

std::size_t parse_stack_size(const std::string& text) {
  std::size_t digits = text.find_first_not_of("0123456789");
  if (digits == text.npos) digits = text.size();
  std::size_t size = 0;
  if (!parse(std::string_view(text).substr(0, digits), size)) return 0;
  std::size_t unit = 1;
  const std::string_view suffix = std::string_view(text).substr(digits);
  if (suffix == "k" || suffix == "K")
    unit = 1 << 10;
  else if (suffix == "m" || suffix == "M")
    unit = 1 << 20;
  else if (suffix == "g" || suffix == "G")
    unit = 1 << 30;
  else if (!suffix.empty())
    return 0;
  if (size > kMaxStackSize / unit || size * unit < kMinStackSize) return 0;
  return (size * unit + 4095) & ~std::size_t{4095};
}

std::optional<metrics_wish> parse_metrics(std::string_view text) {
  constexpr std::string_view kScheme = "file:";
  const std::string_view path = text.starts_with(kScheme) ? text.substr(kScheme.size()) : "";
  if (path.starts_with('/') && !path.ends_with('/')) return metrics_wish{.file = std::string(path), .address = {}};
  if (text.starts_with(kScheme) || !is_address(text)) return std::nullopt;
  return metrics_wish{.file = {}, .address = std::string(text)};
}

settings read_settings(const run_options& options) {
  settings result;
  result.ps = read_gomaxprocs(options);
  result.stack_size = read_stack_size(options);
  result.tier = read_tier(options, result.tier_by_name);
  result.pin = options.pin;
  read_metrics(result);
  read_trace(result.recorder);
  read_debug(result.debug, result.pin);
  if (!result.pin && result.tier != assist::off) {
    if (result.tier_by_name && result.tier == assist::bpf) insist("the threads are not to be pinned");
    if (result.tier_by_name)
      std::fputs("weft: kernel assist: sentinels need pinned threads, and pinning is off; going on without\n", stderr);
    result.tier = assist::off;
  }
  return result;
}

}  // namespace weft::rt
