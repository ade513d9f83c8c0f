// SPDX-License-Identifier: Apache-2.0
// Drawing with libgd, and with the letters that it brings, so that a picture looks the same where no fonts are
// installed.
#include "tools/heat_picture.h"

#include <gd.h>
#include <gdfontg.h>
#include <gdfontl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <memory>
#include <new>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/chrono.h>
#include <fmt/format.h>

namespace weft::tools {
namespace {

constexpr picture_area kScale{1188, 140, 18, 524};  // what the colours mean

constexpr int kPage = 0xffffff, kGrid = 0xe4e4ea, kFrame = 0x8a8a94, kInk = 0x26262e, kPale = 0x6a6a74,
              kHalo = 0xffffff;

constexpr int kTick = 5;       // its length
constexpr int kLineGap = 16;   // least distance of the labels of the scale
constexpr int kTimeGap = 110;  // of those below
constexpr int kNanosecondDecades = 13;
constexpr double kLabelAllBelow = 1000;  // spans less than these have labels at 2 and 5, too

struct shown_quantile {
  double q;
  const char* name;
  int colour;
};
constexpr std::array<shown_quantile, 2> kQuantiles = {{{0.99, "p99", 0x1260d8}, {0.50, "p50", 0x00a88f}}};

enum class align { left, middle, right };

class canvas {
 public:
  canvas() : image_(gdImageCreateTrueColor(kPictureWidth, kPictureHeight), gdImageDestroy) {
    if (!image_) throw std::bad_alloc();
    fill(0, 0, kPictureWidth, kPictureHeight, kPage);
  }

  /// From the first corner up to the second, which is outside.
  void fill(int left, int top, int right, int bottom, int colour) {
    if (right > left && bottom > top) gdImageFilledRectangle(image_.get(), left, top, right - 1, bottom - 1, colour);
  }
  void frame(const picture_area& a, int colour) {
    gdImageRectangle(image_.get(), a.left - 1, a.top - 1, a.left + a.width, a.top + a.height, colour);
  }
  /// From here on nothing is drawn outside.
  void keep_to(const picture_area& a) {
    gdImageSetClip(image_.get(), a.left, a.top, a.left + a.width - 1, a.top + a.height - 1);
  }
  /// y: its middle.
  void write(std::string_view text, int x, int y, align how, int colour = kInk, gdFontPtr font = gdFontGetLarge()) {
    std::string shown(text);
    for (char& c : shown)
      if (c < ' ' || c > '~') c = '?';
    const int width = static_cast<int>(shown.size()) * font->w;
    const int left = how == align::left ? x : how == align::middle ? x - width / 2 : x - width;
    gdImageString(image_.get(), font, left, y - font->h / 2, reinterpret_cast<unsigned char*>(shown.data()), colour);
  }
  std::string png() const {
    int size = 0;
    const std::unique_ptr<void, decltype(&gdFree)> bytes(gdImagePngPtr(image_.get(), &size), gdFree);
    if (!bytes) throw std::bad_alloc();
    return {static_cast<const char*>(bytes.get()), static_cast<std::size_t>(size)};
  }

