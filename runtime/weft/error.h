// SPDX-License-Identifier: Apache-2.0
// What misuse throws: Go panics with these texts, weft throws them.
#pragma once

#include <stdexcept>

namespace weft {

/// Misuse of the runtime that Go answers with a panic; what() is Go's text.
class error : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// "send on closed channel" or "close of closed channel".
class closed_channel : public error {
 public:
  using error::error;
};

/// "close of nil channel".
class nil_channel : public error {
 public:
  using error::error;
};

}  // namespace weft
