// SPDX-License-Identifier: Apache-2.0
#include "tools/screen.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include <cursesw.h>
#include <termcap.h>

#include <fmt/format.h>

namespace weft::tools {
namespace {

// initscr() would end the process with a message of its own.
void check_terminal(int least_columns, int least_lines) {
  const char* const term = std::getenv("TERM");
  if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
    throw std::runtime_error("needs a terminal (--once prints text, --json prints JSON)");
  if (!term || tgetent(nullptr, term) != 1)
    throw std::runtime_error(
        fmt::format("no terminal of the type '{}' is known (--once prints text)", term ? term : ""));
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && (size.ws_col < least_columns || size.ws_row < least_lines))
    throw std::runtime_error(
        fmt::format("the terminal has {} columns and {} lines, but {} and {} are needed (--once "
                    "prints text)",
                    size.ws_col, size.ws_row, least_columns, least_lines));
}

// Each character that is drawn here is one column wide.
std::string clipped(const std::string& text, int columns) {
  std::size_t end = 0;
  for (int n = 0; end < text.size(); ++end) {
    const bool begins = (static_cast<unsigned char>(text[end]) & 0xc0) != 0x80;
    if (begins && n++ == columns) break;
  }
  return text.substr(0, end);
}

}  // namespace

class screen::window : public NCursesWindow {
 public:
  window() : NCursesWindow(0, 0, 0, 0) {
    keypad(true);
    ::curs_set(0);
  }
  void wait_for_keys(int ms) { ::wtimeout(w, ms); }
};

screen::screen(int least_columns, int least_lines) {
  check_terminal(least_columns, least_lines);
  on_ = std::make_unique<window>();
}

screen::~screen() = default;

int screen::lines() const { return LINES; }

void screen::show(const std::vector<screen_line>& shown, const std::string& footer) {
  const int last = LINES - 1;
  on_->erase();
  for (int i = 0; i < std::min(static_cast<int>(shown.size()), last); ++i) {
    const screen_line& line = shown[static_cast<std::size_t>(i)];
    on_->attrset(line.heading ? A_BOLD : A_NORMAL);
    on_->addstr(i, 0, clipped(line.text, COLS).c_str());
  }
  on_->attrset(A_REVERSE);
  on_->addstr(last, 0, clipped(footer, COLS - 1).c_str());
  on_->attrset(A_NORMAL);
  on_->refresh();
}

int screen::key(double seconds) {
  on_->wait_for_keys(static_cast<int>(seconds * 1000));
  const int pressed = on_->getch();
  return pressed == ERR || pressed == KEY_RESIZE ? -1 : pressed;
}

}  // namespace weft::tools
