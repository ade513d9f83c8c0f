// SPDX-License-Identifier: Apache-2.0
// The two jobs of `weft sum`: what goes into the pipeline, and what is printed of what comes out.
#include "tools/sum.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include <weft/runtime.h>

#include "tools/checklist.h"
#include "tools/console.h"
#include "tools/pipeline.h"
#include "tools/progress.h"
#include "tools/stats.h"
#include "tools/status.h"
#include "tools/terminal.h"
#include "tools/walk.h"

namespace weft::tools {

namespace {

std::string text_of(int error) { return std::generic_category().message(error); }

bool print_sums(const sum_options& options, console& out, progress& counted) {
  walker files(options.paths.empty() ? std::vector<std::string>{"-"} : options.paths);
  const item_source source = [&](work_item& item) {
    walk_entry found;
    if (!files.next(found)) return false;
    item.path = std::move(found.path);
    item.error = std::move(found.error);
    return true;
  };
  bool all_done = true;
  const auto print = [&](const work_item& item) {
    if (item.error.empty()) {
      append_sum_line(out.output(), item.path, item.digest, options.tag);
    } else {
      all_done = false;
      out.message(item.path, item.error);
    }
    return out.after_output();
  };
  hash_in_order(source, {print, [&] { out.before_wait(); }}, options.parallel, counted);
  return out.flush() && all_done;
}

/// The list to be checked: closed at the end unless it is standard input.
class list_file {
 public:
  explicit list_file(const std::string& path) : is_stdin_(path == "-") {
    fd_ = is_stdin_ ? STDIN_FILENO : blocking([&] {
      const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
      return fd < 0 ? -errno : fd;
    });
  }
  list_file(const list_file&) = delete;
  list_file& operator=(const list_file&) = delete;
  ~list_file() {
    if (!is_stdin_ && fd_ >= 0) ::close(fd_);
  }
  bool is_stdin() const { return is_stdin_; }
  int fd() const { return fd_; }
  int error() const { return fd_ < 0 ? -fd_ : 0; }

 private:
  bool is_stdin_;
  int fd_;  // or an errno, negated
};

struct check_counts {
  std::uint64_t malformed = 0;  // written by the source, read when it has ended
  std::uint64_t matched = 0, mismatched = 0, unreadable = 0;
  bool any() const { return matched + mismatched + unreadable != 0; }
};

void warn_of(console& out, std::uint64_t n, std::string_view one, std::string_view many) {
  if (n != 0) out.message(fmt::format("WARNING: {} {}", n, n == 1 ? one : many));
}

void print_warnings(console& out, const check_counts& counts) {
  warn_of(out, counts.malformed, "line is improperly formatted", "lines are improperly formatted");
  warn_of(out, counts.unreadable, "listed file could not be read", "listed files could not be read");
  warn_of(out, counts.mismatched, "computed checksum did NOT match", "computed checksums did NOT match");
}

// The next line that can be checked. A list that comes from standard input cannot name standard input.
std::optional<check_entry> next_entry(line_reader& lines, checklist_parser& parser, bool from_stdin,
                                      std::uint64_t& malformed) {
  while (const std::optional<std::string_view> line = lines.next()) {
    if (checklist_parser::is_comment(*line)) continue;
    std::optional<check_entry> entry = parser.parse(*line);
    if (entry && !(from_stdin && entry->name == "-")) return entry;
    ++malformed;
  }
  return std::nullopt;
}

bool print_verdict(console& out, const work_item& item, check_counts& counts) {
  if (!item.error.empty()) {
    ++counts.unreadable;
    out.message(item.path, item.error);
    append_verdict_line(out.output(), item.path, "FAILED open or read");
  } else if (item.digest != item.expected) {
    ++counts.mismatched;
    append_verdict_line(out.output(), item.path, "FAILED");
  } else {
    ++counts.matched;
    append_verdict_line(out.output(), item.path, "OK");
  }
  return out.after_output();
}

bool check_list(const sum_options& options, console& out, progress& counted) {
  const list_file list(options.check);
  if (list.error() != 0) {
    out.message(options.check, text_of(list.error()));
    return false;
  }
  line_reader lines(list.fd());
  checklist_parser parser;
  check_counts counts;
  const item_source source = [&](work_item& item) {
    std::optional<check_entry> entry = next_entry(lines, parser, list.is_stdin(), counts.malformed);
    if (!entry) return false;
    item.path = std::move(entry->name);
    item.expected = entry->digest;
    return true;
  };
  const auto print = [&](const work_item& item) { return print_verdict(out, item, counts); };
  hash_in_order(source, {print, [&] { out.before_wait(); }}, options.parallel, counted);

  if (!out.flush()) return false;
  const std::string_view name = list.is_stdin() ? "standard input" : std::string_view(options.check);
  if (lines.error() != 0) {
    out.message(name, text_of(lines.error()));
    return false;
  }
  if (!counts.any()) {
    out.message(name, "no properly formatted checksum lines found");
    return false;
  }
  print_warnings(out, counts);
  return counts.mismatched + counts.unreadable == 0;
}

int sum_in_goroutine(const sum_options& options) {
  progress counted(live_line_wanted(STDERR_FILENO));
  console out("weft sum", counted);
  try {
    const bool ok = options.check.empty() ? print_sums(options, out, counted) : check_list(options, out, counted);
    counted.erase();
    if (options.stats) out.error_text(stats_report(counted, {locale_is_utf8(), colour_wanted(STDERR_FILENO)}));
    return ok ? kStatusOk : kStatusFailed;
  } catch (const std::exception& e) {
    out.message(e.what());
    return kStatusFailed;
  }
}

}  // namespace

int sum(const sum_options& options) {
  return weft::run([&] { return sum_in_goroutine(options); });
}

}  // namespace weft::tools
