// SPDX-License-Identifier: Apache-2.0
// Types by their demangled names, and the values of the few that every program throws.
#include "runtime/exception_text.h"

#include <cxxabi.h>
#include <cstdlib>
#include <exception>
#include <memory>

namespace weft::rt {

std::string type_name(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status),
                                                    std::free);
  return name ? name.get() : type.name();
}

std::string describe_exception() {
  const std::type_info* const type = abi::__cxa_current_exception_type();
  if (!type) return "std::terminate without an exception";
  std::string text = type_name(*type);
  try {
    std::rethrow_exception(std::current_exception());
  } catch (const std::exception& e) {
    text += std::string(": ") + e.what();
  } catch (const std::string& s) {
    text += ": " + s;
  } catch (const char* s) {
    text += std::string(": ") + s;
  } catch (int n) {
    text += ": " + std::to_string(n);
  } catch (...) {
  }
  return text;
}

}  // namespace weft::rt
