/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which thread has which slot, and the differences between kernels.
 *
 * A thread's record is in its task storage: found without a hash, not inherited over fork, gone with the task. Where
 * that is not to be had, it is in a hash by thread number, as the initial namespace counts. Both are of no use to a
 * process that nobody registered for: a byte by the hash of its number tells most of them apart before any look-up.
 *
 * `typed`, a constant everywhere: the program is a tp_btf one, whose task pointers the verifier knows, so that fields
 * are plain loads. A raw_tp program has to copy, and cannot use task storage.
 */
#pragma once

#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "slot.h"

#define FIELD(typed, pointer, field) ((typed) ? (pointer)->field : BPF_CORE_READ(pointer, field))

/* Set by the loader. The verifier removes what it excludes, so a kernel needs nothing of what it lacks. */
const volatile bool tid_hash;

struct weft_bpf_control control;

/* Private to the probes; written where the thread's CPU switches, so by one at a time. */
struct thread {
  __u32 slot;
  __u32 cpu;
  __u64 out_ns;     /* at the last switch-out */
  __u64 run_delay;  /* the kernel's sum of its run-queue waits, as last seen */
  __u64 blocked_ns; /* off the CPU in the block that it came back from and that is not in the histogram yet; 0: none */
  __u32 minor_faults;
  __u32 major_faults;
  __u64 waking_ns; /* the cost programs': a wake-up on its way; 0: none */
  __u32 waker_cpu;
  __u32 reserved;
};

struct {
  __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct thread);
} thread_of_task SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct thread);
} thread_of_tid SEC(".maps");

static __always_inline __u8* tgid_known(__u32 tgid) { return &control.tgid_known[tgid % WEFT_BPF_TGID_HASHES]; }

static __always_inline struct thread* thread_of(struct task_struct* task, bool typed) {
  if (!*tgid_known(FIELD(typed, task, tgid))) return 0;
  if (tid_hash) {
    __u32 tid = FIELD(typed, task, pid);

    return bpf_map_lookup_elem(&thread_of_tid, &tid);
  }
  return typed ? bpf_task_storage_get(&thread_of_task, task, 0, 0) : 0;
}

static __always_inline unsigned int state_of(struct task_struct* task, bool typed) {
  return bpf_core_field_exists(task->__state) ? FIELD(typed, task, __state) : FIELD(typed, task, state);
}

/* 0: this kernel does not count it. */
static __always_inline __u64 run_delay_of(struct task_struct* task, bool typed) {
  return bpf_core_field_exists(task->sched_info.run_delay) ? FIELD(typed, task, sched_info.run_delay) : 0;
}
