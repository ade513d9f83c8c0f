# SPDX-License-Identifier: Apache-2.0
"""Goroutines in gdb: `info goroutines`, and `goroutine N COMMAND` or `goroutine all COMMAND`, such as `goroutine 1 bt`.

Load it with `source weft-gdb.py`, in gdb or in ~/.gdbinit. It needs the debug information of the runtime, and for
`goroutine N COMMAND` on a parked goroutine a live process: gdb cannot change the registers of a core file.
"""

import gdb

STATES = ("idle", "runnable", "running", "syscall", "waiting", "dead", "preempted")
NO_GOROUTINE = ("idle", "dead")

# What jump_fcontext leaves on the stack (runtime/unwind.cpp): the offset of each register in the block, and its size.
REGISTERS = {
    "i386:x86-64": ({"r12": 8, "r13": 16, "r14": 24, "r15": 32, "rbx": 40, "rbp": 48, "pc": 56}, 64),
    "aarch64": ({**{f"x{19 + i}": 0x40 + 8 * i for i in range(10)}, "x29": 0x90, "x30": 0x98, "pc": 0xA0}, 0xB0),
}


def pointed_to(address, kind):
    return gdb.Value(address).cast(kind.pointer()).dereference()


class Goroutine:
    def __init__(self, value):
        self.value = value
        self.id = int(number(value["id"]))
        self.state = STATES[int(number(value["status"]))]
        self.run = int(value["run"])

    def reason(self):
        """The enumerator's name, as in runtime/wait_reason.h."""
        return str(number(self.value["reason"])).rsplit("::", 1)[-1].replace("_", " ")

    def doing(self):
        return self.reason() if self.state == "waiting" else self.state

    def name(self):
        name = number(self.value["name"])
        return f' "{name.string()}"' if int(name) else ""

    def context(self):
        return int(self.value["context"])

    def registers(self):
        """Those with which it will go on."""
        architecture = gdb.selected_frame().architecture().name()
        if architecture not in REGISTERS:
            raise gdb.GdbError(f"goroutines cannot be unwound on {architecture}")
        offsets, size = REGISTERS[architecture]
        word = gdb.lookup_type("unsigned long")
        saved = {name: int(pointed_to(self.context() + at, word)) for name, at in offsets.items()}
        saved["sp"] = self.context() + size
        return saved

    def where(self):
        """The first function on its stack that is not the runtime's; None: not known."""
        with on_goroutine(self):
            frame = gdb.newest_frame()
            while frame is not None:
                function = frame.name()
                if function and not function.startswith(("weft::rt::", "weft::detail::", "boost::context::", "jump_")):
                    return function
                frame = frame.older()
        return None


def number(atomic):
    """What a std::atomic of libstdc++ holds: a number, an enumerator or a pointer."""
    for members in (("_M_i",), ("_M_b", "_M_p")):
        value = atomic
        try:
            for member in members:
                value = value[member]
            return value
        except gdb.error:
            continue
    raise gdb.GdbError(f"not a std::atomic of libstdc++: {atomic.type}")


def elements(array):
    members = array["_M_elems"]
    return [members[i] for i in range(members.type.strip_typedefs().range()[1] + 1)]


def runtime(name):
    """A variable of the runtime."""
    for spelled in (f"'weft::rt::{name}'", f"'weft::rt::(anonymous namespace)::{name}'"):
        try:
            value = gdb.parse_and_eval(spelled)
            return value.referenced_value() if value.type.code == gdb.TYPE_CODE_REF else value
        except gdb.error:
            pass
    raise gdb.GdbError("no goroutines: the program does not run weft, or its debug information is missing")


def all_goroutines():
    """Those of the run() that is active, by number."""
    kind = gdb.lookup_type("weft::detail::goroutine")
    stores = runtime("stores")
    current_run = int(number(runtime("sched")["run"]))
    found = []
    for store in elements(stores):
        slab = number(store["slabs"])
        while int(slab):
            first = int(slab) + kind.sizeof
            for i in range(int(number(slab["used"]))):
                one = Goroutine(pointed_to(first + i * kind.sizeof, kind))
                if one.state not in NO_GOROUTINE and one.run == current_run:
                    found.append(one)
            slab = slab["next"]
    return sorted(found, key=lambda one: one.id)


class on_goroutine:
    """The selected thread with the registers of a goroutine that does not run."""

    def __init__(self, goroutine):
        self.goroutine = goroutine

    def __enter__(self):
        if self.goroutine.state not in ("waiting", "runnable"):
            raise gdb.GdbError(f"goroutine {self.goroutine.id} is {self.goroutine.state}: see 'thread apply all bt'")
        if int(self.goroutine.value["stk"]) == 0:
            raise gdb.GdbError(f"goroutine {self.goroutine.id} has not begun yet")
        wanted = self.goroutine.registers()
        gdb.newest_frame().select()
        self.before = {name: int(gdb.parse_and_eval(f"(unsigned long)${name}")) for name in wanted}
        try:
            self.set(wanted)
        except gdb.error as refused:
            raise gdb.GdbError(f"the registers cannot be changed: {refused}")

    def __exit__(self, *_):
        gdb.newest_frame().select()
        self.set(self.before)

    @staticmethod
    def set(registers):
        # The stack pointer first: with it, gdb begins anew.
        for name in sorted(registers, key=lambda name: name != "sp"):
            gdb.execute(f"set ${name} = {registers[name]}", to_string=True)


class InfoGoroutines(gdb.Command):
    """List the goroutines: number, what each does or waits for, its name, where it is."""

    def __init__(self):
        super().__init__("info goroutines", gdb.COMMAND_STACK)

    def invoke(self, _argument, _from_tty):
        for one in all_goroutines():
            try:
                where = one.where()
            except (gdb.error, gdb.GdbError):
                where = None
            gdb.write(f"{one.id:>6} [{one.doing()}]{one.name()}{' ' + where if where else ''}\n")


class GoroutineCommand(gdb.Command):
    """Execute a command on the stack of a goroutine: goroutine NUMBER|all COMMAND"""

    def __init__(self):
        super().__init__("goroutine", gdb.COMMAND_STACK, gdb.COMPLETE_NONE)

    def invoke(self, argument, _from_tty):
        words = argument.split(None, 1)
        if len(words) != 2:
            raise gdb.GdbError("usage: goroutine NUMBER|all COMMAND, such as: goroutine 1 bt")
        if words[0] == "all":
            for one in all_goroutines():
                gdb.write(f"\ngoroutine {one.id} [{one.doing()}]{one.name()}:\n")
                try:
                    self.execute(one, words[1])
                except gdb.GdbError as refused:
                    gdb.write(f"{refused}\n")
            return
        if not words[0].isdigit():
            raise gdb.GdbError(f"not a goroutine's number: {words[0]}")
        found = [one for one in all_goroutines() if one.id == int(words[0])]
        if not found:
            raise gdb.GdbError(f"there is no goroutine {words[0]}")
        self.execute(found[0], words[1])

    @staticmethod
    def execute(goroutine, command):
        with on_goroutine(goroutine):
            gdb.execute(command)


InfoGoroutines()
GoroutineCommand()
