// SPDX-License-Identifier: Apache-2.0
// A token goes round a ring of goroutines; the one that holds it when it is used up tells its number.
#include <cstdio>

#include <weft/chan.h>
#include <weft/runtime.h>

namespace {

constexpr int kGoroutines = 503, kHops = 100'000;

void pass_on(const weft::recv_chan<int>& in, const weft::send_chan<int>& out, const weft::send_chan<int>& result,
             int number) {
  for (const int hops : in) {
    if (hops == 0) {
      result.send(number);
      return;
    }
    out.send(hops - 1);
  }
}

}  // namespace

int main() {
  return weft::run([] {
    const auto result = weft::make_chan<int>();
    const auto first = weft::make_chan<int>();
    auto in = first;
    for (int number = 1; number <= kGoroutines; ++number) {
      const auto out = number == kGoroutines ? first : weft::make_chan<int>();
      weft::go(pass_on, in, out, result, number);
      in = out;
    }
    first.send(kHops);
    const int last = result.recv().value();
    std::printf("goroutine %d of %d had the token last\n", last, kGoroutines);
    return last == kHops % kGoroutines + 1 ? 0 : 1;
  });
}
