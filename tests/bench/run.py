#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures weft against its peers and prints one table.

Every work runs in a fresh process, pinned to named CPUs. After a warm-up round come interleaved rounds: in each, every
program does every work once, so that a disturbance of the machine hits all of them alike. The table gives the median
and the least and greatest of the rounds, weft's median as a ratio of each peer's (for ns, us, ms, B, GB and % less is
better, for M/s and calls/s more), and weft's target. The median of p99 is that of all rounds' samples pooled. A `~`
after a row's name: the machine was busy with something else while it ran (over 5 % of it, or over 1 % stolen by the
hypervisor).

  run.py                       everything
  run.py --filter chan         the works whose name or description contains "chan"; FILTER=chan does the same
  run.py --rounds 9            more rounds
  run.py --p1-cpus 2           a run with one P may use two CPUs: Go's and Boost.Fiber's threads can then leave the CPU
  run.py --scale               how the costs grow, with goroutines, Ps and timers
  run.py --heavy               also the works for which Boost.Fiber needs 10 GB of memory and up to 20 s
  run.py --plot FILE           only draw the pictures of an earlier results.json
  GO=/path/to/go run.py        measure against that Go; otherwise the `go` of PATH

The programs come from the build (`make bench`), except Go's, which is built here, offline. A program runs alone too:
build/release/tests/bench/switching yield --procs 1 --ops 1000000

Written: build/bench/results.json with all values, and build/bench/WORK.png for each work that measures a latency.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import pictures  # noqa: E402

