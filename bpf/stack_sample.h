/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs of stack_sampler.bpf.c hand over: C, for both sides.
 */
#pragma once

#ifndef __bpf__
#include <linux/types.h>
#endif

enum weft_sample_kind {
  WEFT_SAMPLE_ON_CPU = 1, /* it runs */
  WEFT_SAMPLE_OFF_CPU,    /* it is about to leave its CPU, or has left it before the sampling began */
  WEFT_SAMPLE_BACK,       /* it is back: no stack */
};

/* Why it left its CPU, if not the number of the system call that it is in. */
enum {
  WEFT_SAMPLE_PAGE_FAULT = -1,
  WEFT_SAMPLE_PREEMPTED = -2,
  WEFT_SAMPLE_STOPPED = -3,
};

enum {
  WEFT_SAMPLE_PAGE = 4096,
  WEFT_SAMPLE_PAGES = 5, /* of a stack at most: that of which it uses a part, and four whole ones */
  WEFT_SAMPLE_STACK = WEFT_SAMPLE_PAGES * WEFT_SAMPLE_PAGE,
  WEFT_SAMPLE_REGISTERS = 33, /* in DWARF's order; x86-64: the last is rip, which is number 16; arm64: x0-x30, sp, pc */
};

struct weft_sample {
  __u32 kind;
  __u32 target; /* the process's number among the targets */
  __u32 tid;    /* as the initial namespace counts */
  __s32 reason;
  __u64 ns;         /* CLOCK_MONOTONIC; of WEFT_SAMPLE_BACK: how long it was off its CPU */
  __u32 weight;     /* one of so many whose stacks were not copied */
  __u32 stack_size; /* bytes of `stack` that count */
  __u64 registers[WEFT_SAMPLE_REGISTERS];
  __u8 stack[WEFT_SAMPLE_STACK]; /* from the stack pointer upwards */
};
