// SPDX-License-Identifier: Apache-2.0
// Socket addresses: from text, to text, and names to addresses.
#pragma once

#include <sys/socket.h>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace weft::rt {

struct net_address {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

/// What an empty host means.
enum class empty_host : bool { any, loopback };

/// The addresses of "host:port", in the order in which to try them; none with an error. A name is looked up in a
/// blocking call.
std::vector<net_address> resolve(std::string_view text, int socket_type, empty_host empty, std::error_code& error);
/// A Unix domain socket's; one that begins with @ is abstract.
net_address unix_address(std::string_view path, std::error_code& error);

/// "127.0.0.1:80", "[::1]:80", a path; empty for an unnamed one.
std::string to_text(const net_address& address);

}  // namespace weft::rt
