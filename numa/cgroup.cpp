// SPDX-License-Identifier: Apache-2.0
//
// From /proc/self/cgroup (which cgroup, seen from our cgroup namespace) and /proc/self/mountinfo (which part of the
// hierarchy is mounted where) to directories, and from each directory up to its mount point.
//
// A mount's root and our path are both relative to the root of the cgroup namespace, and may lead out of it by "..".
// Three cases can be resolved: our path lies below the mount's root; the mount's root is made of ".." alone and
// thus an ancestor of ours, though the names in between are hidden; or neither, and the mount tells nothing about us.
#include "numa/cgroup.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <system_error>
#include <vector>

#include "weft/numa.h"

namespace weft::numa {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

using version = limits::version;

struct membership {
  version kind;
  std::string path;
};

struct mount {
  version kind;
  std::string root;   // the part of the hierarchy that is mounted
  std::string point;  // where it is mounted
};

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

bool lists_cpu(const std::string& comma_separated) {
  std::istringstream in(comma_separated);
  for (std::string item; std::getline(in, item, ',');) {
    if (item == "cpu") return true;
  }
  return false;
}

// Lines "ID:CONTROLLERS:PATH"; v2 has no controllers. The path may hold colons.
std::vector<membership> memberships(const std::string& root) {
  std::vector<membership> found;
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) found.push_back({version::v2, path});
    if (lists_cpu(controllers)) found.push_back({version::v1, path});
  }
  return found;
}

// mountinfo writes space, tab, newline and backslash as a backslash and three octal digits.
std::string unescape(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    int code = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(&text[i + 1], &text[i + 1] + 3, code, 8).ptr == &text[i + 1] + 3) {
      plain += static_cast<char>(code);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// "ID PARENT DEV ROOT POINT OPTIONS [OPTIONAL...] - TYPE SOURCE SUPER_OPTIONS"; a v1 hierarchy's controllers are among
// the super options.
std::vector<mount> cgroup_mounts(const std::string& root) {
  std::vector<mount> found;
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> words = words_of(line);
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (dash - words.begin() < 6 || words.end() - dash < 3) continue;
    const std::string& type = dash[1];
    const bool v1 = type == "cgroup" && lists_cpu(words.back());
    if (!v1 && type != "cgroup2") continue;
    found.push_back({v1 ? version::v1 : version::v2, unescape(words[3]), unescape(words[4])});
  }
  return found;
}

bool only_parents(const std::string& path) {
  std::istringstream in(path);
  for (std::string name; std::getline(in, name, '/');) {
    if (!name.empty() && name != "..") return false;
  }
  return true;
}

// Where below the mount's root a path lies: "" or "/a/b"; of an ancestor mount the root itself. See the head.
std::optional<std::string> below(const std::string& mount_root, const std::string& path) {
  const std::string base = mount_root == "/" ? "" : mount_root;
  const std::string full = path == "/" ? "" : path;
  if (full != base && full.compare(0, base.size() + 1, base + '/') != 0) {
    return only_parents(base) ? std::optional<std::string>("") : std::nullopt;
  }
  std::string rest = full.substr(base.size());
  if ((rest + '/').compare(0, 4, "/../") == 0) return std::nullopt;
  return rest;
}

std::optional<double> number(const std::string& text) {
  long long value = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc{} || parsed.ptr != end) return std::nullopt;
  return static_cast<double>(value);
}

// "max" and v1's -1 are no limit, as is all that makes no sense.
double ratio(const std::string& quota, const std::string& period) {
  const auto time = number(quota);
  const auto interval = number(period);
  if (!time || !interval || *time <= 0 || *interval <= 0) return kNoLimit;
  return *time / *interval;
}

std::vector<std::string> words_in(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return words_of(line);
}

double limit_in(version kind, const std::string& directory) {
  std::vector<std::string> words;
  if (kind == version::v2) {
    words = words_in(directory + "/cpu.max");
  } else {
    words = words_in(directory + "/cpu.cfs_quota_us");
    const auto period = words_in(directory + "/cpu.cfs_period_us");
    words.insert(words.end(), period.begin(), period.end());
  }
  return words.size() == 2 ? ratio(words[0], words[1]) : kNoLimit;
}

throttling throttled_in(version kind, const std::string& directory) {
  throttling t;
  std::ifstream file(directory + "/cpu.stat");
  std::string name;
  std::uint64_t value = 0;
  while (file >> name >> value) {
    if (name == "nr_throttled") t.periods = value;
    if (name == (kind == version::v2 ? "throttled_usec" : "throttled_time"))
      t.ns = kind == version::v2 ? value * 1000 : value;
  }
  return t;
}

}  // namespace

limits::limits(const std::string& root) {
  const std::vector<mount> mounts = cgroup_mounts(root);
  for (const membership& ours : memberships(root)) {
    for (const mount& where : mounts) {
      if (where.kind != ours.kind) continue;
      std::optional<std::string> path = below(where.root, ours.path);
      if (!path) continue;
      places_.push_back({ours.kind, root + where.point});
      while (!path->empty()) {
        places_.push_back({ours.kind, root + where.point + *path});
        const auto slash = path->rfind('/');
        path->resize(slash == std::string::npos ? 0 : slash);
      }
    }
  }
}

double limits::quota() const {
  double limit = kNoLimit;
  for (const place& each : places_) limit = std::min(limit, limit_in(each.kind, each.directory));
  return limit;
}

throttling limits::throttled() const {
  throttling sum;
  for (const place& each : places_) {
    if (limit_in(each.kind, each.directory) == kNoLimit) continue;
    const throttling t = throttled_in(each.kind, each.directory);
    sum.periods += t.periods;
    sum.ns += t.ns;
  }
  return sum;
}

double cpu_quota_under(const std::string& root) { return limits(root).quota(); }

double cpu_quota() { return cpu_quota_under(""); }

int gomaxprocs_for(int cpus, double quota) {
  const double wanted = std::max(2.0, std::ceil(quota));
  return std::max(1, wanted < cpus ? static_cast<int>(wanted) : cpus);
}

int default_gomaxprocs(const topology& machine) {
  return gomaxprocs_for(static_cast<int>(machine.cpus().size()), machine.cpu_quota());
}

}  // namespace weft::numa
