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
  }
  return "?";
}

}  // namespace weft::rt
