// SPDX-License-Identifier: Apache-2.0
// The whole terminal, by ncurses. Its headers define words as macros, so they stay in screen.cpp.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/top_screen.h"

namespace weft::tools {

class screen {
 public:
  /// Takes the terminal. Throws std::runtime_error of one line where standard output is none, or one that is too small.
  screen(int least_columns, int least_lines);
  /// Leaves it as it was.
  ~screen();
  screen(const screen&) = delete;
  screen& operator=(const screen&) = delete;

  int lines() const;
  /// What does not fit is cut off.
  void show(const std::vector<screen_line>& lines, const std::string& footer);
  /// A key, after at most so many seconds; -1: none was pressed, or the terminal has another size now.
  int key(double seconds);

 private:
  class window;
  std::unique_ptr<window> on_;
};

}  // namespace weft::tools
