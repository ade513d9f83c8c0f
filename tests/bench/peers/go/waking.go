// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime/debug"
	"sync/atomic"
	"time"
)

// wakeParked: the waker computes for gap, hands over a message and computes on until the receiver has answered.
func wakeParked(name string, o options, gap time.Duration) {
	debug.SetGCPercent(-1)
	epoch := time.Now()
	var arrived int64
	found := make([]time.Duration, 0, o.ops)
	start := make(chan int, 1)
	go func() {
		for range start {
			atomic.StoreInt64(&arrived, int64(time.Since(epoch)))
		}
	}()
	for i := 0; i < o.ops; i++ {
		computeFor(gap)
		before := time.Since(epoch)
		start <- 1
		after := int64(0)
		for after == 0 {
			after = atomic.SwapInt64(&arrived, 0)
		}
		found = append(found, time.Duration(after)-before)
	}
	reportLatencies(name, o, found)
}

func wakeIdleP(o options) { wakeParked("wake_idle_p", o, 2*time.Millisecond) }

func wakeSpinningP(o options) { wakeParked("wake_spinning_p", o, 2*time.Microsecond) }

func sleep50us(o options) {
	const delay = 50 * time.Microsecond
	overshoot := make([]time.Duration, 0, o.ops)
	for i := 0; i < o.ops; i++ {
		start := time.Now()
		time.Sleep(delay)
		overshoot = append(overshoot, time.Since(start)-delay)
	}
	reportLatencies("sleep_50us", o, overshoot)
}

func idleCPU(o options) {
	before, start := cpuSeconds(), time.Now()
	time.Sleep(time.Duration(o.ops) * time.Millisecond)
	report("idle_cpu", o, 100*(cpuSeconds()-before)/time.Since(start).Seconds(), "%")
}
