"""The source's own look at a directory that the target has, too."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from stat import S_ISDIR, S_ISREG

from safepy.core.replica.marks import FULL, WALK
from safepy.dataplane.resync.messages import Rule
from safepy.dataplane.resync.shared import Linked, Shared
from safepy.dataplane.resync.summary import CONTENT_BYTES, Seen, Segments, Summary, look


@dataclass(slots=True)
class Equal:
    """What is left to do of the names whose digests are equal."""

    directories: list[bytes] = field(default_factory=list)
    large: list[bytes] = field(default_factory=list)
    linked: list[Linked] = field(default_factory=list)
    files: int = 0
    weight: int = 0


class Survey:
    """Digests of `names`, and what was noticed on the way."""

    def __init__(self, shared: Shared, tree: int, full: bool, names: Sequence[bytes]) -> None:
        self.full = full
        self._shared = shared
        self._tree = tree
        self._names = names
        #: Of each name: the size of a file that counts by itself, else -1.
        self._sizes = array("q", [-1]) * len(names)
        self._directories: list[bytes] = []
        self._large: list[bytes] = []
        self._linked: list[Linked] = []

    def segments(self, dir_fd: int) -> Segments:
        shared = self._shared
        policy, tree = shared.policy, self._tree

        def asks(seen: Seen) -> bool:
            return not self.full and policy.asks(tree, seen.status, seen.ident)

        memory = shared.memory
        summary = Summary(dir_fd, memory.seed, self.full, asks, memory, tree)
        return tuple(summary.of(self._noting(dir_fd, look(dir_fd, self._names, shared.acl))))

    def _noting(self, dir_fd: int, all_seen: Iterable[Seen]) -> Iterator[Seen]:
        policy, tree, names = self._shared.policy, self._tree, self._names
        mark = FULL if self.full else WALK
        index = 0
        for seen in all_seen:
            while names[index] != seen.name:  # vanished meanwhile
                index += 1
            found = seen.status
            mode = found.st_mode
            if self.full and not seen.ident:
                ident = policy.identified(tree, dir_fd, seen.name, found, b"")
                seen = replace(seen, ident=ident) if ident else seen
            if S_ISDIR(mode):
                self._directories.append(seen.name)
            elif found.st_nlink > 1:
                extents, rule = (
                    policy.wanted(tree, found, seen.ident, mark)
                    if S_ISREG(mode)
                    else (None, Rule.IDENT)
                )
                self._linked.append((found.st_ino, seen.name, extents, rule))
            elif self.full and S_ISREG(mode) and found.st_size > CONTENT_BYTES:
                self._large.append(seen.name)
            else:
                self._sizes[index] = found.st_size if S_ISREG(mode) else 0
            yield seen

    def equal(self, ranges: Sequence[tuple[int, int, bool]]) -> Equal:
        """Of the ranges that do not differ."""
        result = Equal()
        linked_names = [name for _, name, _, _ in self._linked]
        for first, last, differs in ranges:
            if differs:
                continue
            sizes = [size for size in self._sizes[first:last] if size >= 0]
            result.files += len(sizes)
            result.weight += sum(sizes)
            start = self._names[first]
            end = self._names[last] if last < len(self._names) else None
            result.directories += _between(self._directories, start, end)
            result.large += _between(self._large, start, end)
            result.linked += self._linked[
                bisect_left(linked_names, start) : len(linked_names)
                if end is None
                else bisect_left(linked_names, end)
            ]
        return result


def _between(names: list[bytes], start: bytes, end: bytes | None) -> list[bytes]:
    stop = len(names) if end is None else bisect_left(names, end)
    return names[bisect_left(names, start) : stop]
