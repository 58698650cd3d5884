"""What the kernel holds of us: lookups of each handle, and directories it is reading."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from safepy.core.replica.ops import ROOT
from safepy.fuse.interfaces import Listing
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
    """Open directories, by the numbers that the kernel is given. One is opened beneath when it is
    first read: many are opened for an fsync, or to stand in."""

    def __init__(self, open_directory: Callable[[int], Listing]) -> None:
        self._open_directory = open_directory
        self._open: dict[int, Listing | None] = {}
        self._numbers = count(1)

    def open(self) -> int:
        number = next(self._numbers)
        self._open[number] = None
        return number

    def portion(self, number: int, handle: int, position: int) -> Sequence[DirEntry]:
        """What follows `position` in directory `handle`; raises OSError as reading it does."""
        listing = self._open.get(number)
        if listing is None:
            listing = self._open[number] = self._open_directory(handle)
        return listing.portion(position)

    def close(self, number: int) -> None:
        listing = self._open.pop(number, None)
        if listing is not None:
            listing.close()
