// SPDX-License-Identifier: Apache-2.0
// Drawing and erasing the progress line.
#include "tools/progress.h"

#include <unistd.h>

#include <mutex>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include <weft/runtime.h>

namespace weft::tools {

namespace {

// Often enough to look alive, too seldom to cost.
constexpr std::chrono::nanoseconds kInterval = std::chrono::milliseconds(100);
constexpr std::string_view kEraseLine = "\r\033[K";

// A terminal that takes no more text only makes the line incomplete.
void write_to_terminal(std::string_view text) {
  [[maybe_unused]] const ssize_t n = blocking([&] { return ::write(STDERR_FILENO, text.data(), text.size()); });
}

}  // namespace

// What is done within one interval shows no line at all.
progress::progress(bool visible) : visible_(visible), due_(kInterval.count()) {}

double progress::seconds() const { return std::chrono::duration<double>(steady::now() - start_).count(); }

void progress::draw_if_due() {
  if (!visible_) return;
  const std::int64_t now = std::chrono::nanoseconds(steady::now() - start_).count();
  std::int64_t due = due_.load(std::memory_order_relaxed);
  if (now < due || !due_.compare_exchange_strong(due, now + kInterval.count(), std::memory_order_relaxed)) return;
  if (const std::unique_lock hold(lock_, std::try_to_lock); hold) draw();
}

void progress::draw() {
  const double megabytes = static_cast<double>(bytes()) * 1e-6;
  write_to_terminal(
      fmt::format("{}{} files, {:.0f} MB, {:.0f} MB/s", kEraseLine, files(), megabytes, megabytes / seconds()));
  drawn_ = true;
}

void progress::erase() {
  if (!visible_) return;
  const std::lock_guard hold(lock_);
  if (!drawn_) return;
  write_to_terminal(kEraseLine);
  drawn_ = false;
}

}  // namespace weft::tools
