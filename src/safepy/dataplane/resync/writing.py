"""System calls of the target that deserve a sentence: writing whole, punching, failing."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from stat import S_IFMT, S_ISDIR, S_ISLNK, S_ISREG

from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.messages import Entry, ResyncFailed
from safepy.dataplane.resync.tree import Path
from safepy.storage.syscalls import (
    FALLOC_KEEP_SIZE,
    FALLOC_PUNCH_HOLE,
    fallocate,
    start_writeback,
    syncfs,
)

#: Each aligned part of this size goes to the disk as soon as its end is written. Smaller ones would
#: lie scattered there, as several files are written at the same time.
_WRITEBACK_BYTES = 8 << 20

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def make(dir_fd: int, name: bytes, entry: Entry) -> None:
    """Make what is not there, without its attributes; a regular file is empty."""
    if S_ISDIR(entry.mode):
        os.mkdir(name, 0o700, dir_fd=dir_fd)
        if entry.ident:  # At once: its attributes come last, and an interruption may come before.
            trees.set_ident(b"/proc/self/fd/%d/%s" % (dir_fd, name), entry.ident)
    elif S_ISREG(entry.mode):
        os.close(os.open(name, CREATE, 0o600, dir_fd=dir_fd))
    elif S_ISLNK(entry.mode):
        os.symlink(entry.link, name, dir_fd=dir_fd)
    else:
        os.mknod(name, S_IFMT(entry.mode) | 0o600, entry.rdev, dir_fd=dir_fd)


def flush(roots: Sequence[int]) -> None:
    """Have all trees on the disk; raises ResyncFailed when the kernel reports an error."""
    for number, root in enumerate(roots):
        fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
        try:
            syncfs(fd)
        except OSError as error:
            raise ResyncFailed(f"directory {number} cannot be flushed: {error.strerror}") from error
        finally:
            os.close(fd)


def write_all(fd: int, piece: bytes, offset: int) -> None:
    """Large files are on their way to the disk from here on: the flush at the end is short."""
    written = os.pwrite(fd, piece, offset)
    while written < len(piece):
        written += os.pwrite(fd, piece[written:], offset + written)
    behind = (offset + written) // _WRITEBACK_BYTES * _WRITEBACK_BYTES
    if behind > offset:
        start_writeback(fd, behind - _WRITEBACK_BYTES, _WRITEBACK_BYTES)


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
