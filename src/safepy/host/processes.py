"""The processes of this host, and which of them a `<proc>` means (reference: userconfig 14.1)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import psutil

from safepy.config.ere import compile_ere
from safepy.config.schema import Proc
from safepy.core.replica.patterns import Pattern

#: What the kernel keeps of a command's name (TASK_COMM_LEN without its end).
COMM_CHARACTERS = 15


@dataclass(frozen=True, slots=True)
class Process:
    """`created` tells two processes apart that had the same pid. `command` is the whole line."""

    pid: int
    created: float
    name: str
    command: str


def scan(*, commands: bool = True) -> list[Process]:
    """The living processes, without zombies, this daemon and its direct children.

    The direct children are workers and module scripts, never an application: what a script leaves
    behind is no child of ours. Takes about 0.1 ms a process, so call it in a thread; without
    `commands` the command lines, which can be slow to read, are left empty.
    """
    own = os.getpid()
    wanted = ["pid", "ppid", "name", "status", "create_time"]
    found = []
    for each in psutil.process_iter([*wanted, "cmdline"] if commands else wanted):
        info = each.info
        # ad_value: a process that ended, or may not be looked at, has None there.
        if own in (info["pid"], info["ppid"]) or info["name"] is None:
            continue
        if info["status"] in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            continue
        command = " ".join(info.get("cmdline") or ())
        found.append(Process(info["pid"], info["create_time"] or 0.0, info["name"], command))
    return found


def matching(proc: Proc, processes: Iterable[Process]) -> list[Process]:
    """Those of `processes` that `proc` means; all conditions it has must hold.

    psutil mends cut names from the command line; the comparison is with what the kernel keeps.
    """
    name = _search(proc.nameregex) if proc.nameregex else None
    command = _search(proc.argregex) if proc.argregex else None
    comm = proc.name[:COMM_CHARACTERS]
    return [
        each
        for each in processes
        if (name(each.name) if name else each.name[:COMM_CHARACTERS] == comm)
        and (command is None or command(each.command))
    ]


@cache
def _search(expression: str) -> Callable[[str], object]:
    """Any user of this host chooses the names and arguments of processes, so they are matched in
    linear time (S11); only an expression with a word boundary cannot be."""
    try:
        return Pattern(expression).search
    except ValueError:
        return compile_ere(expression).search
