// SPDX-License-Identifier: Apache-2.0
// Chameneos meet in pairs, and each takes the colour that neither of the two had. They leave their cards at the door of
// the mall, where a goroutine makes the pairs and, at closing time, closes the channels of all who still come.
#include <array>
#include <cstdio>
#include <numeric>
#include <optional>

#include <weft/chan.h>
#include <weft/runtime.h>
#include <weft/sync.h>

namespace {

constexpr int kChameneos = 7, kMeetings = 20'000;

enum class colour { blue, red, yellow };

struct card {
  colour mine;
  weft::send_chan<colour> other;  // where to tell whom its owner has met
};

colour complement(colour a, colour b) {
  return a == b ? a : static_cast<colour>(3 - static_cast<int>(a) - static_cast<int>(b));
}

void open_mall(const weft::recv_chan<card>& door) {
  for (int i = 0; i < kMeetings; ++i) {
    const card first = door.recv().value(), second = door.recv().value();
    first.other.send(second.mine);
    second.other.send(first.mine);
  }
  for (int i = 0; i < kChameneos; ++i) door.recv()->other.close();
}

int live(const weft::send_chan<card>& door, colour mine) {
  const auto met = weft::make_chan<colour>(1);
  for (int meetings = 0;; ++meetings) {
    door.send({mine, met});
    const std::optional<colour> other = met.recv();
    if (!other) return meetings;
    mine = complement(mine, *other);
  }
}

}  // namespace

int main() {
  return weft::run([] {
    const auto door = weft::make_chan<card>();
    std::array<int, kChameneos> meetings;
    weft::wait_group all;
    all.go([door] { open_mall(door); });
    for (int i = 0; i < kChameneos; ++i)
      all.go([door, i, &mine = meetings[i]] { mine = live(door, static_cast<colour>(i % 3)); });
    all.wait();
    for (const int n : meetings) std::printf("met %d others\n", n);
    return std::accumulate(meetings.begin(), meetings.end(), 0) == 2 * kMeetings ? 0 : 1;
  });
}
