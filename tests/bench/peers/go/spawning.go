// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

func spawnJoinOne(o options) {
	var one sync.WaitGroup
	start := time.Now()
	for i := 0; i < o.ops; i++ {
		one.Add(1)
		go one.Done()
		one.Wait()
	}
	report("spawn_join_one", o, perOp(time.Since(start), o.ops), "ns")
}

func spawnBatch(count int) time.Duration {
	var all sync.WaitGroup
	all.Add(count)
	start := time.Now()
	for i := 0; i < count; i++ {
		go all.Done()
	}
	all.Wait()
	return time.Since(start)
}

func spawnBatch1000(o options) {
	const batch = 1000
	spawnBatch(batch)
	var total time.Duration
	for i := 0; i < o.ops/batch; i++ {
		total += spawnBatch(batch)
	}
	report("spawn_batch_1000", o, perOp(total, o.ops/batch*batch), "ns")
}

func spawnBatch1m(o options) {
	report("spawn_batch_1m_cold", o, perOp(spawnBatch(o.ops), o.ops), "ns")
	report("spawn_batch_1m", o, perOp(spawnBatch(o.ops), o.ops), "ns")
}

func fib(n int) int {
	if n < 2 {
		return n
	}
	var left int
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		left = fib(n - 1)
		done.Done()
	}()
	right := fib(n - 2)
	done.Wait()
	return left + right
}

func fib27(o options) {
	start := time.Now()
	fib(o.ops)
	report("fib_27", o, time.Since(start).Seconds()*1e3, "ms")
}

func skynet(result chan<- int, first, size int) {
	if size == 1 {
		result <- first
		return
	}
	const children = 10
	parts := make(chan int)
	for i := 0; i < children; i++ {
		go skynet(parts, first+i*(size/children), size/children)
	}
	sum := 0
	for i := 0; i < children; i++ {
		sum += <-parts
	}
	result <- sum
}

func skynet1m(o options) {
	result := make(chan int)
	start := time.Now()
	go skynet(result, 0, o.ops)
	if <-result != o.ops*(o.ops-1)/2 {
		panic("wrong sum")
	}
	report("skynet_1m", o, time.Since(start).Seconds()*1e3, "ms")
	report("skynet_1m_peak", o, statusBytes("VmHWM")/1e9, "GB")
}

func parked1m(o options) {
	never := make(chan struct{})
	var started int64
	rss, pageTables := statusBytes("VmRSS"), statusBytes("VmPTE")
	for i := 0; i < o.ops; i++ {
		go func() {
			atomic.AddInt64(&started, 1)
			<-never
		}()
	}
	for atomic.LoadInt64(&started) != int64(o.ops) {
		runtime.Gosched()
	}
	report("parked_1m", o, (statusBytes("VmRSS")-rss)/float64(o.ops), "B")
	report("parked_1m_pte", o, (statusBytes("VmPTE")-pageTables)/float64(o.ops), "B")
}
