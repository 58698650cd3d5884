"""Which extents of which files one window of the intent log names (protocol 4.2).

Pure bookkeeping. Coarsening is always right, dropping never: a file becomes whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from safepy.core.replica.intent import ALL_TREES, WHOLE, Entry, Everything, Touched

#: A file that an operation touches in more extents than this is marked whole.
WHOLE_FROM = 256
#: Sessions of new objects that a log names; more become everything.
SESSIONS_MAX = 1024

#: (tree, inode number)
Key = tuple[int, int]


class Touches:
    """Sets of extents by file. `extents` counts those of files that are not whole."""

    def __init__(self) -> None:
        self._extents: dict[Key, set[int]] = {}
        self._whole: set[Key] = set()
        self.extents = 0

    def __bool__(self) -> bool:
        return bool(self._extents) or bool(self._whole)

    @property
    def files(self) -> int:
        return len(self._extents) + len(self._whole)

    @property
    def weight(self) -> int:
        """What counts against the bound of a window: a whole file as much as `WHOLE_FROM`."""
        return self.extents + WHOLE_FROM * len(self._whole)

    def has(self, key: Key, first: int, last: int) -> bool:
        """Whether all extents from `first` to `last` are named."""
        if key in self._whole:
            return True
        extents = self._extents.get(key)
        if extents is None or last - first >= len(extents):
            return False
        return all(each in extents for each in range(first, last + 1))

    def add(self, key: Key, first: int, last: int) -> None:
        """Extents `first` to `last`, at least one."""
        if last - first >= WHOLE_FROM:
            self.add_whole(key)
        else:
            self._add(key, range(first, last + 1))

    def add_whole(self, key: Key) -> None:
        self.extents -= len(self._extents.pop(key, ()))
        self._whole.add(key)

    def absorb(self, other: Touches) -> None:
        for key in other._whole:
            self.add_whole(key)
        for key, extents in other._extents.items():
            self._add(key, extents)

    def coarsen(self, files: int, extents: int) -> bool:
        """At most so many extents of files that are not whole: the largest become whole. False if
        there are too many files for that."""
        if self.files > files:
            return False
        for key in sorted(self._extents, key=lambda key: -len(self._extents[key])):
            if self.extents <= extents:
                break
            self.add_whole(key)
        return True

    def entries(self) -> Iterator[Touched]:
        """As the log holds them, neighbours joined."""
        for tree, inode in self._whole:
            yield Touched(tree, inode, 0, WHOLE)
        for (tree, inode), extents in self._extents.items():
            first = last = -2
            for each in sorted(extents):
                if each != last + 1:
                    if last >= 0:
                        yield Touched(tree, inode, first, last - first + 1)
                    first = each
                last = each
            yield Touched(tree, inode, first, last - first + 1)

    def _add(self, key: Key, extents: Iterable[int]) -> None:
        if key not in self._whole:
            mine = self._extents.setdefault(key, set())
            before = len(mine)
            mine.update(extents)
            self.extents += len(mine) - before


def bounded(entries: Sequence[Entry], files: int, extents: int) -> list[Entry]:
    """The entries of a log in a size that can be written anew: coarser, if need be."""
    touches = Touches()
    others = {entry for entry in entries if not isinstance(entry, Touched)}
    for entry in entries:
        if isinstance(entry, Touched):
            key = (entry.tree, entry.inode)
            touches.add(key, entry.first, entry.first + entry.count - 1)
    if len(others) > SESSIONS_MAX or not touches.coarsen(files, extents):
        return [Everything(ALL_TREES)]
    return [*others, *touches.entries()]
