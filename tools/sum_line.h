// SPDX-License-Identifier: Apache-2.0
// The text form of one digest and its file name: what sha256sum prints, byte for byte.
//
// A name that holds a newline, a carriage return or a backslash is escaped (\n, \r, \\), and its line then begins with
// a backslash, so a list always has one line a file.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace weft::tools {

using sha256_digest = std::array<unsigned char, 32>;

/// Whether a line with this name has to be escaped.
bool needs_escape(std::string_view name);
/// Appends name with \n, \r and \\ for the three special bytes.
void append_escaped(std::string& out, std::string_view name);
/// The name that append_escaped() made `text` of; nullopt if it cannot have.
std::optional<std::string> unescape(std::string_view text);

/// Appends the line for one file: `DIGEST  NAME`, or with tag `SHA256 (NAME) = DIGEST`.
void append_sum_line(std::string& out, std::string_view name, const sha256_digest& digest, bool tag);
/// Appends the line that tells how a check ended: `NAME: VERDICT`.
void append_verdict_line(std::string& out, std::string_view name, std::string_view verdict);

/// The name for a message: one line that changes nothing on a terminal, whatever bytes the name holds.
std::string printable(std::string_view name);

}  // namespace weft::tools
