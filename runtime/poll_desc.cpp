// SPDX-License-Identifier: Apache-2.0
#include "runtime/poll_desc.h"

#include <poll.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <new>

#include "runtime/clock.h"
#include "runtime/netpoll.h"
#include "runtime/pages.h"
#include "runtime/park.h"

namespace weft::rt {
namespace {

using side = poll_desc::side;

constexpr std::size_t kSlab = 64, kSlabs = 1 << 15;  // for 2 M files
constexpr std::uint32_t kEdges = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;

// Of the descriptors that there are; never destroyed.
struct desc_pool {
  core_lock lock;
  poll_desc* free WEFT_GUARDED_BY(lock) = nullptr;
  std::uint32_t made WEFT_GUARDED_BY(lock) = 0;
  std::array<std::atomic<poll_desc*>, kSlabs> slabs{};
};
auto& pool = *new desc_pool;

// False: no memory. Straight from the kernel, as all that is allocated under a lock of the runtime's.
bool make_more() WEFT_REQUIRES(pool.lock) {
  if (pool.made / kSlab == kSlabs) return false;
  poll_desc* slab;
  try {
    slab = page_allocator<poll_desc>().allocate(kSlab);
  } catch (const std::bad_alloc&) {
    return false;
  }
  for (std::size_t i = kSlab; i-- > 0;) {
    auto* const d = new (&slab[i]) poll_desc(pool.made + static_cast<std::uint32_t>(i));
    d->next_free = pool.free;
    pool.free = d;
  }
  pool.slabs[pool.made / kSlab].store(slab, std::memory_order_release);
  pool.made += kSlab;
  return true;
}

poll_desc* get_desc() {
  lock_guard hold(pool.lock);
  if (!pool.free && !make_more()) return nullptr;
  poll_desc* const d = pool.free;
  pool.free = d->next_free;
  return d;
}

void put_desc(poll_desc* d) {
  lock_guard hold(pool.lock);
  d->next_free = pool.free;
  pool.free = d;
}

std::uint32_t descs_made() {
  lock_guard hold(pool.lock);
  return pool.made;
}

poll_desc* desc_numbered(std::uint32_t index) {
  if (index / kSlab >= kSlabs) return nullptr;
  poll_desc* const slab = pool.slabs[index / kSlab].load(std::memory_order_acquire);
  return slab ? &slab[index % kSlab] : nullptr;
}

bool never_runs(const g* gp) { return !gp->foreign && left_behind(gp->run); }

// The next whose turn it is. Those that never run again are no users any more.
waiter* next_turn(poll_desc& d, side& s) WEFT_REQUIRES(d.lock) {
  while (waiter* const w = take_first(s.turns)) {
    if (!never_runs(w->g)) return w;
    --d.users;
  }
  return nullptr;
}

// What is to be woken once the lock is released.
class woken {
 public:
  /// For its turn, or in vain.
  void add_turn(waiter* w) { turns_.add(w); }
  /// For an edge, or in vain. Counted under the descriptor's lock, which the end of a run() takes: so in that run().
  void add_waiting(waiter* w) {
    if (!w->g->foreign) count_poll_wakes(nullptr, 1);
    waiting_.add(w);
  }

  void ready_all(const caller& who) const {
    turns_.ready_all(who);
    waiting_.wake_all([&who](const waiter* w) {
      if (w->g->foreign)
        foreign_rouse(w->g);
      else
        ready(who, w->g);
    });
  }

