// SPDX-License-Identifier: Apache-2.0
// The local run queue of a P. Go: runqput, runqget, runqgrab, runqsteal.
//
// Three parts, taken in this order by the owner:
//   runnext   the G readied last; it inherits the time slice of the G that readied it
//   batch     up to kBatch Gs that the owner has claimed from the ring with one CAS
//   ring      Capacity Gs; the owner puts at the tail, everybody takes at the head with a CAS
// Without the batch each get would cost the owner a locked instruction, which is as much as a context switch.
//
// Runnext and batch are the owner's private part. A G in it must not starve while its P runs one long goroutine, so a
// thief that has seen the P make no progress for a while may rob it. The private part is guarded by two flags:
//   owner:  busy = 1; light barrier; thief set?  yes: busy = 0, wait until it is clear, again.   … ; busy = 0
//   thief:  thief 0 -> 1 (CAS; only one); heavy barrier; wait until busy is clear.               … ; thief = 0
// The barriers make sure that at least one of them sees the other, so the two are never inside together; busy and
// thief are released with release stores and read with acquire loads, which orders what they guard. The owner may have
// lost its CPU while busy: the thief looks kPatience times and goes away.
//
// While there is only one P nobody else takes: set_exclusive() lets its owner move the head with a plain store. The
// owner reads that flag inside its busy section, so set_shared() waits for the end of one that began before.
//
// empty() may be called by anyone. It reads the ring before the private part, and get() fills the batch before it
// moves the ring's head, so a G on its way from ring to batch is always seen; a G that put() kicks out of runnext is
// missing for a moment, but its owner is running then and looks for idle Ps afterwards (see wake.h).
#pragma once

#include <array>
#include <cstdint>

#include "runtime/barrier.h"
#include "runtime/cache_line.h"

namespace weft::rt {

template <class G, std::uint32_t Capacity = 256, std::uint32_t Batch = 8, class Policy = hardware>
class run_queue {
 public:
  static constexpr std::uint32_t kCapacity = Capacity, kBatch = Batch, kOverflow = Capacity / 2;

  struct taken {
    G* g;
    bool inherits;  // came from runnext: runs on in the slice of the G before it
  };
  enum class steal_result { none, lost, stolen };

  /// What put() pushed out: the ring was full, so half of it and the new G leave, in order, for the global queue.
  struct overflow {
    std::array<G*, kOverflow + 1> gs;
    std::uint32_t count = 0;
  };

  /// Owner only. Puts g at the tail. False: the ring was full and `spill` holds what must go to the global queue.
  bool put(G* g, overflow& spill) {
    for (;;) {
      const std::uint32_t head = head_.load(std::memory_order_acquire);  // pairs with the takers' CAS
      const std::uint32_t tail = tail_.load(std::memory_order_relaxed);
      if (tail - head < kCapacity) [[likely]] {
        ring_[tail % kCapacity].store(g, std::memory_order_relaxed);
        tail_.store(tail + 1, std::memory_order_release);  // pairs with the thieves' acquire of tail_
        return true;
      }
      if (spill_half(g, head, spill)) return false;
    }
  }

  /// Owner only. Makes g the next to run; returns the one it kicks out, for put(), or null.
  G* put_next(G* g) {
    enter();
    G* kicked = runnext_.load(std::memory_order_relaxed);
    runnext_.store(g, std::memory_order_relaxed);
    leave();
    return kicked;
  }

  /// Owner only. The next G to run, or null.
  taken get() {
    enter();
    if (G* g = runnext_.load(std::memory_order_relaxed)) {
      runnext_.store(nullptr, std::memory_order_release);  // a kick-out before is visible to an empty() that sees this
      leave();
      return {g, true};
    }
    G* g = take_batch();
    leave();
    return {g, false};
  }

  /// The G that get() will probably return next from the batch, for prefetching. Owner only.
  G* peek() const {
    const std::uint32_t next = batch_next_.load(std::memory_order_relaxed);
    return next < batch_end_.load(std::memory_order_relaxed) ? batch_[next].load(std::memory_order_relaxed) : nullptr;
  }

  /// Before anybody else can know this queue: only its owner will take from it.
  void set_exclusive() { exclusive_.store(1, std::memory_order_relaxed); }
  /// Any thread; on return others may take.
  void set_shared() {
    exclusive_.store(0, std::memory_order_relaxed);
    Policy::heavy_barrier();  // pairs with the light barrier in enter()
    while (busy_.load(std::memory_order_acquire) != 0) Policy::relax();
  }

  /// Called by the owner of `to`, whose ring is empty: takes half of this ring; the last one taken is returned in `g`.
  steal_result steal(run_queue& to, G*& g) {
    const std::uint32_t head = head_.load(std::memory_order_acquire);
    const std::uint32_t tail = tail_.load(std::memory_order_acquire);  // pairs with put()'s release
    const std::uint32_t size = tail - head;
    if (size == 0 || size > kCapacity) return size == 0 ? steal_result::none : steal_result::lost;
    const std::uint32_t n = size - size / 2;
    const std::uint32_t at = to.tail_.load(std::memory_order_relaxed);
    for (std::uint32_t i = 0; i < n; ++i)
      to.ring_[(at + i) % kCapacity].store(ring_[(head + i) % kCapacity].load(std::memory_order_relaxed),
                                           std::memory_order_relaxed);
    std::uint32_t expected = head;
    if (!head_.compare_exchange_strong(expected, head + n, std::memory_order_acq_rel, std::memory_order_relaxed))
      return steal_result::lost;
    g = to.ring_[(at + n - 1) % kCapacity].load(std::memory_order_relaxed);
    to.tail_.store(at + n - 1, std::memory_order_release);
    return steal_result::stolen;
  }

