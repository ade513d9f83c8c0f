// SPDX-License-Identifier: Apache-2.0
#include "runtime/file_ring.h"

#include <dirent.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <string_view>
#include <utility>

#include "runtime/park.h"

namespace weft::rt {
namespace {

constexpr unsigned kEntries = 256;  // what is in the kernel at a time: requests, and the eventfd
constexpr std::size_t kMostAtOnce = 1 << 30;
constexpr long kRetryNs = 1'000'000;  // after the kernel had no memory

using stage = ring_request::stage;

class request_list {
 public:
  bool empty() const { return !first_; }
  ring_request* first() const { return first_; }
  void push_back(ring_request& r) { insert(r, last_, nullptr); }
  void push_front(ring_request& r) { insert(r, nullptr, first_); }
  void remove(ring_request& r) {
    (r.previous ? r.previous->next : first_) = r.next;
    (r.next ? r.next->previous : last_) = r.previous;
  }

 private:
  void insert(ring_request& r, ring_request* before, ring_request* after) {
    r.previous = before;
    r.next = after;
    (before ? before->next : first_) = &r;
    (after ? after->previous : last_) = &r;
  }
  ring_request *first_ = nullptr, *last_ = nullptr;
};

struct ring_state {
  core_lock lock;
  request_list queued WEFT_GUARDED_BY(lock);
  bool refused WEFT_GUARDED_BY(lock) = false;  // for this run()
  int event = -1;                              // an eventfd; written before `running`
  std::atomic<bool> wanted{false}, running{false}, stop{false};
  std::atomic<int> tid{0};
  std::atomic<std::uint64_t> calls{0};
  pthread_t thread{};
  bool has_thread = false;  // to be joined
};
auto& state = *new ring_state;

void wake_ring() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(state.event, &one, sizeof one);
}

void wake_with(ring_request& r, long result) {
  r.result = result;
  ready(r.waiting);  // and its stack is its own again
  if (sched.busy.settle()) check_dead();
}

ring_request* take_queued(stage to) {
  lock_guard hold(state.lock);
  ring_request* const r = state.queued.first();
  if (!r) return nullptr;
  state.queued.remove(*r);
  r->at_stage = to;
  return r;
}

void drop_queued() {
  while (take_queued(stage::none)) {
  }
}

void refuse() {
  {
    lock_guard hold(state.lock);
    state.refused = true;
  }
  state.running.store(false, std::memory_order_release);
  while (ring_request* const r = take_queued(stage::none)) wake_with(*r, kNoRing);
}

void prepare(io_uring_sqe& sqe, ring_request& r) {
  const auto size = static_cast<unsigned>(std::min(r.size, kMostAtOnce));
  switch (r.what) {
    case ring_call::read: io_uring_prep_read(&sqe, r.fd, r.at, size, r.offset); break;
    case ring_call::write: io_uring_prep_write(&sqe, r.fd, r.at, size, r.offset); break;
    case ring_call::sync: io_uring_prep_fsync(&sqe, r.fd, 0); break;
    case ring_call::cancel: io_uring_prep_cancel(&sqe, r.at, 0); break;
  }
  io_uring_sqe_set_data(&sqe, &r);
}

class kernel_ring {
 public:
  // Calls it once: a filter may allow io_uring_setup(2) and refuse io_uring_enter(2).
  kernel_ring() {
    if (io_uring_queue_init(kEntries, &ring_, 0) != 0) return;
    open_ = true;
    io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_nop(sqe);
    io_uring_cqe* cqe = nullptr;
    good_ = io_uring_submit_and_wait(&ring_, 1) == 1 && io_uring_peek_cqe(&ring_, &cqe) == 0;
    if (good_) io_uring_cqe_seen(&ring_, cqe);
  }
  ~kernel_ring() {
    if (open_) io_uring_queue_exit(&ring_);
  }
  kernel_ring(const kernel_ring&) = delete;
  kernel_ring& operator=(const kernel_ring&) = delete;

  bool good() const { return good_; }
  bool empty() const { return in_kernel_.empty(); }

  void watch_event() {
    if (watching_) return;
    io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
    if (!sqe) return;  // the kernel has not taken what is there yet
    io_uring_prep_poll_add(sqe, state.event, POLLIN);
    io_uring_sqe_set_data(sqe, nullptr);
    watching_ = true;
  }

  void take_requests() {
    for (unsigned room = std::min(io_uring_sq_space_left(&ring_), kEntries - 1 - in_flight_); room > 0; --room) {
      ring_request* const r = take_queued(stage::kernel);
      if (!r) return;
      in_kernel_.push_back(*r);
      ++in_flight_;
      prepare(*io_uring_get_sqe(&ring_), *r);
      state.calls.fetch_add(1, std::memory_order_relaxed);
    }
  }

  // What the kernel can leave, it does. Its answers to these requests are of no interest.
  void cancel_all() {
    for (ring_request* r = in_kernel_.first(); r; r = r->next) {
      if (io_uring_sq_space_left(&ring_) == 0) io_uring_submit(&ring_);
      io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
      if (!sqe) return;
      io_uring_prep_cancel(sqe, r, 0);
      io_uring_sqe_set_data(sqe, &ignored);
    }
  }

  void wait() {
    const int submitted = io_uring_submit_and_wait(&ring_, 1);
    if (submitted < 0 && submitted != -EINTR) {
      const timespec pause{0, kRetryNs};
      nanosleep(&pause, nullptr);
    }
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
      void* const data = io_uring_cqe_get_data(cqe);
      const long result = cqe->res;
      io_uring_cqe_seen(&ring_, cqe);
      if (data && data != &ignored)
        complete(*static_cast<ring_request*>(data), result);
      else if (!data)
        take_event();
    }
  }

