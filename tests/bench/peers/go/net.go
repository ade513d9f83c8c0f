// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// pinThread keeps this thread, and those that it will start, on the first of the CPUs that it may use.
func pinThread() {
	var set [16]uint64
	syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
	for i, word := range set {
		if word != 0 {
			set = [16]uint64{}
			set[i] = word & -word
			break
		}
	}
	syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
}

// pinAll does so with all threads that there are.
func pinAll() {
	tasks, _ := os.ReadDir("/proc/self/task")
	var set [16]uint64
	syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
	for _, task := range tasks {
		tid, _ := strconv.Atoi(task.Name())
		syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, uintptr(tid), unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
	}
}

// startClient starts one of the C++ programs, see echo_client.h. Afterwards this process has one P on a CPU of its own.
func startClient(kind string, listener net.Listener, o options) *exec.Cmd {
	client := exec.Command(filepath.Join(filepath.Dir(os.Args[0]), "raw_epoll"), kind,
		strconv.Itoa(listener.Addr().(*net.TCPAddr).Port), strconv.Itoa(o.ops))
	client.Stdout, client.Stderr = os.Stdout, os.Stderr
	runtime.GOMAXPROCS(1)
	if err := client.Start(); err != nil {
		panic(err)
	}
	runtime.LockOSThread()
	pinThread()
	pinAll()
	runtime.UnlockOSThread()
	return client
}

func listenOnLoopback() net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	return listener
}

// httpHello64: net/http, as it comes.
func httpHello64(o options) {
	listener := listenOnLoopback()
	client := startClient("wrk", listener, o)
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "Hello, World!\n")
	}))
	if err := client.Wait(); err != nil {
		panic(err)
	}
}

func tcpEcho64(o options) {
	listener := listenOnLoopback()
	client := startClient("client", listener, o)
	var serving sync.WaitGroup
	for i := 0; i < 64; i++ {
		conn, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		serving.Add(1)
		go func() {
			defer serving.Done()
			buffer := make([]byte, 1024)
			for {
				n, err := conn.Read(buffer)
				if err != nil {
					return
				}
				conn.Write(buffer[:n])
			}
		}()
	}
	serving.Wait()
	if err := client.Wait(); err != nil {
		panic(err)
	}
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	report("tcp_echo_64_cpu", o, float64(usage.Utime.Nano()+usage.Stime.Nano())/float64(o.ops), "ns")
}

// datagramBesideLoops: one goroutine a P calls nothing, ever. How late is a datagram's reader?
func datagramBesideLoops(o options) {
	to, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		panic(err)
	}
	sender := exec.Command(filepath.Join(filepath.Dir(os.Args[0]), "raw_epoll"), "datagrams",
		strconv.Itoa(to.LocalAddr().(*net.UDPAddr).Port), strconv.Itoa(o.ops))
	sender.Stderr = os.Stderr
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
	if err := sender.Start(); err != nil {
		panic(err)
	}
	var late []time.Duration
	buffer := make([]byte, 8)
	for len(late) < o.ops {
		if _, err := to.Read(buffer); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		var now syscall.Timespec
		syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&now)), 0)
		late = append(late, time.Duration(now.Nano()-*(*int64)(unsafe.Pointer(&buffer[0]))))
	}
	stop.Store(true)
	loops.Wait()
	sender.Wait()
	reportLatencies("datagram_beside_loops", o, late)
}
