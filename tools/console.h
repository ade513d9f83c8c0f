// SPDX-License-Identifier: Apache-2.0
// What a command writes: its buffered output, its messages, and the progress line kept out of the way of both.
//
// A reader that has gone away ends the process by SIGPIPE, as it does any filter, but with the progress line erased
// first. Where the program was started with that signal ignored, it is a write error like any other.
//
// Used by one goroutine.
#pragma once

#include <string>
#include <string_view>

#include "tools/progress.h"

namespace weft::tools {

class console {
 public:
  console(std::string_view command, progress& shown);
  console(const console&) = delete;
  console& operator=(const console&) = delete;
  ~console();

  /// The output that is not written yet, to be appended to. Call after_output() then.
  std::string& output() { return output_; }
  /// Writes the output if there is enough of it. False: it cannot be written, which has been reported.
  bool after_output();
  /// To be called before a wait: on a terminal, what is done is shown meanwhile.
  bool before_wait();
  /// Writes all output.
  bool flush();

  /// One line on standard error, behind all output so far: `COMMAND: TEXT`.
  void message(std::string_view text);
  /// The same with the path that it is about: `COMMAND: PATH: TEXT`.
  void message(std::string_view path, std::string_view text);
  /// Text on standard error as it is.
  void error_text(std::string_view text);

 private:
  void end_by_sigpipe();

  const std::string command_;
  progress& progress_;
  std::string output_;
  bool failed_ = false;
  void (*const earlier_sigpipe_)(int);
};

}  // namespace weft::tools
