/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the probes use of the kernel, and nothing else. Offsets are not taken from here: every access is relocated at
 * load time against the running kernel's BTF (CO-RE), and what not every kernel has is asked for with
 * bpf_core_field_exists() before. Each type named here costs a search of that BTF, 0.7 ms at load.
 */
#pragma once

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0

enum bpf_map_type {
  BPF_MAP_TYPE_HASH = 1,
  BPF_MAP_TYPE_ARRAY = 2,
  BPF_MAP_TYPE_PERCPU_ARRAY = 6,
  BPF_MAP_TYPE_RINGBUF = 27,
  BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
  BPF_NOEXIST = 1,
  BPF_RB_NO_WAKEUP = 1U << 0,
};

enum {
  BPF_F_NO_PREALLOC = 1U << 0,
  BPF_F_MMAPABLE = 1U << 10,
  BPF_LOCAL_STORAGE_GET_F_CREATE = 1U << 0,
};

/* What bpf_task_state() of the kernel's include/linux/sched.h calls TASK_*. */
enum {
  TASK_INTERRUPTIBLE = 0x1,
  TASK_UNINTERRUPTIBLE = 0x2,
  TASK_STOPPED = 0x4,
  TASK_TRACED = 0x8,
  TASK_DEAD = 0x80,
  TASK_WAKING = 0x200,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct mm_struct;

struct sched_info {
  unsigned long long run_delay;
};

struct task_struct {
  unsigned int __state;
  long state; /* before 5.14 */
  void* stack;
  struct sched_info sched_info;
  struct mm_struct* mm;
  struct mm_struct* active_mm;
  int pid;
  int tgid;
  struct task_struct* group_leader;
  unsigned long min_flt;
  unsigned long maj_flt;
};

struct bpf_iter__task {
  struct task_struct* task;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
  unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
  unsigned long orig_ax;
  unsigned long ip;
  unsigned short cs;
  unsigned long sp;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
  __u64 regs[31];
  __u64 sp;
  __u64 pc;
  __u64 pstate;
  __s32 syscallno;
};
#else
#error "no register names for this architecture"
#endif

#pragma clang attribute pop