ROOT = HERE.parent.parent
RUN_TIMEOUT_S = 30
BUSY_OTHER = 0.05  # share of the machine that others may use before a row is marked
BUSY_STEAL = 0.01
NOT_HERE = 77  # a program's status where this machine lacks what a work needs


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table for each program: a result, of a work that runs with a number of Ps."""

    work: str
    procs: int
    text: str
    target: str = ""  # "<= 12": in the unit of the result
    metric: str = "value"
    result: str = ""  # the result's name where it is not the work's

    @property
    def name(self):
        return self.result or self.work

    def reached(self, value):
        bound = float(self.target.split()[1])
        return value <= bound if self.target.startswith("<=") else value >= bound


# The targets are stated for a VM with two vCPUs of an AMD EPYC (Zen 5) and kernel 6.18.
ROWS = [
    Row("yield", 1, "yield, a switch", "<= 12"),
    Row("chan_unbuffered", 1, "unbuffered channel, round trip", "<= 60"),
    Row("chan_unbuffered", 2, "unbuffered channel, round trip", "<= 80"),
    Row("chan_buffered", 1, "buffered channel (128), a message", "<= 12"),
    Row("chan_buffered", 2, "buffered channel (128), a message", "<= 20"),
    Row("select_2_ready", 1, "select of 2 ready channels, and a send", "<= 25"),
    Row("select_pingpong", 1, "ping-pong by select, round trip", "<= 100"),
    Row("select_pingpong", 2, "ping-pong by select, round trip"),
    Row("spawn_join_one", 1, "spawn + join, one at a time", "<= 60"),
    Row("spawn_join_one", 2, "spawn + join, one at a time", "<= 150"),
    Row("spawn_batch_1000", 1, "spawn 1000, then join, each"),
    Row("spawn_batch_1000", 2, "spawn 1000, then join, each"),
    Row("spawn_batch_1m", 1, "spawn 1 M, then join, each; first time", result="spawn_batch_1m_cold"),
    Row("spawn_batch_1m", 1, "spawn 1 M, then join, each; again", "<= 60"),
    Row("spawn_batch_1m", 2, "spawn 1 M, then join, each; first time", result="spawn_batch_1m_cold"),
    Row("spawn_batch_1m", 2, "spawn 1 M, then join, each; again", "<= 60"),
    Row("skynet_1m", 1, "skynet, 1 M leaves over channels", "<= 250"),
    Row("skynet_1m", 2, "skynet, 1 M leaves over channels", "<= 140"),
    Row("skynet_1m", 1, "skynet, peak resident memory", "<= 0.6", result="skynet_1m_peak"),
    Row("fib_27", 1, "fork-join fib(27)", "<= 40"),
    Row("fib_27", 2, "fork-join fib(27)", "<= 25"),
    Row("mutex_4", 1, "mutex, 4 goroutines", ">= 120"),
    Row("mutex_4", 2, "mutex, 4 goroutines", ">= 65"),
    Row("mutex_uncontended", 1, "mutex, uncontended lock + unlock", "<= 6"),
    Row("parked_1m", 1, "resident bytes a parked goroutine, 1 M", "<= 4500"),
    Row("parked_1m", 1, "page tables a parked goroutine, 1 M", result="parked_1m_pte"),
    Row("two_blocked_stall", 2, "two blocked 20 x 50 ms: longest stop of a third", "<= 50"),
    Row("handoff_read_hot", 1, "block in read -> other runs, hot, p50", "<= 5", "p50"),
    Row("handoff_read_hot", 1, "block in read -> other runs, hot, p99", "<= 12", "p99"),
    Row("handoff_read_idle", 1, "block in read -> other runs, after idle, p50", "<= 5", "p50"),
    Row("handoff_read_idle", 1, "block in read -> other runs, after idle, p99", "<= 12", "p99"),
    Row("handoff_read_after_20ms", 1, "block in read -> other runs, after 20 ms, p50", "<= 5", "p50"),
    Row("handoff_read_after_20ms", 1, "block in read -> other runs, after 20 ms, p99", "<= 12", "p99"),
    Row("handoff_read_unannounced", 1, "a plain read -> other runs, hot, p50", "<= 5", "p50"),
    Row("handoff_read_unannounced", 1, "a plain read -> other runs, hot, p99", "<= 12", "p99"),
    Row("fault_50ms", 1, "page fault of 50 ms -> other runs, p50", "<= 10", "p50"),
    Row("fault_50ms", 1, "page fault of 50 ms -> other runs, p99", "<= 50", "p99"),
    Row("fault_64", 1, "64 goroutines in page faults of 100 us", ">= 60000"),
    Row("nanosleep_64", 1, "64 goroutines in nanosleep(100 us)", ">= 200000"),
    Row("nanosleep_64", 2, "64 goroutines in nanosleep(100 us)"),
    Row("syscall_overhead", 1, "a call that does not block, above the raw call", "<= 3"),
    Row("sleep_50us", 1, "sleep of 50 us: overshoot, p50", "<= 15", "p50"),
    Row("sleep_beside_loops", 2, "sleep of 1 ms under a tight loop a P: overshoot, p50", "<= 200", "p50"),
    Row("sleep_beside_loops", 2, "sleep of 1 ms under a tight loop a P: overshoot, p99", "<= 2000", "p99"),
    Row("timer_busy", 2, "timers due at once while all Ps compute: lateness, p50", metric="p50"),
    Row("timer_busy", 2, "timers due at once while all Ps compute: lateness, p99", metric="p99"),
    Row("ticker_busy", 2, "staggered tickers while all Ps compute: lateness, p50", metric="p50"),
    Row("ticker_busy", 2, "staggered tickers while all Ps compute: lateness, p99", metric="p99"),
    Row("wake_idle_p", 2, "wake an idle P, waker computes on, p50", "<= 30", "p50"),
    Row("wake_spinning_p", 2, "the same 2 us after its last work, p50", "<= 1", "p50"),
    Row("locked_pingpong", 1, "ping-pong with a locked thread", "<= 4"),
    Row("locked_pingpong", 2, "ping-pong with a locked thread", "<= 4"),
    Row("tcp_echo_64", 2, "TCP echo, 64 connections, server on one CPU (p99 us)", metric="p99",
        result="tcp_echo_64_latency"),
    Row("tcp_echo_64", 2, "TCP echo, 64 connections, server on one CPU"),
    Row("tcp_echo_64", 2, "the same, the server's CPU time a request", result="tcp_echo_64_cpu"),
    Row("http_hello_64", 2, "HTTP hello, 64 connections (wrk), server on one CPU"),
    Row("datagram_beside_loops", 1, "a datagram's reader under a tight loop a P, p50", "<= 200", "p50"),
    Row("datagram_beside_loops", 2, "a datagram's reader under a tight loop a P, p50", "<= 200", "p50"),
    Row("datagram_beside_loops", 2, "a datagram's reader under a tight loop a P, p99", metric="p99"),
    Row("compute_bound", 1, "a step of a goroutine that computes"),
    Row("idle_cpu", 1, "idle process, share of a CPU", "<= 0.02"),
    Row("probes_switch_ours", 1, "what the probes add to a switch of ours", "<= 165"),
    Row("probes_switch_other", 1, "what they add to a switch of another process", "<= 100"),
    Row("trace_chan_unbuffered", 1, "what tracing adds to an unbuffered channel", "<= 2"),
    Row("trace_chan_unbuffered", 1, "of its events, those recorded", result="trace_chan_unbuffered_recorded"),
    Row("trace_chan_buffered", 1, "what tracing adds to a buffered channel", "<= 2"),
]

# What `make bench-scale` prints: how the costs grow.
SCALE_ROWS = [
    *(Row(f"ring_{n}", 1, f"a hop in a ring of {n:,} goroutines") for n in (10, 1000, 1_000_000)),
    *(Row("pairs", n, "a round trip, as many pairs as Ps") for n in (1, 2, 4, 16, 64)),
    *(Row(f"timer_beside_{n}", 1, f"reset and stop of a timer beside {n:,} others") for n in (10, 1000, 100_000)),
    *(Row(f"sleepers_{n}", 1, f"CPU time of a sleep, {n:,} sleepers") for n in (10, 1000, 100_000)),
    *(Row("sleep_500ms", 2, f"100,000 sleep for 500 ms: lateness, {q}", metric=q) for q in ("p50", "p99")),
    *(Row(f"close_{n}", 1, f"close of a channel that {n:,} wait on, each") for n in (1000, 100_000)),
]

# Nothing is left warm for the next process of these: they sleep, or start from a cold heap on purpose.
NO_WARM_UP = {"two_blocked_stall", "handoff_read_idle", "handoff_read_after_20ms", "idle_cpu", "parked_1m"}


@dataclasses.dataclass
class Side:
    """weft or a peer: its programs, and what each can do."""

    name: str
    programs: list
    hint: str  # how to get it where it is missing
    min_procs: int = 1
    max_procs: int = 1024
    heavy: frozenset = frozenset()
    env: dict = dataclasses.field(default_factory=dict)
    cannot: frozenset = frozenset()
    works: dict = dataclasses.field(default_factory=dict)  # work -> program

    def discover(self):
        for program in self.programs:
            if not program.exists():
                continue
            listed = subprocess.run([program, "list"], capture_output=True, text=True, check=True)
            self.works.update((work, program) for work in listed.stdout.split())

    def can(self, work, procs, with_heavy):
        return work in self.works and work not in self.cannot and self.min_procs <= procs <= self.max_procs and (
            with_heavy or work not in self.heavy)


def build_go(binary):
    """Builds Go's program and returns Go's version, or None when there is no Go."""
    go = shutil.which(os.environ.get("GO") or "go")
    if go is None:
        return None
    binary.parent.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ, GOFLAGS="-mod=mod", GOPROXY="off", GOTOOLCHAIN="local", GOWORK="off", CGO_ENABLED="0")
    env.pop("GOMAXPROCS", None)
    subprocess.run([go, "build", "-o", binary, "."], cwd=HERE / "peers" / "go", env=env, check=True)
    return subprocess.run([binary, "version"], capture_output=True, text=True, check=True).stdout.strip()


def sides(build_dir):
    programs = build_dir / "tests" / "bench"
    peers = programs / "peers"
    boost = "apt-get install libboost-fiber-dev, then make bench"
    heavy = frozenset({"spawn_batch_1m", "skynet_1m"})
    tiers = [programs / "blocking", programs / "waking"]
    return [
        Side("weft", [programs / source.stem for source in sorted(HERE.glob("*.cpp"))], "make bench"),
        Side("weft, sentinel", tiers, "make bench", env={"WEFT_KERNEL_ASSIST": "sentinel"}),
        Side("weft, off", tiers, "make bench", env={"WEFT_KERNEL_ASSIST": "off"},
             cannot=frozenset({"handoff_read_unannounced"})),  # 10 ms and more each
        Side("Go", [peers / "go_bench"], "apt-get install golang-go, or GO=/path/to/go (newer ones: golang-1.23-go in "
             "bookworm-backports, golang-1.27-go in sid)"),
        Side("Boost.Fiber", [peers / "boost_fiber"], boost, heavy=heavy),
        Side("Boost.Fiber shared_work", [peers / "boost_fiber_shared_work"], boost, min_procs=2, heavy=heavy),
        Side("Boost.Context", [peers / "boost_context"], boost, max_procs=1),
        Side("pthreads", [peers / "pthreads"], "make bench"),
        Side("Boost.Asio", [peers / "boost_asio"], boost, min_procs=2),
        Side("raw epoll", [peers / "raw_epoll"], "make bench", min_procs=2),
    ]


class Load:
    """What the machine did besides the programs under test, from /proc/stat."""

    def __init__(self):
        self.elapsed = self.other = self.stolen = 0.0

    @staticmethod
    def _machine():
        ticks = [int(t) for t in open("/proc/stat", encoding="ascii").readline().split()[1:9]]
        user, nice, system, _, _, irq, softirq, steal = ticks
        scale = 1.0 / os.sysconf("SC_CLK_TCK")
        return sum(ticks) * scale, (user + nice + system + irq + softirq) * scale, steal * scale

    @staticmethod
    def _ours():
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in usages)

    def __enter__(self):
        self.before = (*self._machine(), self._ours())
        return self

    def __exit__(self, *_):
        total, busy, steal, ours = (now - then for now, then in zip((*self._machine(), self._ours()), self.before))
        self.elapsed, self.other, self.stolen = total, max(0.0, busy - ours), steal

    def add(self, more):
        self.elapsed += more.elapsed
        self.other += more.other
        self.stolen += more.stolen

    def shares(self):
        return (self.other / self.elapsed, self.stolen / self.elapsed) if self.elapsed else (0.0, 0.0)

    def busy(self):
        other, stolen = self.shares()
        return other > BUSY_OTHER or stolen > BUSY_STEAL


def run_program(program, work, procs, cpus, more_env):
    """Runs one work once, pinned; returns its results by name, or what went wrong."""
    mine = os.sched_getaffinity(0)
    env = {key: value for key, value in os.environ.items() if key not in ("GOMAXPROCS", "GOGC", "GODEBUG")}
    env.update(more_env)
    os.sched_setaffinity(0, cpus)
    try:
        child = subprocess.Popen([program, work, "--procs", str(procs)], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, env=env)
    finally:
        os.sched_setaffinity(0, mine)
    try:
        out, err = child.communicate(timeout=RUN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return f"no result within {RUN_TIMEOUT_S} s"
    if child.returncode == NOT_HERE:
        return f"not here: {err.strip()}"
    if child.returncode != 0:
        first = err.strip().splitlines()[:1]
        return f"status {child.returncode}: {first[0] if first else 'no message'}"
    return {result["work"]: result for result in map(json.loads, out.splitlines())}


class Session:
    """All measurements of one call: results[(side, work, procs)] is a list with one entry a round."""

    def __init__(self, options, contestants, rows):
        self.options = options
        self.contestants = contestants
        self.rows = rows
        self.runs = list(dict.fromkeys((row.work, row.procs) for row in rows))
        self.results, self.failures, self.loads, self.total_load = {}, {}, {}, Load()
        allowed = sorted(os.sched_getaffinity(0))
        self.cpus = {p: set(allowed[:max(p, options.p1_cpus)]) for p in {procs for _, procs in self.runs}}

    def measure(self):
        for number in range(self.options.rounds + 1):
            for work, procs in self.runs:
                if number == 0 and work in NO_WARM_UP:
                    continue
                self._measure_one(number, work, procs)
        self._progress("")

    def _measure_one(self, number, work, procs):
        able = [s for s in self.contestants if s.can(work, procs, self.options.heavy)]
        shift = number % len(able) if able else 0
        for side in able[shift:] + able[:shift]:
            key = (side.name, work, procs)
            if key in self.failures:
                continue
            what = f"round {number}/{self.options.rounds}" if number else "warm-up"
            self._progress(f"{what}: {side.name} {work}, {procs} P")
            with Load() as load:
                outcome = run_program(side.works[work], work, procs, self.cpus[procs], side.env)
            if isinstance(outcome, str):
                self.failures[key] = outcome
            elif number > 0:
                self.results.setdefault(key, []).append(outcome)
                self.loads.setdefault((work, procs), Load()).add(load)
                self.total_load.add(load)

    @staticmethod
    def _progress(text):
        if sys.stderr.isatty():
            print(f"\r\033[K{text[:shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)


def not_here(failure):
    return failure.startswith("not here: ")


def pooled_quantile(samples, q):
    ordered = sorted(samples)
    return ordered[int(q * (len(ordered) - 1))]


def summarize(session):
    """One dictionary a row, as results.json has them."""
    summary = []
    for row in session.rows:
        entry = {"work": row.name, "text": row.text, "procs": row.procs, "metric": row.metric, "target": row.target,
                 "busy": session.loads.get((row.work, row.procs), Load()).busy(), "sides": {}}
        for side in session.contestants:
            key = (side.name, row.work, row.procs)
            if key in session.failures:
                entry["sides"][side.name] = {"failure": session.failures[key]}
                continue
            found = [results[row.name] for results in session.results.get(key, []) if row.name in results]
            if not found:
                continue
            values = [f[row.metric] for f in found]
            one = {"median": statistics.median(values), "min": min(values), "max": max(values), "values": values,
                   "ops": found[0]["ops"]}
            entry["unit"] = found[0]["unit"]
            if "samples_us" in found[0]:
                one["samples_us"] = sorted(sample for f in found for sample in f["samples_us"])
            if row.metric == "p99":
                one["median"] = pooled_quantile(one["samples_us"], 0.99)
            entry["sides"][side.name] = one
        weft = entry["sides"].get("weft", {})
        if "median" in weft:
            if row.target:
                entry["reached"] = row.reached(weft["median"])
            for name, one in entry["sides"].items():
                if name != "weft" and one.get("median", 0) > 0:
                    one["weft_ratio"] = weft["median"] / one["median"]
        if entry["sides"]:
            summary.append(entry)
    return summary


def number(value):
    if value != 0 and abs(value) < 0.1:
        return f"{value:.4f}"
    if abs(value) < 100:
        return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
    return f"{value:,.0f}"


def table(summary):
    lines = [("work", "P", "unit", "side", "median", "min - max", "weft/peer", "target", "")]
    for entry in summary:
        head = (entry["text"] + (" ~" if entry["busy"] else ""), str(entry["procs"]), entry.get("unit", ""))
        for side, one in entry["sides"].items():
            if "failure" in one:
                what, reason = "failed", one["failure"]
                if not_here(reason):
                    what, reason = reason.split(": ", 1)
                lines.append((*head, side, what, reason, "", "", ""))
            else:
                label = f"{side} ({one['ops']:,})" if "1 M" in entry["text"] and one["ops"] != 10**6 else side
                ratio = f"{one['weft_ratio']:.2g}" if "weft_ratio" in one else ""
                target, verdict = "", ""
                if side == "weft" and entry["target"]:
                    target, verdict = entry["target"], "reached" if entry["reached"] else "MISSED"
                lines.append((*head, label, number(one["median"]), f"{number(one['min'])} - {number(one['max'])}",
                              ratio, target, verdict))
            head = ("", "", "")
    figures = [line for line in lines if line[4] not in ("failed", "not here")]
    widths = [max(len(line[i]) for line in (figures if i == 5 else lines)) for i in range(len(lines[0]))]
    right = {1, 4, 6}
    text = []
    for line in lines:
        cells = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths)))
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def cpu_model():
    for line in open("/proc/cpuinfo", encoding="utf-8", errors="replace"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def draw(results_path):
    """Draws each latency's distribution; False when this Python has no matplotlib."""
    pyplot = pictures.pyplot()
    if pyplot is None:
        return False
    for entry in json.loads(results_path.read_text())["rows"]:
        curves = {name: one["samples_us"] for name, one in entry["sides"].items() if "samples_us" in one}
        if entry["metric"] != "p50" or not curves:
            continue
        figure, axes = pyplot.subplots(figsize=(8, 5))
        for name, samples in curves.items():
            shares = [(i + 1) / len(samples) for i in range(len(samples))]
            axes.step(samples, shares, where="post", label=f"{name} (p50 {number(pooled_quantile(samples, .5))} us)")
        axes.set_xscale("log")
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("us")
        axes.set_ylabel("share of operations at or below")
        axes.set_title(f"{entry['text'].removesuffix(', p50')} (P = {entry['procs']})")
        axes.grid(True, which="both", alpha=0.3)
        axes.legend(loc="lower right")
        figure.tight_layout()
        figure.savefig(results_path.parent / f"{entry['work']}.png", dpi=120)
        pyplot.close(figure)
    return True


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter", default=os.environ.get("FILTER", ""), metavar="TEXT")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--p1-cpus", type=int, default=1, metavar="N")
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--heavy", action="store_true")
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--build-dir", type=pathlib.Path, default=ROOT / "build" / "release", metavar="DIR",
                        help="where the programs are (default: build/release)")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build" / "bench", metavar="DIR",
                        help="where results.json and the pictures go (default: build/bench)")
    options = parser.parse_args()
    if options.rounds < 1 or options.p1_cpus < 1:
        parser.error("--rounds and --p1-cpus must be at least 1")
    return options


