"""Can one write to the file system, has it room, and how long takes a small synced write?

Everything runs in a thread: a disk that hangs is a check that found no answer in time, and costs
one thread. What is written has no name (O_TMPFILE), so nothing of it is replicated or left behind.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable

from safepy.checkers.base import Asker, Test
from safepy.config.schema import DiskCheck

_WRITTEN_BYTES = 4096
#: The file system cannot make files without a name: then only room and flags are looked at.
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)


class DiskTest(Test):
    """`real` turns a directory into the place where its file system is looked at: for a replicated
    one the private door, since a write through the mount would be replicated."""

    def __init__(self, check: DiskCheck, real: Callable[[str], str] = lambda path: path) -> None:
        self._check = check
        self._real = real
        self._askers = {path: Asker(f"{check.resource} {path}") for path in check.dirs}

    async def __call__(self) -> str:
        for path, asker in self._askers.items():
            why = await asker.ask(lambda path=path: look(self._real(path), self._check))  # type: ignore[misc]
            if why:
                return f"{path}: {why}"
        return ""


def look(path: str, check: DiskCheck) -> str:
    """What is wrong with the file system of `path`; "": nothing. Blocks. Raises OSError."""
    found = os.statvfs(path)
    if found.f_flag & os.ST_RDONLY:
        return "the file system is read-only"
    free_bytes = found.f_bavail * found.f_frsize
    if free_bytes < check.minfree_bytes:
        return f"{free_bytes} bytes are free, less than {check.minfree_bytes}"
    for what, free, total in (
        ("space", found.f_bavail, found.f_blocks),
        ("inodes", found.f_favail, found.f_files),
    ):
        # Some file systems count no inodes.
        if total and free * 100 < check.minfree_percent * total:
            share = free * 100 // total
            return f"{share} % of the {what} is free, less than {check.minfree_percent} %"
    taken_s = written_in_s(path)
    if taken_s is not None and check.maxlatency_s and taken_s > check.maxlatency_s:
        limit_ms = check.maxlatency_s * 1000
        return f"a synced write took {taken_s * 1000:.0f} ms, more than {limit_ms:.0f} ms"
    return ""


def written_in_s(path: str) -> float | None:
    """How long a small synced write takes; None where it cannot be tried without leaving a file.
    Blocks. Raises OSError."""
    begun = time.monotonic()
    try:
        descriptor = os.open(path, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in _NO_TMPFILE and os.path.isdir(path):
            return None
        raise
    try:
        os.write(descriptor, b"\0" * _WRITTEN_BYTES)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return time.monotonic() - begun
