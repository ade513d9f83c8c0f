// SPDX-License-Identifier: Apache-2.0
// Sockets: streams, datagrams, deadlines, closing, and readiness while the Ps are busy.
#include <weft/net.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <thread>

#include "runtime/netpoll.h"
#include "tests/fixture.h"
#include "tests/foreign.h"
#include "tests/sockets.h"

namespace {

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;

using std::errc;

class sockets : public every_runtime {
 protected:
  /// The same as in_main(); and no goroutine still counts as one that waits for a file.
  template <class F>
  static void in_main(F body) {
    every_runtime::in_main([&body] {
      body();
      EXPECT_TRUE(eventually([] { return rt::poll_waiters() == 0; })) << rt::poll_waiters();
    });
  }
};
WEFT_ON_EVERY_RUNTIME(sockets);

// Until the peer ends its stream, or closes.
void echo(stream& conn) {
  std::array<std::byte, 4096> buffer;
  std::error_code error;
  while (const std::size_t n = conn.read_some(buffer, error)) conn.write_all({buffer.data(), n}, error);
}

TEST_P(sockets, a_server_answers_many_clients_at_once) {
  in_main([] {
    auto listener = tcp_listener::bind("127.0.0.1:0");
    constexpr int kClients = 50;
    wait_group done;
    done.go([&] {
      for (int i = 0; i < kClients; ++i)
        done.go([conn = std::make_shared<tcp_conn>(listener.accept())] { echo(*conn); });
    });
    for (int i = 0; i < kClients; ++i)
      done.go([&, i] {
        auto conn = tcp_conn::connect(listener.local_addr());
        for (int round = 0; round < scaled(100); ++round) {
          const std::string text = std::to_string(i) + " says " + std::to_string(round);
          conn.write_all(bytes(text));
          EXPECT_EQ(read_text(conn, text.size()), text);
        }
      });
    done.wait();
  });
}

TEST_P(sockets, more_than_the_buffers_hold_arrives_whole) {
  in_main([] {
    auto [client, server] = connected();
    std::string sent(static_cast<std::size_t>(scaled(32)) << 20, '\0');
    for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 2654435761u >> 24);
    wait_group done;
    done.go([&, to = &server] { to->write_all(bytes(sent)); });
    EXPECT_TRUE(read_text(client, sent.size()) == sent);
    done.wait();
  });
}

TEST_P(sockets, what_two_write_is_not_mixed) {
  in_main([] {
    auto [client, server] = connected();
    const std::size_t size = static_cast<std::size_t>(scaled(8)) << 20;
    wait_group done;
    for (const char letter : {'a', 'b'})
      done.go([&, letter, to = &server] { to->write_all(bytes(std::string(size, letter))); });
    const std::string first = read_text(client, size), second = read_text(client, size);
    EXPECT_EQ(first.find_first_not_of(first[0]), first.npos);
    EXPECT_EQ(second.find_first_not_of(second[0]), second.npos);
    EXPECT_NE(first[0], second[0]);
    done.wait();
  });
}

TEST_P(sockets, one_stream_ends_and_the_other_goes_on) {
  in_main([] {
    auto [client, server] = connected();
    client.write_all(bytes("last words"));
    client.shutdown_write();
    EXPECT_EQ(read_text(server, 100), "last words");
    EXPECT_EQ(read_text(server, 1), "");
    server.write_all(bytes("answer"));
    EXPECT_EQ(read_text(client, 6), "answer");
    EXPECT_EQ(error_of([c = &client](auto& error) { c->write_all(bytes("x"), error); }), errc::broken_pipe);
  });
}

TEST_P(sockets, an_end_that_comes_with_the_data_or_later_is_seen_by_one_that_waits) {
  in_main([] {
    for (int i = 0; i < scaled(200); ++i) {
      auto [client, server] = connected();
      wait_group done;
      done.go([c = &client, i] {
        c->write_all(bytes("0123456789"));
        if (i % 2 == 0) yield();
        c->shutdown_write();
      });
      // More room than there is data: the next read must not take it for granted that nothing is there.
      std::array<std::byte, 64> buffer;
      std::size_t got = 0;
      while (const std::size_t n = server.read_some(buffer)) got += n;
      EXPECT_EQ(got, 10u);
      done.wait();
    }
  });
}

