// SPDX-License-Identifier: Apache-2.0
// Sockets. A call that has to wait parks its goroutine (a foreign thread waits in poll(2)), with or without an active
// run(); the P runs others meanwhile.
//
// Addresses are "host:port" and "[::1]:port"; a host is a number or a name, a port a number or a service's name. An
// empty host is all of this machine for a listener (IPv6 and IPv4) and itself for a connection. Names are resolved by
// getaddrinfo(3), away from the P.
//
// Errors: each call has a form that throws std::system_error and one that takes a std::error_code& and does not.
//   errc::bad_file_descriptor   it is closed, was moved from, or was never open; close() wakes all that wait with this
//   errc::timed_out             its deadline has passed
//   others                      the system's; for names, the category is that of getaddrinfo
// Nothing here raises SIGPIPE.
//
// Thread safety: all members may be called at the same time by several goroutines and threads, but for moving and
// destroying. Those that read take turns, as do those that write: what two write_all() write is not mixed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <weft/time.h>

namespace weft {

namespace detail {

struct poll_desc;
struct socket_maker;
void drop_descriptor(poll_desc* d) noexcept;

/// Owns a descriptor.
class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(poll_desc* d) noexcept : d_(d) {}
  descriptor(descriptor&& other) noexcept : d_(std::exchange(other.d_, nullptr)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(d_, other.d_);
    return *this;
  }
  ~descriptor() {
    if (d_) drop_descriptor(d_);
  }
  poll_desc* get() const noexcept { return d_; }

 private:
  poll_desc* d_ = nullptr;
};

}  // namespace detail

/// What all sockets have. Movable; closed by its destructor.
class socket_base {
 public:
  /// Closes it. All that wait for it, and all later calls, fail with errc::bad_file_descriptor; the file itself is
  /// closed when the last of them is out of the kernel. May be called again. Go: Close.
  void close() noexcept;

  /// From `when` on reading and writing (accepting, too) fail with errc::timed_out, for those as well that wait
  /// already; until another deadline is set. time_point::max(): never. Ignored on a closed socket. Go: SetDeadline.
  void set_deadline(time_point when);
  /// The same for what reads. Go: SetReadDeadline.
  void set_read_deadline(time_point when);
  /// The same for what writes. Go: SetWriteDeadline.
  void set_write_deadline(time_point when);

  /// "127.0.0.1:8080", "[::1]:8080", or a path; empty for one that has no name, or is closed. Go: LocalAddr.
  std::string local_addr() const;

  /// Whether it was opened and not moved from; it may be closed.
  explicit operator bool() const noexcept { return d_.get() != nullptr; }

 protected:
  /// @cond
  socket_base() = default;
  explicit socket_base(detail::descriptor d) noexcept : d_(std::move(d)) {}
  socket_base(socket_base&&) noexcept = default;
  socket_base& operator=(socket_base&&) noexcept = default;
  ~socket_base() = default;
  detail::descriptor d_;
  /// @endcond
};

/// A connection: two streams of bytes. Go: net.Conn.
class stream : public socket_base {
 public:
  /// Waits until there is something, and reads what there is, up to the size of `to`. 0: the peer has ended its stream
  /// (or `to` is empty). Go: Read.
  std::size_t read_some(std::span<std::byte> to);
  /// The same.
  std::size_t read_some(std::span<std::byte> to, std::error_code& error);
  /// Reads until `to` is full; less only at the end of the stream, or with an error. Go: io.ReadFull.
  std::size_t read_exactly(std::span<std::byte> to);
  /// The same.
  std::size_t read_exactly(std::span<std::byte> to, std::error_code& error);

  /// Writes all of it. With an error some part was written. Go: Write.
  void write_all(std::span<const std::byte> from);
  /// The same.
  void write_all(std::span<const std::byte> from, std::error_code& error);
  /// Writes all parts, one after the other, with as few system calls as can be. Go: net.Buffers.
  void write_all(std::span<const std::span<const std::byte>> parts);
  /// The same.
  void write_all(std::span<const std::span<const std::byte>> parts, std::error_code& error);
  /// Sends `count` bytes of a file from `offset` on, without copying them through the program. Returns how many: less
  /// at the end of the file, or with an error. Go: ReadFrom of a File.
  std::uint64_t send_file(int file, std::uint64_t offset, std::uint64_t count);
  /// The same.
  std::uint64_t send_file(int file, std::uint64_t offset, std::uint64_t count, std::error_code& error);

  /// Ends the stream to the peer; the other one goes on. Go: CloseWrite.
  void shutdown_write();
  /// The same.
  void shutdown_write(std::error_code& error);

  /// As local_addr(), of the other end. Go: RemoteAddr.
  std::string remote_addr() const;

 protected:
  /// @cond
  using socket_base::socket_base;
  /// @endcond
};

