// SPDX-License-Identifier: Apache-2.0
// Philosophers share forks with their neighbours. Nobody starves and nothing locks up, because each of them takes the
// fork with the lower number first.
#include <algorithm>
#include <array>
#include <cstdio>
#include <mutex>

#include <weft/runtime.h>
#include <weft/sync.h>

namespace {

constexpr std::size_t kSeats = 5;
constexpr int kMeals = 10'000;

struct table {
  std::array<weft::mutex, kSeats> forks;
  std::array<int, kSeats> uses{};  // of each fork, guarded by it
};

void dine(table& t, std::size_t seat) {
  const auto [first, second] = std::minmax({seat, (seat + 1) % kSeats});
  for (int meal = 0; meal < kMeals; ++meal) {
    const std::lock_guard one(t.forks[first]);
    const std::lock_guard other(t.forks[second]);
    ++t.uses[first];
    ++t.uses[second];
  }
}

}  // namespace

int main() {
  return weft::run([] {
    table t;
    weft::wait_group guests;
    for (std::size_t seat = 0; seat < kSeats; ++seat) guests.go([&t, seat] { dine(t, seat); });
    guests.wait();
    for (const int uses : t.uses) std::printf("a fork was used %d times\n", uses);
    return std::ranges::count(t.uses, 2 * kMeals) == kSeats ? 0 : 1;
  });
}
