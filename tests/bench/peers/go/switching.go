// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"sync"
	"time"
)

func yield(o options) {
	var both sync.WaitGroup
	both.Add(2)
	start := time.Now()
	for g := 0; g < 2; g++ {
		go func() {
			for i := 0; i < o.ops; i++ {
				runtime.Gosched()
			}
			both.Done()
		}()
	}
	both.Wait()
	report("yield", o, perOp(time.Since(start), 2*o.ops), "ns")
}

func pingPong(o options, lockThread bool) time.Duration {
	ping, pong := make(chan int), make(chan int)
	go func() {
		for value := range ping {
			pong <- value
		}
	}()
	if lockThread {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	start := time.Now()
	for i := 0; i < o.ops; i++ {
		ping <- 1
		<-pong
	}
	elapsed := time.Since(start)
	close(ping)
	return elapsed
}

func chanUnbuffered(o options) {
	report("chan_unbuffered", o, perOp(pingPong(o, false), o.ops), "ns")
}

func lockedPingPong(o options) {
	report("locked_pingpong", o, perOp(pingPong(o, true), o.ops)/1e3, "us")
}

func chanBuffered(o options) {
	stream := make(chan int, 128)
	start := time.Now()
	go func() {
		for i := 0; i < o.ops; i++ {
			stream <- 1
		}
		close(stream)
	}()
	sum := 0
	for value := range stream {
		sum += value
	}
	if sum != o.ops {
		panic("messages lost")
	}
	report("chan_buffered", o, perOp(time.Since(start), o.ops), "ns")
}

func select2Ready(o options) {
	a, b := make(chan int, 1), make(chan int, 1)
	a <- 1
	b <- 1
	received := 0
	start := time.Now()
	for i := 0; i < o.ops; i++ {
		select {
		case <-a:
			received++
			a <- 1
		case <-b:
			received++
			b <- 1
		}
	}
	if received != o.ops {
		panic("messages lost")
	}
	report("select_2_ready", o, perOp(time.Since(start), o.ops), "ns")
}

func selectPingPong(o options) {
	ping, pong, stop := make(chan int), make(chan int), make(chan struct{})
	go func() {
		for {
			select {
			case <-ping:
				pong <- 1
			case <-stop:
				return
			}
		}
	}()
	start := time.Now()
	for i := 0; i < o.ops; i++ {
		ping <- 1
		select {
		case <-pong:
		case <-stop:
		}
	}
	report("select_pingpong", o, perOp(time.Since(start), o.ops), "ns")
	close(stop)
}

func mutex4(o options) {
	const goroutines = 4
	var mutex sync.Mutex
	var all sync.WaitGroup
	counter := 0
	all.Add(goroutines)
	start := time.Now()
	for g := 0; g < goroutines; g++ {
		go func() {
			for i := 0; i < o.ops/goroutines; i++ {
				mutex.Lock()
				counter++
				mutex.Unlock()
			}
			all.Done()
		}()
	}
	all.Wait()
	report("mutex_4", o, 1e3/perOp(time.Since(start), counter), "M/s")
}

func mutexUncontended(o options) {
	var mutex sync.Mutex
	start := time.Now()
	for i := 0; i < o.ops; i++ {
		mutex.Lock()
		mutex.Unlock()
	}
	report("mutex_uncontended", o, perOp(time.Since(start), o.ops), "ns")
}
