// SPDX-License-Identifier: Apache-2.0
// Forty ways to block a thread, announced or not. Each loses its P once, to a goroutine that waits for it, and to
// nobody if none does.
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <thread>

#include "tests/child.h"
#include "tests/fixture.h"
#include "tests/unprivileged.h"

namespace {

using namespace weft;
using namespace weft::test;

// One way: `block` does not return before `release`, which another thread calls, or some time has passed. No `block`:
// not possible here.
struct blocking_way {
  std::function<void()> block;
  std::function<void()> release;  // none: it ends by the clock
};

struct kind {
  const char* name;
  std::function<blocking_way()> make;
};

class descriptor {
 public:
  explicit descriptor(int fd = -1) : fd_(fd) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

using shared_fd = std::shared_ptr<descriptor>;
shared_fd own(int fd) { return std::make_shared<descriptor>(fd); }

struct two_ends {
  shared_fd in, out;
};

two_ends make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) std::abort();
  return {own(ends[0]), own(ends[1])};
}

two_ends make_sockets(int type = SOCK_STREAM) {
  int ends[2];
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
  return {own(ends[0]), own(ends[1])};
}

void send_byte(const shared_fd& to) {
  if (write(to->get(), "x", 1) != 1) std::abort();
}

void take_byte(const shared_fd& from) {
  char byte;
  while (read(from->get(), &byte, 1) < 0 && errno == EINTR) {
  }
}

void fill(const shared_fd& to) {
  const std::array<char, 4096> block{};
  fcntl(to->get(), F_SETFL, O_NONBLOCK);
  while (write(to->get(), block.data(), block.size()) > 0) {
  }
  fcntl(to->get(), F_SETFL, 0);
}

void empty(const shared_fd& from) {
  std::array<char, 4096> block;
  fcntl(from->get(), F_SETFL, O_NONBLOCK);
  while (read(from->get(), block.data(), block.size()) > 0) {
  }
  fcntl(from->get(), F_SETFL, 0);
}

// Waits with `wait(fd)` for a pipe to become readable.
kind on_pipe(const char* name, std::function<void(int)> wait) {
  return {name, [wait = std::move(wait)] {
            const two_ends ends = make_pipe();
            return blocking_way{[=] { wait(ends.in->get()); }, [=] { send_byte(ends.out); }};
          }};
}

// Sleeps for long enough that nobody thinks of waiting for it, on an emulated machine too.
const timespec kAWhile{0, quick() ? 100'000'000 : 20'000'000};
kind sleeping(const char* name, std::function<void()> sleep) {
  return {name, [sleep = std::move(sleep)] { return blocking_way{sleep, {}}; }};
}

// A lock that another thread has, which lets go of it when told to: `block` takes it for a moment.
template <class Lock>
class held_lock {
 public:
  held_lock() {
    std::promise<void> held;
    holder_ = std::thread([this, &held] {
      const std::lock_guard hold(lock_);
      held.set_value();
      release_.get_future().wait();
    });
    held.get_future().wait();
  }
  ~held_lock() { holder_.join(); }
  void release() { release_.set_value(); }

  Lock& lock() { return lock_; }

 private:
  Lock lock_;
  std::promise<void> release_;
  std::thread holder_;
};

template <class Lock>
kind foreign_lock(const char* name, void (*take)(Lock&)) {
  return {name, [=] {
            const auto held = std::make_shared<held_lock<Lock>>();
            return blocking_way{[=] { take(held->lock()); }, [=] { held->release(); }};
          }};
}

blocking_way foreign_semaphore() {
  const auto s = std::make_shared<sem_t>();
  sem_init(s.get(), 0, 0);
  return {[=] {
            while (sem_wait(s.get()) != 0) {
            }
          },
          [=] { sem_post(s.get()); }};
}

struct temporary_file {
  temporary_file() { fd = mkstemp(path); }
  ~temporary_file() {
    close(fd);
    unlink(path);
  }
  char path[40] = "/tmp/weft-blocking-test-XXXXXX";
  int fd;
};

