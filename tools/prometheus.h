// SPDX-License-Identifier: Apache-2.0
// Asking a Prometheus server what it knows.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace weft::tools {

/// A value with its labels.
struct labelled_value {
  std::map<std::string, std::string> labels;
  double value = 0;  ///< may be NaN

  /// Empty: there is none.
  std::string label(const std::string& name) const;
};

class prometheus_server {
 public:
  /// Where it is, as users call it up: "http://prometheus:9090". The usual variables (https_proxy, ...) and ~/.netrc
  /// count.
  explicit prometheus_server(std::string url);

  /// What an expression is now, if that is a vector. Throws std::runtime_error of one line: it cannot be reached, or
  /// does not answer as Prometheus would.
  std::vector<labelled_value> query(const std::string& expression) const;

 private:
  const std::string url_;
};

}  // namespace weft::tools
