/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The profiler's programs: they copy the user registers and the used end of the user stack of threads of the target
 * processes, for somebody to unwind later by the programs' own tables. (The kernel's bpf_get_stack() follows frame
 * pointers, which most programs are compiled without.)
 *
 * on_cpu runs on each CPU's clock. What was interrupted may be in the kernel: the user's registers are where the
 * kernel was entered.
 *
 * on_switch copies at switch-out, while the thread's memory is at hand; at switch-in it tells how long that was. A
 * server may switch a million times a second, so of a thread's stacks one of `every` is copied, chosen at random, which
 * counts for all: after each THREAD_BUDGET stacks in a period `every` doubles, and it is halved after a period that
 * took less than half of them. The same once more for all threads of a CPU. What a stack counts for is fixed when it is
 * chosen, so that sums are unbiased; and as the budgets are the threads', what one that seldom blocks does for long is
 * not left to chance because others block often and shortly.
 *
 * already_off is an iterator, run once after on_switch was attached: it copies the stacks of threads that sleep already
 * and may do so for longer than anybody looks.
 *
 * A target is marked in the task storage of its leader, which whoever loads this reaches by a pidfd: no numbers of
 * processes, which differ between namespaces, and no look-up by hash for all the other processes of the machine.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "stack_sample.h"

#define PERIOD_NS 100000000ull
#define THREAD_BUDGET 20u /* stacks in a period before their number is halved */
#define CPU_BUDGET 100u   /* of a small stack 1.6 microseconds each, so a promille of the CPU's time */
#define MAX_EVERY (1u << 12)
#define MAX_THREADS 16384

/* Set by the loader: the kernel passes prev's state. */
const volatile bool has_prev_state;

__u64 lost; /* samples for which there was no room */

struct {
  __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, __u32); /* its number plus one */
} targets SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 20);
} samples SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct weft_sample);
} buffers SEC(".maps");

/* on_switch may interrupt the iterator, which needs its own. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct weft_sample);
} iterator_buffer SEC(".maps");

struct rate {
  __u64 period_began;
  __u32 every; /* 0: 1 */
  __u32 taken;
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct rate);
} cpus SEC(".maps");

struct thread {
  struct rate rate;
  __u64 off_since; /* 0: it is on a CPU, or its stack was not copied */
};

/* By number. Of more than so many the others are not seen. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_THREADS);
  __type(key, __u32);
  __type(value, struct thread);
} threads SEC(".maps");

/* The process's number plus one; 0: it is none of ours. */
static __always_inline __u32 target_of(struct task_struct* task) {
  struct task_struct* leader = task->group_leader;
  __u32* found;

  if (!leader) return 0;
  found = bpf_task_storage_get(&targets, leader, 0, 0);
  return found ? *found : 0;
}

/* -- What is copied ------------------------------------------------------------------------------------------------ */

#if defined(__TARGET_ARCH_x86)
#define STACK_POINTER 7
static __always_inline long copy_registers(struct task_struct* task, __u64* to) {
  struct pt_regs* regs = (void*)bpf_task_pt_regs(task);

  to[0] = regs->ax;
  to[1] = regs->dx;
  to[2] = regs->cx;
  to[3] = regs->bx;
  to[4] = regs->si;
  to[5] = regs->di;
  to[6] = regs->bp;
  to[7] = regs->sp;
  to[8] = regs->r8;
  to[9] = regs->r9;
  to[10] = regs->r10;
  to[11] = regs->r11;
  to[12] = regs->r12;
  to[13] = regs->r13;
  to[14] = regs->r14;
  to[15] = regs->r15;
  to[16] = regs->ip;
  return (long)regs->orig_ax;
}
#elif defined(__TARGET_ARCH_arm64)
#define STACK_POINTER 31
static __always_inline long copy_registers(struct task_struct* task, __u64* to) {
  struct pt_regs* regs = (void*)bpf_task_pt_regs(task);

#pragma unroll
  for (int i = 0; i < 31; ++i) to[i] = regs->regs[i];
  to[31] = regs->sp;
  to[32] = regs->pc;
  return regs->syscallno;
}
#endif

