"""What the transfers of one resynchronisation share at the source: work, findings, progress."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from safepy.core.replica.marks import Extents, Mark
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.links import LinkNames
from safepy.dataplane.resync.memory import Memory
from safepy.dataplane.resync.messages import ResyncFailed, Rule
from safepy.dataplane.resync.pacing import Pace
from safepy.dataplane.resync.policy import Policy
from safepy.dataplane.resync.scope import Scope
from safepy.dataplane.resync.tree import Path
from safepy.dataplane.resync.zones import joined
from safepy.errors import PeerError
from safepy.model import Progress

_REPORT_S = 0.25

#: (inode, name, extents or None for all, rule) of a name that is not its inode's only one.
Linked = tuple[int, bytes, Extents | None, int]


@dataclass(frozen=True, slots=True)
class Directories:
    """Compare directories, with all below them. `full`: the content of all files too, otherwise
    names, attributes, and content where something asks for it."""

    tree: int
    paths: tuple[Path, ...]
    full: bool


@dataclass(frozen=True, slots=True)
class Fresh:
    """Fill a directory that the target has made now."""

    tree: int
    path: Path


@dataclass(frozen=True, slots=True)
class Names:
    """Compare some names of a directory, by their marks."""

    tree: int
    path: Path
    names: tuple[tuple[bytes, Mark], ...]


@dataclass(frozen=True, slots=True)
class Large:
    """Send or compare a file that is worth several messages. `target_size` may be ABSENT.

    `split` None: the whole file. Otherwise these `ranges` of it are one of several parts."""

    tree: int
    path: Path
    name: bytes
    target_size: int
    extents: Extents | None
    attributes: bool
    ranges: Extents = ()
    split: Split | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """Size and attributes of a file of which several transfers sent parts."""

    tree: int
    path: Path
    name: bytes


@dataclass(frozen=True, slots=True)
class GroupItem:
    """These names are one inode. `extents` None: compare all its content."""

    tree: int
    inode: int
    paths: tuple[Path, ...]
    extents: Extents | None
    rule: int


@dataclass(frozen=True, slots=True)
class AttributesItem:
    """Attributes of directories, at the end."""

    tree: int
    paths: tuple[Path, ...]


Item = Directories | Fresh | Names | Large | Ending | GroupItem | AttributesItem


def may_grow(item: Item) -> bool:
    """Whether one item may turn out to be a whole tree."""
    if isinstance(item, Names):
        return any(mark.full or mark.walk for _, mark in item.names)
    return isinstance(item, Directories | Fresh)


class Split:
    """A large file in the hands of several transfers."""

    def __init__(self, parts: int, changed: bool) -> None:
        self._left = parts
        self._changed = changed
        self._copied = 0
        self._lock = threading.Lock()

    def done(self, changed: bool, copied: int) -> tuple[bool, int] | None:
        """One part is through; (changed, copied in all) for the last one."""
        with self._lock:
            self._left -= 1
            self._changed = self._changed or changed
            self._copied += copied
            return None if self._left else (self._changed, self._copied)


class Work:
    """The items of one phase. It is over when nothing is left and nobody may add any more."""

    def __init__(self, items: Iterable[Item], workers: int) -> None:
        self._items: deque[Item] = deque(items)
        self._condition = threading.Condition()
        self._busy = workers
        self.error: BaseException | None = None

    def take(self) -> Item | None:
        with self._condition:
            if self.error is not None or not self._items:
                return None
            return self._items.popleft()

    def add(self, items: Sequence[Item]) -> None:
        """The newest are taken first: depth before breadth keeps the queue short."""
        if items:
            with self._condition:
                self._items.extendleft(reversed(items))
                self._condition.notify(len(items))

    def wait(self) -> bool:
        """Wait for items, by a worker that has nothing under way; False when it is over."""
        with self._condition:
            self._busy -= 1
            if not self._busy:
                self._condition.notify_all()
            while self.error is None and self._busy and not self._items:
                self._condition.wait()
            if self.error is not None or not self._items:
                return False
            self._busy += 1
            return True

    def fail(self, error: BaseException) -> None:
        """The first error counts, for the others follow from it; but what the target said in
        words counts more than that its streams ended."""
        with self._condition:
            if self.error is None or (
                isinstance(error, ResyncFailed) and isinstance(self.error, PeerError)
            ):
                self.error = error
            self._condition.notify_all()


@dataclass(slots=True)
class Counts:
    files: int = 0
    files_copied: int = 0
    bytes_compared: int = 0
    bytes_copied: int = 0


class Shared:
    """Findings of all transfers, for the phases to come. Methods lock; they are called once a
    message, not once a file."""

    def __init__(
        self,
        root_fds: Sequence[int],
        on_progress: Callable[[Progress], None] | None,
        acl: bool,
        policy: Policy,
        scope: Scope,
        pace: Pace,
        memory: Memory,
    ) -> None:
        self.root_fds = root_fds
        self.acl = acl
        self.policy = policy
        self.scope = scope
        self.pace = pace
        #: What was read by earlier attempts need not be read again.
        self.memory = memory
        memory.begin()
        #: Told of each file of which content travelled; from the transfer threads.
        self.on_copied: Callable[[int, Path], None] = lambda tree, path: None
        #: The target holds something that it took out of its place.
        self.holding = False
        self.stop_counting = False
        self.total = Counts()
        #: Names of inodes with several, for each tree; kept over the rounds.
        self.links = [LinkNames() for _ in root_fds]
        #: Change time of inodes that have names outside of the tree, when that was found out.
        self.outside: dict[tuple[int, int], int] = {}
        self._touched: dict[tuple[int, int], tuple[Extents | None, int]] = {}
        self._endings: list[Item] = []
        #: Names to look at again when all others were.
        self._deferred: list[Item] = []
        self.may_defer = True
        self._directories: dict[int, set[Path]] = {}
        self._missing: set[tuple[int, Path]] = set()
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._phase = ""
        self._totals = (0, 0)
        self._started_s = self._reported_s = 0.0

    def look(self, tree: int, path: Path) -> os.stat_result | None:
        """lstat of a path, None when it is not there."""
        fd = trees.open_or_none(self.root_fds[tree], path[:-1])
        if fd is None:
            return None
        try:
            return trees.status(fd, path[-1] if path else b".")
        finally:
            os.close(fd)

    # --- findings

    def finish_directory(self, tree: int, path: Path) -> None:
        with self._lock:
            self._directories.setdefault(tree, set()).add(path)

    def finish_parents(self, tree: int, paths: Iterable[Path]) -> None:
        with self._lock:
            self._directories.setdefault(tree, set()).update(path[:-1] for path in paths)

    def take_directories(self) -> dict[int, set[Path]]:
        taken, self._directories = self._directories, {}
        return taken

    def touch(self, tree: int, path: Path, found: Sequence[Linked]) -> None:
        """Names in `path` that are not their inode's only one."""
        with self._lock:
            for inode, name, extents, rule in found:
                self.links[tree].add(inode, (*path, name))
                key = (tree, inode)
                before, before_rule = self._touched.get(key, ((), Rule.IDENT))
                if extents is None or before is None:
                    self._touched[key] = None, Rule.IDENT
                else:
                    self._touched[key] = joined(before, extents), max(rule, before_rule)

    def add_ending(self, tree: int, path: Path, name: bytes) -> None:
        with self._lock:
            self._endings.append(Ending(tree, path, name))

    def defer(self, tree: int, path: Path, name: bytes, mark: Mark) -> None:
        with self._lock:
            self._deferred.append(Names(tree, path, ((name, mark),)))

    def take_deferred(self) -> list[Item]:
        taken, self._deferred = self._deferred, []
        return taken

    def take_endings(self) -> list[Item]:
        taken, self._endings = self._endings, []
        return taken

    def add_links(self, tree: int, found: Iterable[tuple[int, Path]]) -> None:
        with self._lock:
            for inode, path in found:
                self.links[tree].add(inode, path)

    def touch_below(self, tree: int, path: Path) -> None:
        """`path` is marked FULL: whatever had a name there may have been changed through it."""
        with self._lock:
            for inode in self.links[tree].inodes_below(path):
                self._touched[tree, inode] = None, Rule.IDENT

    def take_touched(self) -> dict[tuple[int, int], tuple[Extents | None, int]]:
        taken, self._touched = self._touched, {}
        return taken

    def add_missing(self, missing: Iterable[tuple[int, Path]]) -> None:
        with self._lock:
            for tree, path in missing:
                if tree >= len(self.root_fds):
                    raise ResyncFailed("the other node has other directories")
                self._missing.add((tree, path))

    def take_missing(self) -> set[tuple[int, Path]]:
        taken, self._missing = self._missing, set()
        return taken

    # --- progress

    def begin(self, phase: str) -> None:
        self._phase = phase
        self.total = Counts()
        self._totals = (0, 0)
        self._started_s = time.monotonic()

    def set_totals(self, files: int, size: int) -> None:
        self._totals = (files, size)

    def count(
        self, files: int = 0, files_copied: int = 0, compared: int = 0, copied: int = 0
    ) -> None:
        with self._lock:
            total = self.total
            total.files += files
            total.files_copied += files_copied
            total.bytes_compared += compared
            total.bytes_copied += copied
            due = time.monotonic() - self._reported_s >= _REPORT_S
        if due:
            self.report()

    def report(self, final: bool = False) -> None:
        if self._on_progress is None:
            return
        now_s = time.monotonic()
        with self._lock:
            if not final and now_s - self._reported_s < _REPORT_S:
                return
            self._reported_s = now_s
            total = self.total
            files_total, bytes_total = self._totals
            done = total.bytes_compared
            rate = done / max(now_s - self._started_s, 1e-3)
            left_s = None
            if bytes_total and rate:
                left_s = max(0.0, (bytes_total - done) / rate)
            progress = Progress(
                phase=self._phase,
                files_done=total.files,
                files_total=files_total,
                bytes_done=done,
                bytes_total=bytes_total,
                bytes_copied=total.bytes_copied,
                files_copied=total.files_copied,
                rate_bytes_s=rate,
                left_s=left_s,
            )
        self._on_progress(progress)
