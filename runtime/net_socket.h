// SPDX-License-Identifier: Apache-2.0
// What the sockets' files share: system calls away from the P, and making sockets out of descriptors.
#pragma once

#include <sys/socket.h>
#include <cerrno>
#include <string>
#include <system_error>

#include "runtime/net_address.h"
#include "runtime/poll_desc.h"
#include "weft/net.h"
#include "weft/runtime.h"

namespace weft::rt {

/// A system call, announced: its result, or minus its errno (which is another thread's when this returns).
template <class F>
auto announced(F call) {
  return blocking([&call] {
    const auto result = call();
    return result < 0 ? static_cast<decltype(result)>(-errno) : result;
  });
}

inline bool would_block(long result) { return result == -EAGAIN || result == -EWOULDBLOCK; }

/// The form of a call that throws.
inline void throw_if(const std::error_code& error, const char* what) {
  if (error) throw std::system_error(error, what);
}

/// A socket of this address's family, with the options that all of them get; null with an error.
detail::descriptor open_socket(const net_address& address, int type, std::error_code& error);
/// Connects it, until kNever or a deadline.
void connect_socket(poll_desc* d, const net_address& to, std::int64_t deadline, std::error_code& error);
/// The number 1 as an option's value.
void switch_on(int fd, int level, int option);

/// When a time_point is due; max: never.
std::int64_t due_at(time_point when);

}  // namespace weft::rt

namespace weft::detail {

struct socket_maker {
  template <class Socket>
  static Socket make(descriptor d) {
    return Socket(std::move(d));
  }
};

}  // namespace weft::detail