/* Page by page, up to the first that is not there: a stack may end anywhere. */
#define COPY_STACK(sample, READ)                                                                        \
  do {                                                                                                  \
    __u64 from = (sample)->registers[STACK_POINTER], size = WEFT_SAMPLE_PAGE - from % WEFT_SAMPLE_PAGE; \
    __u64 done = 0;                                                                                     \
    for (int i = 0; i < WEFT_SAMPLE_PAGES; ++i) {                                                       \
      if (done > WEFT_SAMPLE_STACK - WEFT_SAMPLE_PAGE || size > WEFT_SAMPLE_PAGE) break;                \
      if (READ((sample)->stack + done, size, (void*)(from + done))) break;                              \
      done += size;                                                                                     \
      size = WEFT_SAMPLE_PAGE;                                                                          \
    }                                                                                                   \
    (sample)->stack_size = done;                                                                        \
  } while (0)

#define READ_OWN(to, size, from) bpf_probe_read_user(to, size, from)
#define READ_ANOTHERS(to, size, from) bpf_copy_from_user_task(to, size, from, task, 0)

#define HEADER_SIZE __builtin_offsetof(struct weft_sample, stack)

static __always_inline bool hand_over(struct weft_sample* sample) {
  __u64 size = HEADER_SIZE + sample->stack_size;

  if (size > sizeof *sample) return false;
  if (bpf_ringbuf_output(&samples, sample, size, BPF_RB_NO_WAKEUP) == 0) return true;
  __sync_fetch_and_add(&lost, 1);
  return false;
}

static __always_inline struct weft_sample* begin_sample(void* buffer, __u32 kind, __u32 target, __u32 tid) {
  __u32 zero = 0;
  struct weft_sample* sample = bpf_map_lookup_elem(buffer, &zero);

  if (!sample) return 0;
  sample->kind = kind;
  sample->target = target - 1;
  sample->tid = tid;
  sample->reason = 0;
  sample->ns = bpf_ktime_get_ns();
  sample->weight = 1;
  sample->stack_size = 0;
  return sample;
}

/* -- On the CPU ---------------------------------------------------------------------------------------------------- */

SEC("perf_event")
int on_cpu(void* ctx) {
  struct task_struct* task = bpf_get_current_task_btf();
  struct weft_sample* sample;
  __u32 target;

  (void)ctx;
  if (!task->mm) return 0;
  target = target_of(task);
  if (!target) return 0;
  sample = begin_sample(&buffers, WEFT_SAMPLE_ON_CPU, target, task->pid);
  if (!sample) return 0;
  copy_registers(task, sample->registers);
  COPY_STACK(sample, READ_OWN);
  hand_over(sample);
  return 0;
}

/* -- Off the CPU --------------------------------------------------------------------------------------------------- */

#define BLOCKING_STATES (TASK_INTERRUPTIBLE | TASK_UNINTERRUPTIBLE | TASK_STOPPED | TASK_TRACED)

static __always_inline __s32 reason_of(unsigned int state, long syscall) {
  if (state & (TASK_STOPPED | TASK_TRACED)) return WEFT_SAMPLE_STOPPED;
  return syscall < 0 ? WEFT_SAMPLE_PAGE_FAULT : (__s32)syscall;
}

/* What a stack counts for if it is to be copied, or 0. */
static __always_inline __u32 chosen(struct rate* rate, __u32 budget, __u64 now) {
  __u32 every = rate->every ? rate->every : 1;

  if (now - rate->period_began > PERIOD_NS) {
    if (rate->taken < budget / 2 && every > 1) every /= 2;
    rate->taken = 0;
    rate->period_began = now;
  }
  rate->every = every;
  if (bpf_get_prandom_u32() & (every - 1)) return 0;
  if (++rate->taken < budget || every >= MAX_EVERY) return every;
  rate->taken = 0;
  rate->every = 2 * every;
  return every;
}

static __always_inline struct thread* thread_of(__u32 tid) {
  struct thread fresh = {}, *found = bpf_map_lookup_elem(&threads, &tid);

  if (found) return found;
  bpf_map_update_elem(&threads, &tid, &fresh, BPF_NOEXIST);
  return bpf_map_lookup_elem(&threads, &tid);
}

