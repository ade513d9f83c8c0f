// SPDX-License-Identifier: Apache-2.0
// One P, and a goroutine that blocks in the kernel: the others have the P meanwhile. Without blocking() this would
// hang, since the goroutine that writes could never run.
#include <unistd.h>
#include <cstdio>
#include <cstring>

#include <weft/runtime.h>

int main() {
  weft::run_options one_p;
  one_p.gomaxprocs = 1;
  return weft::run(one_p, [] {
    int ends[2];
    if (pipe(ends) != 0) return 1;
    weft::go([out = ends[1]] {
      const char text[] = "written while main was blocked\n";
      if (write(out, text, sizeof text) < 0) std::perror("write");
      close(out);
    });
    char text[64] = "";
    weft::blocking([&] { return read(ends[0], text, sizeof text); });
    std::fputs(text, stdout);
    close(ends[0]);
    return std::strcmp(text, "written while main was blocked\n") == 0 ? 0 : 1;
  });
}
