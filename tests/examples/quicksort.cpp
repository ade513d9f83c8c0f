// SPDX-License-Identifier: Apache-2.0
// Quicksort that gives the lower part to another goroutine each time. Tasks start tasks; the group waits for them all.
#include <algorithm>
#include <cstdio>
#include <random>
#include <span>
#include <vector>

#include <weft/runtime.h>
#include <weft/sync.h>

namespace {

constexpr std::size_t kNumbers = 1'000'000, kSmall = 2'000;

void quicksort(weft::task_group& group, std::span<int> part) {
  while (part.size() > kSmall) {
    const int pivot = part[part.size() / 2];
    const auto middle = std::partition(part.begin(), part.end(), [pivot](int n) { return n < pivot; });
    const auto upper = std::partition(middle, part.end(), [pivot](int n) { return n == pivot; });
    group.go([&group, lower = std::span(part.begin(), middle)] { quicksort(group, lower); });
    part = std::span(upper, part.end());
  }
  std::ranges::sort(part);
}

}  // namespace

int main() {
  return weft::run([] {
    std::vector<int> numbers(kNumbers);
    std::ranges::generate(numbers, std::mt19937(1));
    std::vector<int> expected = numbers;
    std::ranges::sort(expected);

    weft::task_group group;
    quicksort(group, numbers);
    group.wait();
    std::printf("%d … %d … %d\n", numbers.front(), numbers[kNumbers / 2], numbers.back());
    return numbers == expected ? 0 : 1;
  });
}
