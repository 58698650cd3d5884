"""Durable marks: an operation begins when its mark is on the disk, not before (protocol I5).

The loop asks `ready` before it begins an operation. Marks that are missing are collected, written
by the log's thread with one fdatasync for all of them, and then `on_durable` lets those who wait
ask again. What was made since the window began needs no mark of its own: one entry says "every
object with an id of this session from that counter on".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from safepy.core.replica.intent import (
    ALL_TREES,
    EXTENT_SHIFT,
    SUSPECT_WINDOW,
    Entry,
    Everything,
    NewSince,
    Recovered,
)
from safepy.core.replica.ops import Fallocate, Op, SetAttr, Write
from safepy.core.replica.suspects import IDENT_BYTES, Suspects, counter_of, suspects_of
from safepy.core.replica.touches import WHOLE_FROM, Touches, bounded
from safepy.dataplane.onethread import OneThread
from safepy.host.loop import Loop
from safepy.storage.backing import Tree
from safepy.storage.intentlog import IntentLog
from safepy.storage.syscalls import FALLOC_COLLAPSE_RANGE, FALLOC_INSERT_RANGE

#: Marks of one window (protocol 4.2: N). With two windows of 1 MiB extents, 4 GiB are compared at
#: most after a crash.
WINDOW_MARKS = 2048
#: A checkpoint is asked for when so much of the window is used.
WANTED_AT = 0.8
#: A sequential writer gets so many extents ahead, so that it need not wait.
AHEAD = 8
#: While ALONE: so many extents in all, then files become whole; so many files, then everything.
ALONE_EXTENTS = 16_384
ALONE_FILES = 16_384
_EXEMPT_MAX = 100_000


class Intent:
    """The intent log of a serving node, asked in the loop's thread.

    `session`: the first 8 bytes of the ids of what is made now. `on_durable()`: ask again.
    `on_wanted()`: a checkpoint is due. `on_fault(reason)`, once: the log cannot be written, and
    nothing is ready any more (F47).
    """

    def __init__(
        self,
        loop: Loop,
        log: IntentLog,
        recovered: Recovered,
        trees: Sequence[Tree],
        session: bytes,
        on_durable: Callable[[], None],
        on_wanted: Callable[[], None],
        on_fault: Callable[[str], None],
        window_marks: int = WINDOW_MARKS,
    ) -> None:
        self._loop = loop
        self._log = log
        self._trees = trees
        self._session = session
        self._on_durable = on_durable
        self._on_wanted = on_wanted
        self._on_fault = on_fault
        self._window_marks = window_marks
        self._thread = OneThread(loop, "intent-log", self._fault, self._submit)
        self._submit_posted = False
        self.failed = False
        #: Whoever remembers that something was ready shall forget it now.
        self.on_failed: Callable[[], None] = lambda: None
        self._begun = self._ends = False
        #: Serving without a peer: no checkpoint ends the window, so it coarsens instead.
        self._alone = True
        #: An operation waits for room in the window.
        self.full = False
        newest = recovered.newest
        self.window = 1 + (0 if newest is None else newest.window)
        self._old = bounded([entry for _, entry in recovered.entries], ALONE_FILES, ALONE_EXTENTS)
        #: All content is suspect already: no mark could add to that.
        self.everything = Everything(ALL_TREES) in self._old
        self._since = [tree.next_handle for tree in trees]
        self._marks = Touches()
        self._previous: Touches | None = None
        self._pending = Touches()
        self._writing: Touches | None = None
        self._exempt: list[set[int]] = [set() for _ in trees]
        #: What of this node's files may differ, kept up to date: a comparison may read it.
        self.suspects: list[Suspects] = []
        #: What others than this run's operations may have changed (`suspect`), and no more.
        self.found = [Suspects() for _ in trees]
        self._tell_suspects()
        parts = self._parts()
        self._queue(lambda: log.rewrite(parts), self._opened)

    # -- before an operation begins -----------------------------------------------------------

    def ready(self, index: int, op: Op) -> bool:
        """Whether `op` may begin (I5). If not, its mark is on its way, or the window is full.

        Only content of files needs marks: names and attributes are compared anyway."""
        if self.failed or not self._begun:
            return False
        if type(op) is Write:
            handle, first = op.handle, op.offset >> EXTENT_SHIFT
            last = max(op.offset, op.offset + len(op.data) - 1) >> EXTENT_SHIFT
        elif type(op) is SetAttr or type(op) is Fallocate:
            extents = self._resized(index, op)
            if extents is None:
                return True
            handle, (first, last) = op.handle, extents
        else:
            return True
        if self.everything or handle in self._exempt[index]:
            return True
        try:
            key = (index, self._trees[index].inode_of(handle))
            if self._marks.has(key, first, last):
                self._look_ahead(key, last)
                return True
            if self._is_new(index, handle):
                self._exempt[index].add(handle)
                return True
        except OSError:
            return True  # it will fail by itself
        if self._pending.has(key, first, last):
            return False
        if self._writing is not None and self._writing.has(key, first, last):
            return False
        if self._is_full():
            return False
        ahead = AHEAD if first and self._marks.has(key, first - 1, first - 1) else 0
        self._mark(key, first, last + ahead)
        return False

    def made(self, index: int, handle: int) -> None:
        """An object with an id of this session was made under this handle."""
        exempt = self._exempt[index]
        if len(exempt) > _EXEMPT_MAX:
            exempt.clear()  # its id tells as well, only not as fast
        exempt.add(handle)

    def _resized(self, index: int, op: SetAttr | Fallocate) -> tuple[int, int] | None:
        """The extents whose content changes; None for none."""
        if isinstance(op, Fallocate):
            if op.mode & (FALLOC_COLLAPSE_RANGE | FALLOC_INSERT_RANGE):
                first = op.offset >> EXTENT_SHIFT
                return first, first + WHOLE_FROM
            end = op.offset + max(1, op.length)
            return op.offset >> EXTENT_SHIFT, (end - 1) >> EXTENT_SHIFT
        if op.size is None:
            return None
        try:
            size = self._trees[index].stat(op.handle).st_size
        except OSError:
            return None
        start, end = sorted((size, op.size))
        return None if start == end else (start >> EXTENT_SHIFT, (end - 1) >> EXTENT_SHIFT)

    def _is_new(self, index: int, handle: int) -> bool:
        ident = self._trees[index].ident_of(handle)
        return (
            len(ident) == IDENT_BYTES
            and ident.startswith(self._session)
            and counter_of(ident) >= self._since[index]
        )

    def _look_ahead(self, key: tuple[int, int], last: int) -> None:
        """Whoever writes on and on finds its marks there."""
        half = last + AHEAD // 2
        if (
            last
            and self._marks.has(key, last - 1, last - 1)
            and not self._marks.has(key, half, half)
            and not self._pending.has(key, half, half)
            and (self._writing is None or not self._writing.has(key, half, half))
            and (self._alone or self._weight() + AHEAD < self._window_marks * WANTED_AT)
        ):
            self._mark(key, last + 1, last + AHEAD)

    def _weight(self) -> int:
        writing = self._writing
        return self._marks.weight + self._pending.weight + (writing.weight if writing else 0)

    def _is_full(self) -> bool:
        self.full = not self._alone and self._weight() >= self._window_marks
        if self.full:
            self._on_wanted()
        return self.full

    def _mark(self, key: tuple[int, int], first: int, last: int) -> None:
        self._pending.add(key, first, last)
        if not self._alone and self._weight() >= self._window_marks * WANTED_AT:
            self._on_wanted()
        if not self._submit_posted:
            self._submit_posted = True
            self._loop.post(self._submit)

    # -- windows ------------------------------------------------------------------------------

    @property
    def used(self) -> bool:
        """Whether anything was marked in this window."""
        return bool(self._marks) or bool(self._pending) or self._writing is not None

    def rotate(self) -> None:
        """A checkpoint begins: the next window (I7). Marks that no operation has used yet belong
        to it; operations that began are in front of the checkpoint in the stream."""
        if self._previous is not None:  # the checkpoint before was never recorded
            self._marks.absorb(self._previous)
        self._previous = self._marks
        self._next_window()
        log, window, entries = self._log, self.window, self._new_since()
        self._queue(lambda: log.write(window, entries), self._on_durable)

    def drop_previous(self) -> None:
        """Both nodes have everything of the window before on their disks (I6)."""
        log, window = self._log, self.window

        def forget() -> None:
            self._previous = None
            self._tell_suspects()

        self._queue(lambda: log.forget_before(window), forget)

    def go_alone(self) -> None:
        """The peer is behind from here on: nothing is dropped before `reset`. Whoever waits for
        room in the window may ask again."""
        self._alone = True
        self.full = False
        if self._previous is not None:
            self._marks.absorb(self._previous)
            self._previous = None
        self._tell_suspects()

    def reset(self) -> None:
        """The peer has adopted, everything is on both disks: no mark counts any more (I8, I11,
        I12). From here on there are checkpoints."""
        self._alone = False
        self.everything = False
        self._previous = None
        self._old = []
        self.found = [Suspects() for _ in self._trees]
        self._next_window()
        self._tell_suspects()
        log, window, entries = self._log, self.window, self._new_since()
        self._queue(lambda: log.reset(window, entries), self._on_durable)

    def suspect(self, entries: Sequence[Entry], done: Callable[[], None]) -> None:
        """More than this node's operations may differ: durable (I9) when `done` is called; never
        called after a fault."""
        known, log = set(self._old), self._log
        fresh = [entry for entry in entries if entry not in known]
        self._old += fresh
        for entry in fresh:
            self._tell(entry, self.suspects)
        for entry in entries:
            self._tell(entry, self.found)

        def suspected() -> None:
            self._settle_everything()
            done()

        self._queue(lambda: log.write(SUSPECT_WINDOW, fresh), suspected)

    def _settle_everything(self) -> None:
        """Once that is durable, no further mark is needed."""
        self.everything = Everything(ALL_TREES) in self._old

    def stop(self) -> None:
        """Nothing is ready any more; what is being written still is. `end` or `join` follows."""
        self._ends, self._begun = self._begun and not self.failed, False
        self._thread.stop()

    def end(self, equal: bool, save: Callable[[int], None]) -> None:
        """After `stop`, in any thread: the run ends in order, everything is flushed.
        `save(number)` keeps the path marks: they count if the log's newest block has this number.
        `equal`: the peer has everything, so no mark counts. Raises LocalFault."""
        self._thread.join()
        if not self._ends:
            return
        if equal:
            self._log.reset(self.window + 1, ())
        save(self._log.next_sequence)
        self._log.end(self.window + 1)

    def join(self) -> None:
        """After `stop`, in any thread: wait for what is being written."""
        self._thread.join()

    def _next_window(self) -> None:
        self.window += 1
        self.full = False
        self._marks = Touches()
        self._since = [tree.next_handle for tree in self._trees]
        for exempt in self._exempt:
            exempt.clear()

    def _new_since(self) -> list[Entry]:
        return [NewSince(n, self._session, since) for n, since in enumerate(self._since)]

    def _parts(self) -> list[tuple[int, list[Entry]]]:
        """All that counts, by window."""
        parts: list[tuple[int, list[Entry]]] = [(SUSPECT_WINDOW, list(self._old))]
        if self._previous is not None:
            # What was new in it is older than what is new now; the session's lowest will do.
            first = [NewSince(n, self._session, 0) for n in range(len(self._trees))]
            parts.append((self.window - 1, [*first, *self._previous.entries()]))
        now = [*self._new_since(), *self._marks.entries()]
        if self._writing is not None:
            now += self._writing.entries()
        parts.append((self.window, now))
        return parts

    @staticmethod
    def _tell(entry: Entry, suspects: list[Suspects]) -> None:
        if entry.tree != ALL_TREES:
            suspects = suspects[entry.tree : entry.tree + 1]
        for each in suspects:
            each.add_entry(entry)

    def _tell_suspects(self) -> None:
        entries = [entry for _, part in self._parts() for entry in part]
        self.suspects = suspects_of(entries, len(self._trees), False)

    # -- the log's thread ---------------------------------------------------------------------

    def _submit(self) -> None:
        """Write what is pending, once the log is free: all of it with one fdatasync."""
        self._submit_posted = False
        if self._thread.busy or not self._pending or self.failed:
            return
        batch, self._pending = self._pending, Touches()
        self._writing = batch
        log, window, entries = self._log, self.window, list(batch.entries())
        parts = self._parts() if log.large else None

        def write() -> None:
            if parts is not None:
                log.rewrite(parts)
            else:
                log.write(window, entries)

        def written() -> None:
            self._writing = None
            if window == self.window or self._alone:
                self._marks.absorb(batch)
            elif self._previous is not None:  # another window began meanwhile
                self._previous.absorb(batch)
            for entry in entries:
                self._tell(entry, self.suspects)
            if self._alone:
                self._coarsen()
            self._on_durable()

        self._queue(write, written)

    def _coarsen(self) -> None:
        marks = self._marks
        if marks.extents <= ALONE_EXTENTS and marks.files <= ALONE_FILES:
            return
        if not marks.coarsen(ALONE_FILES, ALONE_EXTENTS // 2):
            self._old.append(Everything(ALL_TREES))
            self._marks = Touches()
            self._tell(Everything(ALL_TREES), self.suspects)
        log, parts = self._log, self._parts()
        self._queue(lambda: log.rewrite(parts), self._settle_everything)

    def _queue(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        """`work` in the log's thread after all before it, `then` on the loop."""
        if not self.failed:
            self._thread.queue(work, then)

    def _fault(self, reason: str) -> None:
        """After an error the disk's content is not known: nothing is retried (I16)."""
        self.failed = True
        self.on_failed()
        self._on_fault(reason)

    def _opened(self) -> None:
        self._begun = True
        self._on_durable()
