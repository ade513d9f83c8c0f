/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The programs that are always on: they keep the state page (slot.h says what is in it) at every context switch from or
 * to a registered thread.
 *
 * One tracepoint does it all. Run-queue waits come from the kernel's own account of the thread, a load instead of
 * sched_wakeup, which would cost every process on the machine another 55 ns a wake-up. The syscall of a blocked thread
 * is in its saved registers; attaching sys_enter would take every process off the fast syscall path (+146 ns a call).
 *
 * sched_switch has had three forms. Up to 5.17: (preempt, prev, next). From 5.19 on: the same with prev's state as
 * it was before the switch began, at the end. 5.18 as released: that state before prev. The verifier refuses the typed
 * programs there, and the raw one does nothing, so that the loader finds it blind and says so.
 */
#include "threads.bpf.h"

/* Set by the loader: the kernel passes prev's state; it has bpf_task_pt_regs(); if not, how far from task->stack the
 * saved registers end. */
const volatile bool has_prev_state, has_task_pt_regs;
const volatile __u32 stack_size, slot_count;

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct weft_bpf_slot);
} slots SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct weft_bpf_histograms);
} histograms SEC(".maps");

/* -- The saved registers of a thread that is off its CPU ----------------------------------------------------------- */

struct registers {
  long syscall;        /* -1: not in one */
  __u64 third, fourth; /* arguments */
};

#if defined(__TARGET_ARCH_x86)
#define USER_CODE_SEGMENT 0x33
#define STACK_PADDING 16 /* above the registers, where the kernel is built for FRED (6.9) */
static __always_inline bool from_user(struct pt_regs* regs, bool typed) {
  return FIELD(typed, regs, cs) == USER_CODE_SEGMENT;
}
#define SYSCALL(typed, regs) ((long)FIELD(typed, regs, orig_ax))
#define THIRD(typed, regs) FIELD(typed, regs, dx)
#define FOURTH(typed, regs) FIELD(typed, regs, r10)
#elif defined(__TARGET_ARCH_arm64)
#define PSTATE_MODE 0xf /* 0: EL0 */
#define STACK_PADDING 0
static __always_inline bool from_user(struct pt_regs* regs, bool typed) {
  return (FIELD(typed, regs, pstate) & PSTATE_MODE) == 0;
}
#define SYSCALL(typed, regs) ((long)FIELD(typed, regs, syscallno))
#define THIRD(typed, regs) FIELD(typed, regs, regs[2])
#define FOURTH(typed, regs) FIELD(typed, regs, regs[3])
#endif

static __always_inline void read_registers(struct task_struct* task, bool typed, struct registers* found) {
  if (typed && has_task_pt_regs) {
    struct pt_regs* regs = (void*)bpf_task_pt_regs(task);

    found->syscall = SYSCALL(true, regs);
    found->third = THIRD(true, regs);
    found->fourth = FOURTH(true, regs);
  } else {
    struct pt_regs* regs = FIELD(typed, task, stack) + stack_size - bpf_core_type_size(struct pt_regs);

    found->syscall = -1;
    if (!from_user(regs, false)) {
      regs = (void*)regs - STACK_PADDING;
      if (!from_user(regs, false)) return;
    }
    found->syscall = SYSCALL(false, regs);
    found->third = THIRD(false, regs);
    found->fourth = FOURTH(false, regs);
  }
}

/* -- Histograms ---------------------------------------------------------------------------------------------------- */

/* No branches, each of which would double what the verifier has to walk: the highest bit is smeared downwards, and a
 * multiplication by a de Bruijn sequence brings it to a place of its own in the upper six bits. */
static const __u8 log2_of_hash[64] = {
    0,  47, 1,  56, 48, 27, 2,  60, 57, 49, 41, 37, 28, 16, 3,  61, 54, 58, 35, 52, 50, 42,
    21, 44, 38, 32, 29, 23, 17, 11, 4,  62, 46, 55, 26, 59, 40, 36, 15, 53, 34, 51, 20, 43,
    31, 22, 10, 45, 25, 39, 14, 33, 19, 30, 9,  24, 13, 18, 8,  12, 7,  6,  5,  63,
};

