// SPDX-License-Identifier: Apache-2.0
// `weft sum`: the lines that it prints and reads, the order of its walk, and the whole against sha256sum(1) on a tree
// of names and files that are hard to get right.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/child.h"
#include "tools/checklist.h"
#include "tools/sum_command.h"
#include "tools/sum_line.h"
#include "tools/walk.h"

namespace {

using namespace weft::tools;
using weft::test::child_result;
using weft::test::in_child;
using weft::test::variables;
using names = std::vector<std::string>;

const std::string kHex = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

sha256_digest digest_of_hex() {
  sha256_digest digest;
  for (std::size_t i = 0; i < digest.size(); ++i) digest[i] = static_cast<unsigned char>(0x11 * (i % 16));
  return digest;
}

std::string sum_line(const std::string& name, bool tag) {
  std::string line;
  append_sum_line(line, name, digest_of_hex(), tag);
  return line;
}

// -- Lines
// -------------------------------------------------------------------------------------------------------------

TEST(sum_line, plain_and_tagged) {
  EXPECT_EQ(sum_line("a b", false), kHex + "  a b\n");
  EXPECT_EQ(sum_line("a b", true), "SHA256 (a b) = " + kHex + "\n");
}

TEST(sum_line, newline_return_and_backslash_are_escaped) {
  EXPECT_EQ(sum_line("a\nb", false), "\\" + kHex + "  a\\nb\n");
  EXPECT_EQ(sum_line("a\rb", false), "\\" + kHex + "  a\\rb\n");
  EXPECT_EQ(sum_line("a\\b", true), "\\SHA256 (a\\\\b) = " + kHex + "\n");
}

TEST(sum_line, other_bytes_are_left_alone) {
  for (const std::string name : {"\t", "\x01", "\x7f", "\xff\xfe", "'\"$(x)"}) {
    EXPECT_FALSE(needs_escape(name));
    EXPECT_EQ(sum_line(name, false), (kHex + "  ").append(name).append("\n"));
  }
}

TEST(sum_line, unescape_undoes_escape) {
  for (const std::string name : {"", "a", "\\", "\\n", "\n\r\\\\", "a\\\nb"}) {
    std::string text;
    append_escaped(text, name);
    EXPECT_EQ(unescape(text), name);
  }
}

TEST(sum_line, unescape_refuses_what_escape_never_makes) {
  EXPECT_EQ(unescape("a\\"), std::nullopt);
  EXPECT_EQ(unescape("a\\t"), std::nullopt);
}

TEST(sum_line, messages_stay_on_one_line) {
  EXPECT_EQ(printable("a b\xff"), "a b\xff");
  EXPECT_EQ(printable("a\\b"), "a\\b");
  EXPECT_EQ(printable("a\nb\\\x1b["), "a\\nb\\\\\\033[");
  EXPECT_EQ(printable(""), "''");
}

TEST(sum_line, verdict) {
  std::string lines;
  append_verdict_line(lines, "a", "OK");
  append_verdict_line(lines, "b\n", "FAILED");
  EXPECT_EQ(lines, "a: OK\n\\b\\n: FAILED\n");
}

// -- Lists
// -------------------------------------------------------------------------------------------------------------

std::optional<std::string> name_in(const std::string& line) {
  checklist_parser parser;
  const std::optional<check_entry> entry = parser.parse(line);
  if (!entry) return std::nullopt;
  EXPECT_EQ(entry->digest, digest_of_hex());
  return entry->name;
}

TEST(checklist, reads_both_formats) {
  EXPECT_EQ(name_in(kHex + "  a b "), "a b ");
  EXPECT_EQ(name_in(kHex + " *a"), "a");
  EXPECT_EQ(name_in("SHA256 (a) = " + kHex), "a");
  EXPECT_EQ(name_in("SHA256(a (b) = c) =" + kHex), "a (b) = c");
  EXPECT_EQ(name_in(" \t" + kHex + "   a"), " a");
}

TEST(checklist, reads_digits_of_either_case) {
  std::string upper = kHex;
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return std::toupper(c); });
  EXPECT_EQ(name_in(upper + "  a"), "a");
}

