// SPDX-License-Identifier: Apache-2.0
#include "runtime/auto_ps.h"

#include <algorithm>

namespace weft::rt {

auto_ps::change auto_ps::wish(const node_load& now) {
  if (now.waiting_ms >= kWaitingMs) return now.ps > 1 ? change::fewer : change::none;
  const bool short_of_ps = now.waiting_gs >= kWaitingGs && now.idle <= kIdle && now.waiting_ms <= kHardlyAny;
  return short_of_ps && now.ps < now.most ? change::more : change::none;
}

void auto_ps::begin(phase next) {
  phase_ = next;
  periods_ = 0;
  done_ = idle_ = 0;
}

int auto_ps::decide(const node_load& now) {
  for (int& left : barred_) left = std::max(left - 1, 0);
  if (now.ps != expected_) {
    begin(phase::watching);
    wished_ = change::none;
  }
  expected_ = now.ps;
  if (now.ps == 0) return 0;
  switch (phase_) {
    case phase::watching: return expected_ = watch(now);
    case phase::judging: return expected_ = judge(now);
    case phase::settling:
      if (++periods_ == kSettle) begin(phase::judging);
      return now.ps;
  }
  return now.ps;
}

int auto_ps::watch(const node_load& now) {
  const change wished = wish(now);
  if (wished != wished_) begin(phase::watching);
  wished_ = wished;
  if (wished == change::none || barred(wished) > 0) return now.ps;
  done_ += now.done;
  idle_ += now.idle;
  if (++periods_ < kSure) return now.ps;
  done_before_ = done_;
  idle_before_ = idle_;
  begin(phase::settling);
  return now.ps + (wished == change::more ? 1 : -1);
}

int auto_ps::judge(const node_load& now) {
  done_ += now.done;
  idle_ += now.idle;
  if (++periods_ < kSure) return now.ps;
  const bool more_idle = idle_ > idle_before_ + kSure * kIdle;  // there is less to do: nothing can be said
  const bool harmed = done_ < kWorse * done_before_ && !more_idle;
  const change made = wished_;
  begin(phase::watching);
  wished_ = change::none;
  if (!harmed) {
    bar_next(made) = kBarred;
    return now.ps;
  }
  barred(made) = bar_next(made);
  bar_next(made) = std::min(2 * bar_next(made), kLongestBarred);
  return now.ps + (made == change::more ? -1 : 1);
}

}  // namespace weft::rt