TEST_P(sockets, several_parts_are_written_as_one) {
  in_main([] {
    auto [client, server] = connected();
    std::vector<std::string> texts;
    std::vector<std::span<const std::byte>> parts;
    std::string all;
    for (int i = 0; i < 300; ++i) all += texts.emplace_back(std::to_string(i * i));
    for (const std::string& text : texts) parts.push_back(bytes(text));
    server.write_all(parts);
    EXPECT_EQ(read_text(client, all.size()), all);
    EXPECT_NO_THROW(server.write_all(std::span<const std::span<const std::byte>>()));
  });
}

TEST_P(sockets, a_part_of_a_file_is_sent) {
  in_main([] {
    auto [client, server] = connected();
    const int file = memfd_create("page", 0);
    const std::string text(100'000, 'f');
    ASSERT_EQ(write(file, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    wait_group done;
    done.go([&, to = &server] {
      EXPECT_EQ(to->send_file(file, 1000, 50'000), 50'000u);
      EXPECT_EQ(to->send_file(file, 99'000, 50'000), 1000u);  // there is no more
    });
    EXPECT_EQ(read_text(client, 51'000), std::string(51'000, 'f'));
    done.wait();
    client.close();
    EXPECT_TRUE(eventually([&, to = &server] {  // without a signal
      return error_of([&](auto& error) { to->send_file(file, 0, 1000, error); }) == errc::broken_pipe;
    }));
    close(file);
  });
}

TEST_P(sockets, addresses_are_shown_as_they_are_given) {
  in_main([] {
    auto listener = tcp_listener::bind("127.0.0.1:0");
    EXPECT_TRUE(listener.local_addr().starts_with("127.0.0.1:"));
    auto client = tcp_conn::connect(listener.local_addr());
    auto server = listener.accept();
    EXPECT_EQ(client.remote_addr(), listener.local_addr());
    EXPECT_EQ(client.local_addr(), server.remote_addr());
    client.close();
    EXPECT_EQ(client.local_addr(), "");
    for (const char* wrong : {"", "127.0.0.1", "::1:80", "[::1]", "127.0.0.1:99999", "127.0.0.1:no-such-service"})
      EXPECT_TRUE(error_of([&](auto& error) { tcp_conn::connect(wrong, error); })) << wrong;
    EXPECT_THROW(tcp_listener::bind("127.0.0.1:x"), std::system_error);
  });
}

TEST_P(sockets, a_listener_for_all_addresses_takes_both_families) {
  in_main([] {
    auto listener = tcp_listener::bind(":0");
    const std::string address = listener.local_addr();
    const std::string port = address.substr(address.rfind(':'));
    for (const std::string host : {"127.0.0.1", "[::1]", "localhost", ""}) {
      std::error_code error;
      auto client = tcp_conn::connect(host + port, error);
      if (error == errc::address_not_available || error == errc::address_family_not_supported) continue;  // no IPv6
      ASSERT_FALSE(error) << host << ": " << error.message();
      auto server = listener.accept();
      server.write_all(bytes("x"));
      EXPECT_EQ(read_text(client, 1), "x");
    }
  });
}

TEST_P(sockets, two_may_listen_at_one_port_if_both_say_so) {
  in_main([] {
    listen_options shared;
    shared.reuse_port = true;
    auto first = tcp_listener::bind("127.0.0.1:0", shared);
    EXPECT_NO_THROW(tcp_listener::bind(first.local_addr(), shared));
    EXPECT_EQ(error_of([&](auto& error) { tcp_listener::bind(first.local_addr(), error); }), errc::address_in_use);
  });
}

TEST_P(sockets, connecting_where_nobody_listens_fails) {
  in_main([] {
    auto listener = tcp_listener::bind("127.0.0.1:0");
    const std::string address = listener.local_addr();
    listener.close();
    EXPECT_EQ(error_of([&](auto& error) { tcp_conn::connect(address, error); }), errc::connection_refused);
    EXPECT_THROW(tcp_conn::connect(address), std::system_error);
    EXPECT_EQ(error_of([&](auto& error) { tcp_conn::connect(address, clock::now() - 1s, error); }), errc::timed_out);
  });
}

TEST_P(sockets, a_reset_is_an_error_for_both_directions) {
  in_main([] {
    auto [client, server] = connected();
    wait_group done;
    done.go([c = &client] { EXPECT_EQ(read_error(*c), errc::connection_reset); });
    client.write_all(bytes("never read"));
    std::error_code error;
    EXPECT_EQ(read_text(server, 5, error), "never");
    server.close();  // with unread data: a reset
    done.wait();
    EXPECT_TRUE(write_error(client));
  });
}

// -- Deadlines --------------------------------------------------------------------------------------------------------

TEST_P(sockets, a_deadline_in_the_past_fails_at_once) {
  in_main([] {
    auto [client, server] = connected();
    server.write_all(bytes("there is something"));
    for (const time_point past : {clock::now() - 1h, clock::now(), time_point::min()}) {
      client.set_deadline(past);
      EXPECT_EQ(read_error(client), errc::timed_out);
      EXPECT_EQ(write_error(client), errc::timed_out);
    }
    client.set_deadline(time_point::max());
    EXPECT_EQ(read_text(client, 5), "there");
    auto listener = tcp_listener::bind("127.0.0.1:0");
    listener.set_deadline(clock::now() - 1ms);
    EXPECT_EQ(error_of([&](auto& error) { listener.accept(error); }), errc::timed_out);
  });
}

TEST_P(sockets, a_deadline_ends_waits_when_it_comes_and_not_before) {
  in_main([] {
    auto [client, server] = connected();
    auto listener = tcp_listener::bind("127.0.0.1:0");
    auto datagrams = udp_socket::bind("127.0.0.1:0");
    for (const std::chrono::nanoseconds wait : std::initializer_list<std::chrono::nanoseconds>{1ns, 100us, 1ms, 20ms}) {
      const time_point when = clock::now() + wait;
      client.set_deadline(when);
      EXPECT_EQ(read_error(client), errc::timed_out);
      EXPECT_GE(clock::now(), when);
      EXPECT_EQ(write_error(client), errc::timed_out);
      listener.set_deadline(when);
      EXPECT_EQ(error_of([&](auto& error) { listener.accept(error); }), errc::timed_out);
      datagrams.set_read_deadline(when);
      EXPECT_EQ(error_of([&](auto& error) { datagrams.recv_from({}, error); }), errc::timed_out);
    }
  });
}

TEST_P(sockets, a_full_buffer_and_a_write_deadline) {
  in_main([] {
    auto [client, server] = connected();
    const time_point when = clock::now() + 20ms;
    client.set_write_deadline(when);
    EXPECT_EQ(write_error(client), errc::timed_out);
    EXPECT_GE(clock::now(), when);
    server.write_all(bytes("reading goes on"));
    EXPECT_EQ(read_text(client, 7), "reading");
  });
}

TEST_P(sockets, a_deadline_wakes_those_that_wait_already) {
  in_main([] {
    auto [client, server] = connected();
    wait_group done;
    const int before = parked(wait_reason::io_wait);
    done.go([c = &client] { EXPECT_EQ(read_error(*c), errc::timed_out); });
    EXPECT_TRUE(eventually_parked(wait_reason::io_wait, before, 1));
    client.set_read_deadline(clock::now() + 1ms);
    done.wait();
    client.set_read_deadline(clock::now() + 1h);
    done.go([c = &client] { EXPECT_EQ(read_error(*c), errc::timed_out); });
    EXPECT_TRUE(eventually_parked(wait_reason::io_wait, before, 1));
    client.set_deadline(clock::now() - 1s);
    done.wait();
  });
}

TEST_P(sockets, a_deadline_that_was_moved_or_cleared_does_not_come) {
  in_main([] {
    auto [client, server] = connected();
    for (const time_point later : {time_point::max(), clock::now() + 1h}) {
      // Again, with more time, if the first deadline came before it was moved.
      bool moved_in_time = false;
      for (auto wait = 5ms; !moved_in_time && wait < kPatience; wait *= 2) {
        const time_point first = clock::now() + wait;
        client.set_deadline(first);
        std::error_code error;
        wait_group done;
        done.go([&error, c = &client] { read_text(*c, 1, error); });
        client.set_deadline(later);
        moved_in_time = clock::now() < first;
        sleep_until(first + 10ms);
        server.write_all(bytes("x"));
        done.wait();
        if (moved_in_time) {
          EXPECT_FALSE(error) << error.message();
        } else if (error) {
          EXPECT_EQ(read_text(client, 1), "x");
        }
      }
      EXPECT_TRUE(moved_in_time);
    }
  });
}

TEST_P(sockets, deadlines_set_by_many_at_the_same_time) {
  in_main([] {
    for (int i = 0; i < scaled(20); ++i) {
      auto [client, server] = connected();
      wait_group done;
      for (int k = 0; k < 8; ++k)
        done.go([c = &client, k] {
          for (int round = 0; round < 50; ++round) {
            if (k % 2 == 0)
              c->set_read_deadline(clock::now() + std::chrono::microseconds(round));
            else
              c->set_deadline(clock::now() + 1h);
          }
        });
      done.wait();
      client.set_deadline(time_point::max());
      server.write_all(bytes("x"));
      EXPECT_EQ(read_text(client, 1), "x");
    }
  });
}

TEST_P(sockets, one_that_waits_for_its_turn_has_a_deadline_too) {
  in_main([] {
    auto [client, server] = connected();
    wait_group done;
    for (int i = 0; i < 5; ++i) done.go([c = &client] { EXPECT_EQ(read_error(*c), errc::timed_out); });
    client.set_deadline(clock::now() + 5ms);
    done.wait();
  });
}

// -- Closing ----------------------------------------------------------------------------------------------------------

TEST_P(sockets, close_wakes_all_that_wait) {
  in_main([] {
    auto [client, server] = connected();
    auto listener = tcp_listener::bind("127.0.0.1:0");
    auto datagrams = udp_socket::bind("127.0.0.1:0");
    wait_group done;
    const int before = parked(wait_reason::io_wait);
    for (int i = 0; i < 3; ++i) {
      done.go([c = &client] { EXPECT_EQ(read_error(*c), errc::bad_file_descriptor); });
      done.go([c = &client] { EXPECT_EQ(write_error(*c), errc::bad_file_descriptor); });
      done.go([&] { EXPECT_EQ(error_of([&](auto& e) { listener.accept(e); }), errc::bad_file_descriptor); });
      done.go([&] { EXPECT_EQ(error_of([&](auto& e) { datagrams.recv_from({}, e); }), errc::bad_file_descriptor); });
    }
    EXPECT_TRUE(eventually_parked(wait_reason::io_wait, before, 4));
    client.close();
    listener.close();
    datagrams.close();
    done.wait();
    EXPECT_EQ(read_text(server, 1).substr(0, 1), "x");  // what was written before
  });
}

TEST_P(sockets, a_closed_or_moved_socket_fails_and_never_ends) {
  in_main([] {
    auto [client, server] = connected();
    tcp_conn moved = std::move(client);
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(read_error(client), errc::bad_file_descriptor);
      EXPECT_EQ(write_error(client), errc::bad_file_descriptor);
      client.set_deadline(clock::now());
      client.close();
      moved.close();
      EXPECT_EQ(read_error(moved), errc::bad_file_descriptor);
      EXPECT_EQ(error_of([&](auto& error) { moved.shutdown_write(error); }), errc::bad_file_descriptor);
    }
    EXPECT_EQ(read_text(server, 1), "");
    std::byte one;
    EXPECT_THROW(moved.read_some({&one, 1}), std::system_error);
  });
}

TEST_P(sockets, closing_beside_reading_and_writing) {
  in_main([] {
    for (int i = 0; i < scaled(300); ++i) {
      auto [client, server] = connected();
      wait_group done;
      done.go([c = &client] { EXPECT_EQ(read_error(*c), errc::bad_file_descriptor); });
      done.go([c = &client] { EXPECT_EQ(write_error(*c), errc::bad_file_descriptor); });
      done.go([s = &server] { read_text(*s, 100'000); });
      if (i % 3 != 0) yield();
      client.close();
      done.wait();
    }
  });
}

TEST_P(sockets, no_file_is_left_open) {
  in_main([] {
    const auto open_files = [] {
      const int next = dup(0);
      close(next);
      return next;
    };
    { const auto warm_up = connected(); }
    const int before = open_files();
    for (int i = 0; i < scaled(300); ++i) {
      auto [client, server] = connected();
      client.write_all(bytes("x"));
      EXPECT_EQ(read_text(server, 1), "x");
    }
    EXPECT_EQ(open_files(), before);
  });
}

// -- Datagrams, Unix domain sockets, files of others ------------------------------------------------------------------

TEST_P(sockets, datagrams_come_with_their_sender) {
  in_main([] {
    auto one = udp_socket::bind("127.0.0.1:0"), other = udp_socket::bind(":0");
    const std::string port = other.local_addr().substr(other.local_addr().rfind(':'));
    std::array<std::byte, 100> buffer;
    one.send_to(bytes("hello"), "127.0.0.1" + port);
    const udp_socket::datagram got = other.recv_from(buffer);
    EXPECT_EQ(got.size, 5u);
    EXPECT_EQ(got.from, one.local_addr());
    other.send_to(bytes(""), got.from);
    EXPECT_EQ(one.recv_from(buffer).size, 0u);
    other.send_to(bytes("too long"), got.from);
    EXPECT_EQ(one.recv_from({buffer.data(), 3}).size, 3u);
  });
}

TEST_P(sockets, unix_domain_sockets) {
  in_main([] {
    const std::string name = "weft-net-test-" + std::to_string(getpid());
    for (const std::string& path : {"/tmp/" + name, "@" + name}) {
      {
        auto listener = unix_listener::bind(path);
        EXPECT_EQ(listener.local_addr(), path);
        EXPECT_EQ(error_of([&](auto& error) { unix_listener::bind(path, error); }), errc::address_in_use);
        auto client = unix_conn::connect(path);
        auto server = listener.accept();
        EXPECT_EQ(client.remote_addr(), path);
        client.write_all(bytes("hello"));
        EXPECT_EQ(read_text(server, 5), "hello");
        client.close();
        EXPECT_EQ(read_text(server, 1), "");
      }
      EXPECT_TRUE(error_of([&](auto& error) { unix_conn::connect(path, error); }));
      EXPECT_NE(access(path.c_str(), F_OK), 0);
    }
    EXPECT_EQ(error_of([](auto& error) { unix_listener::bind(std::string(200, 'x'), error); }),
              errc::filename_too_long);
  });
}

TEST_P(sockets, files_of_other_libraries_are_waited_for_and_left_as_they_are) {
  in_main([] {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const int flags = fcntl(ends[0], F_GETFL);
    wait_writable(ends[1]);
    wait_group done;
    std::atomic<int> awake{0};
    const int before = parked(wait_reason::io_wait);
    for (int i = 0; i < 3; ++i)
      done.go([&] {
        wait_readable(ends[0]);
        ++awake;
      });
    EXPECT_TRUE(eventually_parked(wait_reason::io_wait, before, 3));
    EXPECT_EQ(awake, 0);
    EXPECT_EQ(write(ends[1], "x", 1), 1);
    done.wait();
    wait_readable(ends[0]);
    EXPECT_EQ(fcntl(ends[0], F_GETFL), flags);
    close(ends[1]);
    char byte;
    EXPECT_EQ(read(ends[0], &byte, 1), 1);
    wait_readable(ends[0]);  // the end
    close(ends[0]);
    EXPECT_EQ(error_of([&](auto& error) { wait_readable(ends[0], error); }), errc::bad_file_descriptor);
    const int file = open("/proc/self/exe", O_RDONLY);
    wait_readable(file);
    close(file);
  });
}

// -- Busy Ps, threads, runs -------------------------------------------------------------------------------------------

TEST_P(sockets, a_datagram_is_read_while_all_ps_compute) {
  in_main([] {
    auto to = udp_socket::bind("127.0.0.1:0");
    const std::string address = to.local_addr();
    std::atomic<int> got{0};
    wait_group done;
    constexpr int kDatagrams = 5;
    done.go([&] {
      std::array<std::byte, 8> buffer;
      for (; got < kDatagrams; ++got) to.recv_from(buffer);
    });
    for (int i = 0; i < ps(); ++i)
      done.go([&] {
        while (got < kDatagrams) {
        }
      });
    // Not a goroutine: who would run it?
    std::thread sender([&] {
      auto from = udp_socket::bind("127.0.0.1:0");
      for (int i = 0; i < kDatagrams; ++i) {
        from.send_to(bytes("x"), address);
        while (got <= i) sched_yield();
      }
    });
    done.wait();
    sender.join();
  });
}

TEST_P(sockets, a_stream_is_served_beside_goroutines_that_yield_all_the_time) {
  in_main([] {
    auto [client, server] = connected();
    std::atomic<bool> stop{false};
    wait_group done;
    for (int i = 0; i < 2 * ps(); ++i)
      done.go([&] {
        while (!stop) yield();
      });
    done.go([s = &server] { echo(*s); });
    for (int i = 0; i < scaled(100); ++i) {
      client.write_all(bytes("x"));
      EXPECT_EQ(read_text(client, 1), "x");
    }
    stop = true;
    client.close();
    done.wait();
  });
}

TEST_P(sockets, threads_and_goroutines_talk_to_each_other) {
  in_main([] {
    auto listener = tcp_listener::bind("127.0.0.1:0");
    const auto serve = [&] {
      auto conn = listener.accept();
      echo(conn);
    };
    const auto call = [&] {
      auto conn = tcp_conn::connect(listener.local_addr());
      for (int i = 0; i < scaled(100); ++i) {
        conn.write_all(bytes("hello"));
        EXPECT_EQ(read_text(conn, 5), "hello");
      }
      conn.set_read_deadline(clock::now() + 1ms);
      EXPECT_EQ(read_error(conn), errc::timed_out);
    };
    foreign_threads threads;
    wait_group done;
    for (int i = 0; i < 4; ++i) {
      threads.start(serve);
      done.go(serve);
    }
    for (int i = 0; i < 4; ++i) {
      threads.start(call);
      done.go(call);
    }
    done.wait();
    threads.join();
  });
}

TEST_P(sockets, one_that_was_left_behind_keeps_no_turn) {
  auto listener = tcp_listener::bind("127.0.0.1:0");
  leaving_goroutines([&] {
    const int before = parked(wait_reason::io_wait);
    go([&] { error_of([&](auto& error) { listener.accept(error); }); });
    EXPECT_TRUE(eventually_parked(wait_reason::io_wait, before, 1));
    listener.set_deadline(clock::now());  // wakes it: it waits no longer, and perhaps never runs again
  });
  leaving_goroutines([&] {
    listener.set_deadline(clock::now() + kPatience);
    const auto client = tcp_conn::connect(listener.local_addr());
    EXPECT_FALSE(error_of([&](auto& error) { listener.accept(error); }));
  });
}

TEST_P(sockets, close_and_deadlines_reach_a_thread_that_waits) {
  in_main([] {
    auto [client, server] = connected();
    foreign_threads threads;
    threads.start([c = &client] { EXPECT_EQ(read_error(*c), errc::timed_out); });
    sleep_for(1ms);
    client.set_deadline(clock::now() + 1ms);
    threads.join();
    client.set_deadline(clock::now() + 1h);
    threads.start([c = &client] { EXPECT_EQ(read_error(*c), errc::bad_file_descriptor); });
    sleep_for(1ms);
    client.close();
    threads.join();
  });
}

TEST(sockets_without_a_run, work_in_threads_and_outlive_runs) {
  auto listener = tcp_listener::bind("127.0.0.1:0");
  tcp_conn server;
  std::thread accepting([&] { server = listener.accept(); });
  auto client = tcp_conn::connect(listener.local_addr());
  accepting.join();
  std::thread reading([&] { EXPECT_EQ(read_text(server, 5), "hello"); });
  client.write_all(bytes("hello"));
  reading.join();
  client.set_read_deadline(clock::now() + 5ms);
  EXPECT_EQ(read_error(client), errc::timed_out);
  client.set_read_deadline(time_point::max());
  for (int i = 0; i < 3; ++i)
    weft::run([&] {
      wait_group done;
      done.go([&] { EXPECT_EQ(read_text(server, 5), "hello"); });
      yield();
      client.write_all(bytes("hello"));
      done.wait();
      const int before = parked(wait_reason::io_wait);
      go([&] { read_text(client, 1); });  // is left behind
      EXPECT_TRUE(eventually_parked(wait_reason::io_wait, before, 1));
    });
  server.write_all(bytes("for the thread"));
  EXPECT_EQ(read_text(client, 14), "for the thread");
  client.close();
  EXPECT_EQ(read_text(server, 1), "");
}

TEST(sockets_without_a_run, a_thread_gets_the_turn_of_a_goroutine_that_is_left_behind) {
  auto listener = tcp_listener::bind("127.0.0.1:0");
  std::atomic<bool> accepted{false};
  std::thread next;
  weft::run([&] {
    const int before = parked(wait_reason::io_wait);
    go([&] { listener.accept(); });
    EXPECT_TRUE(eventually_parked(wait_reason::io_wait, before, 1));
    const int threads_before = rt::sched.nforeign_waiting.load();
    next = std::thread([&] { accepted = !error_of([&](auto& error) { listener.accept(error); }); });
    EXPECT_TRUE(eventually([&] { return rt::sched.nforeign_waiting.load() > threads_before; }));
  });
  const auto client = tcp_conn::connect(listener.local_addr());
  EXPECT_TRUE(eventually(accepted));
  listener.close();
  next.join();
}

}  // namespace
