"""Content that may differ although names, sizes and times are equal (protocol I5, I9).

What an intent log says after a crash, for one replicated directory: extents by inode number, all
objects that were new, or everything. Each node has its own, by its own inode numbers; the
comparison looks at what either of them names.
"""

from __future__ import annotations

from collections.abc import Iterable

from safepy.core.replica.intent import (
    ALL_TREES,
    EXTENT_BYTES,
    WHOLE,
    Entry,
    NewSince,
    Touched,
)
from safepy.core.replica.marks import TO_THE_END, Extents, merge_range

#: Bytes of an id: 8 of the session, 2 of the tree's number, 6 of the handle (big endian).
IDENT_BYTES = 16
_SESSION_BYTES = 8
_COUNTER_AT = 10

#: The whole file.
ALL: Extents = ((0, TO_THE_END),)


def ident_of(session: bytes, tree: int, handle: int) -> bytes:
    """The id of the object that was made under this handle."""
    return session + tree.to_bytes(2, "big") + handle.to_bytes(6, "big")


def counter_of(ident: bytes) -> int:
    return int.from_bytes(ident[_COUNTER_AT:], "big")


class Suspects:
    """Suspect content of one replicated directory. Filled by one thread, then only read."""

    def __init__(self, everything: bool = False) -> None:
        #: All content of the directory.
        self.everything = everything
        self._extents: dict[int, list[tuple[int, int]]] = {}
        self._new_since: dict[bytes, int] = {}

    def __bool__(self) -> bool:
        return self.everything or bool(self._extents) or bool(self._new_since)

    def add(self, inode: int, start: int, end: int) -> None:
        """Bytes of the file with this inode number."""
        merge_range(self._extents.setdefault(inode, []), start, end)

    def add_whole(self, inode: int) -> None:
        self.add(inode, 0, TO_THE_END)

    def add_new_since(self, session: bytes, counter: int) -> None:
        """All objects that this session made, from this counter on."""
        self._new_since[session] = min(counter, self._new_since.get(session, counter))

    def add_entry(self, entry: Entry) -> None:
        """As the intent log says; the caller has looked at `entry.tree`."""
        match entry:
            case Touched(_, inode, _, count) if count == WHOLE:
                self.add_whole(inode)
            case Touched(_, inode, first, count):
                self.add(inode, first * EXTENT_BYTES, (first + count) * EXTENT_BYTES)
            case NewSince(_, session, counter):
                self.add_new_since(session, counter)
            case _:
                self.everything = True

    def absorb(self, other: Suspects) -> None:
        """Whatever `other` suspects is suspect here, too. A comparison may be reading this."""
        self.everything = self.everything or other.everything
        for inode, extents in other._extents.items():
            for start, end in extents:
                self.add(inode, start, end)
        for session, counter in other._new_since.items():
            self.add_new_since(session, counter)

    def of(self, inode: int, ident: bytes) -> Extents:
        """What is suspect of this file: byte ranges, `ALL`, or () for nothing."""
        if self.everything:
            return ALL
        if self._new_since and len(ident) == IDENT_BYTES:
            since = self._new_since.get(ident[:_SESSION_BYTES])
            if since is not None and counter_of(ident) >= since:
                return ALL
        extents = self._extents.get(inode)
        return () if extents is None else tuple(extents)


def suspects_of(entries: Iterable[Entry], trees: int, damaged: bool) -> list[Suspects]:
    """One for each tree. `damaged`: the log cannot be relied on."""
    suspects = [Suspects(damaged) for _ in range(trees)]
    for entry in entries:
        for each in suspects if entry.tree == ALL_TREES else suspects[entry.tree : entry.tree + 1]:
            each.add_entry(entry)
    return suspects


def by_name_only(suspects: Iterable[Suspects]) -> list[Suspects]:
    """Without those that say no more than that anything may differ (an operator knows better)."""
    return [Suspects() if each.everything else each for each in suspects]
