"""What the kernel holds of us: lookups of each handle, and directories it is reading."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from safepy.core.replica.ops import ROOT
from safepy.fuse.replies import DirEntry


class Lookups:
    """How often the kernel looked each handle up; at none, the handle may be released.

    Open files and working directories count too: the kernel keeps the lookups for their sake.
    """

    def __init__(self, release: Callable[[int], None]) -> None:
        self._counts: dict[int, int] = {}
        self._release = release

    def __len__(self) -> int:
        return len(self._counts)

    def __contains__(self, handle: int) -> bool:
        return handle == ROOT or handle in self._counts

    def add(self, handle: int) -> None:
        """The kernel was given the handle once more."""
        if handle != ROOT:
            self._counts[handle] = self._counts.get(handle, 0) + 1

    def unused(self, handle: int) -> None:
        """A lookup that never reached the kernel: release the handle if it holds no other."""
        if handle not in self:
            self._release(handle)

    def forget(self, handle: int, lookups: int) -> None:
        """The kernel gives lookups back."""
        left = self._counts.get(handle, 0) - lookups
        if left > 0:
            self._counts[handle] = left
        elif self._counts.pop(handle, None) is not None:
            self._release(handle)


class Directories:
    """Open directories. Each has its own picture of the names, taken when it is read from the
    start (rewinddir takes a new one), so that offsets stay true while names come and go."""

    def __init__(self, read: Callable[[int], list[DirEntry]]) -> None:
        self._read = read
        self._open: dict[int, list[DirEntry] | None] = {}
        self._numbers = count(1)

    def open(self) -> int:
        number = next(self._numbers)
        self._open[number] = None
        return number

    def entries(self, number: int, handle: int, offset: int) -> list[DirEntry]:
        """The picture of directory `handle`; raises OSError as reading it does."""
        picture = self._open.get(number)
        if picture is None or offset == 0:
            picture = self._read(handle)
            self._open[number] = picture
        return picture

    def close(self, number: int) -> None:
        self._open.pop(number, None)
