// SPDX-License-Identifier: Apache-2.0
// From a symbol to the qualified name of its function.
#include <cxxabi.h>

#include <cstdlib>
#include <memory>

#include "runtime/symbols.h"

namespace weft::rt {
namespace {

struct free_deleter {
  void operator()(void* p) const { std::free(p); }
};

// Finds the qualified name in a demangled symbol. Depth counts every kind of bracket, so what's nested is never looked
// at; at depth 0 a blank ends the return type (or "non-virtual thunk to"), and the first parameter list that nothing
// qualifies
// ("f(int)::{lambda()#1}" does) ends the name.
class name_scanner {
 public:
  explicit name_scanner(std::string_view text) : text_(text) {}

  std::string_view name() {
    while (at_ < text_.size()) {
      if (depth_ == 0 && starts_operator()) {
        skip_operator();
      } else if (depth_ == 0 && text_[at_] == '(' && !starts_with("(anonymous namespace)")) {
        if (!skip_parameters()) break;
      } else {
        step();
      }
    }
    return text_.substr(begin_, std::min(end_, text_.size()) - begin_);
  }

 private:
  bool starts_with(std::string_view prefix) const { return text_.substr(at_).starts_with(prefix); }

  static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$';
  }

  bool starts_operator() const {
    constexpr std::string_view kKeyword = "operator";
    if (!starts_with(kKeyword) || (at_ > 0 && is_word(text_[at_ - 1]))) return false;
    const std::size_t after = at_ + kKeyword.size();
    return after < text_.size() && !is_word(text_[after]);
  }

  void skip_operator() {
    at_ += std::string_view("operator").size();
    static constexpr auto kSymbols = std::to_array<std::string_view>(
        {"<=>", "<<=", ">>=", "->*", "()", "[]", "<<", ">>", "<=", ">=", "->", "<", ">"});
    if (text_[at_] == ' ') {  // a conversion, new, delete, a literal: blanks belong to the name
      int depth = 0;
      for (; at_ < text_.size() && (depth > 0 || text_[at_] != '('); ++at_) depth += nesting(text_[at_]);
      return;
    }
    for (std::string_view symbol : kSymbols) {
      if (starts_with(symbol)) {
        at_ += symbol.size();
        if (starts_with(" <")) ++at_;
        return;
      }
    }
  }

  static int nesting(char c) {
    if (c == '(' || c == '<' || c == '[' || c == '{') return 1;
    if (c == ')' || c == '>' || c == ']' || c == '}') return -1;
    return 0;
  }

  void step() {
    const char c = text_[at_];
    if (depth_ == 0 && c == ' ') begin_ = at_ + 1;
    depth_ = std::max(0, depth_ + nesting(c));
    ++at_;
  }

  bool skip_qualifier() {
    for (std::string_view qualifier : {" const", " volatile", " &&", " &", " noexcept"}) {
      if (!starts_with(qualifier)) continue;
      at_ += qualifier.size();
      return true;
    }
    return false;
  }

  // False at the function's own parameters, where the name ends.
  bool skip_parameters() {
    const std::size_t open = at_;
    int depth = 0;
    do {
      depth += nesting(text_[at_++]);
    } while (at_ < text_.size() && depth > 0);
    const std::size_t close = at_;
    while (skip_qualifier()) {
    }
    if (starts_with("::")) return true;
    if (at_ == text_.size() || starts_with(" [")) {
      end_ = open;
      return false;
    }
    at_ = close;  // decltype(...) or a declarator in the return type
    return true;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = std::string_view::npos;
  int depth_ = 0;
};

}  // namespace

std::string function_name(const char* symbol) {
  const std::string_view versioned = symbol;
  std::string raw(versioned.substr(0, versioned.find('@', 1)));  // what follows is a version ("@GLIBC_2.2.5")
  // A plain C name would be read as a type ("f" is float). What follows a dot is the compiler's (".cold",
  // ".constprop.0").
  if (!raw.starts_with("_Z")) return raw.substr(0, raw.find('.', 1));
  int status = 0;
  const std::unique_ptr<char, free_deleter> demangled(abi::__cxa_demangle(raw.c_str(), nullptr, nullptr, &status));
  if (status != 0 || demangled == nullptr) return raw;
  const std::string_view text = demangled.get();
  const std::string_view name = name_scanner(text).name();
  return std::string(name.empty() ? text : name);
}

}  // namespace weft::rt
