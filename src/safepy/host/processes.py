"""The processes of this host, and which of them a `<proc>` means (reference: userconfig 14.1).

Read from /proc itself: 15 µs a process, where a library that asks for the same takes 100. The
daemon looks at least every `polltimer`, for every module, so this is most of what it costs at rest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from safepy.config.ere import compile_ere
from safepy.config.schema import Proc
from safepy.core.replica.patterns import Pattern

#: What the kernel keeps of a command's name (TASK_COMM_LEN without its end).
COMM_CHARACTERS = 15
#: Of a command line; its owner may make it as long as his memory allows.
COMMAND_BYTES_MAX = 32 << 10
_STAT_BYTES = 4096
#: The parent of all threads of the kernel, which have no command line.
KTHREADD = 2
EXEC_S = 0.01
_DEAD = (b"Z", b"X")

#: Whether the command line of a process with this name is wanted.
Wanted = Callable[[str], object]


def every_name(_name: str) -> bool:
    return True


def no_name(_name: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Process:
    """`started` (clock ticks since boot) tells two processes apart that had the same pid. `name`
    is what the kernel keeps, `command` the whole line, empty unless it was wanted."""

    pid: int
    started: int
    name: str
    command: str
    parent: int = 0


def scan(wanted: Wanted = every_name, hidden: int = 0) -> list[Process]:
    """The living processes by pid, without zombies, and without the process `hidden` (a daemon)
    and its direct children.

    The direct children of the daemon are workers and module scripts, never an application: what
    a script leaves behind is no child of its. The command line of a process that is stuck in the
    kernel may keep its reader waiting without end, so call this in a thread.
    """
    found: dict[int, Process] = {}
    in_exec = []
    for entry in sorted(filter(str.isdecimal, os.listdir("/proc")), key=int):
        process = _read(entry, wanted, hidden)
        if process is not None:
            found[process.pid] = process
            if not process.command and process.parent != KTHREADD and wanted(process.name):
                in_exec.append(entry)
    if in_exec:
        # Between its old program and its new one a process has the new name and no line yet.
        time.sleep(EXEC_S)
        again = (_read(entry, wanted, hidden) for entry in in_exec)
        found |= {process.pid: process for process in again if process is not None}
    return list(found.values())


def look(pid: int) -> Process | None:
    """One process as it is now, None if it is gone."""
    return _read(str(pid), every_name, 0)


def _read(entry: str, wanted: Wanted, hidden: int) -> Process | None:
    """None for a process that ended meanwhile, or may not be looked at."""
    data = _bytes(f"/proc/{entry}/stat", _STAT_BYTES)
    # pid (name) state ppid ... starttime; a name may hold anything, also parentheses.
    name_bytes, _, rest = data.partition(b"(")[2].rpartition(b") ")
    fields = rest.split(None, 20)
    if len(fields) < 20 or fields[0] in _DEAD:
        return None
    pid, parent = int(entry), int(fields[1])
    if hidden in (pid, parent) and hidden:
        return None
    name = name_bytes.decode("utf-8", "surrogateescape")
    command = ""
    if wanted(name):
        line = _bytes(f"/proc/{entry}/cmdline", COMMAND_BYTES_MAX)
        command = line.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "surrogateescape")
    return Process(pid, int(fields[19]), name, command, parent)


def _bytes(path: str, limit: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, limit)
    except OSError:
        return b""
    finally:
        os.close(fd)


def wants_command(procs: Iterable[Proc]) -> Wanted:
    """For `scan`: only those lines are read that one of `procs` compares with its `argregex`."""
    tests = [named(proc) for proc in procs if proc.argregex]
    if not tests:
        return no_name
    return lambda name: any(test(name) for test in tests)


def matching(proc: Proc, processes: Iterable[Process]) -> list[Process]:
    """Those of `processes` that `proc` means; all conditions it has must hold."""
    right_name = named(proc)
    command = searching(proc.argregex) if proc.argregex else None
    return [
        each
        for each in processes
        if right_name(each.name) and (command is None or command(each.command))
    ]


def named(proc: Proc) -> Wanted:
    """The test of `name` or `nameregex`, for the name of a process."""
    if proc.nameregex:
        return searching(proc.nameregex)
    return proc.name[:COMM_CHARACTERS].__eq__


@cache
def searching(expression: str) -> Callable[[str], object]:
    """The test whether `expression` is found in a text. Any user of this host chooses the names
    and arguments of processes, so they are matched in linear time (S11); only an expression with
    a word boundary cannot be. Raises ValueError for one that cannot be read."""
    try:
        return Pattern(expression).search
    except ValueError:
        return compile_ere(expression).search


def line_of(process: Process) -> str:
    """One process on one line, as `errdpoll_running` writes it (reference 11.2)."""
    text = f"{process.pid} {process.name} {process.command} (parent={process.parent})"
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def family(pid: int, processes: Sequence[Process]) -> set[int]:
    """The process and all its ancestors."""
    parents = {each.pid: each.parent for each in processes}
    found: set[int] = set()
    while pid and pid not in found:
        found.add(pid)
        pid = parents.get(pid, 0)
    return found
