// SPDX-License-Identifier: Apache-2.0
// A strict reader of OpenMetrics 1.0 text: what it does not understand, or finds out of order, is a failure.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/child.h"

namespace weft::test {

struct om_sample {
  std::string name;
  std::vector<std::pair<std::string, std::string>> labels;
  double value = 0;

  std::string label(const std::string& wanted) const {
    for (const auto& [name, value] : labels)
      if (name == wanted) return value;
    return "";
  }
};

struct om_family {
  std::string name, type, unit, help;
  std::vector<om_sample> samples;

  /// Of all its samples with that suffix and these labels.
  double sum(const std::string& suffix = "", const std::map<std::string, std::string>& where = {}) const {
    double sum = 0;
    for (const om_sample& s : samples)
      if (s.name == name + suffix &&
          std::all_of(where.begin(), where.end(), [&](const auto& w) { return s.label(w.first) == w.second; }))
        sum += s.value;
    return sum;
  }
};

namespace om_detail {

inline om_sample parse_sample(const std::string& line) {
  static const std::regex whole(R"re(([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+))re");
  static const std::regex one(R"re(([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"(,|$))re");
  om_sample sample;
  std::smatch parts;
  if (!std::regex_match(line, parts, whole)) {
    ADD_FAILURE() << "no sample: " << line;
    return sample;
  }
  sample.name = parts[1];
  char* end = nullptr;
  const std::string value = parts[3], labels = parts[2];
  sample.value = std::strtod(value.c_str(), &end);
  EXPECT_EQ(*end, '\0') << line;
  std::size_t read = 0;
  for (std::sregex_iterator at(labels.begin(), labels.end(), one), last; at != last; ++at) {
    EXPECT_EQ(static_cast<std::size_t>(at->position()), read) << line;
    read += static_cast<std::size_t>(at->length());
    sample.labels.emplace_back((*at)[1], (*at)[2]);
  }
  EXPECT_EQ(read, labels.size()) << line;
  return sample;
}

inline void check_suffix(const om_family& family, const om_sample& sample) {
  static const std::map<std::string, std::set<std::string>> suffixes = {
      {"counter", {"_total"}}, {"gauge", {""}}, {"histogram", {"_bucket", "_sum", "_count"}}};
  const auto allowed = suffixes.find(family.type);
  if (allowed == suffixes.end()) {
    ADD_FAILURE() << family.name << " has type " << family.type;
    return;
  }
  EXPECT_TRUE(sample.name.starts_with(family.name) && allowed->second.contains(sample.name.substr(family.name.size())))
      << sample.name << " in family " << family.name;
  EXPECT_TRUE(family.type == "gauge" || (std::isfinite(sample.value) && sample.value >= 0)) << sample.name;
}

// Bounds go up, counts do not go down, the last bound is +Inf and counts all.
inline void check_histograms(const om_family& family) {
  double bound = -1, count = 0;
  bool complete = true;
  for (const om_sample& s : family.samples) {
    if (s.name.ends_with("_bucket")) {
      if (complete) bound = -1, count = 0;
      const std::string le = s.label("le");
      const double next = le == "+Inf" ? HUGE_VAL : std::stod(le);
      EXPECT_GT(next, bound) << family.name;
      EXPECT_GE(s.value, count) << family.name;
      bound = next;
      count = s.value;
      complete = std::isinf(bound);
    } else if (s.name.ends_with("_count")) {
      EXPECT_TRUE(complete) << family.name;
      EXPECT_EQ(s.value, count) << family.name;
    }
  }
  EXPECT_TRUE(complete) << family.name;
}

inline void check(const om_family& family) {
  EXPECT_FALSE(family.type.empty()) << family.name << " has no type";
  EXPECT_FALSE(family.help.empty()) << family.name << " has no help";
  EXPECT_TRUE(family.unit.empty() || family.name.ends_with("_" + family.unit)) << family.name;
  std::set<std::pair<std::string, std::vector<std::pair<std::string, std::string>>>> seen;
  for (const om_sample& s : family.samples) {
    check_suffix(family, s);
    EXPECT_TRUE(seen.emplace(s.name, s.labels).second) << s.name << " stands there twice";
  }
  if (family.type == "histogram") check_histograms(family);
}

}  // namespace om_detail

/// By name.
inline std::map<std::string, om_family> parse_openmetrics(const std::string& text) {
  static const std::regex metadata(R"re(# (TYPE|UNIT|HELP) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+))re");
  std::map<std::string, om_family> all;
  EXPECT_TRUE(text.ends_with("\n# EOF\n"));
  om_family* current = nullptr;
  bool ended = false;
  for (const std::string& line : lines_of(text)) {
    EXPECT_FALSE(ended) << "behind the end: " << line;
    std::smatch parts;
    if (line == "# EOF") {
      ended = true;
    } else if (std::regex_match(line, parts, metadata)) {
      if (!current || current->name != parts[2]) {
        EXPECT_FALSE(all.contains(parts[2])) << parts[2] << " is in two parts";
        current = &all[parts[2]];
        current->name = parts[2];
      }
      EXPECT_TRUE(current->samples.empty()) << "late: " << line;
      std::string& place = parts[1] == "TYPE" ? current->type : parts[1] == "UNIT" ? current->unit : current->help;
      EXPECT_TRUE(place.empty()) << "twice: " << line;
      place = parts[3];
    } else if (current) {
      current->samples.push_back(om_detail::parse_sample(line));
    } else {
      ADD_FAILURE() << "before any family: " << line;
    }
  }
  for (const auto& [name, family] : all) om_detail::check(family);
  return all;
}

}  // namespace weft::test