static __always_inline __u64 log2_of(__u64 n) {
  n |= n >> 1;
  n |= n >> 2;
  n |= n >> 4;
  n |= n >> 8;
  n |= n >> 16;
  n |= n >> 32;
  return log2_of_hash[n * 0x03f79d71b4cb0a89ull >> 58];
}

static __always_inline __u64 bucket_of(__u64 ns) {
  __u64 bits;

  if (ns >> WEFT_BPF_MAX_BITS) return WEFT_BPF_BUCKETS - 1;
  bits = log2_of(ns | 1u << WEFT_BPF_SUB_BITS);
  if (ns < 1u << WEFT_BPF_SUB_BITS) return ns;
  return ((bits - WEFT_BPF_SUB_BITS) << WEFT_BPF_SUB_BITS) + (ns >> (bits - WEFT_BPF_SUB_BITS));
}

static __always_inline void count(__u32* buckets, __u64* sum, __u64 ns) {
  __u64 bucket = bucket_of(ns);

  *sum += ns;
  barrier_var(bucket); /* or the compiler checks one copy and uses another, and the verifier sees no bound */
  if (bucket < WEFT_BPF_BUCKETS) buckets[bucket]++;
}

/* What the thread's last stay off its CPU consisted of, now that the kernel has told. */
static __always_inline void account_last_absence(struct thread* t, __u64 run_delay) {
  __u32 key = t->slot;
  struct weft_bpf_histograms* h = bpf_map_lookup_elem(&histograms, &key);
  __u64 waited = run_delay - t->run_delay;

  t->run_delay = run_delay;
  if (!h || !t->out_ns) return;
  count(h->runq_wait, &h->runq_wait_ns, waited);
  if (!t->blocked_ns) return;
  count(h->blocked, &h->blocked_ns, t->blocked_ns > waited ? t->blocked_ns - waited : 0);
  t->blocked_ns = 0;
}

/* -- The state page ------------------------------------------------------------------------------------------------ */

#define STATE_SHIFT 48
#define REASON_SHIFT 56
#define KEPT_FROM_THE_LAST_BLOCK (0xffull << REASON_SHIFT | 0xffffull << 32)

static __always_inline struct weft_bpf_slot* slot_of(struct thread* t) {
  __u32 key = t->slot;

  return bpf_map_lookup_elem(&slots, &key);
}

static __always_inline void publish(struct weft_bpf_slot* slot, __u64 state_and_why) {
  slot->event = state_and_why | (__u32)(slot->event + 1);
}

static __always_inline void publish_state(struct weft_bpf_slot* slot, __u64 state) {
  publish(slot, (slot->event & KEPT_FROM_THE_LAST_BLOCK) | state << STATE_SHIFT);
}

static __always_inline void start_account(struct thread* t, struct task_struct* task, bool typed) {
  t->cpu = bpf_get_smp_processor_id();
  t->run_delay = run_delay_of(task, typed);
  t->minor_faults = FIELD(typed, task, min_flt);
  t->major_faults = FIELD(typed, task, maj_flt);
}

static __always_inline void end_thread(struct thread* t, struct task_struct* task, bool typed) {
  struct weft_bpf_slot* slot = slot_of(t);
  __u32 tid = FIELD(typed, task, pid);

  account_last_absence(t, run_delay_of(task, typed));
  if (slot) publish_state(slot, WEFT_BPF_NO_THREAD);
  if (tid_hash) bpf_map_delete_elem(&thread_of_tid, &tid);
}

