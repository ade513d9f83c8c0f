// SPDX-License-Identifier: Apache-2.0
#include "bpf/inherited.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace weft::bpf {
namespace {

// Every descriptor, in the order in which they are handed over.
template <class Probes, class Cost>
auto all_of(Probes& probes, Cost& cost) {
  std::vector all{&probes.slots,     &probes.histograms, &probes.control, &probes.threads, &probes.registration,
                  &probes.on_switch, &probes.link,       &cost.cpu_costs, &cost.faults};
  for (auto& program : cost.programs) all.push_back(&program);
  return all;
}

bool is_bpf(int number) {
  char target[PATH_MAX];
  const std::string path = "/proc/self/fd/" + std::to_string(number);
  const ssize_t n = readlink(path.c_str(), target, sizeof target);
  // A process that has changed its user may not look at itself. What the control page says must do then.
  if (n < 0 && errno == EACCES) return fcntl(number, F_GETFD) >= 0;
  return n > 0 && std::string_view(target, static_cast<std::size_t>(n)).starts_with("anon_inode:bpf");
}

bool parse(std::string_view text, std::vector<int>& numbers) {
  while (!text.empty()) {
    int number;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{}) return false;
    numbers.push_back(number);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    if (text.starts_with(',')) text.remove_prefix(1);
  }
  return true;
}

}  // namespace

bool take_inherited(probe_fds& probes, cost_fds& cost, std::string& why_not) {
  why_not.clear();
  const char* const value = std::getenv(kFdsVariable);
  if (!value) return false;
  const std::string text = value;
  unsetenv(kFdsVariable);
  std::vector<int> numbers;
  const auto all = all_of(probes, cost);
  bool ours = parse(text, numbers) && numbers.size() == all.size();
  for (std::size_t i = 0; ours && i < all.size(); ++i) ours = numbers[i] == -1 || is_bpf(numbers[i]);
  if (!ours) {
    why_not = std::string(kFdsVariable) + "='" + text + "' does not name a weft's probes";
    return false;
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (numbers[i] == -1) continue;
    *all[i] = fd(numbers[i]);
    fcntl(numbers[i], F_SETFD, FD_CLOEXEC);
  }
  return true;
}

std::string pass_on(const probe_fds& probes, const cost_fds& cost) {
  std::string text;
  for (const fd* each : all_of(probes, cost)) {
    if (*each) fcntl(each->get(), F_SETFD, 0);
    if (!text.empty()) text += ',';
    text += std::to_string(each->get());
  }
  return text;
}

}  // namespace weft::bpf
