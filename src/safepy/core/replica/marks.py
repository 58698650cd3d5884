"""What changed while nobody was told: paths to compare again (protocol I8).

Pure bookkeeping for a resynchronisation: the source marks what its operations touch, the next
round makes exactly that equal. Marking too much is always safe, so a bound coarsens (a file
whole, at last the whole tree) and never drops.

Paths are components joined by "/", from the root of the directory; "" is the root.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

ZONE_BYTES = 128 * 1024
MAX_EXTENTS_A_FILE = 1024
MAX_PATHS = 100_000
#: An extent to the end of any file ("from here on").
TO_THE_END = 1 << 62

Extents = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """What is to be compared of one path.

    `full`: everything, below it too, and whether it exists at all. `walk`: names and attributes
    of it and of all below; content only where size, mtime, id or another mark asks for it.
    `extents`: sorted (start, end) pairs in bytes that neither overlap nor touch. Attributes are
    always compared.
    """

    full: bool = False
    extents: Extents = ()
    walk: bool = False


FULL = Mark(full=True)
WALK = Mark(walk=True)


class Marks:
    """The marks of one replicated directory. Not locked: one thread owns it."""

    def __init__(self, max_paths: int = MAX_PATHS, max_extents: int = MAX_EXTENTS_A_FILE) -> None:
        self._max_paths = max_paths
        self._max_extents = max_extents
        self._full: set[bytes] = set()
        #: path -> sorted extents; an empty list marks the attributes alone.
        self._parts: dict[bytes, list[tuple[int, int]]] = {}

    def __len__(self) -> int:
        """How many paths are marked."""
        self._sift()
        return len(self._full) + len(self._parts)

    def __bool__(self) -> bool:
        return bool(self._full) or bool(self._parts)

    @property
    def full_paths(self) -> int:
        """How many paths must be compared whole; their size is not known here."""
        self._sift()
        return len(self._full)

    @property
    def extent_bytes(self) -> int:
        """Bytes of the marked extents. Extents to the end of a file count as one zone."""
        self._sift()
        return sum(
            end - start if end < TO_THE_END else ZONE_BYTES
            for extents in self._parts.values()
            for start, end in extents
        )

    def add_full(self, path: bytes) -> None:
        """Compare `path` whole, with everything below it."""
        if self._covered(path):
            return
        if path == b"":
            self._full.clear()
            self._parts.clear()
        # What lies below stays listed until `take` or the bound sifts it: a set is enough.
        self._full.add(path)
        self._parts.pop(path, None)
        self._bound()

    def add_extent(self, path: bytes, offset: int, length: int) -> None:
        """Compare these bytes of the file `path`, and its attributes."""
        if self._covered(path):
            return
        extents = self._parts.setdefault(path, [])
        if length > 0:
            start = offset - offset % ZONE_BYTES
            end = -(-(offset + length) // ZONE_BYTES) * ZONE_BYTES
            merge_range(extents, start, min(end, TO_THE_END))
            if len(extents) > self._max_extents:
                self.add_full(path)
                return
        self._bound()

    def add_attributes(self, path: bytes) -> None:
        """Compare mode, owner, times and extended attributes of `path`."""
        self.add_extent(path, 0, 0)

    def take(self) -> dict[bytes, Mark]:
        """All marks by path, none below a FULL one; none are left here."""
        self._sift()
        taken = dict.fromkeys(self._full, FULL)
        for path, extents in self._parts.items():
            taken[path] = Mark(extents=tuple(extents))
        self._full = set()
        self._parts = {}
        return taken

    def put_back(self, marks: dict[bytes, Mark]) -> None:
        """Add marks that were taken but not dealt with."""
        for path, mark in marks.items():
            if mark.full:
                self.add_full(path)
                continue
            self.add_attributes(path)
            for start, end in mark.extents:
                self.add_extent(path, start, end - start)

    def _covered(self, path: bytes) -> bool:
        return bool(self._full) and (path in self._full or self._below_full(path))

    def _below_full(self, path: bytes) -> bool:
        """Whether an ancestor is FULL."""
        at = len(path)
        while at > 0:
            at = path.rfind(b"/", 0, at)
            if (path[:at] if at > 0 else b"") in self._full:
                return True
        return False

    def _sift(self) -> None:
        """Take out what lies below something FULL."""
        self._full = {path for path in self._full if not self._below_full(path)}
        self._parts = {p: e for p, e in self._parts.items() if not self._below_full(p)}

    def _bound(self) -> None:
        if len(self._full) + len(self._parts) <= self._max_paths:
            return
        self._sift()
        if len(self._full) + len(self._parts) > self._max_paths // 2:
            self.add_full(b"")


def merge_range(ranges: list[tuple[int, int]], start: int, end: int) -> None:
    """Add [start, end) to a sorted list, joining what overlaps or touches."""
    first = bisect_left(ranges, start, key=lambda each: each[1])
    last = first
    while last < len(ranges) and ranges[last][0] <= end:
        start = min(start, ranges[last][0])
        end = max(end, ranges[last][1])
        last += 1
    ranges[first:last] = [(start, end)]