def main():
    options = parse_options()
    if options.plot:
        return 0 if draw(options.plot) else 1
    rows = [row for row in (SCALE_ROWS if options.scale else ROWS) if options.filter in row.name or options.filter in row.text]
    if not rows:
        print(f"no work's name or description contains {options.filter!r}", file=sys.stderr)
        return 2
    contestants = sides(options.build_dir.resolve())
    go_version = build_go(options.build_dir.resolve() / "tests" / "bench" / "peers" / "go_bench")
    machine = {"cpu": cpu_model(), "cpus": os.cpu_count(), "kernel": platform.release(), "go": go_version}
    print(f"{machine['cpu']}, {machine['cpus']} CPUs, kernel {machine['kernel']}, {go_version or 'no Go'}")
    for side in contestants:
        if side.name != "Go" or go_version:
            side.discover()
        missing = [p.name for p in side.programs if not p.exists()]
        if not side.works:
            print(f"{side.name}: not here; {side.hint}")
        elif missing:
            print(f"{side.name}: {', '.join(missing)} not built; {side.hint}")
    allowed = len(os.sched_getaffinity(0))
    if max(row.procs for row in rows) > allowed and not options.scale:
        print(f"only {allowed} CPU may be used: the rows with more Ps share it")

    start = time.monotonic()
    session = Session(options, contestants, rows)
    session.measure()
    summary = summarize(session)
    print(table(summary))
    other, stolen = session.total_load.shares()
    busy = "; BUSY: repeat on a quiet machine" if session.total_load.busy() else ""
    seconds = time.monotonic() - start
    print(f"{options.rounds} rounds in {seconds:.0f} s; others used {100 * other:.1f} % of the machine, "
          f"{100 * stolen:.1f} % was stolen{busy}")
    left_out = sorted({work for s in contestants for work in s.heavy & set(s.works) if not options.heavy
                       and work in {row.work for row in rows}})
    if left_out:
        print(f"Boost.Fiber left out of {', '.join(left_out)} (10 GB); --heavy measures it")

    options.output.mkdir(parents=True, exist_ok=True)
    results_path = options.output / ("scale.json" if options.scale else "results.json")
    results_path.write_text(json.dumps({"machine": machine, "rounds": options.rounds, "p1_cpus": options.p1_cpus,
                                        "others_share": other, "stolen_share": stolen, "rows": summary}, indent=1))
    print(f"written: {results_path}")
    if any("samples_us" in one for entry in summary for one in entry["sides"].values()):
        if not pictures.draw_with_any_python(draw, __file__, results_path):
            print("no pictures: apt-get install python3-matplotlib")
    return 1 if any(key[0] == "weft" and not not_here(why) for key, why in session.failures.items()) else 0


if __name__ == "__main__":
    sys.exit(main())
