/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The state page: what a thread and the probes tell each other and everybody else, by plain loads and stores on memory
 * that both sides map. Plain C: the probes and the runtime compile the same text.
 *
 * A slot belongs to at most one thread at a time, the one that registered for it. Its first cache line is written by
 * user space alone, its second by the probes alone, while the thread's CPU switches from it or to it; so each line has
 * one writer at a time. Counters are cumulative, survive a change of thread, and wrap: readers take differences.
 *
 * How a reader gets a consistent picture. `event` is one aligned 64-bit word: sequence number, state, reason and
 * syscall number in it always belong together, and a verdict is good for as long as `event` has not changed. A
 * switch-out writes since_ns, then event; a switch-in writes off_ns, then event. So e = event (acquire); copy the
 * fields; fence; event == e again? gives since_ns of this very switch-out (states preempted, blocked) and off_ns of
 * this very switch-in (running): they are not written again before event has moved on. On arm64 the probes have no
 * barrier between the two stores: there, for some nanoseconds, another CPU may see an event with the time of the one
 * before. Counters are written before event as well and may be one ahead.
 *
 * Faults are as of the last switch-out.
 */
#pragma once

#ifndef __bpf__
#include <linux/types.h>
#endif

/* What the thread says of itself, in the low byte of `user`; the syscall number that it announced is in bits 32 to 63.
 * The probes read it at switch-out: a thread that sleeps idle is parked, and that is no block. */
enum weft_bpf_doing {
  WEFT_BPF_IDLE = 0,
  WEFT_BPF_USER_CODE = 1,
  WEFT_BPF_IN_RUNTIME = 2,
  WEFT_BPF_IN_SYSCALL = 3,
};

enum weft_bpf_state {
  WEFT_BPF_NO_THREAD = 0, /* nobody registered, or the thread has ended */
  WEFT_BPF_RUNNING = 1,
  WEFT_BPF_PREEMPTED = 2, /* runnable, but something else has its CPU */
  WEFT_BPF_BLOCKED = 3,   /* since since_ns; it may have been woken since and wait for its CPU */
};

enum weft_bpf_reason {
  WEFT_BPF_NO_REASON = 0,
  WEFT_BPF_SYSCALL = 1, /* a page fault inside the kernel, on the behalf of a syscall, counts as that syscall */
  WEFT_BPF_PAGE_FAULT = 2,
  WEFT_BPF_STOPPED = 3, /* SIGSTOP, a debugger */
};

enum { WEFT_BPF_NO_SYSCALL = 0xffff };

struct weft_bpf_slot {
  /* Written by user space. */
  __u64 user; /* enum weft_bpf_doing and the announced syscall */
  __u64 g;
  __u64 p;
  __u64 user_reserved[5];

  /* Written by the probes. */
  __u64 event;    /* bits 0-31 sequence number, one more at each switch; 32-47 syscall; 48-55 state; 56-63 reason.
                   * Syscall and reason stay as they are from a block to the next. */
  __u64 since_ns; /* CLOCK_MONOTONIC of the last switch-out */
  __u64 off_ns;   /* how long the thread was off its CPU, until the last switch-in */
  __u32 blocks;   /* not those of an idle thread */
  __u32 parks;    /* blocks of an idle thread */
  __u32 wakeups;  /* blocks and parks that ended: back on a CPU */
  __u32 preemptions;
  __u32 mm_switches; /* switches to the thread that changed the page table */
  __u32 migrations;  /* switches to the thread on another CPU than before */
  __u32 minor_faults;
  __u32 major_faults;
  __u32 cpu; /* where it runs or ran last */
  __u32 reserved;
};

/* Durations in ns, log-linear: sixteen equal buckets to each power of two, the last for all that is longer. The buckets
 * are those of weft::metrics::histogram. */
enum {
  WEFT_BPF_SUB_BITS = 4,
  WEFT_BPF_MAX_BITS = 36, /* 69 s */
  WEFT_BPF_BUCKETS = (WEFT_BPF_MAX_BITS - WEFT_BPF_SUB_BITS + 1) << WEFT_BPF_SUB_BITS,
};

