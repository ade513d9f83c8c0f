// SPDX-License-Identifier: Apache-2.0
// No cache line is written by two NUMA nodes on a hot path: the fields that are written often, or read by everybody, by
// who writes them, and a check on their offsets that no two writers share a line.
//
// Two measures (runtime/cache_line.h): within an object, lines of 64 bytes; between objects that belong to different
// nodes, or CPUs, pairs of lines, which prefetchers fetch together. What is written by threads of any node is listed
// with the reason. What is written rarely (once a time slice, or when GOMAXPROCS changes) is left out.
#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "runtime/proc.h"

namespace weft::rt {

// Who writes. `nobody`: read by all, written hardly ever.
enum class writer : std::uint8_t {
  nobody,
  holder,         // the M that runs on the P, or the M itself: one thread at a time
  its_cpu,        // threads pinned to that CPU: Ms and the sentinel
  its_node,       // Ms of that node
  waker,          // whoever wakes a sleeping M: mostly its node's
  all_idle,       // all nodes, when a P begins or ceases to be idle, beside a futex call
  all_idle_node,  // all nodes, when a node's last idle P goes, or its first comes
  all_watcher,    // all nodes, when an M goes to sleep while timers or sockets are waited for, beside a system call
  all_foreign     // threads that are no Ms; and one in so many new goroutines takes a batch of ids
};

struct field {
  const char* name;
  std::size_t offset, size;
  writer by;
};

std::ostream& operator<<(std::ostream& to, const field& f) {
  return to << f.name << " [" << f.offset << ", " << f.offset + f.size << ")";
}

using fields = std::vector<field>;

struct layout {
  template <class Object, class Field>
  static field at(const Object& in, const char* name, const Field& part, writer by) {
    const auto offset = reinterpret_cast<std::uintptr_t>(&part) - reinterpret_cast<std::uintptr_t>(&in);
    return {name, offset, sizeof part, by};
  }

  template <class Object>
  static void add_queue(fields& all, const Object& in, const g_queue& q) {
    all.push_back(at(in, "runq.busy", q.busy_, writer::holder));
    all.push_back(at(in, "runq.runnext", q.runnext_, writer::holder));
    all.push_back(at(in, "runq.batch_next", q.batch_next_, writer::holder));
    all.push_back(at(in, "runq.batch_end", q.batch_end_, writer::holder));
    all.push_back(at(in, "runq.tail", q.tail_, writer::holder));
    all.push_back(at(in, "runq.batch", q.batch_, writer::holder));
    all.push_back(at(in, "runq.head", q.head_, writer::its_node));
    all.push_back(at(in, "runq.thief", q.thief_, writer::its_node));
    all.push_back(at(in, "runq.ring", q.ring_, writer::holder));
  }

  static fields of_p(const p& x) {
    fields all;
    const auto add = [&](const char* name, const auto& part, writer by) { all.push_back(at(x, name, part, by)); };
    add("id", x.id, writer::holder);  // constants may lie beside what the holder writes: only it needs them often
    add("switches_left", x.switches_left, writer::holder);
    add("schedtick", x.schedtick, writer::holder);
    add("trace", x.trace, writer::holder);
    add("sampler", x.sampler, writer::holder);
    add("random", x.random, writer::holder);
    add_queue(all, x, x.runq);
    add("free_gs", x.free_gs, writer::holder);
    add("free_stacks", x.free_stacks, writer::holder);
    add("next_id", x.next_id, writer::holder);
    add("created", x.created, writer::holder);
    add("ended", x.ended, writer::holder);
    add("allowed_at", x.allowed_at, writer::holder);
    add("wakes_skipped", x.wakes_skipped, writer::holder);
    add("watch_ns", x.watch_ns, writer::holder);
    add("runq_wait", x.runq_wait, writer::holder);
    add("wakeup_to_run", x.wakeup_to_run, writer::holder);
    add("blocked", x.blocked, writer::holder);
    add("steals", x.steals, writer::holder);
    add("moves", x.moves, writer::holder);
    return all;
  }

  static fields of_m(const m& x) {
    fields all;
    const auto add = [&](const char* name, const auto& part, writer by) { all.push_back(at(x, name, part, by)); };
    add("idle_link", x.idle_link, writer::holder);
    add("held", x.held, writer::holder);
    add("curg", x.curg, writer::holder);
    add("previous", x.previous, writer::holder);
    add("unlock", x.unlock, writer::holder);
    add("spinning", x.spinning, writer::holder);
    add("next_g", x.next_g, writer::holder);
    add("lock_count", x.lock_count, writer::holder);
    add("g0", x.g0, writer::holder);
    add("claim", x.claim, writer::its_cpu);
    add("left_with", x.left_with, writer::its_cpu);
    add("blocked_ticks", x.blocked_ticks, writer::its_cpu);
    add("judged", x.judged, writer::its_cpu);
    add("waits_until", x.waits_until, writer::its_cpu);
    add("wake", x.wake, writer::waker);
    add("next_p", x.next_p, writer::waker);
    add("order", x.order, writer::waker);
    add("next_spinning", x.next_spinning, writer::waker);
    add("woken_ticks", x.woken_ticks, writer::waker);
    return all;
  }

  static fields of_cpu(const cpu& x) {
    fields all;
    const auto add = [&](const char* name, const auto& part, writer by) { all.push_back(at(x, name, part, by)); };
    add("id", x.id, writer::nobody);
    add("home", x.home, writer::nobody);
    add("costs", x.costs, writer::nobody);
    add("number", x.number, writer::nobody);
    add("index", x.index, writer::nobody);
    add("nps", x.nps, writer::nobody);
    add("ps", x.ps, writer::nobody);
    add("idle_ms", x.idle_ms, writer::its_node);
    add("nidle_ms", x.nidle_ms, writer::its_node);
    add("armed", x.armed, writer::its_cpu);
    add("visiting", x.visiting, writer::its_cpu);
    return all;
  }