/// A TCP connection. Small writes are sent at once, and a peer that has vanished is noticed after some minutes
/// (keep-alive), unless told otherwise. Go: net.TCPConn.
class tcp_conn : public stream {
 public:
  /// One that is not open.
  tcp_conn() = default;
  /// Connects, trying all addresses of the host, one after the other. Go: net.Dial.
  static tcp_conn connect(std::string_view address);
  /// The same.
  static tcp_conn connect(std::string_view address, std::error_code& error);
  /// The same, until `deadline`: errc::timed_out. It bounds connecting; looking a host's name up takes as long as the
  /// system's resolver does.
  static tcp_conn connect(std::string_view address, time_point deadline);
  /// The same.
  static tcp_conn connect(std::string_view address, time_point deadline, std::error_code& error);

  /// Whether small writes are sent at once; true at first. Go: SetNoDelay.
  void set_no_delay(bool at_once);
  /// Whether, and after how long a silence, the peer is asked for a sign of life; every 15 s at first. Zero: not. Go:
  /// SetKeepAlive, SetKeepAlivePeriod.
  void set_keep_alive(std::chrono::seconds silence);

 private:
  friend struct detail::socket_maker;
  using stream::stream;
};

/// A connection over a Unix domain socket. Go: net.UnixConn.
class unix_conn : public stream {
 public:
  /// One that is not open.
  unix_conn() = default;
  /// Connects to the listener at this path; one that begins with @ is in the abstract name space. Go: net.Dial.
  static unix_conn connect(std::string_view path);
  /// The same.
  static unix_conn connect(std::string_view path, std::error_code& error);

 private:
  friend struct detail::socket_maker;
  using stream::stream;
};

/// How to listen.
struct listen_options {
  bool reuse_port = false;  ///< several sockets, each with its own queue, may listen here (SO_REUSEPORT)
  int backlog = 0;          ///< connections that wait to be accepted; 0: what the system allows
};

/// Accepts TCP connections. Go: net.TCPListener.
class tcp_listener : public socket_base {
 public:
  /// One that is not open.
  tcp_listener() = default;
  /// Listens there; port 0 is one that is free, see local_addr(). Go: net.Listen.
  static tcp_listener bind(std::string_view address);
  /// The same.
  static tcp_listener bind(std::string_view address, std::error_code& error);
  /// The same.
  static tcp_listener bind(std::string_view address, const listen_options& options);
  /// The same.
  static tcp_listener bind(std::string_view address, const listen_options& options, std::error_code& error);

  /// Waits for a connection. While the process has no descriptor left for one it tries again, after 5 ms to 1 s, and
  /// says so on stderr. Go: Accept.
  tcp_conn accept();
  /// The same.
  tcp_conn accept(std::error_code& error);

 private:
  friend struct detail::socket_maker;
  using socket_base::socket_base;
};

/// Accepts connections over a Unix domain socket. Its path is removed when it is closed. Go: net.UnixListener.
class unix_listener : public socket_base {
 public:
  /// One that is not open.
  unix_listener() = default;
  /// Takes over from the other one.
  unix_listener(unix_listener&& other) noexcept
      : socket_base(std::move(other)), path_(std::exchange(other.path_, std::string())) {}
  /// The same; what this one was lives on in the other.
  unix_listener& operator=(unix_listener&& other) noexcept;
  /// Closes it.
  ~unix_listener();
  /// Listens at this path, which must not exist. Go: net.Listen.
  static unix_listener bind(std::string_view path);
  /// The same.
  static unix_listener bind(std::string_view path, std::error_code& error);

  /// As tcp_listener's.
  unix_conn accept();
  /// The same.
  unix_conn accept(std::error_code& error);
  /// As socket's, and removes the path.
  void close() noexcept;

 private:
  friend struct detail::socket_maker;
  using socket_base::socket_base;
  std::string path_;  // to be removed
};

/// Datagrams over UDP. Go: net.UDPConn.
class udp_socket : public socket_base {
 public:
  /// One that was received.
  struct datagram {
    std::size_t size;  ///< in bytes; what did not fit is lost
    std::string from;  ///< the sender's address
  };

  /// One that is not open.
  udp_socket() = default;
  /// Receives what is sent there. Go: net.ListenUDP.
  static udp_socket bind(std::string_view address);
  /// The same.
  static udp_socket bind(std::string_view address, std::error_code& error);

  /// Go: WriteTo.
  void send_to(std::span<const std::byte> data, std::string_view address);
  /// The same.
  void send_to(std::span<const std::byte> data, std::string_view address, std::error_code& error);
  /// Waits for one. Go: ReadFrom.
  datagram recv_from(std::span<std::byte> to);
  /// The same.
  datagram recv_from(std::span<std::byte> to, std::error_code& error);

 private:
  friend struct detail::socket_maker;
  using socket_base::socket_base;
};

/// Waits until reading from fd would not block: there is something, or the end, or an error. For an fd that another
/// library owns: its flags stay as they are, and it must stay open meanwhile.
void wait_readable(int fd);
/// The same.
void wait_readable(int fd, std::error_code& error);
/// Waits until writing to fd would not block.
void wait_writable(int fd);
/// The same.
void wait_writable(int fd, std::error_code& error);

}  // namespace weft
