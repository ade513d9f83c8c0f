// SPDX-License-Identifier: Apache-2.0
#include "runtime/net_address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <memory>

#include "weft/runtime.h"

namespace weft::rt {
namespace {

class getaddrinfo_category : public std::error_category {
 public:
  const char* name() const noexcept override { return "getaddrinfo"; }
  std::string message(int code) const override { return gai_strerror(code); }
};

std::error_code lookup_error(int code, int number) {
  static const getaddrinfo_category category;
  if (code == EAI_SYSTEM) return {number, std::system_category()};
  return {code, category};
}

struct host_port {
  std::string host, port;
};

// "[host]:port" or "host:port"; a host with colons needs the brackets.
bool split(std::string_view text, host_port& parts) {
  const std::size_t colon = text.rfind(':');
  if (colon == text.npos) return false;
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  else if (host.find_first_of(":[]") != host.npos)
    return false;
  parts = {std::string(host), std::string(text.substr(colon + 1))};
  return true;
}

bool parse_port(const std::string& text, in_port_t& port) {
  std::uint16_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  port = htons(number);
  return failed == std::errc{} && end == text.data() + text.size();
}

net_address ipv4(in_addr host, in_port_t port) {
  net_address address;
  auto& in = reinterpret_cast<sockaddr_in&>(address.storage);
  in.sin_family = AF_INET;
  in.sin_addr = host;
  in.sin_port = port;
  address.size = sizeof in;
  return address;
}

net_address ipv6(in6_addr host, in_port_t port) {
  net_address address;
  auto& in = reinterpret_cast<sockaddr_in6&>(address.storage);
  in.sin6_family = AF_INET6;
  in.sin6_addr = host;
  in.sin6_port = port;
  address.size = sizeof in;
  return address;
}

// Without asking anybody; none if a name is in it, or a zone.
std::vector<net_address> parse_numbers(const host_port& parts, empty_host empty) {
  in_port_t port;
  if (!parse_port(parts.port, port)) return {};
  if (parts.host.empty() && empty == empty_host::any) return {ipv6(in6addr_any, port), ipv4({INADDR_ANY}, port)};
  if (parts.host.empty()) return {ipv4({htonl(INADDR_LOOPBACK)}, port), ipv6(in6addr_loopback, port)};
  in_addr four;
  in6_addr six;
  if (inet_pton(AF_INET, parts.host.c_str(), &four) == 1) return {ipv4(four, port)};
  if (inet_pton(AF_INET6, parts.host.c_str(), &six) == 1) return {ipv6(six, port)};
  return {};
}

std::vector<net_address> look_up(const host_port& parts, int socket_type, bool passive, std::error_code& error) {
  addrinfo hints{};
  hints.ai_socktype = socket_type;
  hints.ai_flags = passive ? AI_PASSIVE : 0;
  addrinfo* found = nullptr;
  int number = 0;
  const int code = blocking([&] {
    const int result =
        getaddrinfo(parts.host.empty() ? nullptr : parts.host.c_str(), parts.port.c_str(), &hints, &found);
    number = errno;
    return result;
  });
  if (code != 0) {
    error = lookup_error(code, number);
    return {};
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  std::vector<net_address> all;
  for (const addrinfo* each = found; each; each = each->ai_next) {
    net_address& address = all.emplace_back();
    std::memcpy(&address.storage, each->ai_addr, each->ai_addrlen);
    address.size = each->ai_addrlen;
  }
  return all;
}

std::string with_port(const std::string& host, in_port_t port) { return host + ":" + std::to_string(ntohs(port)); }

std::string text_of(const sockaddr_in6& in) {
  char host[INET6_ADDRSTRLEN];
  inet_ntop(AF_INET6, &in.sin6_addr, host, sizeof host);
  std::string zone;
  if (in.sin6_scope_id != 0) {
    char name[IF_NAMESIZE];
    zone = std::string("%") + (if_indextoname(in.sin6_scope_id, name) ? name : std::to_string(in.sin6_scope_id));
  }
  // What came over IPv4 to a socket for both is shown as that.
  if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) return with_port(host + std::strlen("::ffff:"), in.sin6_port);
  return with_port("[" + (host + zone) + "]", in.sin6_port);
}

std::string text_of(const sockaddr_un& un, socklen_t size) {
  constexpr std::size_t kBegin = offsetof(sockaddr_un, sun_path);
  if (size <= kBegin) return {};
  const std::size_t length = size - kBegin;
  if (un.sun_path[0] == '\0') return "@" + std::string(un.sun_path + 1, length - 1);
  return std::string(un.sun_path, strnlen(un.sun_path, length));
}

}  // namespace

std::vector<net_address> resolve(std::string_view text, int socket_type, empty_host empty, std::error_code& error) {
  error.clear();
  host_port parts;
  if (!split(text, parts)) {
    error = std::make_error_code(std::errc::invalid_argument);
    return {};
  }
  std::vector<net_address> numbers = parse_numbers(parts, empty);
  return numbers.empty() ? look_up(parts, socket_type, empty == empty_host::any, error) : numbers;
}

net_address unix_address(std::string_view path, std::error_code& error) {
  net_address address;
  auto& un = reinterpret_cast<sockaddr_un&>(address.storage);
  error.clear();
  if (path.empty() || path.size() >= sizeof un.sun_path) {
    error = std::make_error_code(path.empty() ? std::errc::invalid_argument : std::errc::filename_too_long);
    return address;
  }
  un.sun_family = AF_UNIX;
  std::memcpy(un.sun_path, path.data(), path.size());
  const bool abstract = path[0] == '@';
  if (abstract) un.sun_path[0] = '\0';
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));
  return address;
}

std::string to_text(const net_address& address) {
  switch (address.family()) {
    case AF_INET: {
      const auto& in = reinterpret_cast<const sockaddr_in&>(address.storage);
      char host[INET_ADDRSTRLEN];
      inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
      return with_port(host, in.sin_port);
    }
    case AF_INET6: return text_of(reinterpret_cast<const sockaddr_in6&>(address.storage));
    case AF_UNIX: return text_of(reinterpret_cast<const sockaddr_un&>(address.storage), address.size);
    default: return {};
  }
}

}  // namespace weft::rt