  /// Any thread. Takes one G out of the private part of a P that seems stuck: the oldest of the batch, else runnext.
  steal_result rob(G*& g) {
    std::uint32_t nobody = 0;
    if (!thief_.compare_exchange_strong(nobody, 1, std::memory_order_acquire, std::memory_order_relaxed))
      return steal_result::lost;
    Policy::heavy_barrier();  // pairs with the light barrier in enter()
    int patience = kPatience;
    while (busy_.load(std::memory_order_acquire) != 0) {
      if (--patience == 0) {
        thief_.store(0, std::memory_order_release);
        return steal_result::lost;
      }
      Policy::relax();
    }
    const std::uint32_t next = batch_next_.load(std::memory_order_relaxed);
    if (next < batch_end_.load(std::memory_order_relaxed)) {
      g = batch_[next].load(std::memory_order_relaxed);
      batch_next_.store(next + 1, std::memory_order_relaxed);
    } else {
      g = runnext_.load(std::memory_order_relaxed);
      runnext_.store(nullptr, std::memory_order_relaxed);
    }
    thief_.store(0, std::memory_order_release);
    return g ? steal_result::stolen : steal_result::none;
  }

  /// Owner only. Whether there is anything but runnext.
  bool has_queue() const {
    return batch_next_.load(std::memory_order_relaxed) < batch_end_.load(std::memory_order_relaxed) || !ring_empty();
  }

  /// Any thread. A G in the ring, which steal() can take.
  bool ring_empty() const { return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_acquire); }

  /// Any thread. See the head of the file for what it promises.
  bool empty() const {
    for (;;) {
      const std::uint32_t tail = tail_.load(std::memory_order_acquire);
      if (head_.load(std::memory_order_acquire) != tail) return false;
      const bool none = runnext_.load(std::memory_order_acquire) == nullptr &&
                        batch_next_.load(std::memory_order_acquire) >= batch_end_.load(std::memory_order_acquire);
      if (!none) return false;
      if (tail_.load(std::memory_order_acquire) == tail) return true;
    }
  }

  /// Any thread; exact only for the owner.
  std::uint32_t size() const {
    const std::uint32_t next = batch_next_.load(std::memory_order_relaxed);
    const std::uint32_t end = batch_end_.load(std::memory_order_relaxed);
    return tail_.load(std::memory_order_relaxed) - head_.load(std::memory_order_relaxed) +
           (end > next ? end - next : 0) + (runnext_.load(std::memory_order_relaxed) ? 1 : 0);
  }

 private:
  static constexpr int kPatience = 2000;  // looks at busy; an owner that runs is in there for a few nanoseconds

  void enter() {
    for (;;) {
      busy_.store(1, std::memory_order_relaxed);
      Policy::light_barrier();  // pairs with the heavy barrier in rob()
      if (thief_.load(std::memory_order_acquire) == 0) [[likely]]
        return;
      busy_.store(0, std::memory_order_release);
      while (thief_.load(std::memory_order_acquire) != 0) Policy::relax();
    }
  }
  void leave() { busy_.store(0, std::memory_order_release); }

  G* take_batch() {
    const std::uint32_t next = batch_next_.load(std::memory_order_relaxed);
    if (next >= batch_end_.load(std::memory_order_relaxed)) return refill();
    batch_next_.store(next + 1, std::memory_order_relaxed);
    return batch_[next].load(std::memory_order_relaxed);
  }

  // Claims up to kBatch Gs. The batch is written before the CAS moves the head: empty() relies on it.
  G* refill() {
    std::uint32_t head = head_.load(std::memory_order_acquire);
    for (;;) {
      const std::uint32_t size = tail_.load(std::memory_order_relaxed) - head;
      const std::uint32_t n = size < kBatch ? size : kBatch;
      if (n == 0) {
        batch_end_.store(0, std::memory_order_release);
        return nullptr;
      }
      for (std::uint32_t i = 0; i < n; ++i)
        batch_[i].store(ring_[(head + i) % kCapacity].load(std::memory_order_relaxed), std::memory_order_relaxed);
      batch_next_.store(1, std::memory_order_relaxed);
      batch_end_.store(n, std::memory_order_release);
      if (exclusive_.load(std::memory_order_relaxed) != 0) {
        head_.store(head + n, std::memory_order_release);
        return batch_[0].load(std::memory_order_relaxed);
      }
      if (head_.compare_exchange_strong(head, head + n, std::memory_order_acq_rel, std::memory_order_acquire))
        return batch_[0].load(std::memory_order_relaxed);
    }
  }

  bool spill_half(G* g, std::uint32_t head, overflow& spill) {
    for (std::uint32_t i = 0; i < kOverflow; ++i)
      spill.gs[i] = ring_[(head + i) % kCapacity].load(std::memory_order_relaxed);
    if (!head_.compare_exchange_strong(head, head + kOverflow, std::memory_order_acq_rel, std::memory_order_relaxed))
      return false;  // thieves made room
    spill.gs[kOverflow] = g;
    spill.count = kOverflow + 1;
    return true;
  }

  template <class T>
  using atomic = typename Policy::template atomic<T>;
  friend layout;

  // Written by the owner.
  alignas(kCacheLine) atomic<std::uint32_t> busy_{0};
  atomic<G*> runnext_{nullptr};
  atomic<std::uint32_t> batch_next_{0}, batch_end_{0};
  atomic<std::uint32_t> tail_{0};
  atomic<std::uint32_t> exclusive_{0};  // written by others, once
  std::array<atomic<G*>, Batch> batch_{};
  // Written by takers.
  alignas(kCacheLine) atomic<std::uint32_t> head_{0};
  atomic<std::uint32_t> thief_{0};
  alignas(kCacheLine) std::array<atomic<G*>, Capacity> ring_{};
};

}  // namespace weft::rt