// Another open file description of the same file: a lock of its own.
kind file_lock(const char* name, const std::function<void(int, bool)>& lock) {
  return {name, [lock] {
            const auto file = std::make_shared<temporary_file>();
            const shared_fd second = own(open(file->path, O_RDWR | O_CLOEXEC));
            lock(file->fd, true);
            return blocking_way{[=] {
                                  lock(second->get(), true);
                                  (void)file;
                                },
                                [=] { lock(file->fd, false); }};
          }};
}

void lock_description(int fd, bool lock) {
  struct flock range {};
  range.l_type = static_cast<short>(lock ? F_WRLCK : F_UNLCK);
  fcntl(fd, F_OFD_SETLKW, &range);
}

// A child that ends when it is told to.
kind child_process(const char* name, const std::function<void(pid_t)>& wait) {
  return {name, [wait] {
            const two_ends ends = make_pipe();
            const pid_t child = fork();
            if (child == 0) {
              take_byte(ends.in);
              _exit(0);
            }
            return blocking_way{[=] { wait(child); }, [=] { send_byte(ends.out); }};
          }};
}

// A page that is there only once it is copied in.
blocking_way user_fault() {
  const int fd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1 /* UFFD_USER_MODE_ONLY */));
  if (fd < 0) return {};
  const shared_fd faults = own(fd);
  uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
  const auto size = static_cast<std::size_t>(getpagesize());
  char* const page =
      static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  uffdio_register range{
      .range = {reinterpret_cast<std::uintptr_t>(page), size}, .mode = UFFDIO_REGISTER_MODE_MISSING, .ioctls = 0};
  if (ioctl(fd, UFFDIO_API, &api) != 0 || ioctl(fd, UFFDIO_REGISTER, &range) != 0) return {};
  return {[=] {
            *static_cast<volatile char*>(page) = 1;
            munmap(page, size);
          },
          [=] {
            uffdio_zeropage zero{.range = range.range, .mode = 0, .zeropage = 0};
            ioctl(faults->get(), UFFDIO_ZEROPAGE, &zero);
          }};
}

blocking_way full_backlog() {
  const shared_fd listener = own(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  static std::atomic<int> number{0};
  // Abstract: no file to remove.
  std::snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "weft-test-%d-%d", getpid(), number++);
  const auto* const to = reinterpret_cast<const sockaddr*>(&address);
  if (bind(listener->get(), to, sizeof address) != 0 || listen(listener->get(), 0) != 0) std::abort();
  const shared_fd first = own(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(first->get(), to, sizeof address) != 0) std::abort();
  const shared_fd second = own(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return {[=] { (void)connect(second->get(), reinterpret_cast<const sockaddr*>(&address), sizeof address); },
          [=] {
            (void)first;
            close(accept(listener->get(), nullptr, nullptr));
          }};
}

blocking_way opening_a_fifo() {
  const auto path = std::make_shared<std::string>("/tmp/weft-blocking-test-fifo-" + std::to_string(getpid()));
  unlink(path->c_str());
  if (mkfifo(path->c_str(), 0600) != 0) return {};
  return {[=] { close(open(path->c_str(), O_RDONLY | O_CLOEXEC)); },
          [=] {
            close(open(path->c_str(), O_WRONLY | O_CLOEXEC));
            unlink(path->c_str());
          }};
}

blocking_way message_of_posix() {
  const std::string name = "/weft-test-" + std::to_string(getpid());
  mq_attr limits{};
  limits.mq_maxmsg = 1;
  limits.mq_msgsize = 8;
  const mqd_t queue = mq_open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600, &limits);
  if (queue < 0) return {};
  mq_unlink(name.c_str());
  return {[=] {
            char message[8];
            mq_receive(queue, message, sizeof message, nullptr);
            mq_close(queue);
          },
          [=] { mq_send(queue, "x", 1, 0); }};
}

