// SPDX-License-Identifier: Apache-2.0
// The source, the readers and the reordering, each on its goroutines.
#include "tools/pipeline.h"

#include <atomic>
#include <optional>
#include <system_error>
#include <utility>

#include <weft/chan.h>
#include <weft/runtime.h>
#include <weft/sync.h>

#include "tools/digest.h"

namespace weft::tools {

namespace {

// Results that may wait for a slower one before them, for each reader: enough to keep all readers busy behind a file
// that is some thousand times larger than its neighbours.
constexpr std::size_t kWindowPerReader = 64;

class pipeline {
 public:
  pipeline(const item_source& source, int parallel, progress& counted)
      : source_(source),
        progress_(counted),
        pool_(parallel),
        queue_(make_chan<chan<work_item>>(kWindowPerReader * static_cast<std::size_t>(parallel))) {}

  void start() {
    running_.add(1);
    go({.name = "source"}, [this] {
      feed();
      running_.done();
    });
  }

  void drain(const item_sink& sink) {
    for (;;) {
      std::optional<chan<work_item>> next = queue_.recv();
      if (!next) break;
      std::optional<work_item> item = next->try_recv().value;
      if (!item) {
        if (!stopped_.load(std::memory_order_relaxed)) sink.before_wait();
        item = next->recv();
      }
      if (!stopped_.load(std::memory_order_relaxed) && !sink.take(*item))
        stopped_.store(true, std::memory_order_relaxed);
    }
    running_.wait();
  }

 private:
  void feed() {
    work_item item;
    while (!stopped_.load(std::memory_order_relaxed) && source_(item)) {
      const chan<work_item> result = make_chan<work_item>(1);
      queue_.send(result);
      if (item.error.empty())
        start_reader(std::move(item), result);
      else
        result.send(std::move(item));
      item = {};
    }
    queue_.close();
  }

  void start_reader(work_item item, const chan<work_item>& result) {
    pool_.reserve();
    running_.add(1);
    go({.name = "reader"}, [this, item = std::move(item), result]() mutable {
      read(item);
      pool_.release();
      result.send(std::move(item));
      running_.done();
    });
  }

  void read(work_item& item) {
    std::unique_ptr<hasher> with = pool_.take();
    const int error = with->hash(item.path, item.digest, [this](std::size_t n) {
      progress_.add_bytes(n);
      return !stopped_.load(std::memory_order_relaxed);
    });
    pool_.put_back(std::move(with));
    if (error == 0)
      progress_.add_file();
    else
      item.error = std::generic_category().message(error);
  }

  const item_source& source_;
  progress& progress_;
  hasher_pool pool_;
  const chan<chan<work_item>> queue_;
  wait_group running_;
  std::atomic<bool> stopped_{false};  // a hint to do no more work; orders nothing
};

}  // namespace

void hash_in_order(const item_source& source, const item_sink& sink, int parallel, progress& counted) {
  pipeline files(source, parallel, counted);
  files.start();
  files.drain(sink);
}

}  // namespace weft::tools
