"""The receiving end of one transfer stream: does what it is told, answers what it is asked.

Nothing here decides what is right: the source's entry is. What stands in its place and is of
another type, or shares an inode with a name that it must not, goes first; so writing in place
can never reach another name's content.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from stat import S_ISDIR, S_ISREG

from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.arrangement import arranged, same_kind
from safepy.dataplane.resync.aside import Aside
from safepy.dataplane.resync.intake import INLINE_BYTES, Intake, Receiver
from safepy.dataplane.resync.memory import EVERYTHING
from safepy.dataplane.resync.messages import (
    ABSENT,
    Answer,
    Attributes,
    Barrier,
    Begin,
    Busy,
    Compare,
    Data,
    End,
    Entry,
    Failed,
    Group,
    Listing,
    Passed,
    Request,
    ResyncFailed,
    Rule,
    Summaries,
    Summarise,
    Want,
    Wanted,
    decode_request,
    encode,
)
from safepy.dataplane.resync.moves import Moves, is_hold, worth
from safepy.dataplane.resync.summary import Seen, Segments, Summary, look
from safepy.dataplane.resync.tree import Path
from safepy.dataplane.resync.writing import failure, flush, make
from safepy.errors import PeerError
from safepy.net.blocking import BlockingStream
from safepy.wire.secure import MAX_MESSAGE_BYTES

#: Room for the digests in the answer to one `Summarise`.
SUMMARY_BYTES = 512 << 10


class Place:
    """A directory while its listing is worked through."""

    def __init__(self, listing: Listing, dir_fd: int) -> None:
        self.listing = listing
        self.dir_fd = dir_fd
        #: What the source has in this directory, or in this part of its listing.
        self.idents = {entry.ident for entry in listing.entries if entry.ident}


class Target:
    """Serves one stream in one thread; several share the trees and the `Aside`.

    The source never has two streams work on the same path. `removed` counts what went here.
    `receiver` is what all streams of one resynchronisation share; without one this is the only
    stream, and nothing is moved.
    """

    def __init__(
        self,
        root_fds: Sequence[int],
        stream: BlockingStream,
        keep_aside: Aside | None = None,
        acl: bool = False,
        receiver: Receiver | None = None,
    ) -> None:
        if receiver is None:
            receiver = Receiver(root_fds, acl, keep_aside)
        self._receiver = receiver
        self._roots = receiver.root_fds
        self._stream = stream
        self._aside = receiver.keep_aside
        self._acl = receiver.acl
        self._moves = receiver.moves
        self._content = Intake(receiver, self._open, self._breathe)
        self._missing: set[tuple[int, Path]] = set()
        self._missing_bytes = 0
        #: Names of a large directory while its listing comes in several messages.
        self._names: tuple[tuple[int, Path], list[bytes]] | None = None
        self._answered_s = 0.0
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
                return self._content.compare(request)
            case Data():
                self._content.data(request)
            case Begin():
                self._receiver.memory.begin(request.seed)
            case Summarise():
                return self._summarise(request)
            case Attributes():
                self._attributes(request)
            case Barrier():
                if request.settled and self._moves is not None:
                    self._settle(self._moves)
                if request.flush:
                    self.flush()
                missing, self._missing, self._missing_bytes = self._missing, set(), 0
                holding = self._moves is not None and self._moves.holding
                return Passed(tuple(missing), holding)
            case End():
                raise AssertionError("handled by serve")
        return None

    def _breathe(self) -> None:
        """Called again and again during what may take long: the source must not give us up."""
        now_s = time.monotonic()
        if now_s - self._answered_s > BUSY_S:
            self._answered_s = now_s
            self._stream.send(encode(Busy()))

    def _settle(self, moves: Moves) -> None:
        try:
            moves.settle(self._breathe)
        except OSError as error:
            raise failure((), error) from error

    # --- names

    def _summarise(self, request: Summarise) -> Answer:
        answers: list[Segments | None] = []
        size = 0
        for path in request.paths:
            self._breathe()
            dir_fd = self._open(request.tree, path, missing=False)
            if dir_fd is None:
                answers.append(None)
                continue
            try:
                segments = self._segments(request.tree, path, dir_fd, request.content)
            except OSError as error:
                raise failure(path, error) from error
            finally:
                os.close(dir_fd)
            size += sum(len(name) + 24 for name, _ in segments)
            answers.append(segments if size <= SUMMARY_BYTES else ())
        return Summaries(tuple(answers))

    def _segments(self, tree: int, path: Path, dir_fd: int, content: bool) -> Segments:
        receiver = self._receiver
        suspects = receiver.suspects[tree] if receiver.suspects else None

        def asks(seen: Seen) -> bool:
            return suspects is not None and bool(suspects.of(seen.status.st_ino, seen.ident))

        memory = receiver.memory
        summary = Summary(dir_fd, memory.seed, content, asks, memory, tree)
        names = self._names_in(tree, path, dir_fd)
        return tuple(summary.of(self._breathing(look(dir_fd, names, self._acl))))

    def _breathing(self, seen: Iterable[Seen]) -> Iterator[Seen]:
        for each in seen:
            self._breathe()
            yield each

    def _names_in(self, tree: int, path: Path, dir_fd: int) -> list[bytes]:
        """What is replicated of the names there, in order."""
        return self._receiver.scope.names(tree, path, dir_fd)

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
                if self._left_out(listing.tree, (*listing.path, name), dir_fd):
                    continue
                self._remove(listing.tree, (*listing.path, name), dir_fd)
            place = Place(listing, dir_fd)
            for index, entry in enumerate(listing.entries):
                name = entry.name
                self._breathe()
                want = self._entry(place, index, entry)
                if want is not None:
                    wants.append(want)
        except OSError as error:
            raise failure((*listing.path, name), error) from error
        finally:
            os.close(dir_fd)
        return Wanted(tuple(wants))

    def _left_out(self, tree: int, path: Path, dir_fd: int) -> bool:
        scope = self._receiver.scope
        if not scope.selective:
            return False
        found = trees.status(dir_fd, path[-1])
        is_directory = found is not None and S_ISDIR(found.st_mode)
        return scope.excludes(tree, path, is_directory)

    def _remove_others(self, listing: Listing, dir_fd: int) -> None:
        key = (listing.tree, listing.path)
        if self._names is not None and self._names[0] == key and listing.after is not None:
            names = self._names[1]
        else:
            names = self._names_in(listing.tree, listing.path, dir_fd)
        first = 0 if listing.after is None else bisect_right(names, listing.after)
        last = len(names) if listing.before is None else bisect_left(names, listing.before)
        self._names = None if listing.before is None else (key, names)
        meant = {entry.name for entry in listing.entries}
        for name in names[first:last]:
            if name not in meant:
                self._remove(listing.tree, (*listing.path, name), dir_fd)

    def _entry(self, place: Place, index: int, entry: Entry) -> Want | None:
        if entry.linked:
            return None
        tree, path, dir_fd = place.listing.tree, (*place.listing.path, entry.name), place.dir_fd
        found = trees.status(dir_fd, entry.name)
        if found is not None and not self._may_stay(dir_fd, found, entry):
            self._remove(tree, path, dir_fd)
            found = None
        here = b""
        if found is not None and (S_ISDIR(entry.mode) or S_ISREG(entry.mode)):
            here = trees.ident_of(dir_fd, entry.name)
            if here != entry.ident and self._belongs_elsewhere(place, entry, found, here):
                self._remove(tree, path, dir_fd)
                found = None
        if found is None:
            holder = self._brought(place, index, entry)
            if holder is not None:
                return Want(index, ABSENT, holder=holder)
            found = trees.status(dir_fd, entry.name)
            here = entry.ident
        if S_ISDIR(entry.mode):
            return self._directory(tree, path, dir_fd, index, entry, found, here)
        if S_ISREG(entry.mode):
            if found is not None:
                return self._content.want(tree, dir_fd, index, entry, found, full=False)
            if entry.size:
                if entry.size > INLINE_BYTES:
                    self._make(tree, path, dir_fd, entry)  # Several streams may fill it.
                return Want(index, ABSENT)
        if found is None:
            self._make(tree, path, dir_fd, entry)
        trees.apply_attributes(dir_fd, entry.name, entry, self._acl)
        return None

    def _directory(
        self,
        tree: int,
        path: Path,
        dir_fd: int,
        index: int,
        entry: Entry,
        found: os.stat_result | None,
        here: bytes,
    ) -> Want | None:
        """Its attributes come later, when nothing is changed in it any more."""
        if found is None:
            self._make(tree, path, dir_fd, entry)
            return Want(index, ABSENT)
        if here == entry.ident:
            return None
        # What it was is of no use any more: without this, it might be taken for itself.
        trees.set_ident(b"/proc/self/fd/%d/%s" % (dir_fd, entry.name), entry.ident)
        if self._moves is not None:
            self._moves.renamed(tree, path, here, entry.ident)
        return Want(index, 0, full=True)

    def _may_stay(self, dir_fd: int, found: os.stat_result, entry: Entry) -> bool:
        """Whether what stands there can become the entry in place."""
        if not same_kind(dir_fd, entry.name, found, entry):
            return False
        return S_ISDIR(found.st_mode) or found.st_nlink == 1

    def _belongs_elsewhere(
        self, place: Place, entry: Entry, found: os.stat_result, here: bytes
    ) -> bool:
        """What stands there is another object: the source has it elsewhere, or not at all, or it
        is in the way of the right one, which is to be moved here."""
        if self._moves is None or not here or not worth(found.st_mode, found.st_size):
            return False
        if here in place.idents or entry.rule == Rule.TIME:
            return True
        if self._moves.wanted(place.listing.tree, here):
            return True
        if not entry.ident:
            return False
        holder = self._moves.holder(place.listing.tree, entry.ident, self._breathe)
        return holder is not None

    def _brought(self, place: Place, index: int, entry: Entry) -> Path | None:
        """Nothing stands there: bring what has the ident. A path: only if the source says so."""
        moves, listing = self._moves, place.listing
        if moves is None or not entry.ident or not worth(entry.mode, entry.size):
            return None
        holder = listing.holders[index] if listing.holders else None
        now = moves.holder(listing.tree, entry.ident, self._breathe)
        if now is None:
            return None
        if now != holder and not is_hold(now):
            return None if listing.holders else now
        path = (*listing.path, entry.name)
        moves.take(listing.tree, now, path, place.dir_fd, entry, self._breathe)
        return None

    def _make(self, tree: int, path: Path, dir_fd: int, entry: Entry) -> None:
        make(dir_fd, path[-1], entry)
        if S_ISREG(entry.mode):  # its number may be that of a file that is gone
            inode = os.stat(path[-1], dir_fd=dir_fd, follow_symlinks=False).st_ino
            self._receiver.memory.writing((tree, inode), EVERYTHING)
        if self._aside is not None:
            self._aside.made(tree, path)

    def _remove(self, tree: int, path: Path, dir_fd: int) -> None:
        self.removed += 1
        moves = self._moves
        if moves is None:
            self._remove_now(tree, path, dir_fd)
            return
        found = trees.status(dir_fd, path[-1])
        if found is None or moves.hold(tree, path, dir_fd, found, self._breathe):
            return
        if not S_ISDIR(found.st_mode):
            self._remove_now(tree, path, dir_fd)
            return
        with moves.alone(self._breathe):
            self._remove_now(tree, path, dir_fd)

    def _remove_now(self, tree: int, path: Path, dir_fd: int) -> None:
        if self._aside is not None:
            self._aside.keep(tree, path, dir_fd, going=True, breathe=self._breathe)
        trees.remove(dir_fd, path[-1], self._breathe)

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
                want = self._content.want(group.tree, dir_fd, 0, entry, found, full=relinked)
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

    def _open(self, tree: int, path: Path, missing: bool = True) -> int | None:
        """The directory, or None, noted for the source (`missing`), when there is none here."""
        if tree >= len(self._roots):
            raise PeerError(f"there is no directory number {tree}")
        try:
            return trees.open_directory(self._roots[tree], path)
        except OSError as error:
            if error.errno not in trees.GONE:
                raise failure(path, error) from error
            if missing:
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