  static fields of_node(const node& x) {
    fields all;
    const auto add = [&](const char* name, const auto& part, writer by) { all.push_back(at(x, name, part, by)); };
    add("id", x.id, writer::nobody);
    add("index", x.index, writer::nobody);
    add("costs", x.costs, writer::nobody);
    add("ps", x.ps, writer::nobody);
    add("gate.busy", x.gate.busy_, writer::nobody);
    add("gate.nidle", x.gate.nidle_, writer::its_node);
    add("gate.nspinning", x.gate.nspinning_, writer::its_node);
    add("gate.words", x.gate.words_, writer::its_node);
    add("wake_backoff", x.wake_backoff, writer::its_node);
    add("visitors", x.visitors, writer::its_node);
    add("lock", x.lock, writer::its_node);  // and by whoever sends a goroutine home: that is a trip, and meant
    add("global", x.global, writer::its_node);
    add("global_size", x.global_size, writer::its_node);
    return all;
  }

  static fields of_sched(const scheduler& x) {
    fields all;
    const auto add = [&](const char* name, const auto& part, writer by) { all.push_back(at(x, name, part, by)); };
    add("gomaxprocs", x.gomaxprocs, writer::nobody);
    add("nps", x.nps, writer::nobody);
    add("allp", x.allp, writer::nobody);
    add("run", x.run, writer::nobody);
    add("gone", x.gone, writer::nobody);
    add("active", x.active, writer::nobody);
    add("frozen", x.frozen, writer::nobody);
    add("main_done", x.main_done, writer::nobody);
    add("strays", x.strays, writer::nobody);
    add("sysmon_asleep", x.sysmon_asleep, writer::nobody);
    add("tier", x.tier, writer::nobody);
    add("debug", x.debug, writer::nobody);
    add("coarse_now", x.coarse_now, writer::nobody);  // sysmon's, once a millisecond at most
    add("nodes", x.nodes, writer::nobody);
    add("nnodes", x.nnodes, writer::nobody);
    add("cpus", x.cpus, writer::nobody);
    add("ncpus", x.ncpus, writer::nobody);
    add("map", x.map, writer::nobody);
    add("busy.now", x.busy.now_, writer::all_idle);
    add("busy.times", x.busy.times_, writer::all_idle);
    add("idle_nodes", x.idle_nodes, writer::all_idle_node);
    add("watcher", x.watcher, writer::all_watcher);
    add("watch_until", x.watch_until, writer::all_watcher);
    add("next_id", x.next_id, writer::all_foreign);
    add("created_elsewhere", x.created_elsewhere, writer::all_foreign);
    add("foreign_visitors", x.foreign_visitors, writer::all_foreign);
    add("nforeign_waiting", x.nforeign_waiting, writer::all_foreign);
    add("allm", x.allm, writer::nobody);
    return all;
  }
};

namespace {

void expect_no_shared_line(const fields& all, std::size_t line = kCacheLine) {
  for (const field& a : all)
    for (const field& b : all) {
      if (a.by >= b.by) continue;
      const bool apart =
          (a.offset + a.size - 1) / line < b.offset / line || (b.offset + b.size - 1) / line < a.offset / line;
      EXPECT_TRUE(apart) << a << " and " << b << " have different writers, and share a line";
    }
}

// A pair of lines never belongs to two objects.
template <class Object>
void expect_lines_of_its_own() {
  EXPECT_EQ(alignof(Object) % kLinePair, 0u);
  EXPECT_EQ(sizeof(Object) % kLinePair, 0u);
}

struct machine_parts {
  busy_count<> busy;
  std::atomic<int> idle_nodes{0};
  node home{0, 0, busy, idle_nodes};
  cpu where{0, home};
};

TEST(cache_lines, of_a_p_have_one_writer) {
  machine_parts parts;
  const p x(0, parts.where, 1);
  expect_no_shared_line(layout::of_p(x));
  expect_lines_of_its_own<p>();
  expect_lines_of_its_own<timer_heap>();
}

TEST(cache_lines, of_an_m_have_one_writer) {
  const m x(0);
  expect_no_shared_line(layout::of_m(x));
  expect_lines_of_its_own<m>();
}

TEST(cache_lines, of_a_cpu_and_of_a_node_have_one_writer) {
  const machine_parts parts;
  expect_no_shared_line(layout::of_cpu(parts.where));
  expect_no_shared_line(layout::of_node(parts.home));
  expect_lines_of_its_own<cpu>();
  expect_lines_of_its_own<node>();
  expect_lines_of_its_own<node_costs>();
}

TEST(cache_lines, of_the_scheduler_are_written_by_all_nodes_only_where_that_is_meant) {
  const fields all = layout::of_sched(sched);
  expect_no_shared_line(all, kLinePair);
  for (const field& each : all) {
    if (each.by == writer::nobody || each.by >= writer::all_idle) continue;
    ADD_FAILURE() << each << " belongs to one node, and does not belong here";
  }
}

// A goroutine is written by whoever holds it, which is one at a time.
TEST(cache_lines, of_a_goroutine_are_its_own) {
  EXPECT_EQ(alignof(g) % kCacheLine, 0u);
  EXPECT_EQ(sizeof(g) % kLinePair, 0u);
}

}  // namespace
}  // namespace weft::rt
