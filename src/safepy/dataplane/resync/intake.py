"""Content at the receiving end: what must be compared of a file, and writing what comes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from stat import S_ISREG

from safepy.core.replica.marks import TO_THE_END, Extents
from safepy.core.replica.suspects import Suspects
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.aside import Aside
from safepy.dataplane.resync.memory import EVERYTHING, Memories, Memory
from safepy.dataplane.resync.messages import (
    Answer,
    Compare,
    Data,
    Digests,
    Entry,
    FileData,
    Rule,
    Want,
)
from safepy.dataplane.resync.moves import Moves
from safepy.dataplane.resync.scope import Scope
from safepy.dataplane.resync.tree import Path
from safepy.dataplane.resync.writing import CREATE, failure, punch, write_all
from safepy.dataplane.resync.zones import (
    ZONE_BYTES,
    is_sparse,
    joined,
    ranges_to_compare,
    zones_in,
)
from safepy.errors import PeerError

#: Up to here the digests of a file come with the answer to its listing.
INLINE_BYTES = 1 << 20
#: Largest total of the ranges in one `Compare`, in whole zones.
MAX_COMPARE_BYTES = 64 << 20


@dataclass(slots=True)
class Receiver:
    """What the streams of one resynchronisation share at its target.

    `suspects` (one for each tree, or none) is this node's own: what may differ of its files
    whatever the source thinks. `commit_bytes`: write a file to the disk after so many (0: not
    before the end). `moves` None: nothing is moved, what is absent is copied.
    """

    root_fds: Sequence[int]
    acl: bool = False
    keep_aside: Aside | None = None
    suspects: Sequence[Suspects] = ()
    scope: Scope = field(default_factory=Scope)
    commit_bytes: int = 0
    moves: Moves | None = None
    #: What is known of the content of files here.
    memory: Memory = field(default_factory=lambda: Memories().attempt())


class Intake:
    """Of one stream. `open_directory` gives a descriptor or None, `breathe` a sign of life."""

    def __init__(
        self,
        receiver: Receiver,
        open_directory: Callable[[int, Path], int | None],
        breathe: Callable[[], None],
    ) -> None:
        self._receiver = receiver
        self._aside = receiver.keep_aside
        self._acl = receiver.acl
        self._open = open_directory
        self._breathe = breathe
        #: Bytes of large files that were written and not committed.
        self._uncommitted: dict[tuple[int, Path], int] = {}
        self._memory = receiver.memory
        self.files_written = 0
        self.bytes_written = 0

    def want(
        self,
        tree: int,
        dir_fd: int,
        index: int,
        entry: Entry,
        found: os.stat_result,
        full: bool,
    ) -> Want | None:
        """What the source must know to make the file equal; None when nothing is needed."""
        extra = trees.read_xattrs(dir_fd, entry.name, found.st_mode, self._acl)
        full = full or entry.extents is None or self._all_differs(entry, found, extra[0])
        own = self._own_suspects(tree, found, extra[0])
        full = full or own[:1] == ((0, TO_THE_END),)
        extents = None if full else joined(entry.extents or (), own)
        ranges = ranges_to_compare(extents, found.st_size, entry.size)
        differ = trees.attributes_differ(found, entry, extra, self._acl)
        if not ranges and found.st_size == entry.size:
            if differ:
                trees.apply_attributes(dir_fd, entry.name, entry, self._acl)
            return None
        own = () if full else own
        if zones_in(ranges) * ZONE_BYTES > INLINE_BYTES:
            return Want(index, found.st_size, full, differ, extents=own)
        digests = b""
        if ranges:
            fd = trees.open_file(dir_fd, entry.name)
            try:
                size = min(found.st_size, entry.size)
                sparse = is_sparse(found)
                digests = self._memory.of((tree, found.st_ino), fd, ranges, size, sparse)
            finally:
                os.close(fd)
        return Want(index, found.st_size, full, differ, digests, extents=own)

    def _all_differs(self, entry: Entry, found: os.stat_result, ident: bytes) -> bool:
        if ident != entry.ident:
            return True
        if entry.rule == Rule.TIME:
            return found.st_size != entry.size or found.st_mtime_ns != entry.mtime_ns
        return entry.rule == Rule.SIZE and found.st_size != entry.size

    def _own_suspects(self, tree: int, found: os.stat_result, ident: bytes) -> Extents:
        suspects = self._receiver.suspects
        return suspects[tree].of(found.st_ino, ident) if suspects else ()

    def compare(self, request: Compare) -> Answer:
        path = (*request.path, request.name)
        if zones_in(request.ranges) * ZONE_BYTES > MAX_COMPARE_BYTES:
            raise PeerError("too much to compare at once")
        dir_fd = self._open(request.tree, request.path)
        if dir_fd is None:
            return Digests(b"")
        try:
            fd = trees.open_file(dir_fd, request.name)
            try:
                found = os.fstat(fd)
                size = min(found.st_size, request.size)
                key = (request.tree, found.st_ino)
                sparse = is_sparse(found)
                return Digests(self._memory.of(key, fd, request.ranges, size, sparse))
            finally:
                os.close(fd)
        except OSError as error:
            raise failure(path, error) from error
        finally:
            os.close(dir_fd)

    def data(self, data: Data) -> None:
        dir_fd = self._open(data.tree, data.path)
        if dir_fd is None:
            return
        name = b""
        try:
            for file in data.files:
                self._breathe()
                name = file.name
                path = (*data.path, name)
                try:
                    self._write(data.tree, path, dir_fd, file)
                except OSError as error:
                    if not self._made_room(error):
                        raise
                    self._write(data.tree, path, dir_fd, file)
        except OSError as error:
            raise failure((*data.path, name), error) from error
        finally:
            os.close(dir_fd)

    def _write(self, tree: int, path: Path, dir_fd: int, file: FileData) -> None:
        entry = file.entry
        if entry is not None and not S_ISREG(entry.mode):
            raise PeerError("content for what is no file")
        memory, size, new = self._memory, 0, True
        try:
            fd = os.open(file.name, CREATE, 0o600, dir_fd=dir_fd)
            if self._aside is not None:
                self._aside.made(tree, path)
        except FileExistsError:
            found = os.stat(file.name, dir_fd=dir_fd, follow_symlinks=False)
            touches = file.pieces or file.holes or (entry and found.st_size > entry.size)
            if self._aside is not None and touches:
                self._aside.keep(tree, path, dir_fd, going=False, breathe=self._breathe)
            fd = trees.open_file(dir_fd, file.name, os.O_WRONLY)
            size, new = found.st_size, False
        written = 0
        try:
            key = (tree, os.fstat(fd).st_ino)
            touched = [(offset, offset + len(piece)) for offset, piece in file.pieces]
            memory.writing(key, EVERYTHING if new else [*touched, *file.holes])
            for offset, piece in file.pieces:
                write_all(fd, piece, offset)
                written += len(piece)
                size = max(size, offset + len(piece))
            for start, end in file.holes:
                punch(fd, start, end)
            if entry is not None:
                if size != entry.size:
                    memory.writing(key, EVERYTHING)
                    os.ftruncate(fd, entry.size)
                self.files_written += 1
                trees.apply_to_descriptor(fd, entry, self._acl)
            if entry is None or size == entry.size:
                for offset, piece in file.pieces:
                    memory.written(key, offset, piece)
            if self._receiver.commit_bytes:
                self._commit(tree, path, fd, written, entry is not None)
        finally:
            os.close(fd)
        self.bytes_written += written

    def _made_room(self, error: OSError) -> bool:
        """Whether what is held can go now: room counts more than a move."""
        moves = self._receiver.moves
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full or moves is None or not moves.holding:
            return False
        moves.settle(self._breathe)
        return True

    def _commit(self, tree: int, path: Path, fd: int, written: int, last: bool) -> None:
        """What a large file got goes to the disk now and then, so the end is not long."""
        bytes_ = self._uncommitted.pop((tree, path), 0) + written
        if bytes_ >= self._receiver.commit_bytes:
            os.fdatasync(fd)
        elif not last:
            self._uncommitted[tree, path] = bytes_
