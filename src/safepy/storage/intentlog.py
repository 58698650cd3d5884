"""The intent log on disk: a preallocated ring of blocks (protocol 2.2, I5; codec in
`core/replica/intent.py`).

The file never changes its size, so a full disk does not matter (F47). Nothing that still counts is
ever overwritten: a place is free again only when a *durable* block says so (`tail`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence

from safepy.core.replica import intent
from safepy.core.replica.intent import BLOCK_BYTES, Block, Entry, Everything, Recovered
from safepy.errors import LocalFault
from safepy.storage.private import create_private

BLOCKS = 1024


class IntentLog:
    """One thread at a time; everything but the properties blocks on the disk.

    All raise LocalFault when the log cannot be read or written; after that it must not be relied
    on before `open`.
    """

    def __init__(self, path: str, blocks: int = BLOCKS) -> None:
        assert blocks >= 8, "no room to write anew before the old is given up"
        self.path = path
        self._blocks = blocks
        self._fd = -1
        self._id = b""
        self._sequence = 0  # the newest block written
        self._durable = 0  # the newest that is durable
        self._tail = 1  # the oldest that counts
        self._tail_durable = 1  # as a durable block says
        self._first: dict[int, int] = {}  # window -> its first block

    @property
    def room(self) -> int:
        """How many blocks can be written before old ones must be given up (`rewrite`). One more
        is kept for a `reset`."""
        return self._blocks - 1 - (self._sequence + 1 - self._tail_durable)

    @property
    def large(self) -> bool:
        """It should be written anew, while there is room to."""
        return self.room < self._blocks // 2

    @property
    def next_sequence(self) -> int:
        return self._sequence + 1

    def open(self) -> Recovered:
        """Read what an earlier run left. Without a file, or with a damaged one, a new log begins
        that suspects everything (nobody knows what happened before it)."""
        self.close()
        try:
            recovered = self._read()
            if recovered is None or recovered.damaged or recovered.newest is None:
                self._create()
                recovered = self._read()
        except OSError as error:
            self.close()
            raise self._fault("cannot be read or made", error) from error
        assert recovered is not None and recovered.newest is not None
        newest = recovered.newest
        self._id = newest.log_id
        self._sequence = newest.sequence
        # What was torn may leave a gap. The next `rewrite` leaves it behind; until then no block
        # claims that everything before it was durable.
        self._durable = 0
        self._tail = self._tail_durable = min(newest.tail, newest.sequence)
        self._first = {}
        return recovered

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def write(self, window: int, entries: Sequence[Entry]) -> None:
        """Make entries durable: they are when this returns."""
        self._append(window, entries, intent.MARKS)
        self._settle()

    def forget_before(self, window: int) -> None:
        """The marks of earlier windows count no more (I6): the next block says so. Nothing, if no
        block of this window was written."""
        first = self._first.get(window)
        if first is not None and first > self._tail:
            self._tail = first
            self._first = {w: at for w, at in self._first.items() if at >= first}

    def rewrite(self, windows: Sequence[tuple[int, Sequence[Entry]]]) -> None:
        """Write anew all that counts, then give up what was there before."""
        begin = self._sequence + 1
        self._first = {}
        for window, entries in windows:
            self._append(window, entries, intent.MARKS)
        self._settle()
        self._durable = self._sequence
        self._tail = begin
        self._append(windows[-1][0], (), intent.MARKS)
        self._settle()

    def reset(self, window: int, entries: Sequence[Entry]) -> None:
        """Nothing counts but these entries: both nodes have everything (I6, I8, I12)."""
        assert len(entries) <= intent.ENTRIES_A_BLOCK
        self._first = {}
        self._tail = self._sequence + 1
        self._append(window, entries, intent.MARKS, reserve=1)
        self._settle()
        self._durable = self._sequence

    def end(self, window: int) -> None:
        """The run ends in order: the marks saved with `next_sequence` are complete."""
        self._append(window, (), intent.CLEAN)
        self._settle()

    # -- inside -----------------------------------------------------------------------------

    def _append(self, window: int, entries: Sequence[Entry], kind: int, reserve: int = 0) -> None:
        pieces = intent.in_blocks(entries)
        if len(pieces) > self.room + reserve:
            raise LocalFault(f"the intent log {self.path} has no room for {len(entries)} marks")
        for piece in pieces:
            self._sequence += 1
            self._first.setdefault(window, self._sequence)
            self._put(
                Block(self._id, kind, self._sequence, self._tail, self._durable, window, piece)
            )

    def _put(self, block: Block) -> None:
        data = intent.encode(block)
        try:
            _write_whole(self._fd, data, block.sequence % self._blocks * BLOCK_BYTES)
        except OSError as error:
            raise self._fault("cannot be written", error) from error

    def _settle(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._fault("cannot be written", error) from error
        if self._durable:
            self._durable = self._sequence
        self._tail_durable = self._tail

    def _read(self) -> Recovered | None:
        """None without a file, or with one of another size."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        self._fd = fd
        if os.fstat(fd).st_size != self._blocks * BLOCK_BYTES:
            return None
        found = []
        for at in range(self._blocks):
            block = intent.decode(os.pread(fd, BLOCK_BYTES, at * BLOCK_BYTES))
            if block is not None and block.sequence % self._blocks == at:
                found.append(block)
        return intent.recover(found)

    def _create(self) -> None:
        """A new file at once, all of it written: then no later write needs room."""
        self.close()
        folder = os.path.dirname(self.path)
        temporary = f"{self.path}.new"
        suspects = (Everything(intent.ALL_TREES),)
        first = Block(secrets.token_bytes(16), intent.MARKS, 1, 1, 0, 0, suspects)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fd = create_private(temporary)
        try:
            _write_whole(fd, bytes(self._blocks * BLOCK_BYTES), 0)
            _write_whole(fd, intent.encode(first), BLOCK_BYTES)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, self.path)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _fault(self, what: str, error: OSError) -> LocalFault:
        return LocalFault(f"the intent log {self.path} {what}: {os.strerror(error.errno or 0)}")


def _write_whole(fd: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