static __always_inline void block(struct weft_bpf_slot* slot, struct task_struct* task, unsigned int state,
                                  bool typed) {
  struct registers regs;
  __u64 reason;

  read_registers(task, typed, &regs);
  if (state & (TASK_STOPPED | TASK_TRACED))
    reason = WEFT_BPF_STOPPED;
  else
    reason = regs.syscall == -1 ? WEFT_BPF_PAGE_FAULT : WEFT_BPF_SYSCALL;
  if ((slot->user & 0xff) == WEFT_BPF_IDLE)
    slot->parks++;
  else
    slot->blocks++;
  publish(slot, reason << REASON_SHIFT | (__u64)WEFT_BPF_BLOCKED << STATE_SHIFT | (__u64)(__u16)regs.syscall << 32);
}

#define BLOCKING_STATES (TASK_INTERRUPTIBLE | TASK_UNINTERRUPTIBLE | TASK_STOPPED | TASK_TRACED)

/* `state` is prev's from before the switch, or what it is now where the kernel does not pass that: then a thread that
 * another CPU is waking at this moment shows TASK_WAKING. A thread with a signal pending does not sleep: it was made
 * runnable again, and its state now is 0. */
static __always_inline bool has_blocked(bool preempt, unsigned int state, unsigned int state_now) {
  return !preempt && state_now != 0 && (state & (BLOCKING_STATES | TASK_WAKING));
}

static __always_inline void switch_out(struct thread* t, struct task_struct* task, bool preempt, unsigned int state,
                                       __u64 now, bool typed) {
  struct weft_bpf_slot* slot = slot_of(t);
  __u32 minor = FIELD(typed, task, min_flt), major = FIELD(typed, task, maj_flt);

  if (!slot) return;
  account_last_absence(t, run_delay_of(task, typed));
  slot->minor_faults += minor - t->minor_faults;
  slot->major_faults += major - t->major_faults;
  t->minor_faults = minor;
  t->major_faults = major;
  t->out_ns = now;
  slot->since_ns = now;
  if (has_blocked(preempt, state, state_of(task, typed))) {
    block(slot, task, state, typed);
  } else {
    slot->preemptions++;
    publish_state(slot, WEFT_BPF_PREEMPTED);
  }
}

static __always_inline void switch_in(struct thread* t, struct task_struct* task, struct task_struct* prev, __u64 now,
                                      bool typed) {
  struct weft_bpf_slot* slot = slot_of(t);
  struct mm_struct* mm = FIELD(typed, task, mm);
  __u32 cpu = bpf_get_smp_processor_id();

  if (!slot) return;
  if (mm != FIELD(typed, prev, active_mm)) slot->mm_switches++;
  if (cpu != t->cpu) slot->migrations++;
  t->cpu = cpu;
  slot->cpu = cpu;
  if (t->out_ns) slot->off_ns = now - t->out_ns;
  if ((__u8)(slot->event >> STATE_SHIFT) == WEFT_BPF_BLOCKED) {
    slot->wakeups++;
    if ((slot->user & 0xff) != WEFT_BPF_IDLE) t->blocked_ns = slot->off_ns;
  }
  publish_state(slot, WEFT_BPF_RUNNING);
}

/* -- Registration -------------------------------------------------------------------------------------------------- */

static __always_inline void now_running(struct thread* t, __u32 tgid) {
  struct weft_bpf_slot* slot = slot_of(t);

  *tgid_known(tgid) = 1;
  if (!slot) return;
  slot->cpu = t->cpu;
  publish_state(slot, WEFT_BPF_RUNNING);
}

static __always_inline int register_by_tid(struct task_struct* task, __u32 slot, bool typed) {
  __u32 tid = FIELD(typed, task, pid);
  struct thread t = {.slot = slot};

  start_account(&t, task, typed);
  if (bpf_map_update_elem(&thread_of_tid, &tid, &t, 0)) return WEFT_BPF_NO_MEMORY;
  now_running(&t, FIELD(typed, task, tgid));
  return WEFT_BPF_OK;
}