/* One for each slot, written by the probes alone, at the switch-out that follows: only then the kernel has told how
 * much of the time off the CPU was spent runnable. */
struct weft_bpf_histograms {
  __u64 blocked_ns; /* sum of all that `blocked` counts */
  __u64 runq_wait_ns;
  __u32 blocked[WEFT_BPF_BUCKETS];   /* blocks: from switch-out until woken */
  __u32 runq_wait[WEFT_BPF_BUCKETS]; /* every switch-in: runnable (woken or preempted) until on a CPU */
};

/* One for each CPU, written by the cost programs on that CPU alone. Only what a registered thread is part of counts. */
enum weft_bpf_switch {
  WEFT_BPF_SAME_MM = 0,  /* the page table stays: between threads of a process */
  WEFT_BPF_LAZY_TLB = 1, /* to a kernel thread or the idle loop, or back to the process before it */
  WEFT_BPF_OTHER_MM = 2, /* another page table */
  WEFT_BPF_SWITCH_KINDS = 3,
};

/* The kernel's enum tlb_flush_reason, with room for reasons to come. */
enum {
  WEFT_BPF_FLUSH_TASK_SWITCH = 0,
  WEFT_BPF_FLUSH_REMOTE_SHOOTDOWN = 1,
  WEFT_BPF_FLUSH_LOCAL_SHOOTDOWN = 2,
  WEFT_BPF_FLUSH_LOCAL_MM_SHOOTDOWN = 3,
  WEFT_BPF_FLUSH_REMOTE_SEND_IPI = 4,
  WEFT_BPF_FLUSH_REMOTE_WRONG_CPU = 5,
  WEFT_BPF_FLUSH_REASONS = 8,
};

enum weft_bpf_wake {
  WEFT_BPF_WAKE_SAME_CPU = 0,
  WEFT_BPF_WAKE_CROSS_CPU = 1,
  WEFT_BPF_WAKE_KINDS = 2,
};

struct weft_bpf_sum {
  __u64 count; /* events */
  __u64 timed; /* those of them whose duration could be measured */
  __u64 ns;    /* the sum of their durations */
};

struct weft_bpf_cpu_cost {
  struct weft_bpf_sum switches[WEFT_BPF_SWITCH_KINDS]; /* until the next thread is about to leave the scheduler */
  struct weft_bpf_sum wakes[WEFT_BPF_WAKE_KINDS];      /* by a thread of this CPU or to it: until on a CPU */
  __u64 tlb_flushes[WEFT_BPF_FLUSH_REASONS];           /* while a registered thread has the CPU */
  __u64 reserved;
};

/* One for each slot, written by the cost programs for that slot's thread alone. */
struct weft_bpf_faults {
  __u64 reads;
  __u64 writes;
  __u64 instructions;
  __u64 reserved[5];
};

/* One for a set of probes. */
enum { WEFT_BPF_MAGIC = 0x77656674, WEFT_BPF_VERSION = 1, WEFT_BPF_TGID_HASHES = 256 };

struct weft_bpf_control {
  /* Written by user space. */
  __u32 magic; /* what a process that is handed the maps looks at first */
  __u32 version;
  __u32 slots;
  __u32 tid_hash; /* threads may register by a call that the probes see; see request */
  __u64 request;  /* not 0: some thread asks for registration, and this is how it proves who it is */

  /* Written by the probes. */
  __u64 answer;                          /* to the last request: the request, with the result in the low byte */
  __u8 tgid_known[WEFT_BPF_TGID_HASHES]; /* 1: a process of this hash has registered threads */
};

/* Registration: the slot, or WEFT_BPF_UNREGISTER. */
enum { WEFT_BPF_UNREGISTER = 0xffffffff };
enum weft_bpf_result {
  WEFT_BPF_OK = 0,
  WEFT_BPF_NO_SUCH_SLOT = 1,
  WEFT_BPF_NO_MEMORY = 2,
  WEFT_BPF_NOT_REGISTERED = 3,
};
