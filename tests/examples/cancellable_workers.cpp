// SPDX-License-Identifier: Apache-2.0
// A pool of workers looks for a divisor. The first that finds one cancels the work of all others; a deadline does the
// same when there is none to be found in time.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>

#include <weft/chan.h>
#include <weft/context.h>
#include <weft/runtime.h>
#include <weft/select.h>
#include <weft/sync.h>

namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kAtOnce = 1'000;  // candidates that are tried between two looks at the context

struct range {
  std::uint64_t first, last;
};

std::optional<std::uint64_t> try_range(std::uint64_t n, range r) {
  for (std::uint64_t d = r.first; d < r.last; ++d)
    if (n % d == 0) return d;
  return std::nullopt;
}

std::optional<std::uint64_t> find_divisor(const weft::context& parent, std::uint64_t n) {
  const auto [ctx, stop] = weft::with_cancel(parent);
  const auto ranges = weft::make_chan<range>();
  const auto found = weft::make_chan<std::uint64_t>(1);

  weft::task_group group(ctx);
  group.go([=](const weft::context& until) {
    for (std::uint64_t d = 2; d < n; d += kAtOnce) {
      const range next{d, std::min(d + kAtOnce, n)};
      if (weft::select(weft::on_send(ranges, next), weft::on_recv(until.done())) == 1) return;
    }
    ranges.close();
  });
  for (int i = 0; i < weft::gomaxprocs(); ++i)
    group.go([=, stop = stop](const weft::context& until) {
      while (!until.err()) {
        std::optional<range> r;
        weft::select(weft::on_recv(ranges, [&r](std::optional<range> next) { r = next; }), weft::on_recv(until.done()));
        if (!r) return;
        if (const auto divisor = try_range(n, *r)) {
          found.try_send(*divisor);
          stop();
        }
      }
    });
  group.wait();
  return found.try_recv().value;
}

}  // namespace

int main() {
  return weft::run([] {
    const auto divisor = find_divisor(weft::context::background(), 1'000'003ULL * 1'000'033ULL);
    std::printf("1000036000099 is divided by %d\n", divisor ? static_cast<int>(*divisor) : 0);

    const auto [ctx, cancel] = weft::with_timeout(weft::context::background(), 20ms);
    const auto none = find_divisor(ctx, (1ULL << 61) - 1);
    std::printf("2305843009213693951: %s\n", ctx.err().message().c_str());
    return divisor == 1'000'003 && !none && ctx.err() == std::errc::timed_out ? 0 : 1;
  });
}
