// SPDX-License-Identifier: Apache-2.0
#include "runtime/thread_state.h"

#include <fcntl.h>
#include <unistd.h>
#include <cstdio>
#include <cstring>

namespace weft::rt {

// TID (NAME) STATE …; the name may hold anything, so what counts is the last parenthesis.
thread_state state_of_thread(int tid) {
  char text[64];  // a name has 15 characters at most
  std::snprintf(text, sizeof text, "/proc/self/task/%d/stat", tid);
  const int fd = open(text, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return thread_state::unknown;
  const ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return thread_state::unknown;
  text[n] = '\0';
  const char* const after_name = std::strrchr(text, ')');
  if (!after_name || after_name[1] != ' ') return thread_state::unknown;
  switch (after_name[2]) {
    case 'R': return thread_state::running;
    case 'S':
    case 'D': return thread_state::blocked;
    default: return thread_state::unknown;
  }
}

}  // namespace weft::rt
