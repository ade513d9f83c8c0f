// SPDX-License-Identifier: Apache-2.0
// Reading a list of digests that sha256sum, `sha256sum --tag` or a BSD sha256 printed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tools/sum_line.h"

namespace weft::tools {

struct check_entry {
  std::string name;
  sha256_digest digest{};
};

/// Splits lines as sha256sum --check does. It has a memory: once a line has shown whether two characters (`  ` or ` *`)
/// or one blank stand between digest and name, the other form is malformed, since a file could otherwise be checked
/// under another name than the one it was listed with.
class checklist_parser {
 public:
  /// The entry of a line (without its newline); nullopt if it is malformed.
  std::optional<check_entry> parse(std::string_view line);
  /// Whether a line says nothing: it is empty or begins with '#'.
  static bool is_comment(std::string_view line);

 private:
  enum class separator { unknown, one_blank, two_characters };

  std::optional<std::string_view> name_after_digest(std::string_view rest);
  separator separator_ = separator::unknown;
};

/// The lines of a file descriptor, with bounded memory: of a line longer than any digest line, the beginning is given
/// and the rest is skipped.
class line_reader {
 public:
  explicit line_reader(int fd) : fd_(fd) {}

  /// The next line without its end (\n or \r\n), valid until the next call; nullopt at the end or on an error.
  std::optional<std::string_view> next();
  /// The errno that ended the reading, 0 if none did.
  int error() const { return error_; }

 private:
  // More than twice PATH_MAX (each byte of a name escaped) and a digest.
  static constexpr std::size_t kCapacity = 64 * 1024;

  bool fill();

  int fd_;
  int error_ = 0;
  bool ended_ = false;
  bool skipping_ = false;  // within the rest of a line that did not fit
  std::size_t begin_ = 0, end_ = 0;
  std::unique_ptr<char[]> buffer_ = std::make_unique<char[]>(kCapacity);
};

}  // namespace weft::tools
