// SPDX-License-Identifier: Apache-2.0
// The ring of events that a P has while somebody traces, and the file that the rings are in.
//
// The file is a memfd, as that of export.h: a page about the whole, then one ring after the other, that of P 0 first.
// This process maps each ring for its P, whoever traces maps the file; who has ended leaves the other its mapping.
//
// The ring's protocol. One writer, the holder of the P; readers in any process, as many as like, who write nothing.
//   Writer: 1. a release fence; 2. event number n into its place, n modulo the capacity, word by word;
//           3. written = n + 1 (release)
//   Reader: 1. end = written (acquire); 2. copies the events before end; 3. an acquire fence; 4. now = written
// By the two fences, who has copied a word of event n reads now >= n. So of what was copied, event n is whole if
// n + capacity > now: the one that takes its place has not been begun. What is older is lost, and its number is known.
// Nobody waits for anybody: the writer overwrites what nobody has read.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::rt {

constexpr std::uint32_t kTraceVersion = 1;  // of the file, the events, and recordings on disk
constexpr const char* kTraceName = "weft-trace";
constexpr std::size_t kTracePage = 4096;
constexpr std::array<char, 8> kTraceMagic{'w', 'e', 'f', 't', 't', 'r', 'c', '\n'};
constexpr std::size_t kMostTraceEvents = std::size_t{1} << 20;  // of a ring

/// What has happened. The subject is a goroutine's number unless said otherwise.
enum class trace_kind : std::uint8_t {
  run,     ///< it runs from here on, 0: none does; detail: why the one before has stopped (trace_stop)
  ready,   ///< it was made runnable here; detail: a ready_cause
  call,    ///< the one that runs goes into an announced call; no subject
  back,    ///< and is back; no subject
  take,    ///< the P is taken from its M; detail: a loss; number: the system call, kNoCall: in none, or not known
  idle,    ///< the P has nothing to do; no subject
  thread,  ///< number: the thread that has the P from here on; no subject
  steal,   ///< other: the P that it was taken from; detail: a steal_distance, kRobbed added if it was to run next there
  off_cpu,  ///< other: how often the kernel has given the M's CPU to somebody else since the event before; number: how
            ///< long (ns) the last time, 0: not known; subject: CLOCK_MONOTONIC of its beginning
  pause,    ///< nothing is recorded from here on; no subject
  resume    ///< events are recorded from here on; no goroutine runs at this moment; no subject
};

constexpr std::uint32_t kNoCall = UINT32_MAX;
constexpr std::uint8_t kRobbed = 0x80;

/// Why a goroutine has stopped: one of these, or that it waits, kWaits + its wait_reason.
enum trace_stop : std::uint8_t { kNoneRan, kYielded, kPreempted, kEnded, kWaits = 16 };

struct trace_entry {
  std::uint64_t ticks = 0;  // cputicks()
  std::uint64_t subject = 0;
  trace_kind what{};
  std::uint8_t detail = 0;
  std::uint16_t other = 0;
  std::uint32_t number = 0;
};
static_assert(sizeof(trace_entry) == 24);

/// The file's first page. `start` is one moment on both clocks, so that whoever reads later can tell ticks in ns.
struct trace_header {
  std::array<char, 8> magic = kTraceMagic;
  std::uint32_t version = kTraceVersion;
  std::int32_t pid = 0;
  std::uint64_t capacity = 0;
  std::uint64_t start_ticks = 0;
  std::int64_t start_ns = 0;
  std::array<char, 16> program{};
  std::atomic<std::uint32_t> rings{0};  // that there are
  std::atomic<std::uint32_t> over{0};   // the run() has ended
};
static_assert(sizeof(trace_header) <= kTracePage);

class alignas(kTracePage) trace_ring {
 public:
  trace_ring(int p, int node, int cpu, std::size_t capacity) : capacity_(capacity), p_(p), node_(node), cpu_(cpu) {}

  /// The bytes of a ring, and where that of P number p begins in the file.
  static constexpr std::size_t bytes(std::size_t capacity) {
    return kTracePage + (capacity * sizeof(trace_entry) + kTracePage - 1) / kTracePage * kTracePage;
  }
  static constexpr std::size_t offset(std::size_t p, std::size_t capacity) { return kTracePage + p * bytes(capacity); }

  int p() const { return p_; }
  int node() const { return node_; }
  int cpu() const { return cpu_; }

  /// By the holder of the P.
  void write(const trace_entry& event) {
    const std::uint64_t n = written_.load(std::memory_order_relaxed);
    const words from = std::bit_cast<words>(event);
    std::atomic<std::uint64_t>* const to = place(n & (capacity_ - 1));
    std::atomic_thread_fence(std::memory_order_release);
    for (std::size_t i = 0; i < from.size(); ++i) to[i].store(from[i], std::memory_order_relaxed);
    written_.store(n + 1, std::memory_order_release);
  }

  /// The P is to begin; it has begun. A P that computes for long has to be made to (sysmon.cpp).
  void await_writer() { awaited_.store(true, std::memory_order_relaxed); }
  void writer_has_come() { awaited_.store(false, std::memory_order_relaxed); }
  bool awaits_writer() const { return awaited_.load(std::memory_order_relaxed); }

  std::uint64_t written() const { return written_.load(std::memory_order_acquire); }

  /// Adds the events from number `next` on to `to`, and sets `next` to the first that is still to come. Returns how
  /// many of them were lost: they are the first. The capacity is the reader's own: it may not trust what it maps.
  std::uint64_t read(std::uint64_t& next, std::size_t capacity, std::vector<trace_entry>& to) const {
    const std::uint64_t end = written(), asked = next, before = to.size();
    const std::uint64_t first = std::max(asked, end > capacity ? end - capacity : 0);
    for (std::uint64_t n = first; n < end; ++n) to.push_back(copy(n & (capacity - 1)));
    std::atomic_thread_fence(std::memory_order_acquire);
    const std::uint64_t now = written_.load(std::memory_order_relaxed);
    const std::uint64_t whole = std::clamp(now >= capacity ? now - capacity + 1 : 0, first, std::max(first, end));
    const auto begin = to.begin() + static_cast<std::ptrdiff_t>(before);
    to.erase(begin, begin + static_cast<std::ptrdiff_t>(whole - first));
    next = std::max(asked, end);
    return whole - asked;
  }

  /// What begins behind the ring's first page.
  void* events() { return this + 1; }

 private:
  using words = std::array<std::uint64_t, sizeof(trace_entry) / sizeof(std::uint64_t)>;

  std::atomic<std::uint64_t>* place(std::uint64_t index) {
    return reinterpret_cast<std::atomic<std::uint64_t>*>(this + 1) + index * words().size();
  }
  trace_entry copy(std::uint64_t index) const {
    const auto* const from = reinterpret_cast<const std::atomic<std::uint64_t>*>(this + 1) + index * words().size();
    words to;
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = from[i].load(std::memory_order_relaxed);
    return std::bit_cast<trace_entry>(to);
  }

  std::atomic<std::uint64_t> written_{0};
  const std::uint64_t capacity_;  // a power of two
  const std::int32_t p_, node_, cpu_;
  std::atomic<bool> awaited_{false};
};
static_assert(sizeof(trace_ring) == kTracePage);

}  // namespace weft::rt
