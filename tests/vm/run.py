#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs test binaries in virtual machines: every kernel given, in every NUMA shape given.

A machine boots from an initramfs that holds the binaries, the libraries that they need, and busybox; so no disk, no
modules and no privilege are needed. Without KVM it is emulated: times mean nothing there, counts and orders do. Kernels
are Debian's packages, from whichever release has them.

  tests/vm/run.py build/release/tests/unit/probes_test          all kernels, one node
  tests/vm/run.py --kernel 5.10 --shape 1n --shape 2n BINARY…   two machines
  tests/vm/run.py --filter 'assist.*' BINARY                    only some cases

They have the machine to themselves, and may take its CPUs away (WEFT_TEST_OWN_MACHINE).
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Version as people say it -> (release and suite that has it, the beginning of the package's name). What stands behind
# the version changes with every security update.
KERNELS = {
    "5.10": ("debian-security bullseye-security", "linux-image-5.10.0-"),
    "6.1": ("debian-security bookworm-security", "linux-image-6.1.0-"),
    "6.12": ("debian-security bookworm-security", "linux-image-6.12."),
    "7.2": ("debian trixie-backports", "linux-binary-7.2."),
}
FLAVOUR = "cloud-amd64"
MIRROR = "http://deb.debian.org"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# CPUs and megabytes of each node, and distances.
SHAPES = {
    "1n": ([("0-3", 1536)], {}),
    "2n": ([("0-1", 768), ("2-3", 768)], {(0, 1): 21}),
    "4n": ([("0-1", 512), ("2-3", 512), ("4-5", 512), ("6-7", 512)],
           {(0, 1): 16, (0, 2): 22, (0, 3): 32, (1, 2): 32, (1, 3): 22, (2, 3): 16}),
    "cpuless": ([("0-3", 1024), ("", 512)], {(0, 1): 40}),
    "memless": ([("0-1", 1536), ("2-3", 0)], {(0, 1): 21}),
    "smt": ([("0-3", 768), ("4-7", 768)], {(0, 1): 21}),
    "ccx": ([("0-7", 1536)], {}),  # two last-level caches in one node
}
CPUS = {"4n": "8,sockets=4,cores=2,threads=1", "1n": "4", "cpuless": "4", "smt": "8,sockets=2,cores=2,threads=2",
        "ccx": "8,sockets=2,cores=4,threads=1"}
SKIP_STATUS = 77
FETCH_TIMEOUT = 20
LAST_LINES = 60  # shown of a binary that did not end

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/mqueue
mount -t tmpfs tmp /tmp
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup /sys/fs/cgroup 2> /dev/null
ip link set lo up
chmod 1777 /tmp
ulimit -c 0
ulimit -n 65536
echo 0 > /proc/sys/kernel/printk
export PATH=/bin WEFT_TEST_QUICK=1 WEFT_TEST_OWN_MACHINE=1 WEFT_BIN=/tests/weft
for test in $(cat /tests/list); do
  echo "VM_BEGIN $test"
  /tests/$test --gtest_color=no --gtest_filter="$(cat /tests/filter)"
  echo "VM_END $test $?"
done
poweroff -f
"""


def say(text):
    print(text, flush=True)


class Failed(Exception):
    """One line for the user."""


class Missing(Failed):
    """Of what is needed for a virtual machine."""


# -- Kernels ----------------------------------------------------------------------------------------------------------


def apt(cache, suite, *arguments):
    """apt-get or apt-cache on that suite alone, with lists of its own."""
    state = cache / suite.replace(" ", "_")
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    place, name = suite.split()
    sources = state / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {MIRROR}/{place} {name} main\n")
    program, *rest = arguments
    options = [f"Dir::Etc::SourceList={sources}", "Dir::Etc::SourceParts=-", f"Dir::State::Lists={state / 'lists'}",
               f"Dir::Cache={state}", "APT::Sandbox::User=root", "Acquire::Languages=none", "Acquire::Retries=1",
               f"Acquire::http::Timeout={FETCH_TIMEOUT}"]
    command = [program, "-qq", *(word for option in options for word in ("-o", option)), *rest]
    return subprocess.run(command, cwd=state, capture_output=True, text=True, check=False)


def find_kernel(cache, version):
    """The path of the kernel's image, fetched if need be."""
    suite, beginning = KERNELS[version]
    folder = cache / version
    found = sorted(folder.glob("**/vmlinuz*"))
    if found:
        return found[0]
    apt(cache, suite, "apt-get", "update")
    listed = apt(cache, suite, "apt-cache", "pkgnames", beginning).stdout.split()
    names = [name for name in listed if name.endswith(FLAVOUR)]
    if not names:
        raise Missing(f"no package {beginning}*-{FLAVOUR} in {suite} of {MIRROR}")
    newest = max(names, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    say(f"fetching {newest}")
    download = folder / "download"
    download.mkdir(parents=True, exist_ok=True)
    got = apt(cache, suite, "apt-get", "download", newest)
    packages = list((cache / suite.replace(" ", "_")).glob(f"{newest}_*.deb"))
    if not packages:
        raise Missing(f"apt-get download {newest}: {got.stderr.strip().splitlines()[-1:]}")
    subprocess.run(["dpkg-deb", "-x", packages[0], download], check=True)
    packages[0].unlink()
    found = sorted(folder.glob("**/vmlinuz*"))
    if not found:
        raise Failed(f"{newest} holds no kernel image")
    return found[0]


# -- The initramfs ----------------------------------------------------------------------------------------------------


def libraries(binary):
    """The shared libraries that a binary is loaded with, the loader among them."""
    said = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    return {Path(path) for path in re.findall(r"(/\S+) \(0x", said)}


def make_initramfs(binaries, pattern, image):
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        root.chmod(0o755)
        for folder in ("bin", "dev", "etc", "proc", "root", "sys", "tests", "tmp"):
            (root / folder).mkdir()
        (root / "init").write_text(INIT)
        (root / "init").chmod(0o755)
        (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
        (root / "tests" / "list").write_text("".join(f"{b.name}\n" for b in binaries))
        (root / "tests" / "filter").write_text(pattern)
        shutil.copy(shutil.which("busybox"), root / "bin" / "busybox")
        command = binaries[0].resolve().parents[2] / "weft"
        for binary in [*binaries, *([command] if command.exists() else [])]:
            subprocess.run(["objcopy", "--strip-debug", binary, root / "tests" / binary.name], check=True)
            for library in libraries(binary):
                target = root / library.relative_to("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library.resolve(), target)
        names = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
        with open(image, "wb") as file:
            subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=root, input=names, stdout=file, check=True)


# -- The machine ------------------------------------------------------------------------------------------------------


def accelerator():
    """KVM where it is a real one: others (pvm) emulate our guests' privileged instructions, badly."""
    real = any(Path(f"/sys/module/{name}").exists() for name in ("kvm_intel", "kvm_amd"))
    if real and os.access("/dev/kvm", os.W_OK):
        return ["-accel", "kvm", "-cpu", "host"]
    # Several threads hang at tracepoints in QEMU 7.2.
    return ["-accel", "tcg,thread=single", "-cpu", "max"]


def machine(shape):
    nodes, distances = SHAPES[shape]
    arguments = ["-smp", CPUS.get(shape, "4,sockets=2,cores=2,threads=1"), "-m", f"{sum(m for _, m in nodes)}M"]
    for number, (cpus, megabytes) in enumerate(nodes):
        node = f"node,nodeid={number}" + (f",cpus={cpus}" if cpus else "")
        if megabytes:
            arguments += ["-object", f"memory-backend-ram,id=m{number},size={megabytes}M"]
            node += f",memdev=m{number}"
        arguments += ["-numa", node]
    for (one, other), distance in distances.items():
        arguments += ["-numa", f"dist,src={one},dst={other},val={distance}"]
    return arguments


def boot(kernel, shape, image, timeout):
    command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio",
               "-monitor", "none", "-no-reboot", "-M", "q35", *accelerator(), *machine(shape), "-kernel", str(kernel),
               "-initrd", str(image), "-append", "console=ttyS0 quiet panic=-1 nokaslr no_timer_check"]
    try:
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             timeout=timeout, check=False)
        return ran.stdout.decode(errors="replace").replace("\r", "")
    except subprocess.TimeoutExpired as expired:
        return (expired.stdout or b"").decode(errors="replace").replace("\r", "") + f"\nno end within {timeout} s\n"


class Counts:
    """What GoogleTest said in one machine."""

    def __init__(self, output, binaries):
        self.passed = len(re.findall(r"^\[       OK \] ", output, re.MULTILINE))
        self.skipped = len(re.findall(r"^\[  SKIPPED \] .* \(\d+ ms\)$", output, re.MULTILINE))
        self.failures = re.findall(r"^\[  FAILED  \] (.*) \(\d+ ms\)$", output, re.MULTILINE)
        text = r"^\[ RUN      \] .*\n(?:(?!\[ ).*\n)*\[  FAILED  \] .* \(\d+ ms\)$"
        self.output = re.findall(text, output, re.MULTILINE)
        ended = dict(re.findall(r"^VM_END (\S+) (\d+)$", output, re.MULTILINE))
        for binary in binaries:
            status = ended.get(binary.name)
            if status is None or (status not in ("0", "1")):
                self.failures.append(f"{binary.name}: " + ("did not end" if status is None else f"status {status}"))
                begun = output.rfind(f"VM_BEGIN {binary.name}")
                self.output.append("\n".join(output[begun:].splitlines()[-LAST_LINES:]) if begun >= 0 else "")

    def __str__(self):
        return f"{self.passed} passed, {len(self.failures)} failed, {self.skipped} skipped"


# -- Main -------------------------------------------------------------------------------------------------------------


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", action="append", choices=KERNELS, help="default: all")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="default: 1n")
    parser.add_argument("--filter", default="*", help="GoogleTest's pattern for the cases to run")
    parser.add_argument("--timeout", type=int, default=600, metavar="S", help="for one machine (600)")
    parser.add_argument("--cache", type=Path, default=Path("build/vm"), help="where kernels are kept (build/vm)")
    parser.add_argument("--if-possible", action="store_true", help="skip where something is missing, a kernel too")
    parser.add_argument("--show", action="store_true", help="show all that the machines print")
    parser.add_argument("binaries", nargs="+", type=Path, metavar="BINARY")
    return parser.parse_args()


def check_machine():
    if platform.machine() != "x86_64":
        raise Missing(f"the machines are x86-64, and this one is {platform.machine()}")
    for program in ("qemu-system-x86_64", "busybox", "cpio", "objcopy"):
        if not shutil.which(program):
            raise Missing(f"no {program}")


def run_all(options):
    check_machine()
    cache = options.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    image = cache / "initramfs"
    make_initramfs(options.binaries, options.filter, image)
    passed = failed = skipped = 0
    for version in options.kernel or KERNELS:
        kernel = find_kernel(cache, version)
        for shape in options.shape or ["1n"]:
            output = boot(kernel, shape, image, options.timeout)
            counts = Counts(output, options.binaries)
            say(f"kernel {version}, {shape}: {counts}")
            for text in [output] if options.show else counts.output:
                say(text)
            for failure in counts.failures:
                say(f"FAILED kernel {version}, {shape}: {failure}")
            passed, failed, skipped = passed + counts.passed, failed + len(counts.failures), skipped + counts.skipped
    say(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def main():
    options = parse_options()
    try:
        return run_all(options)
    except Missing as missing:
        if not options.if_possible:
            raise
        say(f"0 passed, 0 failed, 1 skipped ({missing})")
        return SKIP_STATUS


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        sys.exit(f"vmtest: {failure}")
