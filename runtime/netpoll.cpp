// SPDX-License-Identifier: Apache-2.0
#include "runtime/netpoll.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <utility>

#include "runtime/clock.h"
#include "runtime/park.h"
#include "runtime/poll_desc.h"

namespace weft::rt {
namespace {

constexpr std::uint64_t kInterrupt = UINT64_MAX;  // no descriptor's tag

std::atomic<std::int64_t> wakes_elsewhere{0};
std::atomic<bool> has_pwait2{true};

timespec to_timespec(std::int64_t ns) {
  return {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
}

// The time until `deadline`; null: no limit.
const timespec* time_left(std::int64_t deadline, timespec& left) {
  if (deadline == kNever) return nullptr;
  left = to_timespec(std::max<std::int64_t>(deadline - nanotime(), 0));
  return &left;
}

// epoll_pwait2 (Linux 5.11) has the resolution of timers; before, ppoll() on the instance has.
int wait_for_events(int epoll, std::span<epoll_event> events, std::int64_t deadline) {
  const int room = static_cast<int>(events.size());
  timespec left;
  const timespec* const limit = time_left(deadline, left);
  if (has_pwait2.load(std::memory_order_relaxed)) {
    const int n = epoll_pwait2(epoll, events.data(), room, limit, nullptr);
    if (n >= 0 || (errno != ENOSYS && errno != EPERM)) return n;
    has_pwait2.store(false, std::memory_order_relaxed);
  }
  pollfd any{epoll, POLLIN, 0};
  if (ppoll(&any, 1, limit, nullptr) <= 0) return 0;
  return epoll_wait(epoll, events.data(), room, 0);
}

void post(int event) {
  const std::uint64_t one = 1;
  // It fails only when it has been posted 2^64 - 2 times.
  [[maybe_unused]] const ssize_t written = write(event, &one, sizeof one);
}

void drain(int event) {
  std::uint64_t count;
  [[maybe_unused]] const ssize_t got = read(event, &count, sizeof count);
}

bool has_no_ps(std::size_t node) { return node_at(static_cast<int>(node)).ps.load(std::memory_order_relaxed) == 0; }

}  // namespace

poller& netpoll = *new poller;  // never destroyed, like all that threads still use while the process exits

std::span<poller::share> poller::shares() {
  return {shares_.data(), static_cast<std::size_t>(nshares_.load(std::memory_order_acquire))};
}

int poller::share_of(int node) const { return node < nshares_.load(std::memory_order_acquire) ? node : 0; }

int poller::open() {
  lock_guard hold(opening_);
  if (nshares_.load(std::memory_order_acquire) != 0) return 0;
  const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), nap_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const int wanted = sched.nnodes.load(std::memory_order_acquire);
  const std::span<share> all(shares_.data(), static_cast<std::size_t>(wanted));
  for (share& each : all) each.epoll = epoll_create1(EPOLL_CLOEXEC);
  epoll_event interrupts{};
  interrupts.events = EPOLLIN;
  interrupts.data.u64 = kInterrupt;
  const bool complete = std::all_of(all.begin(), all.end(), [](const share& each) { return each.epoll >= 0; });
  if (!complete || nap_event < 0 || epoll_ctl(all.front().epoll, EPOLL_CTL_ADD, event, &interrupts) != 0) {
    const int why = errno;
    close_all(all, event, nap_event);
    return why;
  }
  interrupt_ = event;
  interrupt_nap_ = nap_event;
  opened_by_ = getpid();
  generation_.fetch_add(1, std::memory_order_release);
  nshares_.store(wanted, std::memory_order_release);
  return 0;
}

void poller::leave_parents() {
  const std::span<share> all = shares();
  if (all.empty() || opened_by_ == getpid()) return;
  close_all(all, interrupt_, interrupt_nap_);
  for (share& each : all) each.registered.store(0, std::memory_order_relaxed);
  registered_.store(0, std::memory_order_relaxed);
  nshares_.store(0, std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);  // nothing is registered
}

void poller::close_all(std::span<share> all, int event, int nap_event) {
  for (const int fd : {event, nap_event})
    if (fd >= 0) ::close(fd);
  for (share& each : all)
    if (const int fd = std::exchange(each.epoll, -1); fd >= 0) ::close(fd);
}

int poller::add(int fd, std::uint64_t tag, std::uint32_t events, int where) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  share& to = shares()[static_cast<std::size_t>(where)];
  if (epoll_ctl(to.epoll, EPOLL_CTL_ADD, fd, &event) != 0) return errno;
  to.registered.fetch_add(1, std::memory_order_relaxed);
  // seq_cst: who takes the watch now sees it, or is seen, and told, here.
  if (registered_.fetch_add(1, std::memory_order_seq_cst) == 0) poke_watcher();
  return 0;
}

