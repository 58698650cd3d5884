"""What changed while nobody was told: paths to compare again (protocol I8).

Pure bookkeeping for a resynchronisation: the source marks what its operations touch, the next
round makes exactly that equal. Marking too much is always safe, so a bound coarsens (a file
whole, at last a walk over the whole tree, with the content that the intent log names) and never
drops.

Paths are components joined by "/", from the root of the directory; "" is the root.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
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
    """The marks of one replicated directory. Not locked: one thread owns it.

    FULL hides what is marked below it; WALK hides only attributes.
    """

    def __init__(self, max_paths: int = MAX_PATHS, max_extents: int = MAX_EXTENTS_A_FILE) -> None:
        self._max_paths = max_paths
        self._max_extents = max_extents
        self._full: set[bytes] = set()
        self._walk: set[bytes] = set()
        #: path -> sorted extents; an empty list marks the attributes alone.
        self._parts: dict[bytes, list[tuple[int, int]]] = {}
        #: The bound was reached: extents were given up for a WALK of everything. What the
        #: intent log says must be compared besides.
        self.overflowed = False

    def __len__(self) -> int:
        """How many marks there are (a path may have two)."""
        self._sift()
        return len(self._full) + len(self._walk) + len(self._parts)

    def __bool__(self) -> bool:
        return bool(self._full) or bool(self._walk) or bool(self._parts)

    @property
    def full_paths(self) -> int:
        """How many paths must be compared whole or walked; their size is not known here."""
        self._sift()
        return len(self._full) + len(self._walk)

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
            self._empty()
        # What lies below stays listed until `take` or the bound sifts it: a set is enough.
        self._full.add(path)
        self._walk.discard(path)
        self._parts.pop(path, None)
        self._bound()

    def add_walk(self, path: bytes) -> None:
        """Compare names and attributes of `path` and everything below it, and the content of
        what looks different."""
        if not self._covered(path) and path not in self._walk:
            self._walk.add(path)
            self._bound()

    def add_extent(self, path: bytes, offset: int, length: int) -> None:
        """Compare these bytes of the file `path`, and its attributes."""
        if self._covered(path):
            return
        extents = self._parts.get(path)
        if extents is None:
            extents = self._parts[path] = []
            self._bound()
        if length > 0:
            start = offset - offset % ZONE_BYTES
            end = -(-(offset + length) // ZONE_BYTES) * ZONE_BYTES
            merge_range(extents, start, min(end, TO_THE_END))
            if len(extents) > self._max_extents:
                self.add_full(path)

    def add_attributes(self, path: bytes) -> None:
        """Compare mode, owner, times and extended attributes of `path`."""
        self.add_extent(path, 0, 0)

    def moved(
        self, old: bytes, new: bytes, directory: bool = True, exchanged: bool = False
    ) -> None:
        """What stood at `old` stands at `new` now, with its marks. `exchanged`: and the other way
        round; else nothing that is known stands at `old`. Only a `directory` has marks below."""
        there = self.lifted(old, directory)
        here = self.lifted(new, directory) if exchanged else None
        self._drop(new, there)
        self.add_walk(new)
        if here is None:
            self.add_full(old)
        else:
            self._drop(old, here)
            self.add_walk(old)

    def lifted(self, path: bytes, directory: bool) -> dict[bytes, Mark]:
        """Take the marks of `path` and below out, by what follows `path` in their names. What
        is below something FULL is FULL."""
        if self._covered(path):  # all of it; what is listed below FULL says nothing more
            self._full.discard(path)
            return {b"": FULL}
        lifted: dict[bytes, Mark] = {}
        below = path + b"/"
        for kept in (self._full, self._walk):
            names = [path] if path in kept else []
            if directory:
                names += [each for each in kept if each.startswith(below)]
            for each in names:
                kept.remove(each)
                lifted[each[len(path) :]] = FULL if kept is self._full else WALK
        names = [path] if path in self._parts else []
        if directory:
            names += [each for each in self._parts if each.startswith(below)]
        for each in names:
            walked = lifted.get(each[len(path) :], Mark()).walk
            lifted[each[len(path) :]] = Mark(extents=tuple(self._parts.pop(each)), walk=walked)
        return lifted

    def has_content(self, path: bytes) -> bool:
        """Whether content of the file at `path` is marked, whole or in part."""
        return self._covered(path) or bool(self._parts.get(path))

    def marks(self) -> dict[bytes, Mark]:
        """All marks by path, none below a FULL one."""
        self._sift()
        found = dict.fromkeys(self._full, FULL)
        found.update(dict.fromkeys(self._walk, WALK))
        for path, extents in self._parts.items():
            found[path] = Mark(extents=tuple(extents), walk=path in self._walk)
        return found

    def take(self) -> dict[bytes, Mark]:
        """As `marks`; none are left here."""
        taken = self.marks()
        self.clear()
        return taken

    def clear(self) -> None:
        """Nothing is marked any more."""
        self._empty()
        self.overflowed = False

    def put_back(self, marks: Mapping[bytes, Mark]) -> None:
        """Add marks that were taken but not dealt with."""
        for path, mark in marks.items():
            if mark.full:
                self.add_full(path)
                continue
            if mark.walk:
                self.add_walk(path)
            if mark.extents or not mark.walk:
                self.add_attributes(path)
            for start, end in mark.extents:
                self.add_extent(path, start, end - start)

    def absorb(self, other: Marks) -> None:
        """Take over all that `other` has; nothing is left there."""
        overflowed = other.overflowed
        self.put_back(other.take())
        self.overflowed = self.overflowed or overflowed

    def _empty(self) -> None:
        self._full, self._walk, self._parts = set(), set(), {}

    def _drop(self, path: bytes, lifted: Mapping[bytes, Mark]) -> None:
        self.put_back({path + rest: mark for rest, mark in lifted.items()})

    def _covered(self, path: bytes) -> bool:
        return bool(self._full) and (path in self._full or self._below(self._full, path))

    @staticmethod
    def _below(marked: set[bytes], path: bytes) -> bool:
        """Whether an ancestor is marked."""
        at = len(path)
        while at > 0:
            at = path.rfind(b"/", 0, at)
            if (path[:at] if at > 0 else b"") in marked:
                return True
        return False

    def _sift(self) -> None:
        """Take out what lies below something FULL, and what a WALK above sees by itself."""
        full, walk = self._full, self._walk
        if full:
            full = self._full = {path for path in full if not self._below(full, path)}
            self._parts = {p: e for p, e in self._parts.items() if not self._below(full, p)}
        if walk:
            walk = self._walk = {
                path
                for path in walk
                if path not in full and not self._below(full, path) and not self._below(walk, path)
            }
            self._parts = {
                p: e for p, e in self._parts.items() if e or not (p in walk or self._below(walk, p))
            }

    def _bound(self) -> None:
        if len(self._full) + len(self._walk) + len(self._parts) <= self._max_paths:
            return
        self._sift()
        if len(self._full) + len(self._walk) + len(self._parts) > self._max_paths // 2:
            self._empty()
            self._walk.add(b"")
            self.overflowed = True


def merge_range(ranges: list[tuple[int, int]], start: int, end: int) -> None:
    """Add [start, end) to a sorted list, joining what overlaps or touches."""
    first = bisect_left(ranges, start, key=lambda each: each[1])
    last = first
    while last < len(ranges) and ranges[last][0] <= end:
        start = min(start, ranges[last][0])
        end = max(end, ranges[last][1])
        last += 1
    ranges[first:last] = [(start, end)]
