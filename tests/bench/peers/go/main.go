// SPDX-License-Identifier: Apache-2.0

// Go, the peer whose meaning weft takes over: the same works as weft's programs, written as a Go programmer would write
// them. The command line and the form of the results are those of tests/bench/bench.h.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

type options struct {
	procs int
	ops   int
}

type work struct {
	name       string
	defaultOps int
	run        func(options)
}

var works = []work{
	{"yield", 1_000_000, yield},
	{"chan_unbuffered", 500_000, chanUnbuffered},
	{"chan_buffered", 5_000_000, chanBuffered},
	{"select_2_ready", 5_000_000, select2Ready},
	{"select_pingpong", 500_000, selectPingPong},
	{"mutex_4", 8_000_000, mutex4},
	{"mutex_uncontended", 20_000_000, mutexUncontended},
	{"spawn_join_one", 500_000, spawnJoinOne},
	{"spawn_batch_1000", 1_000_000, spawnBatch1000},
	{"spawn_batch_1m", 1_000_000, spawnBatch1m},
	{"fib_27", 27, fib27},
	{"skynet_1m", 1_000_000, skynet1m},
	{"parked_1m", 1_000_000, parked1m},
	{"handoff_read_hot", 3000, handoffReadHot},
	{"handoff_read_idle", 20, handoffReadIdle},
	{"handoff_read_after_20ms", 40, handoffReadAfter20ms},
	{"fault_50ms", 20, fault50ms},
	{"fault_64", 6_400, fault64},
	{"nanosleep_64", 12_800, nanosleep64},
	{"syscall_overhead", 20_000, syscallOverhead},
	{"two_blocked_stall", 20, twoBlockedStall},
	{"wake_idle_p", 200, wakeIdleP},
	{"wake_spinning_p", 5_000, wakeSpinningP},
	{"locked_pingpong", 10_000, lockedPingPong},
	{"sleep_50us", 300, sleep50us},
	{"timer_busy", 4000, timerBusy},
	{"ticker_busy", 4000, tickerBusy},
	{"sleep_beside_loops", 200, sleepBesideLoops},
	{"idle_cpu", 3000, idleCPU},
	{"tcp_echo_64", 300_000, tcpEcho64},
	{"http_hello_64", 3, httpHello64},
	{"datagram_beside_loops", 200, datagramBesideLoops},
	{"ring_10", 2_000_000, ring(10)},
	{"ring_1000", 2_000_000, ring(1000)},
	{"ring_1000000", 2_000_000, ring(1_000_000)},
	{"timer_beside_10", 1_000_000, timerBeside(10)},
	{"timer_beside_1000", 1_000_000, timerBeside(1000)},
	{"timer_beside_100000", 1_000_000, timerBeside(100_000)},
	{"sleepers_10", 1_000, sleepers(10)},
	{"sleepers_1000", 50_000, sleepers(1000)},
	{"sleepers_100000", 500_000, sleepers(100_000)},
	{"sleep_500ms", 100_000, sleep500ms},
	{"close_1000", 100_000, closeWaking(1000)},
	{"close_100000", 300_000, closeWaking(100_000)},
	{"pairs", 2_000_000, pairs},
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: list | version | WORK [--procs P] [--ops N], where WORK is one of:")
	for _, w := range works {
		fmt.Fprintln(os.Stderr, " ", w.name)
	}
	os.Exit(2)
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	switch os.Args[1] {
	case "list":
		for _, w := range works {
			fmt.Println(w.name)
		}
		return
	case "version":
		fmt.Println(runtime.Version())
		return
	case "disk": // see faults.go
		count, _ := strconv.Atoi(os.Args[2])
		delay, _ := strconv.ParseInt(os.Args[3], 10, 64)
		disk(count, time.Duration(delay))
		return
	}
	for _, w := range works {
		if w.name != os.Args[1] {
			continue
		}
		flags := flag.NewFlagSet(w.name, flag.ExitOnError)
		procs := flags.Int("procs", 1, "GOMAXPROCS")
		ops := flags.Int("ops", w.defaultOps, "how often the work is done")
		flags.Parse(os.Args[2:])
		if *procs < 1 || *ops < 1 || flags.NArg() != 0 {
			usage()
		}
		runtime.GOMAXPROCS(*procs)
		w.run(options{*procs, *ops})
		return
	}
	usage()
}
