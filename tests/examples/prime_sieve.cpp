// SPDX-License-Identifier: Apache-2.0
// The concurrent prime sieve: a chain of goroutines, each of which lets through what its prime does not divide.
#include <cstdio>
#include <string>

#include <weft/chan.h>
#include <weft/runtime.h>

namespace {

void generate(const weft::send_chan<int>& out) {
  for (int i = 2;; ++i) out.send(i);
}

void filter(const weft::recv_chan<int>& in, const weft::send_chan<int>& out, int prime) {
  for (const int i : in)
    if (i % prime != 0) out.send(i);
}

std::string first_primes(int n) {
  std::string primes;
  auto c = weft::make_chan<int>();
  weft::go(generate, c);
  for (int i = 0; i < n; ++i) {
    const int prime = c.recv().value();
    primes += std::to_string(prime) + " ";
    auto next = weft::make_chan<int>();
    weft::go(filter, c, next, prime);
    c = next;
  }
  return primes;
}

}  // namespace

int main() {
  return weft::run([] {
    const std::string primes = first_primes(20);
    std::printf("%s\n", primes.c_str());
    return primes == "2 3 5 7 11 13 17 19 23 29 31 37 41 43 47 53 59 61 67 71 " ? 0 : 1;
  });
}
