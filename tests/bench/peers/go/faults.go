// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Memory whose page faults take a while each, as those of a file on a disk; see tests/bench/slow_pages.h. The disk is a
// process of its own, this program once more: in this one it would need a P.
const (
	pageSize       = 4096
	notHere        = 77
	uffdUserMode   = 1
	uffdAPI        = 0xaa
	uffdSetAPI     = 0xc018aa3f
	uffdRegister   = 0xc020aa00
	uffdZeroPage   = 0xc020aa04
	registerMisses = 1
	uffdDescriptor = 3 // in the disk
	setTimerSlack  = 29
)

type slowPages struct {
	pages []byte
	disk  *exec.Cmd
}

func userfaultfdNumber() uintptr {
	if runtime.GOARCH == "amd64" {
		return 323
	}
	return 282
}

func ioctl(fd, request uintptr, argument unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}

func orNotHere(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "userfaultfd:", err)
		os.Exit(notHere)
	}
}

func newSlowPages(count int, delay time.Duration) *slowPages {
	fd, _, errno := syscall.Syscall(userfaultfdNumber(), syscall.O_CLOEXEC|syscall.O_NONBLOCK|uffdUserMode, 0, 0)
	if errno != 0 {
		orNotHere(errno)
	}
	orNotHere(ioctl(fd, uffdSetAPI, unsafe.Pointer(&[3]uint64{uffdAPI})))
	pages, err := syscall.Mmap(-1, 0, count*pageSize, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		die("mmap", err)
	}
	start := uint64(uintptr(unsafe.Pointer(&pages[0])))
	orNotHere(ioctl(fd, uffdRegister, unsafe.Pointer(&[4]uint64{start, uint64(len(pages)), registerMisses})))
	disk := exec.Command("/proc/self/exe", "disk", strconv.Itoa(count), strconv.FormatInt(delay.Nanoseconds(), 10))
	disk.ExtraFiles = []*os.File{os.NewFile(fd, "userfaultfd")}
	disk.Stderr = os.Stderr
	if err := disk.Start(); err != nil {
		die("disk", err)
	}
	return &slowPages{pages, disk}
}

func (s *slowPages) touch(page int) { s.pages[page*pageSize] = 1 }

// close waits for the disk; all pages must have been touched.
func (s *slowPages) close() {
	if err := s.disk.Wait(); err != nil {
		die("disk", err)
	}
}

type request struct {
	address uint64
	due     time.Time
}

// acceptRequests waits for the next page fault, or until the first that waits is due.
func acceptRequests(waiting []request, delay time.Duration) []request {
	var rest *syscall.Timespec
	if len(waiting) > 0 {
		var t syscall.Timespec
		if left := time.Until(waiting[0].due); left > 0 {
			t = syscall.NsecToTimespec(left.Nanoseconds())
		}
		rest = &t
	}
	readable := struct {
		fd              int32
		events, revents int16
	}{fd: uffdDescriptor, events: 1}
	ready, _, _ := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&readable)), 1,
		uintptr(unsafe.Pointer(rest)), 0, 0, 0)
	if int(ready) <= 0 {
		return waiting
	}
	var faults [64][4]uint64 // uffd_msg: the kind, flags, the address
	bytes, _, errno := syscall.RawSyscall(syscall.SYS_READ, uffdDescriptor, uintptr(unsafe.Pointer(&faults)),
		unsafe.Sizeof(faults))
	if errno != 0 {
		return waiting
	}
	for _, fault := range faults[:bytes/unsafe.Sizeof(faults[0])] {
		waiting = append(waiting, request{fault[2] &^ (pageSize - 1), time.Now().Add(delay)})
	}
	return waiting
}

// disk uses whatever CPU there is, as a disk uses none of the program's.
func disk(count int, delay time.Duration) {
	runtime.LockOSThread()
	var all [128]byte
	for i := range all {
		all[i] = 0xff
	}
	syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(all), uintptr(unsafe.Pointer(&all)))
	syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0)
	var waiting []request
	for served := 0; served < count; {
		waiting = acceptRequests(waiting, delay)
		for ; len(waiting) > 0 && time.Until(waiting[0].due) <= 0; waiting = waiting[1:] {
			// A thread that a signal interrupts in its fault asks again for the same page.
			if ioctl(uffdDescriptor, uffdZeroPage, unsafe.Pointer(&[4]uint64{waiting[0].address, pageSize})) == nil {
				served++
			}
		}
	}
}

// A page fault of 50 ms: how long until another goroutine runs?
func fault50ms(o options) {
	pages := newSlowPages(o.ops, 50*time.Millisecond)
	delayOfOther("fault_50ms", o, func() {}, pages.touch, func() {})
	pages.close()
}

// Page faults of 100 us by 64 goroutines, each with pages of its own.
func fault64(o options) {
	const goroutines = 64
	each := o.ops / goroutines
	pages := newSlowPages(goroutines*each, 100*time.Microsecond)
	var all sync.WaitGroup
	all.Add(goroutines)
	start := time.Now()
	for g := 0; g < goroutines; g++ {
		go func(first int) {
			for i := 0; i < each; i++ {
				pages.touch(first + i)
			}
			all.Done()
		}(g * each)
	}
	all.Wait()
	elapsed := time.Since(start)
	pages.close()
	report("fault_64", o, 1e9/perOp(elapsed, o.ops), "calls/s")
}
