// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const maxPrintedSamples = 2000

type result struct {
	Work    string    `json:"work"`
	Procs   int       `json:"procs"`
	Ops     int       `json:"ops"`
	Value   float64   `json:"value"`
	Unit    string    `json:"unit"`
	P50     float64   `json:"p50,omitempty"`
	P90     float64   `json:"p90,omitempty"`
	P99     float64   `json:"p99,omitempty"`
	Max     float64   `json:"max,omitempty"`
	Samples []float64 `json:"samples_us,omitempty"`
}

func (r result) print() {
	line, err := json.Marshal(r)
	if err != nil {
		die("json", err)
	}
	fmt.Println(string(line))
}

func report(name string, o options, value float64, unit string) {
	result{Work: name, Procs: o.procs, Ops: o.ops, Value: value, Unit: unit}.print()
}

func reportLatencies(name string, o options, samples []time.Duration) {
	sort.Slice(samples, func(i, j int) bool { return samples[i] < samples[j] })
	at := func(q float64) float64 {
		return float64(samples[int(q*float64(len(samples)-1))].Nanoseconds()) / 1e3
	}
	printed := len(samples)
	if printed > maxPrintedSamples {
		printed = maxPrintedSamples
	}
	thinned := []float64{at(0)}
	for i := 1; i < printed; i++ {
		thinned = append(thinned, at(float64(i)/float64(printed-1)))
	}
	result{name, o.procs, o.ops, at(.5), "us", at(.5), at(.9), at(.99), at(1), thinned}.print()
}

func perOp(elapsed time.Duration, ops int) float64 {
	return float64(elapsed.Nanoseconds()) / float64(ops)
}

func die(what string, err error) {
	fmt.Fprintln(os.Stderr, what, err)
	os.Exit(1)
}

// computeFor keeps the CPU busy without any call that could reschedule.
func computeFor(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

// kernelSleep is a raw nanosleep(2), the blocking call that the works about blocking make.
func kernelSleep(d time.Duration) {
	t := syscall.NsecToTimespec(d.Nanoseconds())
	syscall.Nanosleep(&t, nil)
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		die("getrusage", err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

// statusBytes returns a line of /proc/self/status, as "VmRSS", in bytes.
func statusBytes(key string) float64 {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		die("status", err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 1 && fields[0] == key+":" {
			kilobytes, err := strconv.ParseFloat(fields[1], 64)
			if err != nil {
				die(key, err)
			}
			return kilobytes * 1024
		}
	}
	return 0
}