static __always_inline int register_task(struct task_struct* task, __u32 slot) {
  struct thread* t = bpf_task_storage_get(&thread_of_task, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

  if (!t) return WEFT_BPF_NO_MEMORY;
  t->slot = slot;
  t->out_ns = 0;
  t->blocked_ns = 0;
  t->waking_ns = 0;
  start_account(t, task, true);
  now_running(t, task->tgid);
  return WEFT_BPF_OK;
}

/* Run by the thread itself, through BPF_PROG_TEST_RUN: nobody needs to know its number, in whatever namespace. */
SEC("raw_tp/")
int register_thread(__u64* ctx) {
  __u32 slot = ctx[0];
  struct thread* t;

  if (slot == WEFT_BPF_UNREGISTER) {
    if (tid_hash) {
      struct task_struct* task = (void*)bpf_get_current_task();

      t = thread_of(task, false);
      if (!t) return WEFT_BPF_NOT_REGISTERED;
      end_thread(t, task, false);
    } else {
      struct task_struct* task = bpf_get_current_task_btf();

      t = thread_of(task, true);
      if (!t) return WEFT_BPF_NOT_REGISTERED;
      end_thread(t, task, true);
      bpf_task_storage_delete(&thread_of_task, task);
    }
    return WEFT_BPF_OK;
  }
  if (slot >= slot_count) return WEFT_BPF_NO_SUCH_SLOT;
  if (tid_hash) return register_by_tid((void*)bpf_get_current_task(), slot, false);
  return register_task(bpf_get_current_task_btf(), slot);
}

/* Kernels before 5.19 refuse bpf() altogether to who has no capability, also for what was inherited or loaded before.
 * There, a thread that wants to register goes to sleep for a moment with a secret of the state page and its slot as
 * surplus arguments of the call. */
static __always_inline void answer_request(struct task_struct* task, bool typed) {
  __u64 request = control.request;
  struct registers regs = {};
  __u32 tid = FIELD(typed, task, pid);
  struct thread* t;
  __u32 slot;
  int result;

  if (!request || control.answer >> 8 == request >> 8) return;
  read_registers(task, typed, &regs);
  if (regs.syscall == -1 || regs.third != request) return;
  slot = regs.fourth;
  t = bpf_map_lookup_elem(&thread_of_tid, &tid);
  if (slot == WEFT_BPF_UNREGISTER) {
    result = t ? WEFT_BPF_OK : WEFT_BPF_NOT_REGISTERED;
    if (t) end_thread(t, task, typed);
  } else if (slot >= slot_count) {
    result = WEFT_BPF_NO_SUCH_SLOT;
  } else {
    result = register_by_tid(task, slot, typed);
  }
  control.answer = request | result;
}

/* -- sched_switch -------------------------------------------------------------------------------------------------- */

static __always_inline int on_switch(bool preempt, struct task_struct* prev, struct task_struct* next,
                                     unsigned int state, bool typed) {
  struct thread *from = thread_of(prev, typed), *to = thread_of(next, typed);
  __u64 now = 0;

  if (tid_hash && control.request) answer_request(prev, typed);
  if (from) {
    now = bpf_ktime_get_ns();
    if (state & TASK_DEAD)
      end_thread(from, prev, typed);
    else
      switch_out(from, prev, preempt, state, now, typed);
  }
  if (to) switch_in(to, next, prev, now ? now : bpf_ktime_get_ns(), typed);
  return 0;
}

SEC("?tp_btf/sched_switch")
int switch_btf(__u64* ctx) {
  struct task_struct* prev = (void*)ctx[1];

  return on_switch(ctx[0], prev, (void*)ctx[2], has_prev_state ? (unsigned int)ctx[3] : state_of(prev, true), true);
}

/* For kernels whose BTF does not describe the tracepoint. */
SEC("?raw_tp/sched_switch")
int switch_raw(__u64* ctx) {
  struct task_struct* prev = (void*)ctx[1];

  if ((long)prev >= 0) return 0;
  return on_switch(ctx[0], prev, (void*)ctx[2], state_of(prev, false), false);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