 private:
  wake_list turns_, waiting_;
};

void note_holder(side& s, const g* gp) {
  s.foreign_holder = gp->foreign;
  s.holder_run = gp->run;
}

// A turn that was taken from a goroutine that had been left behind is nobody's or somebody else's: those of its run()
// never get it again.
bool has_lost_turn(const side& s, const g* gp) {
  return !gp->foreign && (!s.taken || s.foreign_holder || s.holder_run != gp->run);
}

// Returns the next one, which is to be woken.
waiter* pass_turn(poll_desc& d, side& s) WEFT_REQUIRES(d.lock) {
  waiter* const next = next_turn(d, s);
  s.pass_turn(next);
  if (next) note_holder(s, next->g);
  return next;
}

// A holder that never runs again gives way. True: to somebody, who is to be told.
bool let_go_of_dead(poll_desc& d, side& s, woken& wake) WEFT_REQUIRES(d.lock) {
  if (!s.taken || s.foreign_holder || !left_behind(s.holder_run)) return false;
  if (s.give_up()) --d.users;
  waiter* const next = pass_turn(d, s);
  if (next) wake.add_turn(next);
  return next != nullptr;
}

void fail_all(poll_desc& d, side& s, woken& wake) WEFT_REQUIRES(d.lock) {
  let_go_of_dead(d, s, wake);
  if (waiter* const w = s.give_up()) wake.add_waiting(w);
  while (waiter* const w = next_turn(d, s)) wake.add_turn(w);
}

int why_not(const poll_desc& d, const side& s) WEFT_REQUIRES(d.lock) {
  if (d.closing) return EBADF;
  return s.deadline != kNever && s.deadline <= nanotime() ? ETIMEDOUT : 0;
}

// Wakes who has nothing to wait for any more.
void look_at_times(poll_desc& d, std::int64_t now, woken& wake) WEFT_REQUIRES(d.lock) {
  for (side& s : d.sides) {
    if (s.deadline <= now) fail_all(d, s, wake);
    if (s.pause > now) continue;
    s.pause = kNever;
    let_go_of_dead(d, s, wake);
    if (waiter* const w = s.edge()) wake.add_waiting(w);
  }
}

// For what is yet to come.
void set_timer(poll_desc& d, std::int64_t now) WEFT_REQUIRES(d.lock) {
  std::int64_t next = kNever;
  for (const side& s : d.sides)
    for (const std::int64_t when : {s.deadline, s.pause})
      if (when > now) next = std::min(next, when);
  if (next == kNever)
    disarm(d.timer);
  else if (!move_timer(d.timer, next))
    arm(any_caller(), d.timer, next);
}

void fire(void* argument) {
  auto& d = *static_cast<poll_desc*>(argument);
  woken wake;
  {
    lock_guard hold(d.lock);
    const std::int64_t now = nanotime();
    look_at_times(d, now, wake);
    set_timer(d, now);
  }
  wake.ready_all(any_caller());
}

// The last user of a closed descriptor closes the file, as a user. -1: not yet.
int take_file(poll_desc& d) WEFT_REQUIRES(d.lock) {
  if (!d.closing || d.users != 0 || d.fd < 0) return -1;
  ++d.users;
  return std::exchange(d.fd, -1);
}

void reset(poll_desc& d) WEFT_REQUIRES(d.lock) {
  ++d.use;
  d.closing = false;
  for (side& s : d.sides) {
    s.taken = s.ready = s.drained = false;
    s.deadline = s.pause = kNever;
  }
}

bool recycle(poll_desc& d) WEFT_REQUIRES(d.lock) {
  if (d.owned || d.users != 0 || d.fd >= 0) return false;
  reset(d);
  return true;
}

int share_in(std::uint64_t place) { return static_cast<int>(place & UINT32_MAX); }

// Outside of the runtime: close(2) may block.
void close_file(poll_desc& d, int fd) {
  const std::uint64_t place = d.place.exchange(0, std::memory_order_relaxed);
  if (d.registered.exchange(0, std::memory_order_relaxed) == netpoll.generation()) netpoll.remove(fd, share_in(place));
  blocking([fd] { return ::close(fd); });
  const entry who(kNoPark);
  bool done;
  {
    lock_guard hold(d.lock);
    --d.users;
    done = recycle(d);
  }
  if (done) put_desc(&d);
}

void close_and_perhaps_drop(poll_desc* d, bool drop) {
  int fd = -1;
  bool done = false;
  {
    const entry who(kNoPark);
    woken wake;
    {
      lock_guard hold(d->lock);
      if (drop) d->owned = false;
      if (!d->closing) {
        d->closing = true;
        for (side& s : d->sides) fail_all(*d, s, wake);
        disarm(d->timer);
      }
      fd = take_file(*d);
      done = recycle(*d);
    }
    wake.ready_all(who);
  }
  if (fd >= 0) close_file(*d, fd);
  if (done) put_desc(d);
}

// The two directions may be registered at once, by goroutines of two nodes: where is decided by the first.
int agree_on_share(poll_desc& d, std::uint32_t generation, int wanted) {
  std::uint64_t agreed = d.place.load(std::memory_order_relaxed);
  const std::uint64_t mine = std::uint64_t{generation} << 32 | static_cast<std::uint32_t>(wanted);
  while (agreed >> 32 != generation)
    if (d.place.compare_exchange_weak(agreed, mine, std::memory_order_relaxed)) return wanted;
  return share_in(agreed);
}

// By a user. 0, or why it cannot be waited for.
int register_once(poll_desc& d, int fd, std::uint64_t tag, int node) {
  if (const std::uint32_t done = d.registered.load(std::memory_order_relaxed);
      done != 0 && done == netpoll.generation())
    return 0;
  if (const int why = netpoll.open()) return why;
  const std::uint32_t now = netpoll.generation();
  const int why = netpoll.add(fd, tag, kEdges, agree_on_share(d, now, netpoll.share_of(node)));
  if (why != 0 && why != EEXIST) return why;  // the other direction was faster
  d.registered.store(now, std::memory_order_relaxed);
  return 0;
}

// Under the heap's lock, where nothing may be locked: the times are looked at when it is released.
expiry expire(heap_timer& t) { return {nullptr, fire, static_cast<poll_desc::deadline_timer&>(t).desc}; }

}  // namespace
}  // namespace weft::rt

