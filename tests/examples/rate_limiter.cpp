// SPDX-License-Identifier: Apache-2.0
// At most one request every two milliseconds on average, but five at once after a pause: a bucket of tokens that a
// ticker fills. The bucket is a buffered channel; a tick that finds it full is lost.
#include <chrono>
#include <cstdio>

#include <weft/chan.h>
#include <weft/context.h>
#include <weft/runtime.h>
#include <weft/select.h>
#include <weft/sync.h>
#include <weft/time.h>

namespace {

using namespace std::chrono_literals;

constexpr auto kInterval = 2ms;
constexpr int kBurst = 5, kRequests = 20;

class rate_limiter {
 public:
  explicit rate_limiter(const weft::context& ctx) : fillers_(ctx) {
    for (int i = 0; i < kBurst; ++i) tokens_.send({});
    fillers_.go([tokens = tokens_, tick = weft::ticker(kInterval)](const weft::context& until) {
      while (!until.err())
        weft::select(weft::on_recv(tick.c(), [&] { tokens.try_send({}); }), weft::on_recv(until.done()));
    });
  }

  /// Waits for a token; false: the context has ended before.
  bool allow(const weft::context& ctx) { return weft::select(weft::on_recv(tokens_), weft::on_recv(ctx.done())) == 0; }

 private:
  weft::chan<weft::unit> tokens_ = weft::make_chan<weft::unit>(kBurst);
  weft::task_group fillers_;  // its destructor ends the filling
};

}  // namespace

int main() {
  return weft::run([] {
    const auto [ctx, cancel] = weft::with_timeout(weft::context::background(), 1min);
    const weft::time_point start = weft::clock::now();
    rate_limiter limiter(ctx);
    for (int i = 0; i < kRequests; ++i) {
      if (!limiter.allow(ctx)) return 1;
      const std::chrono::duration<double, std::milli> at = weft::clock::now() - start;
      std::printf("request %2d at %4.1f ms\n", i, at.count());
    }
    const auto took = weft::clock::now() - start;
    return took >= (kRequests - kBurst) * kInterval ? 0 : 1;
  });
}
