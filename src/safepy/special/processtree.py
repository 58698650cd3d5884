"""Processes by name or command line, with their children: listed, or killed."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Sequence

from safepy.config.paths import Paths
from safepy.config.schema import Proc
from safepy.errors import LocalFault
from safepy.host import killing
from safepy.host.processes import Process, line_of, named, scan, searching
from safepy.special.usage import USAGE_CODE as USAGE_CODE
from safepy.special.usage import WrongUsage

HELP = """
Usage: processtree list all | processtree list|kill NAME|all ["REGEX"]

list all: all processes, a line each: pid, name, whole command, (parent=PID). NAME: the processes
with this command name (its first 15 characters), each with its children beneath it. REGEX: a POSIX
extended regular expression that is found in the whole command. kill: list them and kill them
(signal 9), children included; `kill all` needs a REGEX.

Never killed: init, safeadmin and its own processes, this program and what it was called from.

Exit code: 0, also when there is no such process; 1 when one cannot be killed; 2 for wrong usage.

Example: processtree kill java "-Dapp=billing"
"""
ALL = "all"
_UCRED = struct.Struct("3i")


def main(arguments: list[str]) -> int:
    if len(arguments) not in (2, 3) or arguments[0] not in ("list", "kill"):
        raise WrongUsage("list or kill, a name or all, and a regular expression are allowed")
    verb, name, regex = (*arguments, "")[:3]
    if verb == "kill" and name == ALL and not regex:
        raise WrongUsage("kill all needs a regular expression")
    test = _test(name, regex)
    processes = scan()
    own = killing.spared(os.getpid(), daemon_pid(), processes)
    if verb == "list":
        seen = [each for each in processes if each.pid != os.getpid() and test(each)]
        for depth, each in _rows(seen, processes, name == ALL and not regex):
            print(f"{'  ' * depth}{line_of(each)}")
        return 0
    meant = [each for each in processes if each.pid not in own and test(each)]
    rows = [(depth, each) for depth, each in _rows(meant, processes) if each.pid not in own]
    for depth, each in rows:
        print(f"{'  ' * depth}{line_of(each)}")
    left = killing.kill([each for _, each in rows])
    if left:
        pids = ", ".join(str(each.pid) for each in left)
        raise LocalFault(f"these processes cannot be killed: {pids}", "they wait in the kernel")
    return 0


def _test(name: str, regex: str) -> Callable[[Process], object]:
    right_name = (lambda _: True) if name == ALL else named(Proc(name, ""))
    try:
        command = searching(regex) if regex else lambda _: True
    except ValueError as error:
        raise WrongUsage(f"{regex!r} is no POSIX extended regular expression: {error}") from None
    return lambda process: right_name(process.name) and command(process.command)


def _rows(
    roots: Sequence[Process], processes: Sequence[Process], flat: bool = False
) -> list[tuple[int, Process]]:
    """Depth and process, each once: a root that is the child of another stands beneath it."""
    if flat:
        return [(0, each) for each in roots]
    children: dict[int, list[Process]] = {}
    for each in processes:
        children.setdefault(each.parent, []).append(each)
    below: set[int] = set()
    pending = [each.pid for each in roots]
    while pending:
        for child in children.get(pending.pop(), []):
            if child.pid not in below:
                below.add(child.pid)
                pending.append(child.pid)
    rows: list[tuple[int, Process]] = []
    seen: set[int] = set()
    stack = [(0, each) for each in reversed(roots) if each.pid not in below]
    while stack:
        depth, each = stack.pop()
        if each.pid not in seen:
            seen.add(each.pid)
            rows.append((depth, each))
            stack += [(depth + 1, child) for child in reversed(children.get(each.pid, []))]
    return rows


def daemon_pid() -> int:
    """The process that listens on the control socket; 0 if none does."""
    path = str(Paths.from_environment(os.environ).control_socket)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(1.0)
        try:
            door.connect(path)
        except OSError:
            return 0
        raw = door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(raw)[0])
