// SPDX-License-Identifier: Apache-2.0
// Who traces from outside asks for it (export.h), finds the file by the descriptor that it is told, and holds a shared
// lock on it for as long as it likes: several may. The template thread tries to lock it alone, round by round, once a
// second at least; when it gets the lock nobody traces any more. So a tracer that was killed is noticed, and one that
// has gone leaves nothing behind.
//
// When tracing ends the rings stay mapped, since their Ps may be about to write, but their pages go. The file lasts as
// long as the run(); a ring is unmapped when its P is deleted, by whoever has it last.
#include "runtime/trace_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "runtime/clock.h"
#include "runtime/proc.h"

namespace weft::rt {
namespace {

constexpr std::size_t kCapacity = std::size_t{1} << 16;  // 1.5 MB: read in time if that is done 10 times a second
constexpr std::int64_t kGraceNs = 2'000'000'000;         // from the answer until the asker has its lock
constexpr std::uint64_t kMeasured = 1'000'000;           // ticks in so many ns tell the clock's rate

// The template thread's, but before it starts and after it has ended.
struct trace_file {
  int fd = -1;
  trace_header* header = nullptr;
  bool on = false, always = false;
  std::int64_t asked_at = 0;
};
auto& file = *new trace_file;
std::atomic<std::uint64_t> event_ticks{1};

void set_rate(std::uint64_t events_per_second) {
  const std::uint64_t ns = ticks_to_ns(kMeasured);
  event_ticks.store(kMeasured * (1'000'000'000 / events_per_second) / std::max<std::uint64_t>(ns, 1),
                    std::memory_order_relaxed);
}

void describe(trace_header& header, std::size_t capacity) {
  header.pid = getpid();
  header.capacity = capacity;
  header.start_ticks = cputicks();
  header.start_ns = nanotime();
  std::FILE* const comm = std::fopen("/proc/self/comm", "re");
  if (!comm) return;
  const std::size_t n = std::fread(header.program.data(), 1, header.program.size() - 1, comm);
  std::fclose(comm);
  if (n != 0) header.program[n - 1] = '\0';  // the end of the line
}

// An error number, or 0.
int open_file(std::size_t capacity) {
  if (file.header) return 0;
  const int fd = memfd_create(kTraceName, MFD_CLOEXEC);
  if (fd < 0) return errno;
  void* const at = fchmod(fd, 0600) == 0 && ftruncate(fd, kTracePage) == 0
                       ? mmap(nullptr, kTracePage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                       : MAP_FAILED;
  if (at == MAP_FAILED) {
    const int failed = errno;
    close(fd);
    return failed;
  }
  file.fd = fd;
  file.header = ::new (at) trace_header;
  describe(*file.header, capacity);
  return 0;
}

// Its pages are there before the P needs them.
bool map_ring(p* pp) {
  if (pp->lane.mapped) return true;
  const std::size_t capacity = file.header->capacity, bytes = trace_ring::bytes(capacity);
  const std::size_t offset = trace_ring::offset(static_cast<std::size_t>(pp->id), capacity);
  if (ftruncate(file.fd, static_cast<off_t>(offset + bytes)) != 0) return false;
  void* const at =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file.fd, static_cast<off_t>(offset));
  if (at == MAP_FAILED) return false;
  pp->lane.mapped = ::new (at) trace_ring(pp->id, pp->home->id, pp->c->id, capacity);
  pp->lane.mapped_bytes = bytes;
  file.header->rings.store(static_cast<std::uint32_t>(pp->id) + 1, std::memory_order_release);
  return true;
}

// The P's M is to come through the scheduler, to see it.
void wish(p* pp, trace_ring* ring) {
  if (ring) ring->await_writer();
  pp->lane.wanted.store(ring, std::memory_order_release);
  pp->preempt.store(true, std::memory_order_relaxed);
}

// False: there is no memory for one of them.
bool give_rings() {
  for (int i = 0, n = sched.nps.load(std::memory_order_acquire); i < n; ++i) {
    p* const pp = p_at(i);
    if (pp->lane.wanted.load(std::memory_order_relaxed)) continue;
    if (!map_ring(pp)) return false;
    wish(pp, pp->lane.mapped);
  }
  return true;
}

void stop_wishing() {
  for (int i = 0, n = sched.nps.load(std::memory_order_acquire); i < n; ++i) {
    p* const pp = p_at(i);
    if (!pp->lane.wanted.load(std::memory_order_relaxed)) continue;
    wish(pp, nullptr);
    madvise(pp->lane.mapped->events(), pp->lane.mapped_bytes - kTracePage, MADV_REMOVE);
  }
}

bool somebody_traces() {
  if (nanotime() - file.asked_at < kGraceNs) return true;
  if (flock(file.fd, LOCK_EX | LOCK_NB) != 0) return true;
  flock(file.fd, LOCK_UN);
  return false;
}

}  // namespace

int start_tracing() {
  if (const int failed = open_file(kCapacity)) return -failed;
  if (!file.always) set_rate(kMostTraceRate);
  file.on = true;
  file.asked_at = nanotime();
  return give_rings() ? file.fd : -ENOMEM;
}

void look_at_tracing() {
  if (!file.on) return;
  give_rings();
  if (file.always || somebody_traces()) return;
  file.on = false;
  stop_wishing();
}

bool trace_always(std::uint64_t rate, std::size_t capacity) {
  if (open_file(capacity) != 0) return false;
  set_rate(rate);
  file.on = file.always = true;
  return give_rings();
}

void stop_tracing() {
  if (!file.header) return;
  file.header->over.store(1, std::memory_order_release);
  munmap(file.header, kTracePage);
  close(file.fd);
  file = {};
}

std::uint64_t ticks_of_an_event() { return event_ticks.load(std::memory_order_relaxed); }

void unmap_ring(trace_ring* ring, std::size_t bytes) { munmap(ring, bytes); }

const trace_header* traced() { return file.header; }

std::vector<const trace_ring*> traced_rings() {
  std::vector<const trace_ring*> rings;
  for (int i = 0, n = sched.nps.load(std::memory_order_acquire); i < n; ++i)
    if (const trace_ring* const ring = p_at(i)->lane.mapped) rings.push_back(ring);
  return rings;
}

}  // namespace weft::rt
