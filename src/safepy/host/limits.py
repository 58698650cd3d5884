"""What one program of a module may take of this node, and who goes first when memory runs out.

A program of `<custom>` runs for months beside the heartbeats, so there is a bound on its memory,
its processes and its files. The kernel keeps some of it for each process; for all processes of a
program together one look each `LOOK_EVERY_S` serves every program of the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from safepy.host.settings import write_setting
from safepy.host.tasks import Tasks

LOOK_EVERY_S = 5.0
#: Of all processes of one program together.
MEMORY_BYTES_MAX = 1 << 30
PROCESSES_MAX = 200
#: Open files of one process.
FILES_MAX = 4096
#: As oom_score_adj: what this daemon starts is as others are, and a checker goes before them.
ORDINARY_SCORE = 0
OOM_SCORE = 500

_PAGE_BYTES = resource.getpagesize()
_STAT_BYTES = 4096


def be_ordinary(pid: int) -> None:
    """What was just started does not inherit that the daemon is the last to be killed."""
    _score(pid, ORDINARY_SCORE)


def confine(pid: int) -> None:
    """What was just started, and all that it starts: the bounds that the kernel knows. Between two
    looks one process may take twice what all may, and then gets no more."""
    _score(pid, OOM_SCORE)
    for kind, most in (
        (resource.RLIMIT_DATA, 2 * MEMORY_BYTES_MAX),
        (resource.RLIMIT_NOFILE, FILES_MAX),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(OSError, ValueError):  # it has ended, or has less already
            resource.prlimit(pid, kind, (most, most))


def _score(pid: int, score: int) -> None:
    with contextlib.suppress(OSError):  # it has ended, or a container allows less
        write_setting(f"/proc/{pid}/oom_score_adj", str(score))


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one program: its session, and what descends from it."""

    processes: int
    memory_bytes: int

    def too_much(self) -> str:
        """Of what it took more than it may; "": of nothing."""
        if self.processes > PROCESSES_MAX:
            return f"{PROCESSES_MAX} processes"
        if self.memory_bytes > MEMORY_BYTES_MAX:
            return f"{MEMORY_BYTES_MAX >> 20} MiB of memory"
        return ""


def usage(sessions: Collection[int]) -> dict[int, Usage]:
    """By session. Reads /proc once for all of them; blocks."""
    parents: dict[int, int] = {}
    pages: dict[int, int] = {}
    owners: dict[int, int] = {}
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        found = _stat(entry)
        if found is not None:
            pid, (parents[pid], session, pages[pid]) = int(entry), found
            if session in sessions:
                owners[pid] = session
    counts: dict[int, int] = defaultdict(int)
    taken: dict[int, int] = defaultdict(int)
    for pid in pages:
        owner = _owner(pid, owners, parents)
        if owner:
            counts[owner] += 1
            taken[owner] += pages[pid] * _PAGE_BYTES
    return {session: Usage(counts[session], taken[session]) for session in sessions}


def _owner(pid: int, owners: dict[int, int], parents: dict[int, int]) -> int:
    """The session of the nearest ancestor that is in one of them; 0: it belongs to none. What was
    found out on the way is kept in `owners`."""
    way: list[int] = []
    while pid and pid not in owners and len(way) <= len(parents):
        way.append(pid)
        pid = parents.get(pid, 0)
    owner = owners.get(pid, 0)
    owners.update(dict.fromkeys(way, owner))
    return owner


def _stat(entry: str) -> tuple[int, int, int] | None:
    """(parent, session, resident pages); None for a process that has ended."""
    try:
        fd = os.open(f"/proc/{entry}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.read(fd, _STAT_BYTES)
    except OSError:
        return None
    finally:
        os.close(fd)
    # pid (name) state ppid pgrp session ... rss is the 22nd after the name.
    fields = data.rpartition(b") ")[2].split(None, 22)
    if len(fields) < 22 or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[1]), int(fields[3]), int(fields[21])


class Bounds:
    """Looks after the programs that somebody waits for. Not for other threads."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._watched: dict[int, asyncio.Future[str]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def exceeded(self, session: int) -> str:
        """Returns when the program that leads this session takes more than it may; of what."""
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._watched[session] = told
        if self._looking is None or self._looking.done():
            self._looking = self._tasks.start("bounds of checkers", self._look())
        try:
            return await told
        finally:
            del self._watched[session]

    async def _look(self) -> None:
        while self._watched:
            await asyncio.sleep(LOOK_EVERY_S)
            found = await asyncio.to_thread(usage, tuple(self._watched))
            for session, used in found.items():
                told = self._watched.get(session)
                if told is not None and not told.done() and used.too_much():
                    told.set_result(used.too_much())
