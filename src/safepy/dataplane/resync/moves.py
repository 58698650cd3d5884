"""What a tree lost under one name and gets back under another: moved, not copied.

Objects bear idents (protocol 4.2). What is to go is held for a while, in a folder of the same
file system; what is absent is looked for there, and then in an index of the whole tree, made the
first time it is worth it. Nothing is taken from a place that the source has not called free, and
what has one ident in two places is left where it is.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from stat import S_ISDIR, S_ISREG

from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.aside import Aside
from safepy.dataplane.resync.messages import Entry
from safepy.dataplane.resync.scope import HOLD_PREFIX, Scope
from safepy.dataplane.resync.tree import Path

#: Smaller files are sooner copied than found.
WORTH_BYTES = 64 << 10


def is_hold(path: Path) -> bool:
    """Whether this is such a folder, or below one."""
    return bool(path) and path[0].startswith(HOLD_PREFIX)


def worth(mode: int, size: int) -> bool:
    return S_ISDIR(mode) or (S_ISREG(mode) and size >= WORTH_BYTES)


class _Node:
    """A name in the index. Paths are made of parents, so a moved directory takes all along."""

    __slots__ = ("below", "name", "parent")

    def __init__(self, parent: _Node | None, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.below: dict[bytes, _Node] = {}

    def path(self) -> Path:
        names = []
        node: _Node | None = self
        while node is not None and node.parent is not None:
            names.append(node.name)
            node = node.parent
        return tuple(reversed(names))


class _Index:
    """Where the idents of one tree are."""

    def __init__(self) -> None:
        self.root = _Node(None, b"")
        self.by_ident: dict[bytes, _Node] = {}
        self.twice: set[bytes] = set()

    def add(self, node: _Node, ident: bytes) -> None:
        if self.by_ident.setdefault(ident, node) is not node:
            self.twice.add(ident)

    def find(self, path: Path, make: bool = False) -> _Node | None:
        node = self.root
        for name in path:
            below = node.below.get(name)
            if below is None:
                if not make:
                    return None
                below = node.below[name] = _Node(node, name)
            node = below
        return node

    def relocate(self, old: Path, new: Path) -> None:
        node = self.find(old)
        parent = self.find(new[:-1], make=True)
        if node is None or node.parent is None or parent is None:
            return
        del node.parent.below[old[-1]]
        node.parent, node.name = parent, new[-1]
        parent.below[new[-1]] = node


class _Hold:
    """The folder of one tree, and what is in it: each thing in a folder of its own number."""

    def __init__(self) -> None:
        self.folder: bytes = b""
        self.count = 0
        self.idents: set[bytes] = set()
        #: (where it is held, where it stood)
        self.left: dict[Path, Path] = {}


class Moves:
    """Of all trees, shared by the transfers of one resynchronisation at its target."""

    def __init__(
        self, root_fds: Sequence[int], aside: Aside | None = None, scope: Scope | None = None
    ) -> None:
        self._roots = root_fds
        self._scope = scope or Scope()
        self._aside = aside
        self._lock = threading.Lock()
        self._indexes: list[_Index | None] = [None for _ in root_fds]
        self._holds = [_Hold() for _ in root_fds]
        #: Idents that were met twice.
        self._doubtful: list[set[bytes]] = [set() for _ in root_fds]
        self._wanted: list[set[bytes]] = [set() for _ in root_fds]
        #: Folders of attempts that were interrupted: what is in them may be claimed, too.
        self._leftovers = [_leftovers(root) for root in root_fds]
        #: What was moved instead of being copied.
        self.moved = 0

    @property
    def holding(self) -> bool:
        return any(hold.folder for hold in self._holds) or any(self._leftovers)

    # --- out of its place

    def hold(
        self, tree: int, path: Path, dir_fd: int, found: os.stat_result, breathe: Callable[[], None]
    ) -> bool:
        """Take out what stands at `path`: a directory, or a file that may be wanted elsewhere.
        False, and nothing happened, if it is neither. (What is below a directory could be taken by
        another transfer while it is removed, so that is done when nothing is taken any more.)"""
        is_directory = S_ISDIR(found.st_mode)
        if not worth(found.st_mode, found.st_size) or (not is_directory and found.st_nlink > 1):
            return False
        ident = trees.ident_of(dir_fd, path[-1])
        if not (ident or is_directory):
            return False
        with self.alone(breathe):
            now = trees.status(dir_fd, path[-1])
            if now is None:
                return True  # taken by somebody meanwhile
            if now.st_ino != found.st_ino:
                return False
            if self._aside is not None and self._aside.knows_below(tree, path):
                return False
            hold = self._holds[tree]
            if ident and ident in hold.idents:
                self._doubtful[tree].add(ident)
            place = self._room(tree)
            fd = trees.open_directory(self._roots[tree], place)
            try:
                os.rename(path[-1], path[-1], src_dir_fd=dir_fd, dst_dir_fd=fd)
            finally:
                os.close(fd)
            held = (*place, path[-1])
            hold.idents.add(ident)
            hold.left[held] = path
            index = self._indexes[tree]
            if index is not None:
                index.relocate(path, held)
        return True

    def alone(self, breathe: Callable[[], None]) -> AbstractContextManager[None]:
        """Nothing is moved meanwhile."""
        return _Patient(self._lock, breathe)

    def _room(self, tree: int) -> Path:
        """A new folder for one thing. The root's times stay as they are."""
        hold, root = self._holds[tree], self._roots[tree]
        if not hold.folder:
            before = os.stat(b".", dir_fd=root)
            hold.folder = HOLD_PREFIX + secrets.token_hex(6).encode()
            os.mkdir(hold.folder, 0o700, dir_fd=root)
            _set_times(root, before)
        hold.count += 1
        place = (hold.folder, b"%d" % hold.count)
        os.mkdir(b"/".join(place), 0o700, dir_fd=root)
        return place

    # --- into another

    def holder(self, tree: int, ident: bytes, breathe: Callable[[], None]) -> Path | None:
        """Where the object with this ident is; None if it is nowhere, or in two places. From now
        on it is `wanted`."""
        with self.alone(breathe):
            index = self._indexes[tree]
            if index is None:
                index = self._indexes[tree] = self._make_index(tree, breathe)
            node = index.by_ident.get(ident)
            if node is None or ident in index.twice or ident in self._doubtful[tree]:
                return None
            self._wanted[tree].add(ident)
            return node.path()

    def wanted(self, tree: int, ident: bytes) -> bool:
        """Whether something with this ident was asked for and not brought yet."""
        return ident in self._wanted[tree]

    def take(
        self,
        tree: int,
        holder: Path,
        path: Path,
        dir_fd: int,
        entry: Entry,
        breathe: Callable[[], None],
    ) -> bool:
        """Move what is at `holder` to `path` (its last component in `dir_fd`), where nothing is.
        False, and nothing happened, if it is not what the ident says."""
        if path[: len(holder)] == holder:
            return False
        with self.alone(breathe):
            source_fd = trees.open_or_none(self._roots[tree], holder[:-1])
            if source_fd is None:
                return False
            try:
                found = trees.status(source_fd, holder[-1])
                if (
                    found is None
                    or not worth(found.st_mode, found.st_size)
                    or S_ISDIR(found.st_mode) != S_ISDIR(entry.mode)
                    or (not S_ISDIR(found.st_mode) and found.st_nlink > 1)
                    or trees.ident_of(source_fd, holder[-1]) != entry.ident
                ):
                    return False
                os.rename(holder[-1], path[-1], src_dir_fd=source_fd, dst_dir_fd=dir_fd)
            finally:
                os.close(source_fd)
            hold, index = self._holds[tree], self._indexes[tree]
            hold.left.pop(holder, None)
            self._wanted[tree].discard(entry.ident)
            if index is not None:
                index.relocate(holder, path)
            self.moved += 1
        return True

    def renamed(self, tree: int, path: Path, old: bytes, new: bytes) -> None:
        """The directory at `path` stays, as another one."""
        with self._lock:
            index = self._indexes[tree]
            if index is None:
                return
            node = index.by_ident.get(old)
            if node is not None and node.path() == path:
                del index.by_ident[old]
            if new and (node := index.find(path)) is not None:
                index.add(node, new)

    def _make_index(self, tree: int, breathe: Callable[[], None]) -> _Index:
        index = _Index()
        pending = [index.root]
        while pending:
            here = pending.pop()
            fd = trees.open_or_none(self._roots[tree], here.path())
            if fd is None:
                continue
            try:
                for name in self._movable(tree, here.path(), fd):
                    breathe()
                    found = trees.status(fd, name)
                    if found is None or not worth(found.st_mode, found.st_size):
                        continue
                    ident = trees.ident_of(fd, name)
                    is_directory = S_ISDIR(found.st_mode)
                    if not ident and not is_directory:
                        continue
                    node = here.below[name] = _Node(here, name)
                    if ident:
                        index.add(node, ident)
                    if is_directory:
                        pending.append(node)
            finally:
                os.close(fd)
        return index

    def _movable(self, tree: int, path: Path, fd: int) -> list[bytes]:
        """What is replicated, and what is held: nothing is taken from what is left out."""
        if is_hold(path):
            return trees.names_in(fd)
        names = self._scope.names(tree, path, fd)
        if not path:
            names += self._leftovers[tree]
            if self._holds[tree].folder:
                names.append(self._holds[tree].folder)
        return names

    # --- for good

    def settle(self, breathe: Callable[[], None]) -> None:
        """All names were looked at: what is still held is wanted by nobody, and goes."""
        with self.alone(breathe):
            for tree, root in enumerate(self._roots):
                hold = self._holds[tree]
                if hold.folder:
                    for held, path in hold.left.items():
                        self._keep(tree, held, path, breathe)
                    _remove(root, hold.folder, breathe)
                    self._holds[tree] = _Hold()
                for name in self._leftovers[tree]:
                    self._end_leftover(tree, name, breathe)
                self._leftovers[tree] = []

    def _end_leftover(self, tree: int, name: bytes, breathe: Callable[[], None]) -> None:
        root = self._roots[tree]
        if self._aside is not None:
            for number in _names(root, (name,)):
                for held in _names(root, (name, number)):
                    self._keep(tree, (name, number, held), (held,), breathe)
        _remove(root, name, breathe)

    def _keep(self, tree: int, held: Path, path: Path, breathe: Callable[[], None]) -> None:
        if self._aside is None:
            return
        fd = trees.open_directory(self._roots[tree], held[:-1])
        try:
            self._aside.keep(tree, path, fd, going=True, breathe=breathe, whole=True)
        finally:
            os.close(fd)


def _leftovers(root: int) -> list[bytes]:
    return [name for name in _names(root, ()) if name.startswith(HOLD_PREFIX)]


def _names(root: int, path: Path) -> list[bytes]:
    fd = trees.open_or_none(root, path)
    if fd is None:
        return []
    try:
        return trees.names_in(fd)
    finally:
        os.close(fd)


def _remove(root: int, name: bytes, breathe: Callable[[], None]) -> None:
    before = os.stat(b".", dir_fd=root)
    trees.remove(root, name, breathe)
    _set_times(root, before)


def _set_times(root: int, before: os.stat_result) -> None:
    os.utime(b".", ns=(before.st_atime_ns, before.st_mtime_ns), dir_fd=root)


class _Patient(AbstractContextManager[None]):
    """A lock whose waiting gives signs of life."""

    def __init__(self, lock: threading.Lock, breathe: Callable[[], None]) -> None:
        self._lock = lock
        self._breathe = breathe

    def __enter__(self) -> None:
        while not self._lock.acquire(timeout=1.0):
            self._breathe()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
