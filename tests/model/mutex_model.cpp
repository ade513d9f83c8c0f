// SPDX-License-Identifier: Apache-2.0
// mutex_state.h and mutex_word.h: threads that lock, unlock and try_lock, and whoever is the last destroys the mutex at
// once. What a waiter waits on is a semaphore as sema.cpp has it, under a lock of its own.
//
//   - One holds it at a time, and sees what the one before wrote.
//   - Everybody gets it: nobody sleeps for ever.
//   - After the last unlock nothing is left behind, and no unlock touches what was destroyed.
// Whether a waiter has waited too long, and how long a newcomer spins, is the search's choice, so starvation mode
// begins and ends everywhere.
//
// Mutations that it catches (mutations.sh): newcomers that take the mutex before the unlocker has woken somebody;
// an unlock that looks at the word again; no wake-up; wake-ups without count or without woken; two that are woken; a
// hand-over that nobody marks; a starvation mode that does not end; locking or unlocking without order.
#include "tests/model/model.h"

#include "runtime/mutex_state.h"
#include "runtime/weft/mutex_word.h"

namespace {

using namespace weft::model;

/// An atomic that knows whether it has been destroyed: an access that does not come before that is a data race.
template <class T>
class mortal {
 public:
  explicit mortal(T value = T{}) : word_(value) {}
  T load(std::memory_order order, rl::debug_info at = here()) const {
    touch(at);
    return word_.load(order, at);
  }
  void store(T value, std::memory_order order, rl::debug_info at = here()) {
    touch(at);
    word_.store(value, order, at);
  }
  T exchange(T value, std::memory_order order, rl::debug_info at = here()) {
    touch(at);
    return word_.exchange(value, order, at);
  }
  T fetch_add(T value, std::memory_order order, rl::debug_info at = here()) {
    touch(at);
    return word_.fetch_add(value, order, at);
  }
  T fetch_sub(T value, std::memory_order order, rl::debug_info at = here()) {
    touch(at);
    return word_.fetch_sub(value, order, at);
  }
  bool compare_exchange_strong(T& expected, T value, std::memory_order order, std::memory_order failure,
                               rl::debug_info at = here()) {
    touch(at);
    return word_.compare_exchange_strong(expected, value, order, failure, at);
  }
  bool compare_exchange_weak(T& expected, T value, std::memory_order order, std::memory_order failure,
                             rl::debug_info at = here()) {
    touch(at);
    return word_.compare_exchange_weak(expected, value, order, failure, at);
  }
  void destroy() { destroyed_.set(true); }

 private:
  void touch(rl::debug_info at) const { require(!destroyed_.get(at), "the mutex is still there", at); }
  checked_atomic<T, false> word_;
  var<bool> destroyed_;
};

template <int Threads, int Rounds>
struct contention : suite<contention<Threads, Rounds>, Threads> {
  using word = weft::detail::mutex_word<mortal>;
  static constexpr int kNobody = -1;

  // The mutex: its word, and its semaphore.
  word w;
  mortal<int> list_lock;
  var<int> tokens;
  std::array<var<int>, Threads> queue;
  var<int> queued;

  std::array<checked_atomic<int, false>, Threads> wakes;

  // What it guards.
  var<int> holder{kNobody};
  var<int> left{Threads * Rounds};
  var<bool> destroyed;

  struct waiter {
    contention& all;
    int me;
    bool again = false;

    bool may_spin(int round) const { return round == 0 && rl::rand(3) == 0; }
    static void spin() { rl::yield(1, here()); }
    bool starved() const { return rl::rand(2) == 0; }
    void wait() {
      all.sem_acquire(me, again);
      again = true;
    }
  };

  void lock_list() {
    while (list_lock.exchange(1, std::memory_order_acquire) != 0) rl::yield(1, here());
  }
  void unlock_list() { list_lock.store(0, std::memory_order_release); }

  void sem_acquire(int me, bool first) {
    lock_list();
    if (tokens.get() > 0) {
      tokens.set(tokens.get() - 1);
      return unlock_list();
    }
    const int n = queued.get();
    queued.set(n + 1);
    if (first) {
      for (int i = n; i > 0; --i) at(i).set(at(i - 1).get());
      at(0).set(me);
    } else {
      at(n).set(me);
    }
    unlock_list();
    auto& wake = wakes[static_cast<std::size_t>(me)];
    while (wake.exchange(0, std::memory_order_acquire) == 0) futex_wait(wake, 0);
  }
  void sem_release() {
    lock_list();
    const int n = queued.get();
    if (n == 0) {
      tokens.set(tokens.get() + 1);
      return unlock_list();
    }
    const int first = at(0).get();
    for (int i = 0; i + 1 < n; ++i) at(i).set(at(i + 1).get());
    queued.set(n - 1);
    unlock_list();
    auto& wake = wakes[static_cast<std::size_t>(first)];
    wake.store(1, std::memory_order_release);
    futex_wake(wake);
  }
  var<int>& at(int i) { return queue[static_cast<std::size_t>(i)]; }

  void lock(int me) {
    if (rl::rand(4) == 0 && w.try_lock()) return;
    if (w.lock_idle()) return;
    waiter self{*this, me};
    weft::rt::mutex_lock_slow(w, self);
  }
  void unlock() {
    if (const std::uint32_t rest = w.unlock()) weft::rt::mutex_unlock_slow(w, rest, [this](bool) { sem_release(); });
  }

  void thread(unsigned index) {
    const int me = static_cast<int>(index);
    for (int round = 0; round < Rounds; ++round) {
      lock(me);
      require(holder.get() == kNobody, "one holds it at a time");
      holder.set(me);
      const int others = left.get() - 1;
      left.set(others);
      holder.set(kNobody);
      unlock();
      if (others == 0) destroy();
    }
  }
  void destroy() {
    require(w.state.load(std::memory_order_relaxed) == 0, "the word is idle");
    require(queued.get() == 0 && tokens.get() == 0, "the semaphore is idle");
    w.state.destroy();
    list_lock.destroy();
    destroyed.set(true);
  }
  void after() { require(destroyed.get(), "all have had it"); }
};

}  // namespace

int main(int argc, char** argv) {
  checker check("mutex", argc, argv);
  check.random<contention<2, 2>>("two, twice", 40000);
  check.random<contention<3, 1>>("three", 60000);
  check.random<contention<3, 2>>("three, twice", 60000);
  check.random<contention<4, 1>>("four", 40000);
  check.bounded<contention<2, 1>>("two, three preemptions", 3);
  return check.finish();
}