blocking_way message_of_system_v() {
  const int queue = msgget(IPC_PRIVATE, 0600);
  if (queue < 0) return {};
  struct message {
    long type;
    char text[8];
  };
  return {[=] {
            message m;
            msgrcv(queue, &m, sizeof m.text, 0, 0);
            msgctl(queue, IPC_RMID, nullptr);
          },
          [=] {
            const message m{1, "x"};
            msgsnd(queue, &m, sizeof m.text, 0);
          }};
}

blocking_way semaphore_of_system_v() {
  const int set = semget(IPC_PRIVATE, 1, 0600);
  if (set < 0) return {};
  return {[=] {
            sembuf down{0, -1, 0};
            semop(set, &down, 1);
            semctl(set, 0, IPC_RMID);
          },
          [=] {
            sembuf up{0, 1, 0};
            semop(set, &up, 1);
          }};
}

blocking_way word_of_memory() {
  const auto word = std::make_shared<std::atomic<std::uint32_t>>(0);
  return {[=] {
            while (*word == 0) syscall(SYS_futex, word.get(), FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
          },
          [=] {
            *word = 1;
            syscall(SYS_futex, word.get(), FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
          }};
}

blocking_way foreign_condition() {
  struct state {
    std::mutex mutex;
    std::condition_variable changed;
    bool set = false;
  };
  const auto s = std::make_shared<state>();
  return {[=] {
            std::unique_lock lock(s->mutex);
            s->changed.wait(lock, [&] { return s->set; });
          },
          [=] {
            const std::lock_guard lock(s->mutex);
            s->set = true;
            s->changed.notify_one();
          }};
}

blocking_way foreign_thread_s_end() {
  const two_ends ends = make_pipe();
  const auto thread = std::make_shared<std::thread>([ends] { take_byte(ends.in); });
  return {[=] { thread->join(); }, [=] { send_byte(ends.out); }};
}

blocking_way foreign_barrier() {
  const auto barrier = std::shared_ptr<pthread_barrier_t>(new pthread_barrier_t, [](pthread_barrier_t* b) {
    pthread_barrier_destroy(b);
    delete b;
  });
  pthread_barrier_init(barrier.get(), nullptr, 2);
  const auto arrive = [=] { pthread_barrier_wait(barrier.get()); };
  return {arrive, arrive};
}

blocking_way future_value() {
  const auto promise = std::make_shared<std::promise<void>>();
  return {[=] { promise->get_future().wait(); }, [=] { promise->set_value(); }};
}

blocking_way changes_of_a_folder() {
  const shared_fd watch = own(inotify_init1(IN_CLOEXEC));
  const auto file = std::make_shared<temporary_file>();
  if (inotify_add_watch(watch->get(), file->path, IN_ATTRIB) < 0) return {};
  return {[=] {
            std::array<char, 4096> events;
            (void)!read(watch->get(), events.data(), events.size());
          },
          [=] { fchmod(file->fd, 0640); }};
}

std::vector<kind> kinds() {
  const auto wait_epoll = [](int fd, auto wait) {
    const descriptor set(epoll_create1(EPOLL_CLOEXEC));
    epoll_event interest{};
    interest.events = EPOLLIN;
    epoll_ctl(set.get(), EPOLL_CTL_ADD, fd, &interest);
    wait(set.get(), &interest);
  };
  std::vector<kind> all{
      on_pipe("read_of_a_pipe", [](int fd) { (void)!read(fd, std::array<char, 1>().data(), 1); }),
      on_pipe("poll",
              [](int fd) {
                pollfd p{fd, POLLIN, 0};
                poll(&p, 1, -1);
              }),
      on_pipe("ppoll",
              [](int fd) {
                pollfd p{fd, POLLIN, 0};
                ppoll(&p, 1, nullptr, nullptr);
              }),
      on_pipe("select",
              [](int fd) {
                fd_set set;
                FD_ZERO(&set);
                FD_SET(fd, &set);
                select(fd + 1, &set, nullptr, nullptr, nullptr);
              }),
      on_pipe("pselect",
              [](int fd) {
                fd_set set;
                FD_ZERO(&set);
                FD_SET(fd, &set);
                pselect(fd + 1, &set, nullptr, nullptr, nullptr, nullptr);
              }),
      on_pipe("epoll_wait",
              [=](int fd) { wait_epoll(fd, [](int set, epoll_event* e) { epoll_wait(set, e, 1, -1); }); }),
      on_pipe("epoll_pwait",
              [=](int fd) { wait_epoll(fd, [](int set, epoll_event* e) { epoll_pwait(set, e, 1, -1, nullptr); }); }),
      on_pipe("splice_of_a_pipe",
              [](int fd) {
                const two_ends other = make_pipe();
                (void)!splice(fd, nullptr, other.out->get(), nullptr, 1, 0);
              }),
      on_pipe("tee_of_a_pipe",
              [](int fd) {
                const two_ends other = make_pipe();
                (void)!tee(fd, other.out->get(), 1, 0);
              }),
      {"write_to_a_full_pipe",
       [] {
         const two_ends ends = make_pipe();
         fill(ends.out);
         return blocking_way{[=] { send_byte(ends.out); }, [=] { empty(ends.in); }};
       }},
      {"sendfile_to_a_full_pipe",
       [] {
         const two_ends ends = make_pipe();
         const auto file = std::make_shared<temporary_file>();
         (void)!ftruncate(file->fd, 10);
         fill(ends.out);
         return blocking_way{[=] { (void)!sendfile(ends.out->get(), file->fd, nullptr, 10); }, [=] { empty(ends.in); }};
       }},
      {"read_of_an_eventfd",
       [] {
         const shared_fd counter = own(eventfd(0, EFD_CLOEXEC));
         return blocking_way{[=] {
                               eventfd_t n;
                               eventfd_read(counter->get(), &n);
                             },
                             [=] { eventfd_write(counter->get(), 1); }};
       }},
      {"read_of_a_timerfd",
       [] {
         const shared_fd timer = own(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
         return blocking_way{[=] {
                               itimerspec when{};
                               when.it_value = kAWhile;
                               timerfd_settime(timer->get(), 0, &when, nullptr);
                               std::uint64_t n;
                               (void)!read(timer->get(), &n, sizeof n);
                             },
                             {}};
       }},
      {"read_of_inotify", changes_of_a_folder},
      {"recv",
       [] {
         const two_ends ends = make_sockets();
         return blocking_way{[=] { recv(ends.in->get(), std::array<char, 1>().data(), 1, 0); },
                             [=] { send_byte(ends.out); }};
       }},
      {"recvmsg",
       [] {
         const two_ends ends = make_sockets(SOCK_DGRAM);
         return blocking_way{[=] {
                               char byte;
                               iovec part{&byte, 1};
                               msghdr message{};
                               message.msg_iov = &part;
                               message.msg_iovlen = 1;
                               (void)recvmsg(ends.in->get(), &message, 0);
                             },
                             [=] { send_byte(ends.out); }};
       }},
      {"recvmmsg",
       [] {
         const two_ends ends = make_sockets(SOCK_DGRAM);
         return blocking_way{[=] {
                               char byte;
                               iovec part{&byte, 1};
                               mmsghdr message{};
                               message.msg_hdr.msg_iov = &part;
                               message.msg_hdr.msg_iovlen = 1;
                               recvmmsg(ends.in->get(), &message, 1, 0, nullptr);
                             },
                             [=] { send_byte(ends.out); }};
       }},
      {"send_to_a_full_socket",
       [] {
         const two_ends ends = make_sockets();
         fill(ends.out);
         return blocking_way{[=] { send_byte(ends.out); }, [=] { empty(ends.in); }};
       }},
      {"accept",
       [] {
         const shared_fd listener = own(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
         sockaddr_un address{};
         address.sun_family = AF_UNIX;
         socklen_t size = sizeof(sa_family_t);  // the kernel picks a name
         if (bind(listener->get(), reinterpret_cast<sockaddr*>(&address), size) != 0) std::abort();
         listen(listener->get(), 1);
         return blocking_way{[=] { close(accept(listener->get(), nullptr, nullptr)); },
                             [=] {
                               sockaddr_un to{};
                               socklen_t n = sizeof to;
                               getsockname(listener->get(), reinterpret_cast<sockaddr*>(&to), &n);
                               const descriptor client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
                               (void)connect(client.get(), reinterpret_cast<sockaddr*>(&to), n);
                             }};
       }},
      {"connect_to_a_full_backlog", full_backlog},
      {"open_of_a_fifo", opening_a_fifo},
      {"mq_receive", message_of_posix},
      {"msgrcv", message_of_system_v},
      {"semop", semaphore_of_system_v},
      {"futex", word_of_memory},
      file_lock("flock", [](int fd, bool lock) { flock(fd, lock ? LOCK_EX : LOCK_UN); }),
      file_lock("fcntl_lock", lock_description),
      child_process("wait4", [](pid_t child) { waitpid(child, nullptr, 0); }),
      child_process("waitid",
                    [](pid_t child) {
                      siginfo_t info;
                      waitid(P_PID, static_cast<id_t>(child), &info, WEXITED);
                    }),
      sleeping("nanosleep", [] { nanosleep(&kAWhile, nullptr); }),
      sleeping("clock_nanosleep", [] { clock_nanosleep(CLOCK_MONOTONIC, 0, &kAWhile, nullptr); }),
      sleeping("usleep", [] { usleep(static_cast<useconds_t>(kAWhile.tv_nsec / 1000)); }),
      sleeping("this_thread_sleep_for", [] { std::this_thread::sleep_for(std::chrono::nanoseconds(kAWhile.tv_nsec)); }),
      sleeping("sigtimedwait",
               [] {
                 sigset_t set;
                 sigemptyset(&set);
                 sigaddset(&set, SIGUSR2);
                 sigtimedwait(&set, nullptr, &kAWhile);
               }),
      sleeping("select_without_descriptors",
               [] {
                 timeval time{0, kAWhile.tv_nsec / 1000};
                 select(0, nullptr, nullptr, nullptr, &time);
               }),
      foreign_lock<std::mutex>("foreign_mutex", [](std::mutex& m) { const std::lock_guard hold(m); }),
      foreign_lock<std::shared_mutex>("foreign_shared_mutex",
                                      [](std::shared_mutex& m) { const std::shared_lock hold(m); }),
      {"foreign_semaphore", foreign_semaphore},
      {"foreign_condition_variable", foreign_condition},
      {"foreign_barrier", foreign_barrier},
      {"end_of_a_thread", foreign_thread_s_end},
      {"future", future_value},
      {"page_fault", user_fault},
  };
  return all;
}

struct blocking_case {
  kind way;
  const char* tier;
  bool announced;
};

std::vector<blocking_case> cases() {
  std::vector<blocking_case> all;
  for (const kind& k : kinds()) {
    if (has_probes()) all.insert(all.end(), {{k, "bpf", true}, {k, "bpf", false}});
    all.insert(all.end(), {{k, "sentinel", true}, {k, "sentinel", false}, {k, "off", true}});
  }
  return all;
}

std::ostream& operator<<(std::ostream& out, const blocking_case& c) { return out << c.way.name << ", " << c.tier; }

// Blocks of this kind, announced or not, on one P.
class trial {
 public:
  trial(const kind& way, const char* tier, bool announced) : kind_(way), announced_(announced) {
    options_.gomaxprocs = 1;
    options_.kernel_assist = tier;
  }

  /// Both: false if this kind is not possible here.
  bool hands_the_p_to_who_waits_for_it() const {
    return conclusively(
        [this](const blocking_way& way) -> std::optional<std::uint64_t> {
          std::atomic<bool> other_ran{false};
          std::thread releaser([&] {
            while (!other_ran) std::this_thread::yield();
            if (way.release) way.release();
          });
          go([&] { other_ran = true; });
          block(way);
          const bool slept_in_vain = !way.release && !other_ran;
          EXPECT_TRUE(other_ran || slept_in_vain);
          const std::uint64_t after = handoffs();
          blocking([&] { releaser.join(); });
          if (slept_in_vain) return std::nullopt;
          return after;
        },
        1);
  }

  bool hands_nothing_on_if_nobody_waits() const {
    return conclusively(
        [this](const blocking_way& way) -> std::optional<std::uint64_t> {
          const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
          std::thread releaser([&] {
            std::this_thread::sleep_until(end);
            if (way.release) way.release();
          });
          block(way);
          const std::uint64_t after = handoffs();
          blocking([&] { releaser.join(); });
          return after;
        },
        0);
  }

 private:
  static std::uint64_t counter(const char* name) { return metrics::read().counters[name]; }
  static std::uint64_t handoffs() { return counter("handoffs"); }

  // once(way) returns the handoffs up to the end of the block. On a busy machine a time slice may be over meanwhile,
  // which hands the P on too, or nobody else gets a CPU: then that was no trial.
  template <class F>
  bool conclusively(F once, std::uint64_t expected) const {
    constexpr int kTrials = 10;
    std::optional<std::uint64_t> seen;
    for (int i = 0; i < kTrials && !seen; ++i) {
      const blocking_way way = kind_.make();
      if (!way.block) return false;
      weft::run(options_, [&] {
        const std::uint64_t preemptions = counter("preemptions"), before = handoffs();
        seen = once(way);
        if (seen) *seen -= before;
        if (seen != expected && counter("preemptions") != preemptions) seen.reset();
      });
    }
    EXPECT_EQ(seen, expected);
    return true;
  }

  void block(const blocking_way& way) const {
    if (announced_)
      blocking([&] { way.block(); });
    else
      way.block();
  }

  const kind& kind_;
  bool announced_;
  run_options options_;
};

// On the best tier that these users can have. Each child loads probes of its own, as that user. These come first:
// ThreadSanitizer refuses threads to the children of a process that has had some itself.
class blocking_of_all_kinds : public testing::TestWithParam<user> {
 protected:
  static void expect_all_handed_on(bool announced) {
    const auto r = in_child([announced] {
      become(GetParam());
      for (const kind& k : kinds()) {
        SCOPED_TRACE(k.name);
        const trial t(k, "auto", announced);
        if (t.hands_the_p_to_who_waits_for_it()) t.hands_nothing_on_if_nobody_waits();
      }
    });
    WEFT_SKIP_IF_CHILD_DID(r);
    EXPECT_TRUE(r.exited(0)) << r;
  }
};
INSTANTIATE_TEST_SUITE_P(kinds, blocking_of_all_kinds,
                         testing::Values(user::root, user::with_two_capabilities, user::ordinary), name_of_user);

TEST_P(blocking_of_all_kinds, announced_hands_the_p_on) { expect_all_handed_on(true); }
TEST_P(blocking_of_all_kinds, without_a_word_hands_the_p_on) { expect_all_handed_on(false); }

class blocking_of : public testing::TestWithParam<blocking_case> {};
INSTANTIATE_TEST_SUITE_P(kinds, blocking_of, testing::ValuesIn(cases()), [](const auto& info) {
  return std::string(info.param.way.name) + (info.param.announced ? "_announced_" : "_") + info.param.tier;
});

TEST_P(blocking_of, this_kind_hands_the_p_to_who_waits_for_it) {
  const trial t(GetParam().way, GetParam().tier, GetParam().announced);
  if (!t.hands_the_p_to_who_waits_for_it()) GTEST_SKIP() << "not possible here";
}

TEST_P(blocking_of, this_kind_hands_nothing_on_if_nobody_waits) {
  const trial t(GetParam().way, GetParam().tier, GetParam().announced);
  if (!t.hands_nothing_on_if_nobody_waits()) GTEST_SKIP() << "not possible here";
}

}  // namespace
