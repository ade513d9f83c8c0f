// SPDX-License-Identifier: Apache-2.0
// Workers take jobs from one channel and answer on another: how long is the Collatz sequence that starts at n?
#include <cstdint>
#include <cstdio>

#include <weft/chan.h>
#include <weft/runtime.h>
#include <weft/sync.h>

namespace {

struct answer {
  std::uint64_t start;
  int length;
};

int collatz_length(std::uint64_t n) {
  int length = 1;
  for (; n != 1; ++length) n = n % 2 == 0 ? n / 2 : 3 * n + 1;
  return length;
}

answer longest_below(std::uint64_t limit) {
  const auto jobs = weft::make_chan<std::uint64_t>(64);
  const auto answers = weft::make_chan<answer>(64);

  weft::go([jobs, limit] {
    for (std::uint64_t n = 1; n < limit; ++n) jobs.send(n);
    jobs.close();
  });

  weft::wait_group workers;
  for (int i = 0; i < 2 * weft::gomaxprocs(); ++i)
    workers.go([jobs, answers] {
      for (const std::uint64_t n : jobs) answers.send({n, collatz_length(n)});
    });
  weft::go([answers, &workers] {
    workers.wait();
    answers.close();
  });

  answer longest{0, 0};
  for (const answer a : answers)
    if (a.length > longest.length) longest = a;
  return longest;
}

}  // namespace

int main() {
  return weft::run([] {
    const answer longest = longest_below(10'000);
    std::printf("%llu: %d steps\n", static_cast<unsigned long long>(longest.start), longest.length);
    return longest.start == 6171 && longest.length == 262 ? 0 : 1;
  });
}
