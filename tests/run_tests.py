#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs test binaries, shows the output of what failed, and ends with `N passed, N failed`.

A binary stands at BUILD/CONFIG/tests/KIND/NAME. Models and examples are plain programs: status 0 is a pass and 77 a
skip, and each counts as one. All others are GoogleTest binaries, of which every case counts. A case that ends its
process, by a crash or at the time limit, is a failure of that case alone: the cases after it are run by a new process.

What runs binaries in another way (tests/vm/run.py) is given by --also. It ends with such a line itself, which counts.
"""

import argparse
import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLAIN_KINDS = ("model", "examples")
SANITIZERS = ("tsan", "asan")
SKIP_STATUS = 77
# Left out of a short run under a sanitizer, where each of them takes minutes.
SLOW_CASES = "-*million*:*slow*:*huge*"
# A goroutine dump on SIGQUIT is wanted from a process that hangs, and takes this long at most.
DUMP_SECONDS = 5
MAX_OUTPUT_LINES = 200
# Cases of one binary that may run into the time limit before the rest is given up.
MAX_HANGS = 2
ADDR_NO_RANDOMIZE = 0x0040000
STARTED = re.compile(r"^\[ RUN      \] (\S+)$", re.MULTILINE)
ENDED = re.compile(r"\[ +(OK|FAILED|SKIPPED) +\] ([^\s,]+\.[^\s,]+).*\(\d+ ms\)")


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skipped = 0
        self.failures = []

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures

    def fail(self, title, output):
        self.failed += 1
        self.failures.append((title, output))

    def __str__(self):
        text = f"{self.passed} passed, {self.failed} failed"
        return f"{text}, {self.skipped} skipped" if self.skipped else text


class Binary:
    def __init__(self, path, args):
        self.path = Path(path)
        self.config, _, self.kind, self.name = self.path.parts[-4:]
        self.label = f"{self.config} {self.kind}/{self.name}"
        self.quick = args.quick_sanitizers and self.config in SANITIZERS
        self.timeout = args.timeout
        self.filter = args.filter or (SLOW_CASES if self.quick else "*")

    def environment(self):
        env = dict(os.environ)
        env["WEFT_BIN"] = str((self.path.parents[2] / "weft").resolve())
        if self.quick:
            env["WEFT_TEST_QUICK"] = "1"
        suppressions = ROOT / "tests" / "tsan.supp"
        tsan = ["halt_on_error=0", "second_deadlock_stack=1", "history_size=4"]
        if suppressions.exists():
            tsan.append(f"suppressions={suppressions}")
        env.setdefault("TSAN_OPTIONS", ":".join(tsan))
        env.setdefault("ASAN_OPTIONS", "detect_leaks=1:strict_string_checks=1")
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        return env

    def prepare(self):
        # A shell ignores these two for what it starts in the background; the tests send and expect them.
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # The address space layout of newer kernels has more random bits than older ThreadSanitizers can map.
        if self.config == "tsan":
            ctypes.CDLL(None).personality(ctypes.c_ulong(ADDR_NO_RANDOMIZE))

    def execute(self, arguments):
        """Returns the status (None at the time limit) and the output, both streams as one."""
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen([str(self.path.resolve())] + arguments, stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=subprocess.STDOUT, env=self.environment(), cwd=ROOT,
                                       start_new_session=True, preexec_fn=self.prepare)
            try:
                status = self.wait(process, output)
            except subprocess.TimeoutExpired:
                status = None
                process.send_signal(signal.SIGQUIT)
                try:
                    process.wait(DUMP_SECONDS)
                except subprocess.TimeoutExpired:
                    pass
            finally:
                kill_group(process)
            output.seek(0)
            return status, output.read().decode(errors="replace")

    def wait(self, process, output):
        """The time limit is for a case: it begins anew when the process has said something."""
        said = 0
        until = time.monotonic() + self.timeout
        while True:
            try:
                return process.wait(min(1, self.timeout))
            except subprocess.TimeoutExpired:
                size = os.fstat(output.fileno()).st_size
                if size != said:
                    said = size
                    until = time.monotonic() + self.timeout
                elif time.monotonic() > until:
                    raise

    def run(self):
        return self.run_plain() if self.kind in PLAIN_KINDS else self.run_gtest()

    def run_plain(self):
        tally = Tally()
        status, output = self.execute([])
        if status == 0:
            tally.passed += 1
        elif status == SKIP_STATUS:
            tally.skipped += 1
        else:
            tally.fail(f"{self.label}: {self.describe(status)}", output)
        return tally

    def run_gtest(self):
        tally = Tally()
        left = self.list_cases()
        if left is None:
            tally.fail(f"{self.label}: does not list its cases", "")
            return tally
        pattern = self.filter
        hangs = 0
        while left:
            status, output = self.execute(["--gtest_color=no", f"--gtest_filter={pattern}"])
            begun = self.count(tally, status, output)
            if not begun:
                tally.fail(f"{self.label}: {self.describe(status)} before the first case", output)
                break
            if not self.broke_off(status, output):
                break
            left = [case for case in left if case not in begun]
            pattern = ":".join(left)
            hangs += status is None
            if hangs == MAX_HANGS:
                for case in left:
                    tally.fail(f"{self.label} {case}: not run, after {hangs} others that hung", "")
                break
        return tally

    def list_cases(self):
        status, output = self.execute([f"--gtest_filter={self.filter}", "--gtest_list_tests"])
        if status != 0:
            return None
        cases = []
        suite = ""
        for line in output.splitlines():
            name = line.split("#")[0].rstrip()
            if line.startswith("  "):
                if "DISABLED_" not in suite + name:
                    cases.append(suite + name.strip())
            elif name.endswith("."):
                suite = name
        return cases

    @staticmethod
    def broke_off(status, output):
        return status is None or re.search(r"^\[==========\] .* ran\.", output, re.MULTILINE) is None

    def count(self, tally, status, output):
        """Adds the cases of one process to the tally and returns the names of those that began."""
        ended = {}
        for match in ENDED.finditer(output):
            ended.setdefault(match[2], (match[1], match.end()))
        failed_before = tally.failed
        started = list(STARTED.finditer(output))
        for match in started:
            name = match[1]
            verdict, end = ended.get(name, (self.describe(status), len(output)))
            if verdict == "OK":
                tally.passed += 1
            elif verdict == "SKIPPED":
                tally.skipped += 1
            else:
                title = f"{self.label} {name}" + ("" if verdict == "FAILED" else f": {verdict}")
                tally.fail(title, output[match.start():end])
        # A sanitizer's report may change nothing but the status of the process.
        if status not in (0, None) and tally.failed == failed_before:
            report = re.search(r"^.*(WARNING: \w+Sanitizer|ERROR: \w+Sanitizer|runtime error:)", output, re.MULTILINE)
            tally.fail(f"{self.label}: {self.describe(status)} with every case passed",
                       output[report.start():] if report else output)
        return {match[1] for match in started}

    def describe(self, status):
        if status is None:
            return f"silent for {self.timeout} s"
        if status < 0:
            return f"ended by {signal.Signals(-status).name}"
        return f"status {status}"


class Runner:
    """A Python script that runs tests of its own and ends with a line like ours, and perhaps a reason in parentheses."""

    SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped(?: \((.*)\))?)?$")

    def __init__(self, command):
        self.command = shlex.split(command)
        script = next(word for word in self.command if word.endswith(".py"))
        self.label = self.config = Path(script).parent.name

    def run(self):
        ran = subprocess.run(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             cwd=ROOT, text=True, errors="replace", check=False)
        tally = Tally()
        lines = ran.stdout.rstrip().splitlines()
        summary = self.SUMMARY.match(lines[-1]) if lines else None
        if not summary:
            tally.fail(f"{self.label}: status {ran.returncode} without a summary", ran.stdout)
            return tally
        tally.passed, tally.skipped = int(summary[1]), int(summary[3] or 0)
        for line in lines:
            if line.startswith("FAILED "):
                tally.fail(f"{self.label}: {line.removeprefix('FAILED ')}", "")
        if tally.failures:
            tally.failures[0] = (tally.failures[0][0], ran.stdout)
        if summary[4]:
            print(f"{self.label}: skipped, {summary[4]}", flush=True)
        return tally


def kill_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def shorten(output):
    lines = output.rstrip().splitlines()
    if len(lines) <= MAX_OUTPUT_LINES:
        return "\n".join(lines)
    half = MAX_OUTPUT_LINES // 2
    left_out = [f"... {len(lines) - 2 * half} lines left out ..."]
    return "\n".join(lines[:half] + left_out + lines[-half:])


class Progress:
    """One line that is written over on a terminal; one line a configuration elsewhere."""

    def __init__(self, total):
        self.total = total
        self.live = sys.stdout.isatty() and "CI" not in os.environ
        self.config = None
        self.since = time.monotonic()
        self.tally = Tally()

    def begin(self, number, binary):
        if self.config not in (None, binary.config):
            self.end_config()
        self.config = binary.config
        if self.live:
            print(f"\r\033[K[{number}/{self.total}] {binary.label}", end="", flush=True)

    def end(self, tally):
        self.tally.add(tally)
        if self.live:
            print("\r\033[K", end="")
        for title, output in tally.failures:
            text = shorten(output)
            print(f"FAILED {title}" + (f"\n{text}\n" if text else ""), flush=True)

    def end_config(self):
        if self.config:
            print(f"{self.config}: {self.tally} in {time.monotonic() - self.since:.1f} s", flush=True)
        self.since = time.monotonic()
        self.tally = Tally()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binaries", nargs="+", metavar="BINARY")
    parser.add_argument("--timeout", type=float, default=120, metavar="S", help="for one case (%(default)s)")
    parser.add_argument("--filter", default="", help="GoogleTest's pattern for the cases to run")
    parser.add_argument("--quick-sanitizers", action="store_true",
                        help="under a sanitizer, leave the slow cases out and set WEFT_TEST_QUICK=1")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the last line to FILE too")
    parser.add_argument("--also", action="append", default=[], metavar="COMMAND", help="a runner of other tests")
    args = parser.parse_args()

    total = Tally()
    runs = [Binary(path, args) for path in args.binaries] + [Runner(command) for command in args.also]
    progress = Progress(len(runs))
    for number, run in enumerate(runs, 1):
        progress.begin(number, run)
        tally = run.run()
        total.add(tally)
        progress.end(tally)
    progress.end_config()
    for title, _ in total.failures:
        print(f"FAILED {title}")
    print(total)
    if args.summary:
        args.summary.write_text(f"{total}\n", encoding="utf-8")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
