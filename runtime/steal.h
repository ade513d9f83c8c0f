// SPDX-License-Identifier: Apache-2.0
// What a thief decides: in which order it visits Ps, when it may take work from another node, when a robbery was worth
// it. Pure, so that the simulation (tests/sim) decides by the same text as the scheduler (find.cpp, where the essay
// is). Go: runtime.randomOrder.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>

#include "numa/nearness.h"
#include "runtime/costs.h"
#include "runtime/rng.h"

namespace weft::rt {

constexpr int kStealPasses = 4;
constexpr std::uint64_t kLongestFarWaitNs = 50'000;  // work may leave its node after that, however far and dear that is
constexpr std::uint64_t kLongSpinNs = 2 * kLongestFarWaitNs;  // while such work is in sight

constexpr std::uint32_t kMinWatchNs = 400;  // several times what a goroutine needs that only answers a message
constexpr std::uint32_t kMaxWatchNs = 25'600;
constexpr std::uint64_t kRobberyPaysNs = 10'000;

/// Enumerates 0 … n-1, each once: start, start + stride, start + 2 stride … modulo n, the stride coprime with n.
class steal_order {
 public:
  steal_order(int n, rng& random)
      : n_(n), at_(static_cast<int>(random.below(static_cast<std::uint32_t>(n)))), stride_(1), left_(n) {
    if (n > 2) {
      stride_ = 1 + static_cast<int>(random.below(static_cast<std::uint32_t>(n - 1)));
      while (std::gcd(stride_, n) != 1) stride_ = stride_ % n + 1;
    }
  }
  bool done() const { return left_ == 0; }
  int position() const { return at_; }
  void next() {
    at_ = (at_ + stride_) % n_;
    --left_;
  }

 private:
  int n_, at_, stride_, left_;
};

/// Tries the places of a part of the row, but not those of another part, in random order. Returns the first that
/// try_at(place) finds (what it returns is false, or null, if it finds nothing).
template <class Try>
auto steal_in(numa::range part, numa::range but, rng& random, const Try& try_at) -> decltype(try_at(0)) {
  if (part.size() == 0) return {};
  for (steal_order order(part.size(), random); !order.done(); order.next()) {
    const int place = part.begin + order.position();
    if (place >= but.begin && place < but.end) continue;
    if (auto found = try_at(place)) return found;
  }
  return {};
}

/// The same for all of a thief's node: its core, its cache, then the others.
template <class Try>
auto steal_near(const numa::view& seen, rng& random, const Try& try_at) -> decltype(try_at(0)) {
  if (auto found = steal_in(seen.core, {0, 0}, random, try_at)) return found;
  if (auto found = steal_in(seen.cache, seen.core, random, try_at)) return found;
  return steal_in(seen.node, seen.cache, random, try_at);
}

/// What a thief has seen of other nodes while it looked for work: since when each has had some that nobody there does.
class far_work {
 public:
  /// At each look at that node. `waits`: it has work, and no idle P of its own. True: that may be taken now, since it
  /// has waited for as long as the distance costs.
  bool may_fetch(int node_index, bool waits, std::uint64_t distance_cost, std::int64_t now_ns) {
    std::int64_t& since = since_[static_cast<std::size_t>(node_index)];
    if (!waits) {
      since = 0;
      return false;
    }
    if (since == 0) since = now_ns;
    const bool ripe = static_cast<std::uint64_t>(now_ns - since) >= std::min(distance_cost, kLongestFarWaitNs);
    awaited_ |= !ripe;
    return ripe;
  }
  /// A round of looks at all nodes begins.
  void look_again() { awaited_ = false; }
  /// Some work may be taken soon.
  bool awaited() const { return awaited_; }

 private:
  std::array<std::int64_t, kMaxNodes> since_{};  // ns; 0: it has none
  bool awaited_ = false;
};

/// Whether one more M may spin, for so many Ps that run goroutines: at most half as many spin.
constexpr bool room_to_spin(int busy_ps, int spinning) { return 2 * spinning < busy_ps; }

/// For how long a P is watched before it is robbed, after a robbery that was worth it, or was not.
constexpr std::uint32_t next_watch_ns(std::uint32_t watch_ns, bool paid) {
  return paid ? std::max(watch_ns / 2, kMinWatchNs) : std::min(watch_ns * 2, kMaxWatchNs);
}

}  // namespace weft::rt
