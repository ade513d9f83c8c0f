// SPDX-License-Identifier: Apache-2.0
// Where a command's result goes: a file, which is new unless the user says that it need not be, or standard output.
#pragma once

#include <string>
#include <string_view>

namespace weft::tools {

/// Throws weft::error: the path, and what errno's number says.
[[noreturn]] void fail_at(const std::string& path, int number);
/// The same of a file that is there, and may not be.
[[noreturn]] void fail_as_it_exists(const std::string& path);

class output_file {
 public:
  /// Creates the file; "-": standard output. Throws weft::error of one line, here and in write_all().
  output_file(std::string name, bool force);
  ~output_file();
  output_file(const output_file&) = delete;
  output_file& operator=(const output_file&) = delete;

  void write_all(std::string_view text) const;
  bool is_standard_output() const;

 private:
  const std::string name_;
  const int fd_;
};

}  // namespace weft::tools
