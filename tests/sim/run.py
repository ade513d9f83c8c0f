#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Simulates weft's scheduling policy beside Go's and prints one table.

The simulation (simulation.h) runs the scheduler's own policy code on machines that are not there. The table gives, for
each work, number of nodes and cost of computing far from one's memory: the throughput with weft's policy as a ratio of
that with Go's (median of the rounds, least and greatest), the share of runs on the node where the memory is, the share
of the Ps' time in which one slept while a task waited for a P, and the 99th percentile of the wait for a P.

  run.py --seed 7                          other chance; the seed is printed, and the same one gives the same figures
  run.py --nodes 2,4 --remote 2            a part
  run.py --work server,pipeline_across
  run.py --plot FILE                       only draw the picture of an earlier results.json

Written: build/sim/results.json with all runs, and build/sim/policy.png.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import pictures  # noqa: E402

ROOT = HERE.parent.parent
TITLES = {
    "server": "server, connections on all nodes",
    "server_one_node": "server, all memory on node 0",
    "fork_join": "fork-join, a root on each node",
    "fork_join_one_node": "fork-join, one root",
    "pipeline": "pipeline, pairs within a node",
    "pipeline_across": "pipeline, consumer on the next node",
}


def simulate(program, arguments):
    """All runs, as the program prints them."""
    runs = []
    child = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, text=True)
    for line in child.stdout:
        runs.append(json.loads(line))
        if sys.stderr.isatty():
            text = f"{len(runs)} runs: {runs[-1]['work']}, {runs[-1]['nodes']} nodes"
            print(f"\r\033[K{text[:shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return runs if child.wait() == 0 else None


def summarize(runs):
    """One dictionary for each work on each machine."""
    machines = {}
    for run in runs:
        sides = machines.setdefault((run["work"], run["nodes"], run["remote"]), {})
        sides.setdefault(run["policy"], []).append(run)
    rows = []
    for (work, nodes, remote), sides in machines.items():
        ratios = [w["throughput"] / g["throughput"] for w, g in zip(sides["weft"], sides["go"])]
        row = {"work": work, "nodes": nodes, "remote": remote, "ratio": statistics.median(ratios), "min": min(ratios),
               "max": max(ratios)}
        for side, found in sides.items():
            row[side] = {what: statistics.median(run[what] for run in found)
                         for what in ("throughput", "home_share", "idle_beside_work", "wait_p50", "wait_p99")}
        rows.append(row)
    return rows


def table(rows):
    lines = [("work", "nodes", "remote", "weft/Go", "min - max", "weft M/s", "Go M/s", "at home", "Go",
              "idle beside work", "Go", "wait p99", "Go")]
    before = None
    for row in rows:
        weft, go = row["weft"], row["go"]
        lines.append((TITLES[row["work"]] if row["work"] != before else "", str(row["nodes"]),
                      f"x{row['remote']:g}" if row["nodes"] > 1 else "-", f"{row['ratio']:.2f}",
                      f"{row['min']:.2f} - {row['max']:.2f}",
                      *(f"{side['throughput'] / 1e6:.3f}" for side in (weft, go)),
                      *(f"{100 * side['home_share']:.1f} %" for side in (weft, go)),
                      *(f"{100 * side['idle_beside_work']:.2f} %" for side in (weft, go)),
                      *(f"{1e6 * side['wait_p99']:.0f} us" for side in (weft, go))))
        before = row["work"]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(c.ljust(w) if i == 0 else c.rjust(w)
                               for i, (c, w) in enumerate(zip(line, widths))).rstrip() for line in lines)


def draw(results_path):
    """weft's throughput as a ratio of Go's, over the number of nodes; False when this Python has no matplotlib."""
    pyplot = pictures.pyplot()
    if pyplot is None:
        return False
    results = json.loads(results_path.read_text())
    works = list(dict.fromkeys(row["work"] for row in results["rows"]))
    columns = min(len(works), 2)
    size = (6 * columns, 1 + 3 * len(works) / columns)
    figure, panels = pyplot.subplots(-(-len(works) // columns), columns, figsize=size,
                                     squeeze=False, sharex=True, sharey=True)
    for axes, work in zip((axes for line in panels for axes in line), works):
        rows = [row for row in results["rows"] if row["work"] == work]
        for remote in sorted({row["remote"] for row in rows if row["nodes"] > 1}):
            line = [row for row in rows if row["remote"] == remote or row["nodes"] == 1]
            spread = [[row["ratio"] - row["min"] for row in line], [row["max"] - row["ratio"] for row in line]]
            axes.errorbar([row["nodes"] for row in line], [row["ratio"] for row in line], spread, marker="o", capsize=3,
                          label=f"far memory x{remote:g}")
        axes.axhline(1, color="grey", linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        axes.set_ylim(bottom=0)
        axes.set_title(TITLES[work])
        axes.grid(True, alpha=0.3)
        axes.legend(loc="lower right", fontsize="small")
    for axes in panels[-1]:
        axes.set_xlabel(f"nodes of {results['ps_per_node']} Ps")
    for line in panels:
        line[0].set_ylabel("throughput, weft's policy / Go's")
    figure.tight_layout()
    figure.savefig(results_path.parent / "policy.png", dpi=120)
    pyplot.close(figure)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "build/release/tests/sim/sim", metavar="FILE")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build" / "sim", metavar="DIR")
    options, rest = parser.parse_known_args()  # the rest is the program's
    if options.plot:
        return 0 if draw(options.plot) else 1
    runs = simulate(options.program.resolve(), ["--seed", str(options.seed), *rest])
    if runs is None:
        return 2
    rows = summarize(runs)
    print(table(rows))
    print(f"seed {options.seed}; {len(runs)} runs")
    options.output.mkdir(parents=True, exist_ok=True)
    results_path = options.output / "results.json"
    results_path.write_text(json.dumps({"seed": options.seed, "ps_per_node": runs[0]["ps_per_node"], "rows": rows,
                                        "runs": runs}, indent=1))
    print(f"written: {results_path}")
    if not pictures.draw_with_any_python(draw, __file__, results_path):
        print("no picture: apt-get install python3-matplotlib")
    lost = sum(run["lost"] for run in runs)
    if lost:
        print(f"{lost} tasks were lost", file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
