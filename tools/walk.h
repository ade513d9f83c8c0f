// SPDX-License-Identifier: Apache-2.0
// Walking trees in the order of their files' full paths.
//
// A symbolic link is followed where it is a PATH itself, and nowhere else.
//
// The order is that of `find -H PATH... -type f -print0 | LC_ALL=C sort -z`, though no list of all files is ever held.
// A directory's entries are sorted with '/' appended to the names of directories: the order of full paths, since
// everything below "a" begins with "a/", which sorts behind "a-b" and "a.b". So whatever lies below a directory is
// contiguous, and a stack of sorted listings, one for each directory from the root to the place of the walk, yields all
// files in order. Trees that overlap (PATHs like "a" and "a/b") are merged. Only the listings of the directories on the
// stack take memory, and no directory stays open.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weft::tools {

/// A file to be read, or (error not empty) a path that cannot be walked.
struct walk_entry {
  std::string path;
  std::string error;
};

/// The sorted names of one directory, those of subdirectories with a '/' at their end.
class listing {
 public:
  /// Reads the directory: regular files and directories alone. Returns an errno, or 0. May block.
  int read(const char* path);
  bool empty() const { return next_ == entries_.size(); }
  std::string_view pop();

 private:
  struct entry {
    std::size_t offset;
    std::uint32_t size;
  };
  std::string_view name(const entry& e) const { return std::string_view(names_).substr(e.offset, e.size); }
  void add(const char* name, bool directory);

  std::string names_;
  std::vector<entry> entries_;
  std::size_t next_ = 0;
};

/// The walk of one PATH, a step at a time. Its key never gets smaller, and no file that it has yet to give sorts before
/// the key: so walks can be merged by their keys before they know what they will find.
class tree_walk {
 public:
  explicit tree_walk(std::string path) : path_(std::move(path)) {}

  /// The current path, with a '/' at its end if it is a directory.
  const std::string& key() const { return path_; }
  /// Whether the current path is a result (a file or an error), to be had by entry().
  bool has_entry() const { return state_ != state::named && state_ != state::directory; }
  walk_entry entry() const;
  /// Goes on to the next path, reading a directory if the current one is one. False: the walk has ended.
  bool advance();

 private:
  enum class state { named, directory, file, bad_path, bad_directory };
  struct level {
    std::size_t prefix;  // length of the directory's path with its '/'
    listing names;
  };

  void look_at_named();
  void enter_directory();

  std::string path_;
  std::string error_;
  state state_ = state::named;
  std::vector<level> levels_;
};

/// All files below the paths, in order. "-" stands for standard input and is given as it is.
class walker {
 public:
  explicit walker(const std::vector<std::string>& paths);
  /// The next file or error; false at the end. Reads directories within weft::blocking().
  bool next(walk_entry& result);

 private:
  struct later {
    bool operator()(const tree_walk& a, const tree_walk& b) const { return a.key() > b.key(); }
  };
  std::vector<tree_walk> walks_;  // a heap by key
};

}  // namespace weft::tools
