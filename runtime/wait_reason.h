// SPDX-License-Identifier: Apache-2.0
// Why a goroutine waits. The names are Go's: they stand in dumps, deadlock reports and metrics.
#pragma once

#include <cstdint>

namespace weft::rt {

enum class wait_reason : std::uint8_t {
  none,
  chan_receive,
  chan_send,
  chan_receive_nil,
  chan_send_nil,
  sleep,
  mutex_lock,
  wait_group_wait,
  semaphore_acquire,
  gomaxprocs,
  select,
  select_no_cases,
  cond_wait,
  rw_lock,
  rw_rlock,
  barrier_wait,
  io_wait,
  panic_wait,
};

constexpr const char* name_of(wait_reason reason) {
  switch (reason) {
    case wait_reason::none: return "waiting";
    case wait_reason::chan_receive: return "chan receive";
    case wait_reason::chan_send: return "chan send";
    case wait_reason::chan_receive_nil: return "chan receive (nil chan)";
    case wait_reason::chan_send_nil: return "chan send (nil chan)";
    case wait_reason::sleep: return "sleep";
    case wait_reason::mutex_lock: return "sync.Mutex.Lock";
    case wait_reason::wait_group_wait: return "sync.WaitGroup.Wait";
    case wait_reason::semaphore_acquire: return "semacquire";
    case wait_reason::gomaxprocs: return "GOMAXPROCS";
    case wait_reason::select: return "select";
    case wait_reason::select_no_cases: return "select (no cases)";
    case wait_reason::cond_wait: return "sync.Cond.Wait";
    case wait_reason::rw_lock: return "sync.RWMutex.Lock";
    case wait_reason::rw_rlock: return "sync.RWMutex.RLock";
    case wait_reason::barrier_wait: return "barrier wait";
    case wait_reason::io_wait: return "IO wait";
    case wait_reason::panic_wait: return "panicwait";
  }
  return "?";
}

}  // namespace weft::rt