TEST(checklist, a_leading_backslash_means_escapes) {
  EXPECT_EQ(name_in("\\" + kHex + "  a\\nb\\\\"), "a\nb\\");
  EXPECT_EQ(name_in("\\SHA256 (a\\rb) = " + kHex), "a\rb");
  EXPECT_EQ(name_in(kHex + "  a\\nb"), "a\\nb");
  EXPECT_EQ(name_in("\\" + kHex + "  a\\tb"), std::nullopt);
}

TEST(checklist, refuses_malformed_lines) {
  for (const std::string& line :
       {std::string("x"), kHex, kHex + " ", kHex.substr(1) + "  a", kHex + "0  a", "g" + kHex.substr(1) + "  a",
        "SHA256 (a) " + kHex, "SHA256 a = " + kHex, "SHA256 (a) = " + kHex + " ", "MD5 (a) = " + kHex,
        kHex + "  a" + std::string(1, '\0') + "b"})
    EXPECT_EQ(name_in(line), std::nullopt) << line;
}

TEST(checklist, one_blank_is_a_format_of_its_own) {
  checklist_parser bsd;
  EXPECT_EQ(bsd.parse(kHex + " a")->name, "a");
  EXPECT_EQ(bsd.parse(kHex + "  b")->name, " b");
  checklist_parser gnu;
  EXPECT_EQ(gnu.parse(kHex + "  a")->name, "a");
  EXPECT_FALSE(gnu.parse(kHex + " b"));
}

TEST(checklist, comments) {
  EXPECT_TRUE(checklist_parser::is_comment(""));
  EXPECT_TRUE(checklist_parser::is_comment("# " + kHex));
  EXPECT_FALSE(checklist_parser::is_comment(" # " + kHex));
}

class lines_of_file : public testing::Test {
 protected:
  ~lines_of_file() override { close(fd_); }

