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

// delayOfOther: one goroutine blocks in block(i), another is runnable, and calls release. How long until it runs?
func delayOfOther(name string, o options, prepare func(), block func(i int), release func()) {
	debug.SetGCPercent(-1)
	epoch := time.Now()
	var beforeBlock int64
	found := make([]time.Duration, 0, o.ops)
	next, done := make(chan int, 1), make(chan bool)
	go func() {
		for i := 0; i < o.ops; i++ {
			<-next
			if before := atomic.SwapInt64(&beforeBlock, 0); before != 0 {
				found = append(found, time.Since(epoch)-time.Duration(before))
			}
			release()
		}
		done <- true
	}()
	for i := 0; i < o.ops; i++ {
		prepare()
		next <- 1
		atomic.StoreInt64(&beforeBlock, int64(time.Since(epoch)))
		block(i)
	}
	<-done
	reportLatencies(name, o, found)
}

// handoff: in read(2), until the other writes.
func handoff(name string, o options, prepare func()) {
	var pipe [2]int
	if err := syscall.Pipe(pipe[:]); err != nil {
		die("pipe", err)
	}
	buffer := make([]byte, 1)
	read := func(int) {
		for {
			if _, err := syscall.Read(pipe[0], buffer); err == nil {
				return
			} else if err != syscall.EINTR {
				die("read", err)
			}
		}
	}
	write := func() {
		if _, err := syscall.Write(pipe[1], []byte{1}); err != nil {
			die("write", err)
		}
	}
	delayOfOther(name, o, prepare, read, write)
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
