// SPDX-License-Identifier: Apache-2.0
// Escaping and formatting of digest lines.
#include "tools/sum_line.h"

#include <algorithm>

namespace weft::tools {

namespace {

constexpr std::string_view kSpecial = "\\\n\r";

void append_hex(std::string& out, const sha256_digest& digest) {
  constexpr char kHex[] = "0123456789abcdef";
  for (const unsigned char byte : digest) {
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
}

void append_name(std::string& out, std::string_view name, bool escape) {
  if (escape)
    append_escaped(out, name);
  else
    out += name;
}

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

}  // namespace

bool needs_escape(std::string_view name) { return name.find_first_of(kSpecial) != std::string_view::npos; }

void append_escaped(std::string& out, std::string_view name) {
  for (const char c : name) {
    switch (c) {
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\\': out += "\\\\"; break;
      default: out += c;
    }
  }
}

std::optional<std::string> unescape(std::string_view text) {
  std::string name;
  name.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      name += text[i];
      continue;
    }
    if (++i == text.size()) return std::nullopt;
    switch (text[i]) {
      case 'n': name += '\n'; break;
      case 'r': name += '\r'; break;
      case '\\': name += '\\'; break;
      default: return std::nullopt;
    }
  }
  return name;
}

void append_sum_line(std::string& out, std::string_view name, const sha256_digest& digest, bool tag) {
  const bool escape = needs_escape(name);
  if (escape) out += '\\';
  if (tag) {
    out += "SHA256 (";
    append_name(out, name, escape);
    out += ") = ";
    append_hex(out, digest);
  } else {
    append_hex(out, digest);
    out += "  ";
    append_name(out, name, escape);
  }
  out += '\n';
}

void append_verdict_line(std::string& out, std::string_view name, std::string_view verdict) {
  const bool escape = needs_escape(name);
  if (escape) out += '\\';
  append_name(out, name, escape);
  out += ": ";
  out += verdict;
  out += '\n';
}

std::string printable(std::string_view name) {
  if (name.empty()) return "''";
  if (std::none_of(name.begin(), name.end(), is_control)) return std::string(name);
  std::string out;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (is_control(c) && !needs_escape({&c, 1})) {
      out += '\\';
      for (const int shift : {6, 3, 0}) out += static_cast<char>('0' + ((byte >> shift) & 7));
    } else {
      append_escaped(out, {&c, 1});
    }
  }
  return out;
}

}  // namespace weft::tools
