"""What a serving node remembers of each modification, so that the other copy can be made equal.

Two memories: durable extents in the intent log (`intent.py`, for after a crash) and names in
memory (`pathmarks.py`, for a peer that was away). `Primary` asks here before it begins anything.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial

from safepy.core.replica.intent import ALL_TREES, Everything
from safepy.core.replica.marks import ZONE_BYTES, Mark
from safepy.core.replica.ops import (
    Fallocate,
    Identify,
    Link,
    Make,
    Op,
    Rename,
    SetAttr,
    Tmpfile,
    Unlink,
    Write,
)
from safepy.core.replica.suspects import Suspects, ident_of
from safepy.dataplane.intent import Intent
from safepy.dataplane.pathmarks import PathMarks
from safepy.dataplane.resync.memory import Memories
from safepy.dataplane.touched import marks_of, path_at
from safepy.storage.backing import Tree
from safepy.storage.syscalls import RENAME_EXCHANGE

_ZONE_SHIFT = ZONE_BYTES.bit_length() - 1
_HANDLE_SHIFT = 63 - _ZONE_SHIFT
#: Zones known to be marked; beyond that all are looked at again.
HOT_MAX = 200_000

OVERFLOWED = "too much has changed to know it name by name"

#: To be called when the operation has succeeded.
Then = Callable[[], None]


class Keeper:
    """`intent` is None when there is no log: then nothing is durable, and after a crash the whole
    content is compared."""

    def __init__(self, trees: Sequence[Tree], paths: PathMarks, intent: Intent | None) -> None:
        self._trees = trees
        self.paths = paths
        self.intent: Intent | None = None
        #: What attempts to bring the peer up to date have read; told of every change of content.
        self.memories = Memories()
        #: (handle, zone) of writes whose marks are there, durable and by path, in this window.
        self._hot: list[set[int]] = [set() for _ in trees]
        # Not the session of new objects: what gets its id late is not new.
        self._late_session = secrets.token_bytes(8)
        if intent is not None:
            self.guard(intent)

    def guard(self, intent: Intent) -> None:
        """From here on nothing begins without its durable mark."""
        self.intent = intent
        intent.on_failed = self._forget_hot  # what is hot is not asked of it (F47)

    # -- asked by Primary -----------------------------------------------------------------------

    def may_begin(self, index: int, op: Op) -> bool:
        """Whether the mark of `op` is durable (I5). A write is noted by path, too."""
        if type(op) is not Write:
            return self.intent is None or self.intent.ready(index, op)
        hot = self._hot[index]
        zone = op.offset >> _ZONE_SHIFT
        end = (op.offset + len(op.data) - 1) >> _ZONE_SHIFT
        key = (op.handle << _HANDLE_SHIFT) | zone
        last = key + end - zone
        while key in hot:
            if key >= last:
                return True
            key += 1
        if self.intent is not None and not self.intent.ready(index, op):
            return False
        try:
            marks = marks_of(self._trees[index], op)
            self._changes(index, op.handle)
        except OSError:
            return True  # it will fail by itself
        for mark in marks:
            self.paths.add(index, *mark)
        if len(hot) > HOT_MAX:
            hot.clear()
        hot.update(range(last - (end - zone), last + 1))
        return True

    def foresee(self, index: int, op: Op) -> None:
        """`op` waits for something else: its mark can be written meanwhile."""
        if self.intent is not None:
            self.intent.ready(index, op)

    def note(self, index: int, op: Op) -> Then | None:
        """What `op`, no write, touches; to be asked just before it is carried out. Raises
        OSError."""
        for mark in marks_of(self._trees[index], op):
            self.paths.add(index, *mark)
        match op:
            case SetAttr() if op.size is not None:
                self._changes(index, op.handle)
            case Fallocate():
                self._changes(index, op.handle)
            case Make() | Tmpfile() if op.ident and self.intent is not None:
                return partial(self.intent.made, index, op.handle)
            case Unlink(parent, name):
                return self._losing(index, parent, name)
            case Rename():
                return self._renaming(index, op)
        return None

    def _changes(self, index: int, handle: int) -> None:
        """Raises OSError."""
        if self.memories.used:
            self.memories.changed(index, self._trees[index].inode_of(handle))

    def idents_missing(self, index: int, op: Op) -> list[Identify]:
        """Older objects get an id before they get another name (protocol 4.2). Raises OSError."""
        tree = self._trees[index]
        if isinstance(op, Link):
            handles = [op.handle]
        elif isinstance(op, Rename):
            handles = [self._at(tree, op.parent, op.name)]
            if op.flags & RENAME_EXCHANGE:
                handles.append(self._at(tree, op.new_parent, op.new_name))
        else:
            return []
        return [
            Identify(handle, ident_of(self._late_session, index, tree.new_handle()))
            for handle in handles
            if tree.takes_ident(handle) and not tree.ident_of(handle)
        ]

    @property
    def failed(self) -> bool:
        """The log cannot be written: nothing that modifies may begin any more (F47)."""
        return self.intent is not None and self.intent.failed

    # -- told by the worker -----------------------------------------------------------------------

    def suspects(self, zones_only: bool) -> list[Suspects]:
        """Content of this node that may differ though nothing shows it; kept up to date.
        `zones_only`: the marks by path tell of all but what was found (`suspect`)."""
        if self.intent is None:
            return [Suspects(everything=True) for _ in self._trees]
        return self.intent.found if zones_only else self.intent.suspects

    @property
    def incomplete(self) -> str:
        """Why the marks by path do not tell everything; "" if they do."""
        return self.paths.incomplete or (OVERFLOWED if self.paths.overflowed else "")

    @property
    def suspect_everything_because(self) -> str:
        """Why all content must be compared; "" if the marks tell."""
        if self.intent is None:
            return "there is no intent log"
        if self.intent.everything:
            return "the intent log says that any content may differ"
        return ""

    def suspect_everything(self, done: Callable[[], None]) -> None:
        """An attempt compares everything: whatever becomes of it, no later one may look at less
        until one has come to its end (I9). `done` once that is durable."""
        if self.intent is None:
            done()
        else:
            self.intent.suspect([Everything(ALL_TREES)], done)

    @property
    def changed(self) -> bool:
        """Whether anything was marked in this window."""
        return bool(self.paths) or (self.intent is not None and self.intent.used)

    @property
    def window_full(self) -> bool:
        """Whether operations wait for the end of the window."""
        return self.intent is not None and self.intent.full

    def rotate(self) -> None:
        """A checkpoint begins (protocol 4.3 a)."""
        self._forget_hot()
        self.paths.rotate()
        if self.intent is not None:
            self.intent.rotate()

    def drop_previous(self) -> None:
        """The checkpoint is recorded: what was marked before it is on both disks (I6)."""
        self.paths.drop_previous()
        if self.intent is not None:
            self.intent.drop_previous()

    def go_alone(self) -> None:
        """The peer was left behind; marks pile up from here on."""
        self.paths.go_alone()
        if self.intent is not None:
            self.intent.go_alone()

    def reset(self) -> None:
        """The peer adopted this node's state, both have flushed (I8, I11, I12)."""
        self._forget_hot()
        self.memories.clear()
        self.paths.reset()
        if self.intent is not None:
            self.intent.reset()

    def take(self) -> list[dict[bytes, Mark]]:
        """What is marked by path, for a round of an attempt."""
        self._forget_hot()
        self.memories.round_begins()
        return self.paths.take()

    def _forget_hot(self) -> None:
        for hot in self._hot:
            hot.clear()

    # -- names that go ----------------------------------------------------------------------------

    @staticmethod
    def _at(tree: Tree, parent: int, name: bytes) -> int:
        return tree.known_at(parent, name) or tree.lookup(parent, name)[0]

    def _losing(self, index: int, parent: int, name: bytes) -> Then | None:
        """A file with other names loses one under which its content is marked."""
        tree = self._trees[index]
        path = path_at(tree, parent, name)
        if path is None or not self.paths.has_content(index, path):
            return None
        handle = tree.known_at(parent, name)
        if not handle or tree.stat(handle).st_nlink < 2:
            return None

        def lost() -> None:
            left = tree.path_of(handle)
            self.paths.add(index, "full", b"" if left is None else left)

        return lost

    def _renaming(self, index: int, op: Rename) -> Then | None:
        tree = self._trees[index]
        old = path_at(tree, op.parent, op.name)
        new = path_at(tree, op.new_parent, op.new_name)
        if old is None or new is None:
            return None  # a removed directory: it will fail
        exchanged = bool(op.flags & RENAME_EXCHANGE)
        lost = None if exchanged else self._losing(index, op.new_parent, op.new_name)
        directory = True
        if not exchanged and (moved := tree.known_at(op.parent, op.name)):
            directory = tree.is_directory(moved)

        def renamed() -> None:
            self.paths.moved(index, old, new, directory, exchanged)
            if lost is not None:
                lost()

        return renamed