void poller::remove(int fd, int where) {
  const auto all = shares();  // first: what is read next was written before it
  if (all.empty() || opened_by_ != getpid()) return;
  share& from = all[static_cast<std::size_t>(where)];
  if (epoll_ctl(from.epoll, EPOLL_CTL_DEL, fd, nullptr) != 0) return;
  from.registered.fetch_sub(1, std::memory_order_relaxed);
  registered_.fetch_sub(1, std::memory_order_relaxed);
}

// True: an interrupt is among them.
bool poller::take(std::span<const epoll_event> events, harvest& ready) {
  bool interrupted = false;
  for (const epoll_event& event : events) {
    if (event.data.u64 == kInterrupt) {
      interrupted = true;
      continue;
    }
    constexpr std::uint32_t kFailed = EPOLLHUP | EPOLLERR;
    constexpr std::uint32_t kLast = kFailed | EPOLLRDHUP | EPOLLPRI;
    const std::uint32_t what = event.events;
    take_news(event.data.u64,
              {(what & (EPOLLIN | kLast)) != 0, (what & (EPOLLOUT | kFailed)) != 0, (what & kLast) != 0}, ready);
  }
  return interrupted;
}

// As take(): an interrupt is left there, for the one that waits.
bool poller::look(share& at, harvest& ready) {
  std::array<epoll_event, kPollBatch> events;
  const std::size_t room = std::min<std::size_t>((ready.gs.size() - ready.n) / 2, kPollBatch);
  if (room == 0) return false;
  const int n = epoll_wait(at.epoll, events.data(), static_cast<int>(room), 0);
  return n > 0 && take({events.data(), static_cast<std::size_t>(n)}, ready);
}