  names read(const std::string& text) {
    EXPECT_EQ(write(fd_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    lseek(fd_, 0, SEEK_SET);
    line_reader reader(fd_);
    names lines;
    while (const auto line = reader.next()) lines.emplace_back(*line);
    EXPECT_EQ(reader.error(), 0);
    return lines;
  }

  int fd_ = memfd_create("list", 0);
};

TEST_F(lines_of_file, ends) { EXPECT_EQ(read("a\n\nb\r\nc\rd\n"), (names{"a", "", "b", "c\rd"})); }

TEST_F(lines_of_file, the_last_may_lack_its_end) { EXPECT_EQ(read("a\nb"), (names{"a", "b"})); }

TEST_F(lines_of_file, none) { EXPECT_EQ(read(""), names{}); }

TEST_F(lines_of_file, of_any_number) {
  names expected;
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += expected.emplace_back(std::to_string(i)) + "\n";
  EXPECT_EQ(read(text), expected);
}

TEST_F(lines_of_file, a_huge_one_counts_once) {
  const names lines = read("a\n" + std::string(300'000, 'x') + "\nb\n");
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0], "a");
  EXPECT_TRUE(lines[1].starts_with("xxx"));
  EXPECT_LT(lines[1].size(), 300'000u);
  EXPECT_EQ(lines[2], "b");
}

TEST(line_reader, tells_the_error) {
  line_reader reader(-1);
  EXPECT_FALSE(reader.next());
  EXPECT_EQ(reader.error(), EBADF);
}

// -- Walking
// -----------------------------------------------------------------------------------------------------------

/// A directory of its own, in which the test runs.
class in_directory : public testing::Test {
 protected:
  in_directory() {
    std::string name = (std::filesystem::temp_directory_path() / "weft-sum-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
    path_ = name;
    std::filesystem::current_path(path_);
  }
  ~in_directory() override {
    std::filesystem::current_path("/");
    std::filesystem::remove_all(path_);
  }

  static void file(const std::string& name, const std::string& text = "x") {
    const std::filesystem::path parent = std::filesystem::path(name).parent_path();
    if (!parent.empty()) std::filesystem::create_directories(parent);
    std::ofstream(name, std::ios::binary) << text;
  }

  // Names around '/' in the order of bytes, names that need escapes, invalid UTF-8, sizes around the buffer's.
  static void make_nasty_tree() {
    for (const char* const name : {"t/a-b",      "t/a.b",   "t/a/x",     "t/a/y",
                                   "t/a/b/z",    "t/a0",    "t/a b/c",   "t/a\nb",
                                   "t/a\rb",     "t/a\\b",  "t/a\\/n\n", "t/\xff\xfe",
                                   "t/\xc3\xb6", "t/ lead", "t/trail ",  "t/-",
                                   "t/--tag",    "t/[x]",   "t/*",       "t/SHA256 (x) = y",
                                   "t/d.d/f",    "t/d/f",   "t/d-d/f",   "t/d/d/d/d/d/d/d/d/d/f"})
      file(name, name);
    file("t/empty", "");
    const std::size_t buffer = 256 * 1024;
    for (const std::size_t size : {buffer - 1, buffer, buffer + 1, 3 * buffer, 5 * buffer + 17})
      file("t/size" + std::to_string(size), std::string(size, 's'));
    for (int i = 0; i < 500; ++i) file("t/many/" + std::to_string(i), std::to_string(i));
    std::filesystem::create_directories("t/no files/here");
    std::filesystem::create_directory_symlink("a", "t/link");
    std::filesystem::create_symlink("nothing", "t/dangling");
    mkfifo("t/fifo", 0600);
    make_long_path("t/long", 3000);
  }

  // One step at a time, since a path may be too long to be made at once.
  static void make_long_path(const std::string& top, std::size_t size) {
    std::string path = top;
    std::filesystem::create_directory(path);
    while (path.size() < size) {
      path += "/" + std::string(200, 'l');
      ASSERT_EQ(mkdir(path.c_str(), 0700), 0);
    }
    file(path + "/f");
  }

  static names files_below(const names& paths) {
    walker files(paths);
    names found;
    for (walk_entry entry; files.next(entry);)
      found.push_back(entry.error.empty() ? entry.path : entry.path + ": " + entry.error);
    return found;
  }

  std::string path_;
};

class walk : public in_directory {};

TEST_F(walk, directories_sort_as_their_contents_do) {
  for (const char* const name : {"t/a-b", "t/a/z", "t/a/b/c", "t/a.b", "t/a0"}) file(name);
  EXPECT_EQ(files_below({"t"}), (names{"t/a-b", "t/a.b", "t/a/b/c", "t/a/z", "t/a0"}));
}

TEST_F(walk, keeps_the_paths_as_they_were_given) {
  file("t/a/x");
  EXPECT_EQ(files_below({"t/"}), names{"t/a/x"});
  EXPECT_EQ(files_below({"./t//"}), names{"./t//a/x"});
  EXPECT_EQ(files_below({"t/a/x"}), names{"t/a/x"});
  EXPECT_EQ(files_below({path_ + "/t"}), names{path_ + "/t/a/x"});
}

TEST_F(walk, merges_several_paths) {
  for (const char* const name : {"b/1", "a/1", "a/2/x", "a-b", "a/3"}) file(name);
  EXPECT_EQ(files_below({"b", "a-b", "a"}), (names{"a-b", "a/1", "a/2/x", "a/3", "b/1"}));
  EXPECT_EQ(files_below({"a", "a/2", "a/3"}), (names{"a/1", "a/2/x", "a/2/x", "a/3", "a/3"}));
}

TEST_F(walk, follows_links_that_are_named_and_no_others) {
  file("a/x");
  std::filesystem::create_directory_symlink(".", "a/loop");
  std::filesystem::create_symlink("x", "a/link");
  std::filesystem::create_directory_symlink("a", "to_a");
  EXPECT_EQ(files_below({"a"}), names{"a/x"});
  std::filesystem::create_symlink("a/x", "to_x");
  std::filesystem::create_symlink("nothing", "dangling");
  std::filesystem::create_symlink("self", "self");
  EXPECT_EQ(files_below({"to_a"}), names{"to_a/x"});
  EXPECT_EQ(files_below({"to_a/"}), names{"to_a/x"});
  EXPECT_EQ(files_below({"to_x", "a/link"}), (names{"a/link", "to_x"}));
  EXPECT_EQ(files_below({"dangling", "self"}),
            (names{"dangling: No such file or directory", "self: Too many levels of symbolic links"}));
}

TEST_F(walk, tells_what_it_cannot_walk_in_its_place) {
  file("a/x");
  file("c");
  mkfifo("fifo", 0600);
  EXPECT_EQ(files_below({"c", "b", "a", "fifo", ""}),
            (names{": No such file or directory", "a/x", "b: No such file or directory", "c",
                   "fifo: Is not a regular file"}));
}

TEST_F(walk, goes_on_past_a_directory_too_deep_to_open) {
  make_long_path("long", PATH_MAX - 300);
  const std::string deep = files_below({"long"}).at(0);
  std::filesystem::current_path(std::filesystem::path(deep).parent_path());
  file(std::string(200, 'm') + "/" + std::string(200, 'n') + "/f");
  std::filesystem::current_path(path_);
  file("z");
  const names found = files_below({"z", "long"});
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0], deep);
  EXPECT_TRUE(found[1].ends_with("nn: File name too long")) << found[1];
  EXPECT_EQ(found[2], "z");
}

TEST_F(walk, standard_input_is_a_path) {
  file("a");
  EXPECT_EQ(files_below({"a", "-"}), (names{"-", "a"}));
}

TEST_F(walk, nothing) {
  std::filesystem::create_directory("empty");
  EXPECT_EQ(files_below({}), names{});
  EXPECT_EQ(files_below({"empty"}), names{});
}

// -- The whole
// ---------------------------------------------------------------------------------------------------------

class sum : public in_directory {
 protected:
  static int call(names arguments) {
    std::vector<char*> argv{const_cast<char*>("sum")};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    return sum_command(static_cast<int>(argv.size()) - 1, argv.data());
  }

  static child_result weft_sum(const names& arguments, const std::string& input = {}, const variables& with = {}) {
    return in_child(with, [&] {
      give_input(input);
      return call(arguments);
    });
  }

  static child_result shell(const std::string& command, const std::string& input = {}) {
    return in_child([&] {
      give_input(input);
      execlp("sh", "sh", "-c", command.c_str(), nullptr);
      return 127;
    });
  }

  static child_result sha256sum_of_tree(const std::string& path, const std::string& option = "") {
    return shell("find '" + path + "' -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum " + option + " --");
  }

 private:
  static void give_input(const std::string& text) {
    const int fd = memfd_create("stdin", 0);
    if (write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) _exit(126);
    lseek(fd, 0, SEEK_SET);
    dup2(fd, STDIN_FILENO);
  }
};

TEST_F(sum, prints_what_sha256sum_prints) {
  make_nasty_tree();
  for (const char* const path : {"t", "./t/", "t/a"}) {
    const child_result theirs = sha256sum_of_tree(path), ours = weft_sum({path});
    EXPECT_EQ(ours.out, theirs.out) << path;
    EXPECT_EQ(ours.err, "");
    EXPECT_TRUE(ours.exited(0)) << ours;
  }
  EXPECT_GT(sha256sum_of_tree("t").out.size(), 500u * 70);
}

TEST_F(sum, prints_tagged_lines_as_sha256sum_does) {
  make_nasty_tree();
  EXPECT_EQ(weft_sum({"--tag", "t"}).out, sha256sum_of_tree("t", "--tag").out);
}

TEST_F(sum, order_and_output_are_the_same_on_every_runtime) {
  make_nasty_tree();
  const std::string expected = sha256sum_of_tree("t").out;
  const std::vector<std::pair<variables, names>> runs = {
      {{{"GOMAXPROCS", "1"}}, {"t", "-j1"}},
      {{{"GOMAXPROCS", "1"}, {"WEFT_KERNEL_ASSIST", "off"}}, {"t"}},
      {{{"GOMAXPROCS", "4"}, {"WEFT_KERNEL_ASSIST", "off"}}, {"t", "-j", "3"}},
      {{{"GOMAXPROCS", "4"}, {"WEFT_DEBUG", "chaos=7"}}, {"t", "-j", "100"}}};
  for (const auto& [environment, arguments] : runs) {
    const child_result result = weft_sum(arguments, "", environment);
    EXPECT_EQ(result.out, expected);
    EXPECT_TRUE(result.exited(0)) << result;
  }
}

TEST_F(sum, reads_standard_input_without_a_path) {
  EXPECT_EQ(weft_sum({}, "hello\n").out, shell("sha256sum", "hello\n").out);
  EXPECT_EQ(weft_sum({"-"}, "hello\n").out, shell("sha256sum -", "hello\n").out);
  const std::string large(1'000'000, 'l');
  EXPECT_EQ(weft_sum({"--tag"}, large).out, shell("sha256sum --tag", large).out);
}

TEST_F(sum, takes_names_that_a_command_line_may_take_for_something_else) {
  const names odd = {"%%", "++", "--tag", "[]", "[x]", "a,b", "a=b", "sum", "{}"};
  for (const std::string& name : odd) file(name, name);
  names arguments = odd;
  arguments.insert(arguments.begin(), "--");
  EXPECT_EQ(weft_sum(arguments).out, shell("sha256sum -- %% ++ --tag '[]' '[x]' a,b a=b sum '{}'").out);
  EXPECT_EQ(weft_sum({"[x]", "++"}).out, shell("sha256sum ++ '[x]'").out);
}

TEST_F(sum, what_cannot_be_read_is_one_line_and_the_rest_is_done) {
  file("a");
  file("c");
  const child_result result = weft_sum({"c", "b\nb", "a"});
  EXPECT_EQ(result.out, shell("sha256sum a c").out);
  EXPECT_EQ(result.err, "weft sum: b\\nb: No such file or directory\n");
  EXPECT_TRUE(result.exited(1)) << result;
}

TEST_F(sum, a_file_or_directory_without_permission) {
  file("t/a");
  file("t/b");
  file("t/d/c");
  chmod(".", 0755);
  chmod("t/a", 0);
  chmod("t/d", 0);
  const child_result result = in_child([] {
    // Permissions do not bind root.
    if (geteuid() == 0 && seteuid(65534) != 0) weft::test::skip_in_child("cannot become another user");
    if (open("t/b", O_RDONLY) < 0) weft::test::skip_in_child("the other user cannot reach the temporary directory");
    return call({"t"});
  });
  chmod("t/d", 0700);
  WEFT_SKIP_IF_CHILD_DID(result);
  EXPECT_EQ(result.err, "weft sum: t/a: Permission denied\nweft sum: t/d: Permission denied\n");
  EXPECT_EQ(result.out, shell("sha256sum t/b").out);
  EXPECT_TRUE(result.exited(1)) << result;
}

TEST_F(sum, checks_its_own_lists_and_those_of_sha256sum) {
  make_nasty_tree();
  for (const char* const option : {"", "--tag", "-b"}) {
    file("list", sha256sum_of_tree("t", option).out);
    const child_result ours = weft_sum({"--check", "list"});
    EXPECT_EQ(weft::test::count_of(": OK\n", ours.out), weft::test::count_of("\n", ours.out)) << option;
    EXPECT_EQ(weft::test::count_of(": OK\n", ours.out), weft::test::count_of("\n", sha256sum_of_tree("t").out));
    EXPECT_TRUE(ours.exited(0)) << ours;
  }
  file("own", weft_sum({"t"}).out);
  EXPECT_TRUE(shell("sha256sum --status -c own").exited(0));
}

TEST_F(sum, a_check_tells_what_sha256sum_tells) {
  file("a b", "1");
  file("changed", "2");
  file("many", "3");
  const std::string good = shell("sha256sum 'a b' many").out, changed = shell("sha256sum changed").out;
  file("changed", "4");
  const std::string malformed = "# comment\n\nnonsense\n", missing = kHex + "  missing\n";
  for (const std::string& list :
       {good, good + changed, good + missing, good + malformed,
        (changed + changed).append(missing + missing).append("x\ny\n"), malformed, std::string(), missing}) {
    file("list", list);
    const child_result theirs = shell("sha256sum -c list"), ours = weft_sum({"--check", "list"});
    EXPECT_EQ(ours.out, theirs.out);
    std::string messages = theirs.err;
    for (std::size_t at = 0; (at = messages.find("sha256sum: ", at)) != std::string::npos;)
      messages.replace(at, 9, "weft sum");
    EXPECT_EQ(ours.err, messages);
    EXPECT_EQ(ours.status, theirs.status) << ours;
  }
}

TEST_F(sum, a_check_reads_standard_input) {
  file("a");
  const std::string list = shell("sha256sum a").out;
  EXPECT_EQ(weft_sum({"--check", "-"}, list).out, "a: OK\n");
  const child_result nothing = weft_sum({"--check", "-"}, kHex + "  -\n");
  EXPECT_EQ(nothing.err, "weft sum: standard input: no properly formatted checksum lines found\n");
  EXPECT_TRUE(nothing.exited(1));
}

TEST_F(sum, a_list_that_cannot_be_read) {
  EXPECT_EQ(weft_sum({"--check", "none"}).err, "weft sum: none: No such file or directory\n");
  EXPECT_EQ(weft_sum({"--check", "."}).err, "weft sum: .: Is a directory\n");
  EXPECT_TRUE(weft_sum({"--check", "none"}).exited(1));
}

TEST_F(sum, output_that_cannot_be_written_is_one_line) {
  make_nasty_tree();
  const child_result full = in_child([] {
    dup2(open("/dev/full", O_WRONLY), STDOUT_FILENO);
    return call({"t"});
  });
  EXPECT_EQ(full.err, "weft sum: write error: No space left on device\n");
  EXPECT_TRUE(full.exited(1)) << full;
}

TEST_F(sum, a_reader_that_went_away_is_what_it_is_to_sha256sum) {
  make_nasty_tree();
  const auto into_a_broken_pipe = [](auto on_sigpipe) {
    return in_child([on_sigpipe] {
      signal(SIGPIPE, on_sigpipe);
      int ends[2];
      if (pipe(ends) != 0) return 126;
      close(ends[0]);
      dup2(ends[1], STDOUT_FILENO);
      return call({"t"});
    });
  };
  const child_result ended = into_a_broken_pipe(SIG_DFL);
  EXPECT_EQ(ended.err, "");
  EXPECT_TRUE(ended.killed_by(SIGPIPE)) << ended;
  const child_result told = into_a_broken_pipe(SIG_IGN);
  EXPECT_EQ(told.err, "weft sum: write error: Broken pipe\n");
  EXPECT_TRUE(told.exited(1)) << told;
}

TEST_F(sum, help_that_cannot_be_written_is_one_line) {
  const child_result own = in_child([] {
    dup2(open("/dev/full", O_WRONLY), STDOUT_FILENO);
    return call({"--help"});
  });
  EXPECT_EQ(own.err, "weft sum: write error: No space left on device\n");
  EXPECT_TRUE(own.exited(1)) << own;
  const char* const command = std::getenv("WEFT_BIN");
  if (!command) GTEST_SKIP() << "WEFT_BIN does not name the command";
  for (const char* const option : {"--help", "--version"}) {
    const child_result result = shell(std::string(command) + " " + option + " > /dev/full");
    EXPECT_EQ(result.err, "weft: write error: No space left on device\n");
    EXPECT_TRUE(result.exited(1)) << result;
  }
}

TEST_F(sum, statistics_go_to_standard_error) {
  file("a", "abc");
  const child_result result = weft_sum({"--stats", "a"});
  EXPECT_EQ(result.out, shell("sha256sum a").out);
  EXPECT_TRUE(result.err.starts_with("1 file, 0.0 MB in ")) << result;
  for (const char* const shown : {"\nrunq_wait (", "\nwakeup_to_run (", "\nhandoff (", "\nblocked (", "handoffs ",
                                  "steals ", "threads ", "gomaxprocs "})
    EXPECT_NE(result.err.find(shown), std::string::npos) << shown;
  EXPECT_EQ(result.err.find('\033'), std::string::npos) << "colours, though it is no terminal";
}

TEST_F(sum, a_wrong_command_line_is_one_line_and_status_2) {
  for (const names& wrong : {names{"--nonsense"}, names{"-j", "0"}, names{"-j", "x"}, names{"-j"}, names{"--check"},
                             names{"--check", ""}, names{"--check", "a", "b"}, names{"--check", "a", "--tag"}}) {
    const child_result result = weft_sum(wrong);
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(result.err.starts_with("weft sum: ")) << result;
    EXPECT_EQ(weft::test::count_of("\n", result.err), 1) << result;
    EXPECT_TRUE(result.exited(2)) << result;
  }
}

TEST_F(sum, help) {
  const child_result result = weft_sum({"--help"});
  for (const char* const part : {"PATH", "--check", "--tag", "--stats", "-j", "Examples:", "Exit status:"})
    EXPECT_NE(result.out.find(part), std::string::npos) << part;
  EXPECT_TRUE(result.exited(0));
}

}  // namespace