 private:
  void complete(ring_request& r, long result) {
    in_kernel_.remove(r);
    --in_flight_;
    {
      lock_guard hold(state.lock);
      r.at_stage = stage::none;
    }
    wake_with(r, result);
  }

  void take_event() {
    watching_ = false;
    std::uint64_t count;
    [[maybe_unused]] const ssize_t got = read(state.event, &count, sizeof count);
  }

  inline static char ignored;

  io_uring ring_;
  bool open_ = false, good_ = false;
  bool watching_ = false;
  unsigned in_flight_ = 0;
  request_list in_kernel_;
};

void* ring_main(void*) {
  prctl(PR_SET_NAME, "weft-files");
  state.tid.store(gettid(), std::memory_order_release);
  kernel_ring ring;
  if (!ring.good()) {
    refuse();
    return nullptr;
  }
  for (bool stopping = false;;) {
    const bool stop = state.stop.load(std::memory_order_acquire);
    if (stop) drop_queued();
    if (stop && ring.empty()) return nullptr;
    if (stop && !std::exchange(stopping, true)) ring.cancel_all();
    ring.watch_event();
    ring.take_requests();
    ring.wait();
  }
}

// Takes no memory: this is asked inside the scheduler.
bool is_worker_of(int tid, int tasks, const char* task) {
  std::array<char, 272> path;
  std::array<char, 32> theirs, name;
  std::snprintf(path.data(), path.size(), "%s/comm", task);
  std::snprintf(theirs.data(), theirs.size(), "iou-wrk-%d\n", tid);
  const int file = openat(tasks, path.data(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  const ssize_t size = read(file, name.data(), name.size());
  close(file);
  return size > 0 && std::string_view(name.data(), static_cast<std::size_t>(size)) == theirs.data();
}

// Afterwards somebody will look at the queue. Under the lock.
void wake_for_first(bool was_empty) {
  if (!state.running.load(std::memory_order_acquire)) {
    if (!state.wanted.exchange(true, std::memory_order_acq_rel)) wake_template_thread();
  } else if (was_empty) {
    wake_ring();
  }
}

// Not analysed: after park() the lock is released by who runs then.
long call(caller& who, ring_request& r) WEFT_NO_THREAD_SAFETY_ANALYSIS {
  state.lock.lock();
  // The end of the run() came before this lock, and nobody looks at the queue any more, or looks for those of the next.
  if (left_behind(who.mp->run)) park(who, state.lock, wait_reason::io_wait);  // for ever
  if (state.refused || r.cancelled) {
    const long result = r.cancelled ? -ECANCELED : kNoRing;
    state.lock.unlock();
    return result;
  }
  r.waiting = who.gp;
  r.at_stage = stage::queued;
  const bool was_empty = state.queued.empty();
  if (r.what == ring_call::cancel)
    state.queued.push_front(r);  // the queue may be long
  else
    state.queued.push_back(r);
  sched.busy.begin();
  wake_for_first(was_empty);
  park(who, state.lock, wait_reason::io_wait);
  return r.result;
}

}  // namespace

long call_by_ring(ring_request& r) {
  if (!sched.debug.file_ring) return kNoRing;
  entry who;
  return who.mp ? call(who, r) : kNoRing;
}

void cancel_ring_call(ring_request& r) {
  stage at;
  {
    const entered_lock hold(state.lock);
    r.cancelled = true;
    at = r.at_stage;
    if (at == stage::queued) {
      state.queued.remove(r);
      r.at_stage = stage::none;
    }
  }
  if (at == stage::queued) {
    const entry who(kNoPark);
    wake_with(r, -ECANCELED);
  } else if (at == stage::kernel) {
    ring_request cancel{.what = ring_call::cancel, .at = &r};
    call_by_ring(cancel);
  }
}

// What has been queued before it runs is found when it begins.
void start_wanted_file_ring() {
  if (!state.wanted.load(std::memory_order_acquire) || state.has_thread) return;
  state.stop.store(false, std::memory_order_relaxed);
  state.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  state.running.store(state.event >= 0, std::memory_order_release);  // before its first look at the queue
  state.has_thread = state.event >= 0 && create_thread(state.thread, nullptr, ring_main, nullptr) == 0;
  if (!state.has_thread) refuse();
}

void stop_file_ring() {
  if (state.has_thread) {
    state.stop.store(true, std::memory_order_release);
    wake_ring();
    pthread_join(state.thread, nullptr);
    state.has_thread = false;
  }
  lock_guard hold(state.lock);  // who comes after this sees that its run() is over
  state.queued = {};
  if (state.event >= 0) close(std::exchange(state.event, -1));
  state.tid.store(0, std::memory_order_relaxed);
  state.running.store(false, std::memory_order_relaxed);
  state.wanted.store(false, std::memory_order_relaxed);
  state.refused = false;
}

// The kernel's bear the name of who has made the ring, and are listed among the process's.
int threads_of_file_ring() {
  const int tid = state.tid.load(std::memory_order_acquire);
  if (tid == 0 || !state.running.load(std::memory_order_acquire)) return 0;
  const int tasks = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (tasks < 0) return 0;
  int n = 1;
  alignas(dirent64) std::array<char, 1024> list;
  for (ssize_t size; (size = getdents64(tasks, list.data(), list.size())) > 0;)
    for (ssize_t at = 0; at < size;) {
      const auto* const task = reinterpret_cast<const dirent64*>(list.data() + at);
      n += is_worker_of(tid, tasks, task->d_name) ? 1 : 0;
      at += task->d_reclen;
    }
  close(tasks);
  return n;
}

std::uint64_t calls_by_ring() { return state.calls.load(std::memory_order_relaxed); }

}  // namespace weft::rt
