"""Content on its way out: batches of small files, large files window by window."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from safepy.dataplane.resync.memory import Memory
from safepy.dataplane.resync.messages import (
    ABSENT,
    Answer,
    Compare,
    Data,
    Digests,
    Entry,
    FileData,
    Request,
)
from safepy.dataplane.resync.parts import entry_bytes
from safepy.dataplane.resync.shared import Large, Shared, Split
from safepy.dataplane.resync.tree import Path
from safepy.dataplane.resync.zones import (
    DIGEST_BYTES,
    differing_runs,
    is_sparse,
    ranges_to_compare,
    segments,
    zones_in,
)
from safepy.errors import PeerError

#: One piece fills a message: fewer calls, records and wake-ups for the same content.
_PIECE_BYTES = 896 << 10
#: A message of data is sent before it has more than so much; names and lengths come on top.
_BATCH_BYTES = 960 << 10
_BATCH_FILES = 500
_COMPARE_BYTES = 32 << 20
#: A transfer takes so many of these of one large file, others may take the rest.
_WINDOWS_A_PART = 4


class Sender(Protocol):
    """What content needs of its transfer."""

    def say(self, request: Request) -> None: ...

    def ask(self, request: Request, then: Callable[[Answer], None]) -> None: ...

    def go_on(self, step: Callable[[], None]) -> None: ...

    def close_file(self, fd: int) -> None: ...


class Batch:
    """Content of many small files of the directory `path` in number `tree`, as few messages."""

    def __init__(self, transfer: Sender, memory: Memory, tree: int, path: Path) -> None:
        self._transfer = transfer
        self._memory = memory
        self.tree = tree
        self.path = path
        self._files: list[FileData] = []
        self._bytes = 0

    def add(
        self,
        name: bytes,
        pieces: tuple[tuple[int, bytes], ...] = (),
        holes: tuple[tuple[int, int], ...] = (),
        entry: Entry | None = None,
    ) -> None:
        size = 64 + sum(len(piece) for _, piece in pieces) + 16 * len(holes)
        if entry is not None:
            size += entry_bytes(entry)
        if self._files and (self._bytes + size > _BATCH_BYTES or len(self._files) >= _BATCH_FILES):
            self.send()
        self._files.append(FileData(name, pieces, holes, entry))
        self._bytes += size

    def add_runs(
        self,
        entry: Entry,
        inode: int,
        fd: int,
        runs: Sequence[tuple[int, int]],
        sparse: bool,
        punch: bool,
    ) -> int:
        """Read and add the content of `runs`; returns the bytes that travel."""
        copied = 0
        key = (self.tree, inode)
        for start, end in runs:
            for first, last, is_data in segments(fd, start, end, sparse):
                if not is_data:
                    if punch:
                        self.add(entry.name, holes=((first, last),))
                    continue
                at = first
                while at < last:
                    piece = os.pread(fd, min(_PIECE_BYTES, last - at), at)
                    if not piece:
                        break  # Shorter by now: marked.
                    self.add(entry.name, ((at, piece),))
                    if not sparse:
                        self._memory.read(key, at, piece)
                    at += len(piece)
                    copied += len(piece)
        return copied

    def add_whole(
        self,
        entry: Entry,
        inode: int,
        fd: int,
        runs: Sequence[tuple[int, int]],
        sparse: bool,
        punch: bool,
    ) -> int:
        """As `add_runs`, and the entry with it: in one piece if it is small."""
        if sum(end - start for start, end in runs) > _PIECE_BYTES:
            copied = self.add_runs(entry, inode, fd, runs, sparse, punch)
            self.add(entry.name, entry=entry)
            return copied
        pieces: list[tuple[int, bytes]] = []
        holes: list[tuple[int, int]] = []
        copied = 0
        for start, end in runs:
            for first, last, is_data in segments(fd, start, end, sparse):
                if not is_data:
                    holes.append((first, last))
                    continue
                piece = os.pread(fd, last - first, first)
                if piece:  # else shorter by now: marked
                    pieces.append((first, piece))
                    if not sparse:
                        self._memory.read((self.tree, inode), first, piece)
                    copied += len(piece)
        self.add(entry.name, tuple(pieces), tuple(holes) if punch else (), entry)
        return copied

    def send(self) -> None:
        if self._files:
            data = Data(self.tree, self.path, tuple(self._files))
            self._transfer.say(data)
            self._files, self._bytes = [], 0


def windows_of(item: Large, size: int) -> list[tuple[int, int]]:
    """A large file in pieces of work."""
    if item.split is not None:
        ranges: Sequence[tuple[int, int]] = item.ranges
    elif item.target_size == ABSENT:
        ranges = [(0, size)] if size else []
    else:
        ranges = ranges_to_compare(item.extents, item.target_size, size)
    return [
        (at, min(at + _COMPARE_BYTES, end))
        for start, end in ranges
        for at in range(start, end, _COMPARE_BYTES)
    ]


def split(item: Large, size: int) -> list[Large]:
    """Parts of a file that several transfers can take; empty if it is not worth it."""
    windows = windows_of(item, size)
    if item.split is not None or len(windows) < 2 * _WINDOWS_A_PART:
        return []
    parts = [windows[at : at + _WINDOWS_A_PART] for at in range(0, len(windows), _WINDOWS_A_PART)]
    changed = item.attributes or item.target_size != size
    shared = Split(len(parts), changed)
    return [replace(item, ranges=tuple(part), split=shared) for part in parts]


class LargeFile:
    """One large file, or a part of it, under way: window by window, then ended with its entry."""

    def __init__(
        self,
        transfer: Sender,
        shared: Shared,
        item: Large,
        entry: Entry,
        fd: int,
        found: os.stat_result,
    ) -> None:
        self._transfer = transfer
        self._shared = shared
        self._item = item
        self._entry = entry
        self._fd = fd
        self._inode = found.st_ino
        self._sparse = is_sparse(found)
        self._batch = Batch(transfer, shared.memory, item.tree, item.path)
        self._windows = deque(windows_of(item, entry.size))
        self._under_way = 0
        self._changed = item.attributes or item.target_size != entry.size
        self._copied = 0

    def begin(self) -> None:
        if not self._windows:
            self._end()
        elif self._item.target_size == ABSENT:
            self._copy()
        else:
            self._ask()

    def _copy(self) -> None:
        """Send one window of a file that is not there; other work comes in between. The disk
        fetches the next one meanwhile."""
        window = self._windows.popleft()
        for start, end in (window, *self._windows)[:2]:
            os.posix_fadvise(self._fd, start, end - start, os.POSIX_FADV_WILLNEED)
        self._send([window], punch=False)
        if self._windows:
            self._transfer.go_on(self._copy)
        else:
            self._end()

    def _ask(self) -> None:
        """Ask for one window; the transfer comes back for the next as room allows."""
        ranges = (self._windows.popleft(),)
        item = self._item
        self._under_way += 1
        self._transfer.ask(
            Compare(item.tree, item.path, item.name, ranges, self._entry.size),
            lambda answer: self._answered(ranges, answer),
        )
        if self._windows:
            self._transfer.go_on(self._ask)

    def _answered(self, ranges: tuple[tuple[int, int], ...], answer: Answer) -> None:
        if not isinstance(answer, Digests):
            raise PeerError("unexpected answer")
        theirs = answer.digests
        self._under_way -= 1
        if theirs and len(theirs) != zones_in(ranges) * DIGEST_BYTES:
            raise PeerError("digests do not fit the file")
        if theirs:  # Otherwise its directory is missing there, which the barrier tells.
            key, size = (self._item.tree, self._inode), self._entry.size
            ours = self._shared.memory.of(key, self._fd, ranges, size, self._sparse)
            self._send(differing_runs(ranges, ours, theirs), punch=True)
        self._shared.count(compared=sum(end - start for start, end in ranges))
        if not self._windows and not self._under_way:
            self._end()

    def _send(self, runs: list[tuple[int, int]], punch: bool) -> None:
        if not runs:
            return
        copied = self._batch.add_runs(self._entry, self._inode, self._fd, runs, self._sparse, punch)
        self._changed = True
        self._copied += copied
        compared = copied if not punch else 0
        self._shared.count(compared=compared, copied=copied)

    def _end(self) -> None:
        item = self._item
        self._transfer.close_file(self._fd)
        if item.split is not None:
            self._batch.send()
            last = item.split.done(self._changed, self._copied)
            if last is None:
                return
            changed, copied = last
            if changed:  # Its last bytes may still be on their way in another transfer.
                self._shared.add_ending(item.tree, item.path, item.name)
        else:
            changed, copied = self._changed, self._copied
            if changed:
                self._batch.add(item.name, entry=self._entry)
            self._batch.send()
        self._shared.count(files=1, files_copied=1 if copied else 0)
        if copied:
            self._shared.on_copied(item.tree, (*item.path, item.name))
