"""A directory read in portions, with the positions that its file system gives.

Those positions stay true while names come and go, as telldir(3) promises: what was there all the
time is listed exactly once. Nothing is kept of a directory but its last portion, so a million
names cost no more memory and no longer turn of the loop than a thousand.
"""

from __future__ import annotations

import ctypes
import os
from struct import Struct

from safepy.storage import syscalls

#: What is asked of the file system at once: some hundreds of names.
PORTION_BYTES = 32 * 1024

#: Name, inode number, type as of dirent(3), position of what follows it.
Entry = tuple[bytes, int, int, int]

_RECORD = Struct("<QqHB")
_START = 0


class Listing:
    """Somebody reads a directory. `fd` belongs to the listing, until `close`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._portion: list[Entry] = []
        self._end = -1  # where the descriptor stands; what position that is we need not know

    def portion(self, position: int) -> list[Entry]:
        """Some entries that follow `position` (0: the start), "." and ".." too; none at the end.

        Raises OSError: ENOENT if the directory was removed, EBADF after `close`.
        """
        if position == _START or position != self._end:
            for index, entry in enumerate(self._portion if position else ()):
                if entry[3] == position:
                    return self._portion[index + 1 :]
            os.lseek(self._fd, position, os.SEEK_SET)
        self._portion = _parse(syscalls.getdents(self._fd, _buffer))
        self._end = self._portion[-1][3] if self._portion else position
        return self._portion

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._portion = []


#: One thread reads directories, and takes out at once what was put in.
_buffer = ctypes.create_string_buffer(PORTION_BYTES)


def _parse(records: bytes) -> list[Entry]:
    entries: list[Entry] = []
    at = 0
    while at < len(records):
        inode, position, length, kind = _RECORD.unpack_from(records, at)
        start = at + _RECORD.size
        entries.append((records[start : records.index(0, start)], inode, kind, position))
        at += length
    return entries
