"""The receiving end of one transfer stream: does what it is told, answers what it is asked.

Nothing here decides what is right: the source's entry is. What stands in its place and is of
another type, or shares an inode with a name that it must not, goes first; so writing in place
can never reach another name's content.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Sequence
from stat import S_ISDIR, S_ISREG

from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.arrangement import arranged, same_kind
from safepy.dataplane.resync.aside import Aside
from safepy.dataplane.resync.messages import (
    ABSENT,
    Answer,
    Attributes,
    Barrier,
    Busy,
    Compare,
    Data,
    Digests,
    End,
    Entry,
    Failed,
    FileData,
    Group,
    Listing,
    Passed,
    Request,
    ResyncFailed,
    Want,
    Wanted,
    decode_request,
    encode,
)
from safepy.dataplane.resync.tree import Path
from safepy.dataplane.resync.writing import CREATE, failure, flush, make, punch, write_all
from safepy.dataplane.resync.zones import (
    ZONE_BYTES,
    is_sparse,
    ranges_to_compare,
    zone_digests,
    zones_in,
)
from safepy.errors import PeerError
from safepy.net.blocking import BlockingStream
from safepy.wire.secure import MAX_MESSAGE_BYTES

#: Up to here the digests of a file come with the answer to its listing.
INLINE_BYTES = 1 << 20


class Target:
    """Serves one stream in one thread; several share the trees and the `Aside`.

    The source never has two streams work on the same path. `files_written`, `bytes_written`
    and `removed` count what was done here.
    """

    def __init__(
        self,
        root_fds: Sequence[int],
        stream: BlockingStream,
        keep_aside: Aside | None = None,
        acl: bool = False,
    ) -> None:
        self._roots = root_fds
        self._stream = stream
        self._aside = keep_aside
        self._acl = acl
        self._missing: set[tuple[int, Path]] = set()
        self._missing_bytes = 0
        #: Names of a large directory while its listing comes in several messages.
        self._names: tuple[tuple[int, Path], list[bytes]] | None = None
        self._answered_s = 0.0
        self.files_written = 0
        self.bytes_written = 0
        self.removed = 0

    def serve(self) -> None:
        """Serve until the source ends the stream.

        Raises PeerError when the source goes away or sends what it must not, ResyncFailed when
        this node's disk does not do what it should; the source hears the reason.
        """
        while True:
            request = decode_request(self._stream.receive(patient=True))
            self._answered_s = time.monotonic()
            if isinstance(request, End):
                return
            try:
                answer = self._answer(request)
            except ResyncFailed as reason:
                self._stream.send(encode(Failed(reason.message, reason.fatal)))
                raise
            if answer is not None:
                self._say(answer)

    def _say(self, answer: Answer) -> None:
        data = encode(answer)
        if len(data) > MAX_MESSAGE_BYTES:
            raise PeerError("asks for more than one answer can hold")
        self._stream.send(data)

    def flush(self) -> None:
        """Have everything on the disk (I12). Raises ResyncFailed when the kernel reports an
        error: what was written is then not to be trusted (I16)."""
        flush(self._roots)

    def _answer(self, request: Request) -> Answer | None:
        match request:
            case Listing():
                return self._listing(request)
            case Group():
                return self._group(request)
            case Compare():
                return self._compare(request)
            case Data():
                self._data(request)
            case Attributes():
                self._attributes(request)
            case Barrier():
                if request.flush:
                    self.flush()
                missing, self._missing, self._missing_bytes = self._missing, set(), 0
                return Passed(tuple(missing))
            case End():
                raise AssertionError("handled by serve")
        return None

    def _breathe(self) -> None:
        """Called again and again during what may take long: the source must not give us up."""
        now_s = time.monotonic()
        if now_s - self._answered_s > BUSY_S:
            self._answered_s = now_s
            self._stream.send(encode(Busy()))

    # --- names

    def _listing(self, listing: Listing) -> Answer:
        dir_fd = self._open(listing.tree, listing.path)
        if dir_fd is None:
            return Wanted((), missing=True)
        wants: list[Want] = []
        name = b""
        try:
            if listing.whole:
                self._remove_others(listing, dir_fd)
            for name in listing.gone:
                self._remove(listing.tree, (*listing.path, name), dir_fd)
            for index, entry in enumerate(listing.entries):
                name = entry.name
                self._breathe()
                want = self._entry(listing.tree, listing.path, dir_fd, index, entry)
                if want is not None:
                    wants.append(want)
        except OSError as error:
            raise failure((*listing.path, name), error) from error
        finally:
            os.close(dir_fd)
        return Wanted(tuple(wants))

    def _remove_others(self, listing: Listing, dir_fd: int) -> None:
        key = (listing.tree, listing.path)
        if self._names is not None and self._names[0] == key and listing.after is not None:
            names = self._names[1]
        else:
            names = sorted(trees.names_in(dir_fd))
        first = 0 if listing.after is None else bisect_right(names, listing.after)
        last = len(names) if listing.upto is None else bisect_right(names, listing.upto)
        self._names = None if listing.upto is None else (key, names)
        meant = {entry.name for entry in listing.entries}
        for name in names[first:last]:
            if name not in meant:
                self._remove(listing.tree, (*listing.path, name), dir_fd)

    def _entry(self, tree: int, path: Path, dir_fd: int, index: int, entry: Entry) -> Want | None:
        if entry.linked:
            return None
        found = trees.status(dir_fd, entry.name)
        if found is not None and not self._may_stay(dir_fd, found, entry):
            self._remove(tree, (*path, entry.name), dir_fd)
            found = None
        if S_ISREG(entry.mode):
            if found is None:
                if entry.size:
                    return Want(index, ABSENT)
                self._make(tree, (*path, entry.name), dir_fd, entry)
                self.files_written += 1
            else:
                return self._compare_file(dir_fd, index, entry, found, full=False)
        elif found is None:
            self._make(tree, (*path, entry.name), dir_fd, entry)
        if not S_ISDIR(entry.mode):
            trees.apply_attributes(dir_fd, entry.name, entry, self._acl)
        return None

    def _may_stay(self, dir_fd: int, found: os.stat_result, entry: Entry) -> bool:
        """Whether what stands there can become the entry in place."""
        if not same_kind(dir_fd, entry.name, found, entry):
            return False
        return S_ISDIR(found.st_mode) or found.st_nlink == 1

    def _make(self, tree: int, path: Path, dir_fd: int, entry: Entry) -> None:
        make(dir_fd, path[-1], entry)
        if self._aside is not None:
            self._aside.made(tree, path)

    def _remove(self, tree: int, path: Path, dir_fd: int) -> None:
        if self._aside is not None:
            self._aside.keep(tree, path, dir_fd, going=True, breathe=self._breathe)
        trees.remove(dir_fd, path[-1], self._breathe)
        self.removed += 1

    # --- hard links

    def _group(self, group: Group) -> Answer:
        """Make exactly these paths one inode, then treat it as one file, by its first path."""
        parents: dict[Path, int] = {}
        path: Path = group.paths[0]
        try:
            for path in group.paths:
                if path[:-1] not in parents:
                    fd = self._open(group.tree, path[:-1])
                    if fd is None:
                        return Wanted((), missing=True)
                    parents[path[:-1]] = fd
            fresh, relinked = self._link(group, parents)
            path = group.paths[0]
            dir_fd = parents[path[:-1]]
            entry = group.entry
            if group.grow:
                return Wanted(())
            if S_ISREG(entry.mode):
                if fresh and entry.size:
                    return Wanted((Want(0, ABSENT),))
                found = os.stat(path[-1], dir_fd=dir_fd, follow_symlinks=False)
                entry = trees.renamed(entry, path[-1])
                want = self._compare_file(dir_fd, 0, entry, found, full=relinked)
                return Wanted((want,) if want is not None else ())
            trees.apply_attributes(dir_fd, path[-1], entry, self._acl)
            return Wanted(())
        except OSError as error:
            raise failure(path, error) from error
        finally:
            for fd in parents.values():
                os.close(fd)

    def _link(self, group: Group, parents: dict[Path, int]) -> tuple[bool, bool]:
        """Whether the inode was made anew, and whether any name was linked to it."""
        entry, members = group.entry, group.paths
        inodes, keep = arranged(group, parents)
        fresh = keep is None
        first = members[0]
        if keep is None:
            self._remove_if_there(group.tree, first, parents[first[:-1]])
            self._make(group.tree, first, parents[first[:-1]], entry)
            inodes[first] = keep = -1
        anchor = next(path for path in members if inodes.get(path) == keep)
        relinked = False
        for path in members:
            if inodes.get(path) == keep:
                continue
            dir_fd = parents[path[:-1]]
            self._remove_if_there(group.tree, path, dir_fd)
            os.link(
                anchor[-1],
                path[-1],
                src_dir_fd=parents[anchor[:-1]],
                dst_dir_fd=dir_fd,
                follow_symlinks=False,
            )
            if self._aside is not None and fresh:
                self._aside.made(group.tree, path)
            relinked = True
        return fresh, relinked

    def _remove_if_there(self, tree: int, path: Path, dir_fd: int) -> None:
        if trees.status(dir_fd, path[-1]) is not None:
            self._remove(tree, path, dir_fd)

    # --- content

    def _compare_file(
        self, dir_fd: int, index: int, entry: Entry, found: os.stat_result, full: bool
    ) -> Want | None:
        """What the source must know to make the file equal; None when nothing is needed."""
        extents = None if full else entry.extents
        ranges = ranges_to_compare(extents, found.st_size, entry.size)
        differ = trees.attributes_differ(dir_fd, entry.name, found, entry, self._acl)
        if not ranges and found.st_size == entry.size:
            if differ:
                trees.apply_attributes(dir_fd, entry.name, entry, self._acl)
            return None
        if zones_in(ranges) * ZONE_BYTES > INLINE_BYTES:
            return Want(index, found.st_size, full, differ)
        digests = b""
        if ranges:
            fd = trees.open_file(dir_fd, entry.name)
            try:
                size = min(found.st_size, entry.size)
                digests = b"".join(zone_digests(fd, ranges, size, is_sparse(found)))
            finally:
                os.close(fd)
        return Want(index, found.st_size, full, differ, digests)

    def _compare(self, request: Compare) -> Answer:
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
                digests = zone_digests(fd, request.ranges, size, is_sparse(found))
                return Digests(b"".join(digests))
            finally:
                os.close(fd)
        except OSError as error:
            raise failure(path, error) from error
        finally:
            os.close(dir_fd)

    def _data(self, data: Data) -> None:
        dir_fd = self._open(data.tree, data.path)
        if dir_fd is None:
            return
        name = b""
        try:
            for file in data.files:
                self._breathe()
                name = file.name
                self._write(data.tree, (*data.path, name), dir_fd, file)
        except OSError as error:
            raise failure((*data.path, name), error) from error
        finally:
            os.close(dir_fd)

    def _write(self, tree: int, path: Path, dir_fd: int, file: FileData) -> None:
        entry = file.entry
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
        try:
            for offset, piece in file.pieces:
                write_all(fd, piece, offset)
                self.bytes_written += len(piece)
            for start, end in file.holes:
                punch(fd, start, end)
            if entry is not None:
                if os.fstat(fd).st_size != entry.size:
                    os.ftruncate(fd, entry.size)
                self.files_written += 1
        finally:
            os.close(fd)
        if entry is not None:
            trees.apply_attributes(dir_fd, file.name, trees.renamed(entry, file.name), self._acl)

    # --- directories

    def _attributes(self, request: Attributes) -> None:
        for path, entry in request.directories:
            parent = self._open(request.tree, path[:-1])
            if parent is None:
                continue
            try:
                trees.apply_attributes(parent, path[-1] if path else b".", entry, self._acl)
            except OSError as error:
                if error.errno not in trees.GONE:
                    raise failure(path, error) from error
                self._note_missing(request.tree, path)
            finally:
                os.close(parent)

    def _open(self, tree: int, path: Path) -> int | None:
        """The directory, or None, noted for the source, when there is none here."""
        if tree >= len(self._roots):
            raise PeerError(f"there is no directory number {tree}")
        try:
            return trees.open_directory(self._roots[tree], path)
        except OSError as error:
            if error.errno not in trees.GONE:
                raise failure(path, error) from error
            self._note_missing(tree, path)
            return None

    def _note_missing(self, tree: int, path: Path) -> None:
        """For the answer to the next barrier, in which they must have room (S4)."""
        if (tree, path) not in self._missing:
            self._missing.add((tree, path))
            self._missing_bytes += 8 + sum(map(len, path)) + 3 * len(path)
        if self._missing_bytes > MAX_MISSING_BYTES:
            raise PeerError("writes to too many directories that are not there")


#: How often a target at something long gives a sign of life.
BUSY_S = 5.0
MAX_MISSING_BYTES = 768 << 10
#: Largest total of the ranges in one `Compare`, in whole zones.
MAX_COMPARE_BYTES = 64 << 20
