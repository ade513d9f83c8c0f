// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"runtime/debug"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// handoff: one goroutine blocks in read(2), another is runnable. How long until it runs?
func handoff(name string, o options, prepare func()) {
	debug.SetGCPercent(-1)
	var pipe [2]int
	if err := syscall.Pipe(pipe[:]); err != nil {
		die("pipe", err)
	}
	epoch := time.Now()
	var beforeRead int64
	found := make([]time.Duration, 0, o.ops)
	next, done := make(chan int, 1), make(chan bool)
	go func() {
		for i := 0; i < o.ops; i++ {
			<-next
			if before := atomic.SwapInt64(&beforeRead, 0); before != 0 {
				found = append(found, time.Since(epoch)-time.Duration(before))
			}
			if _, err := syscall.Write(pipe[1], []byte{1}); err != nil {
				die("write", err)
			}
		}
		done <- true
	}()
	buffer := make([]byte, 1)
	for i := 0; i < o.ops; i++ {
		prepare()
		next <- 1
		atomic.StoreInt64(&beforeRead, int64(time.Since(epoch)))
		for {
			if _, err := syscall.Read(pipe[0], buffer); err == nil {
				break
			} else if err != syscall.EINTR {
				die("read", err)
			}
		}
	}
	<-done
	reportLatencies(name, o, found)
}

func handoffReadHot(o options) { handoff("handoff_read_hot", o, func() {}) }

func handoffReadIdle(o options) {
	handoff("handoff_read_idle", o, func() { time.Sleep(50 * time.Millisecond) })
}

func handoffReadAfter20ms(o options) {
	handoff("handoff_read_after_20ms", o, func() { computeFor(20 * time.Millisecond) })
}

func nanosleep64(o options) {
	const goroutines = 64
	var all sync.WaitGroup
	all.Add(goroutines)
	start := time.Now()
	for g := 0; g < goroutines; g++ {
		go func() {
			for i := 0; i < o.ops/goroutines; i++ {
				kernelSleep(100 * time.Microsecond)
			}
			all.Done()
		}()
	}
	all.Wait()
	report("nanosleep_64", o, 1e9/perOp(time.Since(start), o.ops), "calls/s")
}

// syscallOverhead reports the median over short interleaved batches, so that a disturbance hits both sides alike.
func syscallOverhead(o options) {
	const batches = 31
	differences := make([]float64, batches)
	for b := range differences {
		start := time.Now()
		for i := 0; i < o.ops; i++ {
			syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0)
		}
		raw := time.Since(start)
		start = time.Now()
		for i := 0; i < o.ops; i++ {
			syscall.Syscall(syscall.SYS_GETPPID, 0, 0, 0)
		}
		differences[b] = perOp(time.Since(start)-raw, o.ops)
	}
	sort.Float64s(differences)
	report("syscall_overhead", o, differences[batches/2], "ns")
}

func twoBlockedStall(o options) {
	blocked := int32(2)
	longest := make(chan time.Duration)
	go func() {
		var worst time.Duration
		for last := time.Now(); atomic.LoadInt32(&blocked) != 0; {
			runtime.Gosched()
			now := time.Now()
			if gap := now.Sub(last); gap > worst {
				worst = gap
			}
			last = now
		}
		longest <- worst
	}()
	for w := 0; w < 2; w++ {
		go func() {
			for i := 0; i < o.ops; i++ {
				kernelSleep(50 * time.Millisecond)
			}
			atomic.AddInt32(&blocked, -1)
		}()
	}
	report("two_blocked_stall", o, float64((<-longest).Nanoseconds())/1e3, "us")
}
