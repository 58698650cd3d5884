"""One transfer stream at the source: several requests under way, data as the answers come.

Answers come in the order of the requests, so a queue of what to do with them is enough. Their
total size is bounded by WINDOW; nothing waits for a round trip while there is work.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from stat import S_ISREG

from safepy.core.replica.marks import FULL, Extents, Mark
from safepy.dataplane.resync import tree as trees
from safepy.dataplane.resync.content import Batch, LargeFile
from safepy.dataplane.resync.messages import (
    ABSENT,
    Answer,
    Attributes,
    Barrier,
    Busy,
    End,
    Entry,
    Failed,
    Group,
    Listing,
    Passed,
    Request,
    ResyncFailed,
    Want,
    Wanted,
    decode_answer,
    encode,
)
from safepy.dataplane.resync.parts import PART_BYTES, Part, by_size, entry_bytes, weight
from safepy.dataplane.resync.shared import (
    AttributesItem,
    Directory,
    GroupItem,
    Item,
    Large,
    Names,
    Shared,
    Work,
)
from safepy.dataplane.resync.tree import Path
from safepy.dataplane.resync.zones import (
    DIGEST_BYTES,
    differing_runs,
    is_sparse,
    ranges_to_compare,
    zone_digests,
    zones_in,
)
from safepy.errors import PeerError
from safepy.net.blocking import BlockingStream

WINDOW = 8
#: Larger files are an item of their own, so that another transfer can take them.
_SMALL_BYTES = 1 << 20

OnAnswer = Callable[[Answer], None]


class Transfer:
    """Works through items over one stream; used by one thread at a time."""

    def __init__(self, shared: Shared, stream: BlockingStream) -> None:
        self._shared = shared
        self._stream = stream
        self._waiting: deque[OnAnswer] = deque()
        #: What this transfer goes on with before it takes another item: the next part of a
        #: listing or of a large comparison.
        self._next: deque[Callable[[], None]] = deque()
        self._work: Work | None = None
        self._open_files: set[int] = set()

    def run(self, work: Work) -> None:
        """Work until the phase is over, then make sure that the target has done it all."""
        self._work = work
        try:
            while True:
                while len(self._waiting) < WINDOW and self._start():
                    pass
                if self._waiting:
                    self._take_answer()
                elif not work.wait():
                    break
            if work.error is None:
                self.barrier()
        finally:
            for fd in self._open_files:
                os.close(fd)
            self._open_files.clear()

    def barrier(self, flush: bool = False) -> None:
        """Wait until the target has done everything that was sent on this stream."""

        def passed(answer: Answer) -> None:
            if not isinstance(answer, Passed):
                raise PeerError("unexpected answer")
            self._shared.add_missing(answer.missing)

        self.ask(Barrier(flush), passed)
        while self._waiting:
            self._take_answer()

    def end(self) -> None:
        self.say(End())

    def say(self, request: Request) -> None:
        """Send a request that has no answer, or not yet."""
        try:
            self._stream.send(encode(request))
        except PeerError:
            # A target that gave up said why before it went.
            self._stream.shutdown()
            with contextlib.suppress(PeerError):
                while True:
                    self._heard()
            raise

    def _heard(self) -> Answer:
        answer = decode_answer(self._stream.receive())
        if isinstance(answer, Failed):
            raise ResyncFailed(answer.reason, answer.fatal)
        return answer

    def go_on(self, step: Callable[[], None]) -> None:
        """Call `step` when there is room for a further request."""
        self._next.append(step)

    def close_file(self, fd: int) -> None:
        self._open_files.discard(fd)
        os.close(fd)

    def _start(self) -> bool:
        """Start something; False when there is nothing to start now."""
        if self._next:
            self._next.popleft()()
            return True
        assert self._work is not None
        item = self._work.take()
        if item is None:
            return False
        match item:
            case Directory():
                self._directory(item)
            case Names():
                self._names(item)
            case Large():
                self._large(item)
            case GroupItem():
                self._group(item)
            case AttributesItem():
                self._attributes(item)
        return True

    def _add(self, items: Sequence[Item]) -> None:
        assert self._work is not None
        self._work.add(items)

    def ask(self, request: Request, then: OnAnswer) -> None:
        self.say(request)
        self._waiting.append(then)

    def _take_answer(self) -> None:
        while isinstance(answer := self._heard(), Busy):
            pass
        self._waiting.popleft()(answer)

    # --- names

    def _directory(self, item: Directory) -> None:
        dir_fd = self._open(item.tree, item.path)
        if dir_fd is None:
            return
        try:
            names = sorted(trees.names_in(dir_fd))
        finally:
            os.close(dir_fd)
        self._shared.finish_directory(item.tree, item.path)
        self._part(item, names, 0)

    def _part(self, item: Directory, names: list[bytes], first: int) -> None:
        """Send the names from `first` on, as many as fit; the rest follows."""
        dir_fd = self._open(item.tree, item.path)
        if dir_fd is None:
            return
        part = Part()
        at = first
        try:
            while at < len(names) and not part.is_full:
                self._look(dir_fd, names[at], FULL, part)
                at += 1
        finally:
            os.close(dir_fd)
        more = at < len(names)
        self._list(
            item.tree,
            item.path,
            part,
            Listing(
                item.tree,
                item.path,
                tuple(part.entries),
                whole=True,
                after=names[first - 1] if first else None,
                upto=names[at - 1] if more else None,
            ),
        )
        if more:
            self._next.append(lambda: self._part(item, names, at))

    def _names(self, item: Names) -> None:
        dir_fd = self._open(item.tree, item.path)
        if dir_fd is None:
            return
        part = Part()
        gone: list[bytes] = []
        rest: list[tuple[bytes, Mark]] = []
        try:
            for name, mark in item.names:
                if part.is_full:
                    rest.append((name, mark))
                elif not self._look(dir_fd, name, mark, part):
                    gone.append(name)
        finally:
            os.close(dir_fd)
        if rest:
            self._add([Names(item.tree, item.path, tuple(rest))])
        self._shared.finish_directory(item.tree, item.path)
        listing = Listing(item.tree, item.path, tuple(part.entries), tuple(gone))
        self._list(item.tree, item.path, part, listing)

    def _look(self, dir_fd: int, name: bytes, mark: Mark, part: Part) -> bool:
        """Add a name to the part; False when there is no such name."""
        try:
            found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            regular = S_ISREG(found.st_mode)
            extents = mark.extents if regular and not mark.full else None
            entry = trees.entry_of(dir_fd, name, found, self._shared.acl, extents)
        except OSError as error:
            if error.errno not in trees.GONE:
                raise
            return False
        part.add(entry, found, mark)
        return True

    def _list(self, tree: int, path: Path, part: Part, listing: Listing) -> None:
        shared = self._shared
        if part.linked:
            shared.touch(tree, path, part.linked)
        for name in part.attributes:
            shared.finish_directory(tree, (*path, name))

        def answered(answer: Answer) -> None:
            if not isinstance(answer, Wanted):
                raise PeerError("unexpected answer")
            if answer.missing:
                return  # Noted by the target; the barrier brings it.
            self._add([Directory(tree, (*path, name)) for name in part.recurse])
            self._send_wanted(tree, path, listing.entries, answer.wants)
            # What is wanted counts when it is sent, what is linked with its group.
            wanted = sum(weight(listing.entries[want.index]) for want in answer.wants)
            shared.count(files=part.files - len(answer.wants), compared=part.weight - wanted)

        self.ask(listing, answered)

    # --- content

    def _send_wanted(
        self, tree: int, path: Path, entries: Sequence[Entry], wants: Sequence[Want]
    ) -> None:
        dir_fd: int | None = None
        batch = Batch(self, tree, path)
        large: list[Item] = []
        try:
            for want in wants:
                if want.index >= len(entries):
                    raise PeerError("wants what was not offered")
                entry = entries[want.index]
                extents = None if want.full else entry.extents
                small = (
                    entry.size <= _SMALL_BYTES if want.size == ABSENT else want.digests is not None
                )
                if not small:
                    large.append(Large(tree, path, entry.name, want.size, extents, want.attributes))
                    continue
                if dir_fd is None:
                    dir_fd = self._open(tree, path)
                    if dir_fd is None:
                        return
                self._send_small(dir_fd, entry, want, extents, batch)
        finally:
            if dir_fd is not None:
                os.close(dir_fd)
        batch.send()
        self._add(large)

    def _send_small(
        self, dir_fd: int, entry: Entry, want: Want, extents: Extents | None, batch: Batch
    ) -> None:
        size = entry.size
        fd = trees.open_file_or_none(dir_fd, entry.name)
        if fd is None:
            return
        try:
            sparse = is_sparse(os.fstat(fd))
            if want.size == ABSENT:
                runs = [(0, size)]
            else:
                ranges = ranges_to_compare(extents, want.size, size)
                theirs = want.digests or b""
                if len(theirs) != zones_in(ranges) * DIGEST_BYTES:
                    raise PeerError("digests do not fit the file")
                runs = differing_runs(ranges, zone_digests(fd, ranges, size, sparse), theirs)
            copied = 0
            if runs or want.attributes or want.size != size:
                copied = batch.add_runs(entry, fd, runs, sparse, punch=want.size != ABSENT)
                batch.add(entry.name, entry=entry)
        finally:
            os.close(fd)
        self._shared.count(1, 1 if runs else 0, weight(entry), copied)

    def _large(self, item: Large) -> None:
        """A file by parts; its state lives in the closures until its last answer."""
        dir_fd = self._open(item.tree, item.path)
        if dir_fd is None:
            return
        try:
            fd = trees.open_file(dir_fd, item.name)
            self._open_files.add(fd)
            found = os.fstat(fd)
            entry = trees.entry_of(dir_fd, item.name, found, self._shared.acl)
        except OSError as error:
            if error.errno not in trees.GONE:
                raise
            return
        finally:
            os.close(dir_fd)
        LargeFile(self, self._shared, item, entry, fd, is_sparse(found)).begin()

    # --- hard links

    def _group(self, item: GroupItem) -> None:
        shared = self._shared
        first = item.paths[0]
        dir_fd = self._open(item.tree, first[:-1])
        if dir_fd is None:
            return
        try:
            found = trees.status(dir_fd, first[-1])
            if found is None or found.st_ino != item.inode:
                return
            extents = item.extents if S_ISREG(found.st_mode) else None
            entry = trees.entry_of(dir_fd, first[-1], found, shared.acl, extents)
        except OSError as error:
            if error.errno not in trees.GONE:
                raise
            return
        finally:
            os.close(dir_fd)
        shared.finish_parents(item.tree, item.paths)

        def answered(answer: Answer) -> None:
            if not isinstance(answer, Wanted):
                raise PeerError("unexpected answer")
            if not answer.missing:
                self._send_wanted(item.tree, first[:-1], (entry,), answer.wants)
                equal = not answer.wants
                shared.count(len(item.paths) - (not equal), compared=weight(entry) if equal else 0)

        parts = by_size(item.paths)
        self.ask(Group(item.tree, parts[0], entry), answered)
        for part in parts[1:]:
            self.ask(Group(item.tree, (first, *part), entry, grow=True), answered)

    # --- directories

    def _attributes(self, item: AttributesItem) -> None:
        root_fd = self._shared.root_fds[item.tree]
        part: list[tuple[Path, Entry]] = []
        size = 0
        for path, entry in trees.directory_entries(root_fd, item.paths, self._shared.acl):
            part.append((path, entry))
            size += entry_bytes(entry) + sum(map(len, path)) + 2 * len(path)
            if size > PART_BYTES:
                self.say(Attributes(item.tree, tuple(part)))
                part, size = [], 0
        if part:
            self.say(Attributes(item.tree, tuple(part)))

    def _open(self, tree: int, path: Path) -> int | None:
        """The directory, or None when it vanished: then its name is marked."""
        return trees.open_or_none(self._shared.root_fds[tree], path)