static __always_inline void switch_out(struct task_struct* task, __u32 target, bool preempt, unsigned int state) {
  __u64 now = bpf_ktime_get_ns();
  __u32 zero = 0, of_thread, of_cpu, tid = task->pid;
  struct rate* cpu = bpf_map_lookup_elem(&cpus, &zero);
  struct thread* thread = thread_of(tid);
  struct weft_sample* sample;
  long syscall;

  if (!cpu || !thread) return;
  thread->off_since = 0;
  of_thread = chosen(&thread->rate, THREAD_BUDGET, now);
  if (!of_thread) return;
  of_cpu = chosen(cpu, CPU_BUDGET, now);
  if (!of_cpu) return;
  sample = begin_sample(&buffers, WEFT_SAMPLE_OFF_CPU, target, tid);
  if (!sample) return;
  sample->ns = now;
  sample->weight = of_thread * of_cpu;
  syscall = copy_registers(task, sample->registers);
  sample->reason = !preempt && state & BLOCKING_STATES ? reason_of(state, syscall) : WEFT_SAMPLE_PREEMPTED;
  COPY_STACK(sample, READ_OWN);
  if (hand_over(sample)) thread->off_since = now;
}

static __always_inline void switch_in(struct task_struct* task, __u32 target) {
  __u32 tid = task->pid;
  struct thread* thread = bpf_map_lookup_elem(&threads, &tid);
  struct weft_sample* sample;

  if (!thread || !thread->off_since) return;
  sample = begin_sample(&buffers, WEFT_SAMPLE_BACK, target, tid);
  if (!sample) return;
  sample->ns -= thread->off_since;
  thread->off_since = 0;
  hand_over(sample);
}

static __always_inline void forget(struct task_struct* task) {
  __u32 tid = task->pid;

  bpf_map_delete_elem(&threads, &tid);
}

SEC("tp_btf/sched_switch")
int on_switch(__u64* ctx) {
  struct task_struct *prev = (void*)ctx[1], *next = (void*)ctx[2];
  unsigned int state = has_prev_state ? (unsigned int)ctx[3] : prev->__state;
  __u32 from = target_of(prev), to = target_of(next);

  if (to) switch_in(next, to);
  if (!from) return 0;
  if (state & TASK_DEAD)
    forget(prev);
  else
    switch_out(prev, from, ctx[0], state);
  return 0;
}

/* -- Off the CPU before ------------------------------------------------------------------------------------------- */

/* From Linux 6.2 on, a program that may sleep has to say for how long it looks at a leader; before, there is no way. */
extern void bpf_rcu_read_lock(void) __ksym __weak;
extern void bpf_rcu_read_unlock(void) __ksym __weak;

static __always_inline __u32 target_of_another(struct task_struct* task) {
  __u32 target;

  if (bpf_rcu_read_lock) bpf_rcu_read_lock();
  target = target_of(task);
  if (bpf_rcu_read_unlock) bpf_rcu_read_unlock();
  return target;
}

SEC("iter.s/task")
int already_off(struct bpf_iter__task* ctx) {
  struct task_struct* task = ctx->task;
  struct weft_sample* sample;
  unsigned int state;
  struct thread* thread;
  __u32 target;

  if (!task || !task->mm) return 0;
  target = target_of_another(task);
  state = task->__state;
  if (!target || !(state & BLOCKING_STATES)) return 0;
  thread = thread_of(task->pid);
  if (!thread || thread->off_since) return 0;
  sample = begin_sample(&iterator_buffer, WEFT_SAMPLE_OFF_CPU, target, task->pid);
  if (!sample) return 0;
  sample->reason = reason_of(state, copy_registers(task, sample->registers));
  COPY_STACK(sample, READ_ANOTHERS);
  /* If it sleeps still, it has done so all the time; if it wakes from here on, switch_in() sees what is written first.
   */
  thread->off_since = sample->ns;
  if (!(task->__state & BLOCKING_STATES) || !hand_over(sample)) thread->off_since = 0;
  return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