 private:
  std::unique_ptr<gdImage, decltype(&gdImageDestroy)> image_;
};

int right_of(const picture_area& a) { return a.left + a.width; }
int bottom_of(const picture_area& a) { return a.top + a.height; }

std::string duration_label(double ns) {
  constexpr std::array<std::pair<double, const char*>, 4> kUnits = {{{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}, {1, "ns"}}};
  const auto* const unit =
      std::find_if(kUnits.begin(), kUnits.end() - 1, [ns](const auto& u) { return ns >= u.first; });
  return fmt::format("{:g} {}", ns / unit->first, unit->second);
}

std::string count_label(double count) {
  constexpr std::array<std::pair<double, const char*>, 3> kUnits = {{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}}};
  for (const auto& [size, name] : kUnits)
    if (count >= 0.9995 * size) return fmt::format("{:.3g}{}", count / size, name);
  return fmt::format("{:.3g}", count);
}

void draw_durations(canvas& to, const duration_axis& axis) {
  const bool all_labels = axis.most() / axis.least() < kLabelAllBelow;
  for (int decade = 0; decade < kNanosecondDecades; ++decade)
    for (const int n : {1, 2, 5}) {
      const double ns = n * std::pow(10.0, decade);
      if (ns * 1e-9 < axis.least() || ns * 1e-9 > axis.most()) continue;
      const int row = axis.row_of(ns * 1e-9);
      if (n == 1) to.fill(kPlot.left, row, right_of(kPlot), row + 1, kGrid);
      to.fill(kPlot.left - kTick, row, kPlot.left, row + 1, kFrame);
      if (n == 1 || all_labels) to.write(duration_label(ns), kPlot.left - kTick - 4, row, align::right);
    }
}

// The least round time of which no more than so many fit.
double round_step(double seconds, int most) {
  constexpr std::array<double, 20> kSteps = {0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1,   2,    5,    10,
                                             15,   30,   60,   120, 300, 600, 900, 1800, 3600, 7200};
  const auto* const step = std::find_if(kSteps.begin(), kSteps.end(), [=](double s) { return seconds / s <= most; });
  if (step != kSteps.end()) return *step;
  constexpr double kHours = 6 * 3600;
  return std::ceil(seconds / most / kHours) * kHours;
}

std::string time_label(double unix_time, double step) {
  const double whole = std::floor(unix_time + 1e-6);
  const std::tm local = fmt::localtime(static_cast<std::time_t>(whole));
  if (step >= 60) return fmt::format("{:%H:%M}", local);
  if (step >= 1) return fmt::format("{:%H:%M:%S}", local);
  const int digits = step >= 0.1 ? 1 : 2;
  return fmt::format("{:%H:%M:%S}", local) + fmt::format("{:.{}f}", unix_time + 1e-6 - whole, digits).substr(1);
}

void draw_times(canvas& to, double begin, double seconds) {
  const double step = round_step(seconds, kPlot.width / kTimeGap);
  const auto offset = static_cast<double>(fmt::localtime(static_cast<std::time_t>(begin)).tm_gmtoff);
  const auto first = static_cast<std::int64_t>(std::ceil((begin + offset) / step));
  const auto last = static_cast<std::int64_t>(std::floor((begin + offset + seconds) / step));
  for (std::int64_t n = first; n <= last; ++n) {
    const double at = static_cast<double>(n) * step - offset;
    const int x = kPlot.left + static_cast<int>(std::lround((at - begin) / seconds * kPlot.width));
    to.fill(x, kPlot.top, x + 1, bottom_of(kPlot), kGrid);
    to.fill(x, bottom_of(kPlot), x + 1, bottom_of(kPlot) + kTick, kFrame);
    to.write(time_label(at, step), x, bottom_of(kPlot) + kTick + 11, align::middle);
  }
}

void draw_cells(canvas& to, const std::vector<heat_map::strip>& strips, const heat_map::range& counts,
                const duration_axis& axis) {
  for (const heat_map::strip& strip : strips)
    for (int cell = counts.first_cell; cell < counts.end_cell; ++cell)
      if (const double count = strip.cells[static_cast<std::size_t>(cell)]; count > 0)
        to.fill(kPlot.left + strip.begin, axis.foot_of(cell + 1), kPlot.left + strip.end, axis.foot_of(cell),
                static_cast<int>(heat_colour(share_of(count, counts))));
}

// A step for each strip, joined to the one before unless that was empty.
void draw_line(canvas& to, const std::vector<heat_map::strip>& strips, const duration_axis& axis, double q, int grown,
               int colour) {
  std::optional<int> before;
  for (const heat_map::strip& strip : strips) {
    const int left = kPlot.left + strip.begin, right = kPlot.left + strip.end;
    std::optional<int> row;
    if (strip.counted.count() > 0) {
      row = axis.row_of(strip.counted.quantile(q));
      to.fill(left, *row - 1 - grown, right, *row + 1 + grown, colour);
      if (before)
        to.fill(left - grown, std::min(*before, *row) - 1 - grown, left + 2 + grown,
                std::max(*before, *row) + 1 + grown, colour);
    }
    before = row;
  }
}

void draw_lines(canvas& to, const std::vector<heat_map::strip>& strips, const duration_axis& axis) {
  for (const shown_quantile& each : kQuantiles) {
    draw_line(to, strips, axis, each.q, 1, kHalo);
    draw_line(to, strips, axis, each.q, 0, each.colour);
  }
}

void draw_line_names(canvas& to) {
  int x = right_of(kPlot);
  for (const shown_quantile& each : kQuantiles) {
    to.write(each.name, x, kPlot.top - 20, align::right);
    to.fill(x - 60, kPlot.top - 21, x - 32, kPlot.top - 19, each.colour);
    x -= 80;
  }
}

void draw_scale(canvas& to, const heat_map::range& counts, double interval) {
  to.write("times in", kScale.left, kScale.top - 36, align::left);
  to.write(fmt::format("{:.3g} s", interval), kScale.left, kScale.top - 18, align::left);
  const int bottom = bottom_of(kScale);
  const auto label = [&](double count, int row) {
    to.fill(right_of(kScale), row, right_of(kScale) + kTick, row + 1, kFrame);
    to.write(count_label(count), right_of(kScale) + kTick + 4, row, align::left);
  };
  for (int row = 0; row < kScale.height; ++row)
    to.fill(kScale.left, bottom - row - 1, right_of(kScale), bottom - row,
            static_cast<int>(heat_colour(counts.most > counts.least ? double(row) / (kScale.height - 1) : 1)));
  to.frame(kScale, kFrame);
  label(counts.most, kScale.top);
  if (counts.most <= counts.least) return;
  label(counts.least, bottom - 1);
  const bool all_labels = counts.most / counts.least < kLabelAllBelow;
  const auto decade_of = [](double count) { return static_cast<int>(std::floor(std::log10(count))); };
  for (int decade = decade_of(counts.least); decade <= decade_of(counts.most); ++decade)
    for (const int n : {1, 2, 5}) {
      const double count = n * std::pow(10.0, decade);
      const int row = bottom - 1 - static_cast<int>(std::lround(share_of(count, counts) * (kScale.height - 1)));
      const bool free = row > kScale.top + kLineGap && row < bottom - 1 - kLineGap;
      if (free && (n == 1 || all_labels)) label(count, row);
    }
}

}  // namespace

bool can_draw() { return true; }

std::string draw_png(const heat_map& map, const picture_words& words) {
  const std::vector<heat_map::strip> strips = map.strips(kPlot.width);
  const heat_map::range counts = heat_map::range_of(strips);
  const duration_axis axis(counts, kPlot.top, kPlot.height);
  canvas to;
  to.write(words.title, kPlot.left, 28, align::left, kInk, gdFontGetGiant());
  to.write(words.subtitle, kPlot.left, 52, align::left, kPale);
  draw_durations(to, axis);
  if (map.seconds() > 0) draw_times(to, words.begin, map.seconds());
  draw_cells(to, strips, counts, axis);
  to.frame(kPlot, kFrame);
  if (counts.first_cell == counts.end_cell) {
    to.write("nothing was counted", kPlot.left + kPlot.width / 2, kPlot.top + kPlot.height / 2, align::middle, kPale);
    return to.png();
  }
  draw_line_names(to);
  draw_scale(to, counts, map.interval());
  to.keep_to(kPlot);
  draw_lines(to, strips, axis);
  return to.png();
}

}  // namespace weft::tools
