// SPDX-License-Identifier: Apache-2.0
// Directory listings, the stack that walks one tree, and the merge of several.
#include "tools/walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>

#include <weft/runtime.h>

namespace weft::tools {

namespace {

struct close_directory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

enum class file_kind { regular, directory, other };

file_kind kind_of_mode(mode_t mode) {
  if (S_ISREG(mode)) return file_kind::regular;
  return S_ISDIR(mode) ? file_kind::directory : file_kind::other;
}

file_kind kind_of(int directory, const dirent& found) {
  if (found.d_type == DT_REG) return file_kind::regular;
  if (found.d_type == DT_DIR) return file_kind::directory;
  if (found.d_type != DT_UNKNOWN) return file_kind::other;
  struct stat status;
  if (::fstatat(directory, found.d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) return file_kind::other;
  return kind_of_mode(status.st_mode);
}

constexpr std::string_view kStandardInput = "-";

bool is_dot(const char* name) { return std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0; }

}  // namespace

int listing::read(const char* path) {
  const std::unique_ptr<DIR, close_directory> directory(::opendir(path));
  if (!directory) return errno;
  for (;;) {
    errno = 0;
    const dirent* const found = ::readdir(directory.get());
    if (!found) break;
    if (is_dot(found->d_name)) continue;
    const file_kind kind = kind_of(::dirfd(directory.get()), *found);
    if (kind != file_kind::other) add(found->d_name, kind == file_kind::directory);
  }
  const int error = errno;
  std::sort(entries_.begin(), entries_.end(), [this](const entry& a, const entry& b) { return name(a) < name(b); });
  return error;
}

void listing::add(const char* name, bool directory) {
  const std::size_t offset = names_.size();
  names_ += name;
  if (directory) names_ += '/';
  entries_.push_back({offset, static_cast<std::uint32_t>(names_.size() - offset)});
}

std::string_view listing::pop() { return name(entries_[next_++]); }

walk_entry tree_walk::entry() const {
  const bool drop_slash = state_ == state::bad_directory && path_.size() > 1;
  return {path_.substr(0, path_.size() - (drop_slash ? 1 : 0)), error_};
}

void tree_walk::look_at_named() {
  if (path_ == kStandardInput) {
    state_ = state::file;
    return;
  }
  struct stat status;
  const int error = blocking([&] { return ::stat(path_.c_str(), &status) == 0 ? 0 : errno; });
  if (error != 0) {
    state_ = state::bad_path;
    error_ = std::generic_category().message(error);
    return;
  }
  switch (kind_of_mode(status.st_mode)) {
    case file_kind::regular: state_ = state::file; return;
    case file_kind::directory:
      state_ = state::directory;
      if (!path_.ends_with('/')) path_ += '/';
      return;
    case file_kind::other: state_ = state::bad_path; error_ = "Is not a regular file";
  }
}

// What could be read of a directory is still walked after its error.
void tree_walk::enter_directory() {
  level& below = levels_.emplace_back(level{path_.size(), {}});
  const int error = blocking([&] { return below.names.read(path_.c_str()); });
  if (error == 0) return;
  state_ = state::bad_directory;
  error_ = std::generic_category().message(error);
}

bool tree_walk::advance() {
  if (state_ == state::named) {
    look_at_named();
    return true;
  }
  if (state_ == state::directory) {
    enter_directory();
    if (state_ == state::bad_directory) return true;
  }
  while (!levels_.empty() && levels_.back().names.empty()) levels_.pop_back();
  if (levels_.empty()) return false;
  path_.resize(levels_.back().prefix);
  path_ += levels_.back().names.pop();
  error_.clear();
  state_ = path_.ends_with('/') ? state::directory : state::file;
  return true;
}

walker::walker(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) walks_.emplace_back(path);
  std::make_heap(walks_.begin(), walks_.end(), later{});
}

bool walker::next(walk_entry& result) {
  while (!walks_.empty()) {
    std::pop_heap(walks_.begin(), walks_.end(), later{});
    tree_walk& first = walks_.back();
    const bool found = first.has_entry();
    if (found) result = first.entry();
    if (first.advance())
      std::push_heap(walks_.begin(), walks_.end(), later{});
    else
      walks_.pop_back();
    if (found) return true;
  }
  return false;
}

}  // namespace weft::tools