weft::detail::poll_desc::deadline_timer::deadline_timer(poll_desc* of) : heap_timer(rt::expire), desc(of) {
  end = rt::at_end::goes_on;
}

namespace weft::rt {

poll_desc* adopt_fd(int fd, short_read kind) {
  poll_desc* d;
  {
    const entry who(kNoPark);
    d = get_desc();
    if (d) {
      lock_guard hold(d->lock);
      d->fd = fd;
      d->owned = true;
      d->may_drain = kind == short_read::is_all;
    }
  }
  if (!d) ::close(fd);
  return d;
}

void close_desc(poll_desc* d) { close_and_perhaps_drop(d, false); }
void drop_desc(poll_desc* d) { close_and_perhaps_drop(d, true); }

void set_deadlines(poll_desc* d, bool read, bool write, std::int64_t when) {
  const entry who(kNoPark);
  woken wake;
  {
    lock_guard hold(d->lock);
    if (d->closing) return;
    if (read) d->at(direction::read).deadline = when;
    if (write) d->at(direction::write).deadline = when;
    const std::int64_t now = nanotime();
    look_at_times(*d, now, wake);
    set_timer(*d, now);
    for (side& s : d->sides)
      if (s.waiting && s.waiting->g->foreign) foreign_look(s.waiting->g);
  }
  wake.ready_all(who);
}

void free_turns_left_behind() {
  for (std::uint32_t i = 0, n = descs_made(); i < n; ++i) {
    poll_desc& d = *desc_numbered(i);
    woken wake;
    {
      lock_guard hold(d.lock);
      for (side& s : d.sides) let_go_of_dead(d, s, wake);
    }
    wake.ready_all(any_caller());
  }
}

void take_news(std::uint64_t tag, poll_news news, harvest& out) {
  poll_desc* const d = desc_numbered(static_cast<std::uint32_t>(tag));
  if (!d) return;
  woken wake;
  std::array<waiter*, 2> gone{};
  {
    lock_guard hold(d->lock);
    if (d->use != static_cast<std::uint32_t>(tag >> 32)) return;
    if (news.last) d->may_drain = false;
    for (std::size_t i = 0; i < gone.size(); ++i) {
      if (!(i == 0 ? news.readable : news.writable)) continue;
      let_go_of_dead(*d, d->sides[i], wake);
      gone[i] = d->sides[i].edge();
    }
  }
  for (const waiter* w : gone) {
    if (!w) continue;
    if (w->g->foreign)
      foreign_rouse(w->g);
    else
      out.add(w->g);
  }
  wake.ready_all(any_caller());
}

// -- Operations -------------------------------------------------------------------------------------------------------

namespace {

constexpr int kAgain = -1;
constexpr int kNoFile = -1;  // poll(2) leaves it out

// As park(), by a thread that is no M: in poll(2). Not analysed, as park().
void foreign_park_in_poll(poll_desc& d, direction way, int fd, waiter& self,
                          std::int64_t until) WEFT_NO_THREAD_SAFETY_ANALYSIS {
  d.lock.unlock();
  const short events = way == direction::read ? POLLIN | POLLRDHUP : POLLOUT;
  const foreign_event what = foreign_poll(self.g, fd, events, until);
  if (what == foreign_event::told) return;
  side& s = d.at(way);
  d.lock.lock();
  const bool first = s.waiting == &self;
  if (first && what == foreign_event::ready)
    s.edge();
  else if (first)
    s.give_up();
  d.lock.unlock();
  if (!first) foreign_await_word(self.g);  // whoever took us out is about to tell
}

}  // namespace

poll_use::poll_use(poll_desc* d, std::error_code& error) {
  error = system_code(EBADF);
  if (!d) return;
  const entry who(kNoPark);
  lock_guard hold(d->lock);
  if (d->closing) return;
  error.clear();
  ++d->users;
  fd_ = d->fd;
  d_ = d;
}

poll_use::~poll_use() {
  if (!d_) return;
  int file;
  {
    const entry who(kNoPark);
    lock_guard hold(d_->lock);
    --d_->users;
    file = take_file(*d_);
  }
  if (file >= 0) close_file(*d_, file);
}

poll_operation::poll_operation(poll_desc* d, direction way, std::error_code& error) : d_(d), way_(way), error_(error) {
  error_.clear();
  if (!d_) {
    error_ = system_code(EBADF);
    return;
  }
  entry who;
  waiter self;
  self.g = who.gp;
  int why = kAgain;
  for (bool first = true; why == kAgain; first = false) why = take_turn(who, self, first);
  if (why != 0) fail(why);
}

// Not analysed: after park() the lock is released by who runs then.
int poll_operation::take_turn(caller& who, waiter& self, bool first) WEFT_NO_THREAD_SAFETY_ANALYSIS {
  d_->lock.lock();
  side& s = d_->at(way_);
  const int why = why_not(*d_, s);
  if (why != 0) {
    if (!first) --d_->users;
    file_ = take_file(*d_);
    d_->lock.unlock();
    if (file_ < 0) d_ = nullptr;
    return why;
  }
  if (first) ++d_->users;
  if (woken wake; let_go_of_dead(*d_, s, wake)) {
    // Before this one waits behind it.
    d_->lock.unlock();
    wake.ready_all(who);
    return kAgain;
  }
  if (s.take_turn(&self)) {
    note_holder(s, who.gp);
  } else {
    park(who, d_->lock, wait_reason::semaphore_acquire);
    if (!self.success) return kAgain;
    d_->lock.lock();
  }
  has_turn_ = true;
  fd_ = d_->fd;
  tag_ = std::uint64_t{d_->use} << 32 | d_->index;
  next_ = s.may_look() ? step::look : step::wait;
  d_->lock.unlock();
  return 0;
}

void poll_operation::end() {
  poll_desc& d = *std::exchange(d_, nullptr);
  if (has_turn_) {
    const entry who(kNoPark);
    waiter* next = nullptr;
    {
      lock_guard hold(d.lock);
      side& s = d.at(way_);
      if (!has_lost_turn(s, who.gp)) {
        if (drained_ && d.may_drain) s.drained = true;
        next = pass_turn(d, s);
      }
      --d.users;
      file_ = take_file(d);
    }
    if (next) ready(who, next->g);
  }
  if (file_ >= 0) close_file(d, file_);
}

bool poll_operation::fail(int why) {
  error_ = system_code(why);
  next_ = step::stop;
  return false;
}

bool poll_operation::try_again() {
  const step now = std::exchange(next_, step::stop);
  return now == step::wait ? wait() : now == step::look;
}

bool poll_operation::wait() {
  entry who;
  if (who.mp)
    if (const int why = register_once(*d_, fd_, tag_, who.gp->home)) return fail(why);
  const std::int64_t until = std::exchange(pause_, kNever);
  int why = kAgain;
  while (why == kAgain) {
    waiter self;
    self.g = who.gp;
    why = wait_for_edge(who, self, until);
  }
  return why == 0 || fail(why);
}

// 0: the holder may look. Not analysed, as take_turn().
int poll_operation::wait_for_edge(caller& who, waiter& self, std::int64_t until) WEFT_NO_THREAD_SAFETY_ANALYSIS {
  d_->lock.lock();
  side& s = d_->at(way_);
  if (has_lost_turn(s, who.gp)) {
    park(who, d_->lock, wait_reason::io_wait);  // its run() is over: for ever
    return kAgain;
  }
  const int why = why_not(*d_, s);
  const bool paused = until != kNever && nanotime() < until;
  if (why != 0 || (until != kNever && !paused) || !s.must_wait(&self)) {
    if (why == 0) s.drained = !s.may_look();
    d_->lock.unlock();
    return why;
  }
  if (paused) {
    s.pause = until;
    set_timer(*d_, nanotime());
  }
  if (who.mp) {
    count_poll_wait(who.mp->held);
    park(who, d_->lock, wait_reason::io_wait);
  } else {
    // In a pause the file may well be ready: only its end, close() and deadlines count.
    foreign_park_in_poll(*d_, way_, paused ? kNoFile : fd_, self, std::min(s.deadline, until));
  }
  return self.success ? 0 : kAgain;
}

}  // namespace weft::rt
