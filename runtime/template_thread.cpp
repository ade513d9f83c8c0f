// SPDX-License-Identifier: Apache-2.0
// The thread that does for others what may wait for a foreign lock: it makes threads (pthread_create takes the dynamic
// linker's lock), reads what has become of the machine, prints schedtrace, writes the metrics' file, answers who asks
// from outside, and dumps goroutines. Go: templateThread.
//
// Such a lock may be held by an M that was preempted (preempt.cpp). So it is not sysmon that does these: sysmon sees
// when this thread is stuck, and lets those Ms go on. And a thread that is made here inherits nothing from anybody.
#include <sys/prctl.h>
#include <unistd.h>
#include <cstring>
#include <string>

#include "runtime/clock.h"
#include "runtime/export.h"
#include "runtime/file_ring.h"
#include "runtime/flight_recorder.h"
#include "runtime/metrics.h"
#include "runtime/proc.h"
#include "runtime/thread_state.h"
#include "runtime/trace_file.h"

namespace weft::rt {
namespace {

struct template_thread {
  pthread_t thread{};
  std::atomic<int> tid{0};
  note wake;
  std::atomic<bool> stop{false};
  std::atomic<std::int64_t> working_since{0};  // nanotime(); 0: it waits
};

auto& self = *new template_thread;

void* template_main(void*) {
  prctl(PR_SET_NAME, "weft-template");
  self.tid.store(gettid(), std::memory_order_release);
  while (!self.stop.load(std::memory_order_acquire)) {
    self.working_since.store(nanotime(), std::memory_order_release);
    dump_if_wanted();
    serve_m_requests();
    look_at_machine();
    start_wanted_sentinels();
    start_wanted_file_ring();
    trace_if_wanted();
    report_lost_probes();
    write_metrics_if_due();
    answer_export();
    look_at_tracing();
    write_recording_if_wanted();
    self.working_since.store(0, std::memory_order_release);
    self.wake.wait();
  }
  return nullptr;
}

}  // namespace

void start_template_thread() {
  self.stop.store(false, std::memory_order_relaxed);
  if (const int failed = create_thread(self.thread, nullptr, template_main, nullptr))
    fatal_throw("", std::string("cannot start the template thread: ") + std::strerror(failed));
}

void stop_template_thread() {
  self.stop.store(true, std::memory_order_release);
  wake_template_thread();
  pthread_join(self.thread, nullptr);
}

void wake_template_thread() { self.wake.post_if_empty(1); }

// It may spin, too.
bool template_thread_is_stuck(std::int64_t now) {
  const std::int64_t since = self.working_since.load(std::memory_order_acquire);
  if (since == 0) return false;
  return now - since >= kForcePreemptNs ||
         state_of_thread(self.tid.load(std::memory_order_acquire)) == thread_state::blocked;
}

}  // namespace weft::rt
