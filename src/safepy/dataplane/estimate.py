"""How much a resynchronisation would look at and copy, told beforehand (`safekit rfsdiff`).

From the same memories that one would use: marks by path, and suspect content. What the other node
changed by itself is not known here and comes on top.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from stat import S_ISDIR, S_ISREG

from safepy.core.replica.exclusion import Exclusion
from safepy.core.replica.marks import merge_range
from safepy.core.replica.suspects import Suspects
from safepy.dataplane.pathmarks import Saved
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.tree import Path, split
from safepy.model import SyncMode


@dataclass(slots=True)
class Estimate:
    """`names` would be compared; `files` looked into, `bytes` be copied at most."""

    names: int = 0
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What is remembered of one directory."""

    root_fd: int
    marks: Sequence[Saved]
    suspects: Suspects
    exclusion: Exclusion


def estimate(kept: Sequence[Kept], mode: SyncMode, newer_than_ns: int | None = None) -> Estimate:
    """Walks what would be walked: not for the loop. `newer_than_ns`: in a WALK, files modified
    later are copied whole, as an operator says (`resync.policy`). Raises OSError when the disk
    fails."""
    total = Estimate()
    for each in kept:
        _Counting(each, mode, newer_than_ns, total).run()
    return total


class _Counting:
    """Of one directory."""

    def __init__(
        self, kept: Kept, mode: SyncMode, newer_than_ns: int | None, total: Estimate
    ) -> None:
        self._kept = kept
        self._mode = mode
        self._newer_than_ns = newer_than_ns if mode is SyncMode.WALK else None
        self._total = total
        self._full = {path for path, full, _, _ in kept.marks if full}
        self._extents = {path: extents for path, full, _, extents in kept.marks if not full}

    def run(self) -> None:
        match self._mode:
            case SyncMode.EVERYTHING:
                self._below(b"", whole=True)
            case SyncMode.WALK:
                self._below(b"", whole=False)
            case SyncMode.ZONES:
                self._marked()

    def _marked(self) -> None:
        walked = sorted(path for path, full, walk, _ in self._kept.marks if full or walk)
        tops: set[bytes] = set()
        for path in walked:
            if not _covered(path, tops):
                tops.add(path)
                self._below(path, whole=path in self._full)
        for path in self._extents:
            if not _covered(path, tops):
                self._one(path)

    def _one(self, path: bytes, whole: bool = False) -> None:
        """What stands at one path, without what is below it."""
        *parents, name = split(path) or (b".",)
        parent = trees.open_or_none(self._kept.root_fd, tuple(parents))
        if parent is None:
            return
        try:
            found = trees.status(parent, name)
            if found is not None:
                self._count(parent, name, path, found, whole)
        finally:
            os.close(parent)

    def _below(self, top: bytes, whole: bool) -> None:
        """`top` and everything below it."""
        self._one(top, whole)
        pending: list[tuple[Path, bool]] = [(split(top), whole)]
        while pending:
            path, whole = pending.pop()
            for name, is_directory in self._entries(path, whole):
                below = (*path, name)
                if is_directory:
                    pending.append((below, whole or b"/".join(below) in self._full))

    def _entries(self, path: Path, whole: bool) -> Iterator[tuple[bytes, bool]]:
        """Counts what stands in one directory; (name, whether it is a directory) of each."""
        directory = trees.open_or_none(self._kept.root_fd, path)
        if directory is None:
            return
        try:
            for name in trees.names_in(directory):
                found = trees.status(directory, name)
                if found is None:
                    continue
                is_directory = S_ISDIR(found.st_mode)
                below = (*path, name)
                if self._kept.exclusion and self._kept.exclusion.excludes(below, is_directory):
                    continue
                joined = b"/".join(below)
                self._count(directory, name, joined, found, whole or joined in self._full)
                yield name, is_directory
        finally:
            os.close(directory)

    def _count(
        self, parent: int, name: bytes, path: bytes, found: os.stat_result, whole: bool
    ) -> None:
        total = self._total
        total.names += 1
        if not S_ISREG(found.st_mode):
            return
        size = found.st_size
        if self._newer_than_ns is not None and found.st_mtime_ns > self._newer_than_ns:
            whole = True
        if not whole:
            size = self._suspect_bytes(parent, name, path, found)
            if size == 0:
                return
        total.files += 1
        total.bytes += size

    def _suspect_bytes(self, parent: int, name: bytes, path: bytes, found: os.stat_result) -> int:
        extents = self._extents.get(path, ())
        suspects = self._kept.suspects
        if suspects:
            ident = trees.ident_of(parent, name)
            extents = (*extents, *suspects.of(found.st_ino, ident))
        ranges: list[tuple[int, int]] = []
        for start, end in extents:
            merge_range(ranges, min(start, found.st_size), min(end, found.st_size))
        return sum(end - start for start, end in ranges)


def _covered(path: bytes, tops: set[bytes]) -> bool:
    """Whether `path` is one of them, or below one."""
    if path in tops or b"" in tops:
        return True
    return any(path[:at] in tops for at, sign in enumerate(path) if sign == 0x2F)
