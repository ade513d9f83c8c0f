// SPDX-License-Identifier: Apache-2.0
// The two line formats of digest lists, and a bounded line reader.
#include "tools/checklist.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <weft/runtime.h>

namespace weft::tools {

namespace {

constexpr std::size_t kHexDigits = 2 * sizeof(sha256_digest);
constexpr std::string_view kTag = "SHA256";

bool is_blank(char c) { return c == ' ' || c == '\t'; }

std::string_view skip_blanks(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  return text;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<sha256_digest> parse_hex(std::string_view text) {
  if (text.size() != kHexDigits) return std::nullopt;
  sha256_digest digest;
  for (std::size_t i = 0; i < digest.size(); ++i) {
    const int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    digest[i] = static_cast<unsigned char>(high << 4 | low);
  }
  return digest;
}

std::optional<check_entry> make_entry(std::string_view name, bool escaped, std::string_view hex) {
  const std::optional<sha256_digest> digest = parse_hex(hex);
  if (!digest || name.find('\0') != std::string_view::npos) return std::nullopt;
  std::optional<std::string> plain = escaped ? unescape(name) : std::string(name);
  if (!plain) return std::nullopt;
  return check_entry{std::move(*plain), *digest};
}

// What follows "SHA256": " (NAME) = DIGEST", the blanks as one likes, the name up to the last parenthesis.
std::optional<check_entry> parse_tagged(std::string_view text, bool escaped) {
  if (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  const std::size_t close = text.rfind(')');
  if (text.empty() || text.front() != '(' || close == std::string_view::npos) return std::nullopt;
  const std::string_view name = text.substr(1, close - 1);
  text = skip_blanks(text.substr(close + 1));
  if (text.empty() || text.front() != '=') return std::nullopt;
  return make_entry(name, escaped, skip_blanks(text.substr(1)));
}

}  // namespace

bool checklist_parser::is_comment(std::string_view line) { return line.empty() || line.front() == '#'; }

std::optional<std::string_view> checklist_parser::name_after_digest(std::string_view rest) {
  if (rest.empty()) return std::nullopt;
  const bool one_blank = rest.size() == 1 || (rest.front() != ' ' && rest.front() != '*');
  if (one_blank) {
    if (separator_ == separator::two_characters) return std::nullopt;
    separator_ = separator::one_blank;
    return rest;
  }
  if (separator_ == separator::one_blank) return rest;
  separator_ = separator::two_characters;
  return rest.substr(1);
}

std::optional<check_entry> checklist_parser::parse(std::string_view line) {
  line = skip_blanks(line);
  const bool escaped = line.starts_with('\\');
  if (escaped) line.remove_prefix(1);
  if (line.starts_with(kTag)) return parse_tagged(line.substr(kTag.size()), escaped);
  if (line.size() <= kHexDigits || !is_blank(line[kHexDigits])) return std::nullopt;
  const std::string_view hex = line.substr(0, kHexDigits);
  if (!parse_hex(hex)) return std::nullopt;
  const std::optional<std::string_view> name = name_after_digest(line.substr(kHexDigits + 1));
  return name ? make_entry(*name, escaped, hex) : std::nullopt;
}

bool line_reader::fill() {
  if (ended_) return false;
  if (begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const ssize_t n = blocking([this] {
    ssize_t got;
    do {
      got = ::read(fd_, buffer_.get() + end_, kCapacity - end_);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
  });
  if (n <= 0) {
    ended_ = true;
    error_ = static_cast<int>(-n);
    return false;
  }
  end_ += static_cast<std::size_t>(n);
  return true;
}

std::optional<std::string_view> line_reader::next() {
  for (;;) {
    const std::string_view held(buffer_.get() + begin_, end_ - begin_);
    const std::size_t newline = held.find('\n');
    const bool whole = newline != std::string_view::npos;
    if (!whole && held.size() < kCapacity && fill()) continue;
    if (held.empty() || error_ != 0) return std::nullopt;

    std::string_view line = held.substr(0, newline);
    begin_ += whole ? newline + 1 : held.size();
    const bool rest_of_long_line = skipping_;
    skipping_ = !whole;
    if (rest_of_long_line) continue;
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }
}

}  // namespace weft::tools
