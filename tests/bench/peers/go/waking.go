// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"runtime/debug"
	"sync"
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

// underLoad: four goroutines a P wait for their times while two a P compute and let others run every 10 us.
func underLoad(name string, o options, wait func(i, rounds int, late []time.Duration)) {
	waiters := 4 * o.procs
	rounds := o.ops / waiters
	if rounds < 1 {
		rounds = 1
	}
	late := make([]time.Duration, waiters*rounds)
	var stop int32
	var busy, waiting sync.WaitGroup
	busy.Add(2 * o.procs)
	for i := 0; i < 2*o.procs; i++ {
		go func() {
			for atomic.LoadInt32(&stop) == 0 {
				computeFor(10 * time.Microsecond)
				runtime.Gosched()
			}
			busy.Done()
		}()
	}
	waiting.Add(waiters)
	for i := 0; i < waiters; i++ {
		go func(i int) {
			wait(i, rounds, late[i*rounds:(i+1)*rounds])
			waiting.Done()
		}(i)
	}
	waiting.Wait()
	atomic.StoreInt32(&stop, 1)
	busy.Wait()
	reportLatencies(name, o, late)
}

func timerBusy(o options) {
	start := time.Now()
	underLoad("timer_busy", o, func(_, rounds int, late []time.Duration) {
		for k := 1; k <= rounds; k++ {
			due := start.Add(time.Duration(k) * 2 * time.Millisecond)
			time.Sleep(time.Until(due))
			late[k-1] = time.Since(due)
		}
	})
}

func tickerBusy(o options) {
	underLoad("ticker_busy", o, func(i, rounds int, late []time.Duration) {
		time.Sleep(time.Duration(70*i) * time.Microsecond)
		const period = 2 * time.Millisecond
		start := time.Now()
		beats := time.NewTicker(period)
		for k := 0; k < rounds; k++ {
			<-beats.C
			late[k] = time.Since(start) % period
		}
		beats.Stop()
	})
}

func idleCPU(o options) {
	before, start := cpuSeconds(), time.Now()
	time.Sleep(time.Duration(o.ops) * time.Millisecond)
	report("idle_cpu", o, 100*(cpuSeconds()-before)/time.Since(start).Seconds(), "%")
}

// sleepBesideLoops: one goroutine a P calls nothing, ever. How late is a sleeper of 1 ms?
func sleepBesideLoops(o options) {
	var stop atomic.Bool
	var loops sync.WaitGroup
	for i := 0; i < o.procs; i++ {
		loops.Add(1)
		go func() {
			defer loops.Done()
			for !stop.Load() {
			}
		}()
	}
	var found []time.Duration
	for i := 0; i < o.ops; i++ {
		start := time.Now()
		time.Sleep(time.Millisecond)
		found = append(found, time.Since(start)-time.Millisecond)
	}
	stop.Store(true)
	loops.Wait()
	reportLatencies("sleep_beside_loops", o, found)
}
