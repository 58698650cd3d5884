"""How names are cut into messages: parts of a listing, parts of a group of hard links."""

from __future__ import annotations

from collections.abc import Sequence
from stat import S_ISDIR

from safepy.core.replica.marks import Mark
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.messages import Entry, ResyncFailed
from safepy.dataplane.resync.shared import Linked
from safepy.dataplane.resync.tree import Path

#: A listing is sent in parts of about this many names and bytes.
PART_NAMES = 500
PART_BYTES = 256 << 10
GROUP_BYTES = 256 << 10
MAX_ENTRY_BYTES = 384 << 10


class Part:
    """What one listing message is made of, and what is to be done when it is answered."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        #: Directories by their names: whether all below them is compared, and its content too.
        self.recurse: dict[bytes, bool] = {}
        self.attributes: list[bytes] = []
        self.linked: list[Linked] = []
        self.files = 0
        self.weight = 0
        self._message_bytes = 0

    @property
    def is_full(self) -> bool:
        return len(self.entries) >= PART_NAMES or self._message_bytes >= PART_BYTES

    def add(self, entry: Entry, inode: int, mark: Mark) -> None:
        if S_ISDIR(entry.mode):
            self.attributes.append(entry.name)
            if mark.full or mark.walk:
                self.recurse[entry.name] = mark.full
        elif entry.linked:
            self.linked.append((inode, entry.name, entry.extents, entry.rule))
        else:
            self.files += 1
            self.weight += weight(entry)
        self.entries.append(entry)
        size = entry_bytes(entry)
        if size > MAX_ENTRY_BYTES:
            raise ResyncFailed(
                f"{trees.shown((entry.name,))} has too large extended attributes", True
            )
        self._message_bytes += size


def weight(entry: Entry) -> int:
    """Bytes that a file counts for: all, or the marked ones."""
    if entry.extents is None:
        return entry.size
    return min(entry.size, sum(end - start for start, end in entry.extents))


def entry_bytes(entry: Entry) -> int:
    """About what an entry takes in a message."""
    size = 64 + len(entry.name) + len(entry.link)
    for name, value in entry.xattrs:
        size += len(name) + len(value) + 8
    if entry.extents:
        size += 18 * len(entry.extents)
    return size


def by_size(paths: Sequence[Path], most: int = 1 << 30) -> list[tuple[Path, ...]]:
    """Paths in parts that fit in a message, of at most so many."""
    parts: list[list[Path]] = []
    size = 0
    for path in paths:
        length = sum(map(len, path)) + 3 * len(path)
        if not parts or size + length > GROUP_BYTES or len(parts[-1]) >= most:
            parts.append([])
            size = 0
        parts[-1].append(path)
        size += length
    return [tuple(part) for part in parts]
