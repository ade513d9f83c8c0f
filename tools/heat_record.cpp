// SPDX-License-Identifier: Apache-2.0
#include "tools/heat_record.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <filesystem>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <weft/error.h>
#include "runtime/replace_file.h"
#include "tools/heat_map.h"
#include "tools/heat_picture.h"
#include "tools/interruption.h"
#include "tools/observe.h"
#include "tools/output_file.h"
#include "tools/stats.h"
#include "tools/status.h"
#include "tools/terminal.h"

namespace weft::tools {
namespace {

using std::chrono::steady_clock;
using std::chrono::system_clock;

// Where the picture goes. The name is taken at once, by an empty file, so that whoever watches for hours learns at the
// beginning that it cannot be had; the picture comes in one piece.
class picture_file {
 public:
  picture_file(const std::string& path, bool may_exist) : path_(path), made_(make(path, may_exist)) {}
  ~picture_file() {
    if (made_) unlink(path_.c_str());
  }
  picture_file(const picture_file&) = delete;
  picture_file& operator=(const picture_file&) = delete;

  void write(const std::string& content) {
    if (!rt::replace_file(path_, content)) fail_at(path_, errno);
    made_ = false;
  }

 private:
  // False: it was there.
  static bool make(const std::string& path, bool may_exist) {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd >= 0) {
      close(fd);
      return true;
    }
    if (errno != EEXIST) fail_at(path, errno);
    if (!may_exist) fail_as_it_exists(path);
    // What is no file (/dev/null) must not become one.
    struct stat found;
    if (lstat(path.c_str(), &found) != 0) fail_at(path, errno);
    if (!S_ISREG(found.st_mode)) throw error(path + ": exists and is no regular file");
    const std::filesystem::path folder = std::filesystem::absolute(path).parent_path();
    if (access(folder.c_str(), W_OK) != 0) fail_at(path, errno);
    return false;
  }

  const std::string path_;
  bool made_;
};

// How far it is, on a terminal.
class progress_line {
 public:
  ~progress_line() {
    if (shown_) fmt::print(stderr, "\r\033[K");
  }
  void show(const heat_map& map, std::uint64_t intervals) const {
    if (shown_) fmt::print(stderr, "\r\033[K{} intervals, {:.3g} s; Ctrl-C ends it", intervals, map.seconds());
  }

 private:
  const bool shown_ = live_line_wanted(STDERR_FILENO);
};

class recorder {
 public:
  recorder(attachment& to, const heat_request& wanted)
      : to_(to), wanted_(wanted), before_(to.read()), map_(wanted.interval) {
    if (!before_.histograms.contains(wanted.metric)) throw error(no_histogram(wanted.pid, wanted.metric));
  }

  /// Until all is seen or somebody interrupts. What ends it before that is thrown, and the map has what came until
  /// then.
  void record(const interruption& stop) {
    const progress_line line;
    bool interrupted = false;
    for (std::uint64_t n = 0; n < wanted_.count && !interrupted; ++n) {
      interrupted = stop.comes_within(ns_to_next()) != 0;
      look();
      line.show(map_, n + 1);
    }
  }

  const heat_map& map() const { return map_; }
  std::uint64_t times() const { return times_; }
  system_clock::time_point begin() const { return begin_; }

 private:
  static double seconds_since(steady_clock::time_point then) {
    return std::chrono::duration<double>(steady_clock::now() - then).count();
  }

  // Intervals end at multiples of theirs, however long a look takes.
  std::int64_t ns_to_next() const {
    const double elapsed = seconds_since(start_);
    return std::llround(1e9 * (wanted_.interval - std::fmod(elapsed, wanted_.interval)));
  }

  void look() {
    metrics::snapshot now = to_.read();
    const double elapsed = seconds_since(start_);
    const metrics::histogram counted = between(before_, now).histograms[wanted_.metric];
    map_.add(elapsed - map_.seconds(), counted);
    times_ += counted.count();
    before_ = std::move(now);
  }

  attachment& to_;
  const heat_request& wanted_;
  metrics::snapshot before_;
  const steady_clock::time_point start_ = steady_clock::now();
  const system_clock::time_point begin_ = system_clock::now();
  heat_map map_;
  std::uint64_t times_ = 0;
};

picture_words words_of(const recorder& seen, const heat_request& wanted, const std::string& program) {
  const auto begin = std::chrono::duration<double>(seen.begin().time_since_epoch()).count();
  const auto time = [](double at) { return fmt::localtime(static_cast<std::time_t>(at)); };
  return {.title = fmt::format("{} of {} (process {})", wanted.metric, program, wanted.pid),
          .subtitle = fmt::format("{}; {:%Y-%m-%d %H:%M:%S} to {:%H:%M:%S %Z}, each {:g} s; {} times",
                                  meaning_of(wanted.metric), time(begin), time(begin + seen.map().seconds()),
                                  wanted.interval, seen.times()),
          .begin = begin};
}

}  // namespace

int record_heat_map(std::string_view command, const heat_request& wanted) {
  if (!can_draw()) throw error("this build of weft has no libgd, with which --png draws");
  attachment to(wanted.pid);
  const std::string program = program_of(wanted.pid);
  recorder seen(to, wanted);
  const interruption stop;  // before there is a file
  picture_file file(wanted.file, wanted.force);
  std::string cut_short;
  try {
    seen.record(stop);
  } catch (const error& why) {
    if (seen.map().empty()) throw;
    cut_short = why.what();
  }
  file.write(draw_png(seen.map(), words_of(seen, wanted, program)));
  if (!cut_short.empty())
    fmt::print(stderr, "{}: {}; {} shows what was seen until then\n", command, cut_short, wanted.file);
  return kStatusOk;
}

}  // namespace weft::tools
