// SPDX-License-Identifier: Apache-2.0
// Ctrl-C and the like end what a command does, and not the command.
#pragma once

#include <csignal>
#include <cstdint>
#include <ctime>

namespace weft::tools {

class interruption {
 public:
  /// From here on, for the rest of the process.
  interruption() {
    sigemptyset(&set_);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set_, signal);
    sigprocmask(SIG_BLOCK, &set_, nullptr);
  }

  /// The signal that came, or nothing (0) for so long.
  int comes_within(std::int64_t ns) const {
    const timespec rest{.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
    const int signal = sigtimedwait(&set_, nullptr, &rest);
    return signal > 0 ? signal : 0;
  }

 private:
  sigset_t set_;
};

}  // namespace weft::tools
