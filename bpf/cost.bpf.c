/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The programs that are switched on to measure what the kernel charges: context switches by kind, wake-ups on the same
 * CPU and across, TLB flushes by reason, page faults by slot. While they are on, every context switch, wake-up, fault
 * and flush of the machine costs 60 to 150 ns more, so this is for a look now and then.
 *
 * A switch is timed from sched_switch until the next thread is about to leave the scheduler (sched_exit_tp, 6.14); the
 * kernels before have nothing to tell the latter, and there switches are only counted. A CPU's sums are written on that
 * CPU, by programs that do not interrupt each other but for a fault or flush, which write other fields.
 *
 * The maps of threads and the control page are those of the always-on programs.
 */
#include "threads.bpf.h"

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct weft_bpf_cpu_cost);
} cpu_costs SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct weft_bpf_faults);
} faults SEC(".maps");

struct cpu_state {
  __u64 switch_began;
  __u32 switch_kind; /* plus one; 0: none that counts is under way */
  bool ours;         /* a registered thread has the CPU */
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct cpu_state);
} cpu_states SEC(".maps");

static __always_inline struct cpu_state* this_state(void) {
  __u32 zero = 0;

  return bpf_map_lookup_elem(&cpu_states, &zero);
}

static __always_inline struct weft_bpf_cpu_cost* cost_of(__u32 cpu) { return bpf_map_lookup_elem(&cpu_costs, &cpu); }

static __always_inline void add(struct weft_bpf_sum* sum, __u64 ns) {
  sum->timed++;
  sum->ns += ns;
}

static __always_inline __u32 kind_of(struct task_struct* prev, struct task_struct* next) {
  if (!next->mm) return WEFT_BPF_LAZY_TLB;
  if (next->mm != prev->active_mm) return WEFT_BPF_OTHER_MM;
  return prev->mm ? WEFT_BPF_SAME_MM : WEFT_BPF_LAZY_TLB;
}

static __always_inline void end_wake(struct weft_bpf_cpu_cost* cost, struct thread* t, __u32 cpu, __u64 now) {
  struct weft_bpf_sum* wake = &cost->wakes[t->waker_cpu == cpu ? WEFT_BPF_WAKE_SAME_CPU : WEFT_BPF_WAKE_CROSS_CPU];

  wake->count++;
  if (now > t->waking_ns) add(wake, now - t->waking_ns);
  t->waking_ns = 0;
}

SEC("?tp_btf/sched_switch")
int on_switch(__u64* ctx) {
  struct task_struct *prev = (void*)ctx[1], *next = (void*)ctx[2];
  struct thread *from = thread_of(prev, true), *to = thread_of(next, true);
  __u32 cpu = bpf_get_smp_processor_id(), kind = kind_of(prev, next);
  struct cpu_state* state = this_state();
  struct weft_bpf_cpu_cost* cost = cost_of(cpu);
  __u32 registered = 0;
  __u64 now;

  if (!state || !cost) return 0;
  state->ours = to != 0;
  state->switch_kind = 0;
  if (from) registered = 1;
  barrier_var(registered); /* or the compiler makes from | to of it, which the verifier refuses */
  if (to) registered = 1;
  if (!registered) return 0;
  now = bpf_ktime_get_ns();
  if (to) {
    if (to->waking_ns) end_wake(cost, to, cpu, now);
  }
  cost->switches[kind].count++;
  state->switch_kind = kind + 1;
  state->switch_began = now;
  return 0;
}

SEC("?tp_btf/sched_exit_tp")
int on_switched(__u64* ctx) {
  struct cpu_state* state = this_state();
  struct weft_bpf_cpu_cost* cost;
  __u32 kind;

  if (!ctx[0] || !state || !state->switch_kind) return 0;
  kind = state->switch_kind - 1;
  state->switch_kind = 0;
  cost = cost_of(bpf_get_smp_processor_id());
  if (!cost || kind >= WEFT_BPF_SWITCH_KINDS) return 0;
  add(&cost->switches[kind], bpf_ktime_get_ns() - state->switch_began);
  return 0;
}

SEC("?tp_btf/sched_waking")
int on_waking(__u64* ctx) {
  struct thread* t = thread_of((struct task_struct*)ctx[0], true);

  if (!t) return 0;
  t->waker_cpu = bpf_get_smp_processor_id();
  t->waking_ns = bpf_ktime_get_ns();
  return 0;
}

SEC("?tp_btf/tlb_flush")
int on_tlb_flush(__u64* ctx) {
  struct cpu_state* state = this_state();
  struct weft_bpf_cpu_cost* cost;
  __u32 reason = ctx[0];

  if (!state || !state->ours) return 0;
  cost = cost_of(bpf_get_smp_processor_id());
  if (!cost || reason >= WEFT_BPF_FLUSH_REASONS) return 0;
  cost->tlb_flushes[reason]++;
  return 0;
}

#define FAULT_WRITE 0x2
#define FAULT_INSTRUCTION 0x10

static __always_inline void count_fault(struct thread* t, __u64 error_code) {
  __u32 key = t->slot;
  struct weft_bpf_faults* f = bpf_map_lookup_elem(&faults, &key);

  if (!f) return;
  if (error_code & FAULT_WRITE)
    f->writes++;
  else if (error_code & FAULT_INSTRUCTION)
    f->instructions++;
  else
    f->reads++;
}

SEC("?tp_btf/page_fault_user")
int on_page_fault(__u64* ctx) {
  struct thread* t =
      tid_hash ? thread_of((void*)bpf_get_current_task(), false) : thread_of(bpf_get_current_task_btf(), true);

  if (t) count_fault(t, ctx[2]);
  return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
