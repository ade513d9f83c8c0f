// SPDX-License-Identifier: Apache-2.0
// Where running weft programs spend their time: see profile::kind for what of it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/profile.h"

namespace weft::tools {

class profiler {
 public:
  /// Begins to look at these processes, which have to run weft and be the user's (any, for root). Throws weft::error of
  /// one line if one of them does not, or if it may not look.
  static std::unique_ptr<profiler> start(profile::kind what, const std::vector<int>& pids, int hz);
  /// The same for all that there are. One that ends at this moment is left out.
  static std::unique_ptr<profiler> start_on_all(profile::kind what, int hz);

  virtual ~profiler() = default;
  profiler(const profiler&) = delete;
  profiler& operator=(const profiler&) = delete;

  /// Takes some of what there is to see now; false: there is nothing (any more) until later.
  virtual bool look() = 0;

  /// Which processes have ended, or cannot be looked at any more, since this was last asked: a line for each.
  virtual std::vector<std::string> news() = 0;
  /// Whether none is left.
  virtual bool is_over() const = 0;

  /// Ends it.
  virtual profile result() = 0;

 protected:
  profiler() = default;
};

}  // namespace weft::tools
