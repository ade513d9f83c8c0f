// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"sync"
	"time"
)

func ring(n int) func(options) {
	return func(o options) {
		rounds := o.ops / n
		if rounds < 1 {
			rounds = 1
		}
		links := make([]chan int, n)
		for i := range links {
			links[i] = make(chan int)
		}
		var all sync.WaitGroup
		all.Add(n - 1)
		for i := 1; i < n; i++ {
			go func(from, to chan int) {
				for value := range from {
					to <- value
				}
				close(to)
				all.Done()
			}(links[i-1], links[i])
		}
		start := time.Now()
		for i := 0; i < rounds; i++ {
			links[0] <- 1
			<-links[n-1]
		}
		elapsed := time.Since(start)
		close(links[0])
		<-links[n-1]
		all.Wait()
		report(fmt.Sprintf("ring_%d", n), o, perOp(elapsed, rounds*n), "ns")
	}
}

func timerBeside(n int) func(options) {
	return func(o options) {
		pending := make([]*time.Timer, n)
		for i := range pending {
			pending[i] = time.AfterFunc(time.Duration(1+i%100)*time.Hour, func() {})
		}
		one := time.AfterFunc(time.Hour, func() {})
		start := time.Now()
		for i := 0; i < o.ops; i++ {
			one.Reset(time.Duration(1+i%100) * time.Minute)
			one.Stop()
		}
		report(fmt.Sprintf("timer_beside_%d", n), o, perOp(time.Since(start), o.ops), "ns")
		for _, t := range pending {
			t.Stop()
		}
	}
}

func sleepers(n int) func(options) {
	return func(o options) {
		rounds := o.ops / n
		if rounds < 1 {
			rounds = 1
		}
		var all sync.WaitGroup
		all.Add(n)
		before := cpuSeconds()
		for i := 0; i < n; i++ {
			go func(i int) {
				for k := 0; k < rounds; k++ {
					time.Sleep(time.Duration(1000+i*7919%9000) * time.Microsecond)
				}
				all.Done()
			}(i)
		}
		all.Wait()
		report(fmt.Sprintf("sleepers_%d", n), o, 1e9*(cpuSeconds()-before)/float64(rounds*n), "ns")
	}
}

func sleep500ms(o options) {
	const delay = 500 * time.Millisecond
	late := make([]time.Duration, o.ops)
	var all sync.WaitGroup
	all.Add(o.ops)
	for i := range late {
		go func(i int) {
			start := time.Now()
			time.Sleep(delay)
			late[i] = time.Since(start) - delay
			all.Done()
		}(i)
	}
	all.Wait()
	reportLatencies("sleep_500ms", o, late)
}

func closeWaking(n int) func(options) {
	return func(o options) {
		rounds := o.ops / n
		if rounds < 1 {
			rounds = 1
		}
		var elapsed time.Duration
		for i := 0; i < rounds; i++ {
			c := make(chan int)
			var started, all sync.WaitGroup
			started.Add(n)
			all.Add(n)
			for k := 0; k < n; k++ {
				go func() {
					started.Done()
					<-c
					all.Done()
				}()
			}
			started.Wait()
			time.Sleep(time.Millisecond)
			start := time.Now()
			close(c)
			elapsed += time.Since(start)
			all.Wait()
		}
		report(fmt.Sprintf("close_%d", n), o, perOp(elapsed, rounds*n), "ns")
	}
}

func pairs(o options) {
	each := o.ops / o.procs
	var all sync.WaitGroup
	start := time.Now()
	for p := 0; p < o.procs; p++ {
		there, back := make(chan int), make(chan int)
		all.Add(2)
		go func() {
			for value := range there {
				back <- value
			}
			all.Done()
		}()
		go func() {
			for i := 0; i < each; i++ {
				there <- 1
				<-back
			}
			close(there)
			all.Done()
		}()
	}
	all.Wait()
	report("pairs", o, perOp(time.Since(start), each*o.procs), "ns")
}