void poller::try_look(share& at, harvest& ready) {
  if (at.looking.load(std::memory_order_relaxed) || at.looking.exchange(true, std::memory_order_acquire)) return;
  at.looks.store(at.looks.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  look(at, ready);
  at.looking.store(false, std::memory_order_release);
}

// Its own first, and others only if there is nothing.
void poller::try_look_around(int node, poll_reach reach, harvest& ready) {
  if (watched_.load(std::memory_order_relaxed)) return;
  const std::span<share> all = shares();
  const std::size_t n = all.size(), own = static_cast<std::size_t>(share_of(node));
  for (std::size_t k = 0; k < n && ready.n == 0; ++k) {
    const std::size_t at = (own + k) % n;
    if (all[at].registered.load(std::memory_order_relaxed) == 0) continue;
    if (k == 0 || reach == poll_reach::machine || has_no_ps(at)) try_look(all[at], ready);
  }
}

bool poller::wait(std::int64_t deadline, harvest& ready) {
  const std::span<share> all = shares();
  bool interrupted = false;
  if (all.size() == 1) {
    std::array<epoll_event, kPollBatch> events;
    const int n = wait_for_events(all.front().epoll, events, deadline);
    if (n > 0) interrupted = take({events.data(), static_cast<std::size_t>(n)}, ready);
  } else {
    std::array<pollfd, kMaxNodes> fds;
    for (std::size_t i = 0; i < all.size(); ++i) fds[i] = {all[i].epoll, POLLIN, 0};
    timespec left;
    if (ppoll(fds.data(), all.size(), time_left(deadline, left), nullptr) <= 0) return false;
    for (std::size_t i = 0; i < all.size(); ++i)
      if (fds[i].revents != 0) interrupted |= look(all[i], ready);
  }
  if (interrupted) drain(interrupt_);
  return interrupted;
}

void poller::interrupt() { post(interrupt_); }

void poller::await_interrupt() {
  pollfd event{interrupt_, POLLIN, 0};
  while (poll(&event, 1, -1) != 1) {
  }
  drain(interrupt_);
}

bool poller::find_neglected() {
  bool any = false;
  for (share& each : shares()) {
    const std::uint32_t looks = each.looks.load(std::memory_order_relaxed);
    each.neglected = each.registered.load(std::memory_order_relaxed) != 0 && looks == each.looks_seen;
    each.looks_seen = looks;
    any |= each.neglected;
  }
  return any && !watched_.load(std::memory_order_seq_cst);
}

void poller::nap(std::int64_t deadline) {
  std::array<pollfd, kMaxNodes + 1> fds;
  std::size_t n = 0;
  fds[n++] = {interrupt_nap_, POLLIN, 0};
  for (const share& each : shares())
    if (each.neglected) fds[n++] = {each.epoll, POLLIN, 0};
  timespec left;
  if (ppoll(fds.data(), n, time_left(deadline, left), nullptr) > 0 && fds[0].revents != 0) drain(interrupt_nap_);
}

void poller::look_at_neglected(harvest& ready) {
  for (share& each : shares())
    if (each.neglected) look(each, ready);
}

void poller::interrupt_nap() { post(interrupt_nap_); }

void poller::put_ready(const harvest& gs) {
  if (gs.n == 0) return;
  {
    lock_guard hold(lock_);
    for (std::size_t i = 0; i < gs.n; ++i) {
      g* const gp = gs.gs[i];
      gp->status.store(g_status::runnable, std::memory_order_relaxed);
      gp->cause = ready_cause::readied;
      gp->schedlink = nullptr;
      (first_ ? last_->schedlink : first_) = gp;
      last_ = gp;
    }
    nready_.fetch_add(static_cast<int>(gs.n), std::memory_order_release);
    count_poll_wakes(nullptr, gs.n);  // after nready_, for the deadlock detector, and before any of them runs
  }
}

void poller::take_ready(harvest& gs) {
  if (!any_ready()) return;
  lock_guard hold(lock_);
  std::size_t n = 0;
  for (; first_ && gs.n < gs.gs.size(); ++n) {
    gs.add(first_);
    first_ = first_->schedlink;
  }
  nready_.fetch_sub(static_cast<int>(n), std::memory_order_relaxed);
}

void poller::forget_ready() {
  lock_guard hold(lock_);
  first_ = last_ = nullptr;
  nready_.store(0, std::memory_order_relaxed);
  wakes_elsewhere.store(0, std::memory_order_relaxed);
}

namespace {

// One that has become ready: true if pp is to run it; else it goes home to another node.
bool stays_with(p* pp, g* gp) {
  note_ready(pp, gp, ready_cause::readied);
  if (gp->home == pp->home_index) [[likely]]
    return true;
  ready_far(pp, gp);
  return false;
}

}  // namespace

void poller::put_to_work(p* pp, const harvest& gs) {
  count_poll_wakes(pp, gs.n);
  std::size_t here = 0;
  for (std::size_t i = 0; i < gs.n; ++i) {
    if (!stays_with(pp, gs.gs[i])) continue;
    runqput(pp, gs.gs[i]);
    ++here;
  }
  if (here > 1) wakep(pp);
}

g* poller::work(p* pp, poll_reach reach) {
  harvest gs;
  take_ready(gs);
  const std::size_t counted = gs.n;
  if (gs.n == 0) try_look_around(pp->home_index, reach, gs);
  if (gs.n == 0) return nullptr;
  count_poll_wakes(pp, gs.n - counted);
  g* first = nullptr;
  bool more = false;
  for (std::size_t i = 0; i < gs.n; ++i) {
    if (!stays_with(pp, gs.gs[i])) continue;
    if (!first) {
      first = gs.gs[i];
      continue;
    }
    runqput(pp, gs.gs[i]);
    more = true;
  }
  if (more) wakep(pp);
  return first;
}

void count_poll_wait(p* pp) { pp->poll_waits.add(1); }

void count_poll_wakes(p* pp, std::size_t gs) {
  if (pp)
    pp->poll_wakes.add(gs);
  else
    wakes_elsewhere.fetch_add(static_cast<std::int64_t>(gs), std::memory_order_seq_cst);
}

std::int64_t poll_waiters() {
  std::int64_t n = -wakes_elsewhere.load(std::memory_order_seq_cst);
  const int ps = sched.nps.load(std::memory_order_acquire);
  for (int i = 0; i < ps; ++i) {
    const p* const pp = sched.allp[static_cast<std::size_t>(i)].load(std::memory_order_acquire);
    n += static_cast<std::int64_t>(pp->poll_waits.get()) - static_cast<std::int64_t>(pp->poll_wakes.get());
  }
  return n;
}

}  // namespace weft::rt
