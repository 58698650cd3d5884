"""System calls of the target that deserve a sentence: writing whole, punching, failing."""

from __future__ import annotations

import errno
import os

from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.messages import ResyncFailed
from safepy.dataplane.resync.tree import Path
from safepy.storage.syscalls import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, fallocate


def write_all(fd: int, piece: bytes, offset: int) -> None:
    written = os.pwrite(fd, piece, offset)
    while written < len(piece):
        written += os.pwrite(fd, piece[written:], offset + written)


def punch(fd: int, start: int, end: int) -> None:
    """A hole inside the file; what lies beyond its end is one already."""
    end = min(end, os.fstat(fd).st_size)
    if end <= start:
        return
    try:
        fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, start, end - start)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        zeros = bytes(128 << 10)
        for at in range(start, end, len(zeros)):
            write_all(fd, zeros[: min(len(zeros), end - at)], at)


def failure(path: Path, error: OSError) -> ResyncFailed:
    """One sentence with path and errno."""
    code = errno.errorcode.get(error.errno or 0, str(error.errno))
    place = trees.shown(path)
    return ResyncFailed(f"{place} cannot be made equal on this node: {error.strerror} ({code})")
