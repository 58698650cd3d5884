"""The marks of a virtual worker: intent log, windows, checkpoints, and what a resynchronisation
looks at (protocol 4.1 to 4.3, 6). The rules I5 to I9, I12 and I15 are kept here, one method each,
so that a test can take one out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from disk import Key, extents, key_of

from safepy.core import events as e
from safepy.model import Gate, SyncMode

if TYPE_CHECKING:
    from twin import Worker, Write


class Marking:
    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.disk = worker.node.disk
        self.cluster = worker.node.cluster
        #: Operations whose mark is not durable yet, and those behind them (I5).
        self.waiting: list[Write] = []
        self.committing = False
        #: Of those that wait: what is durable already, in whichever window it was begun.
        self.ready: set[Key] = set()
        self.windows = 0
        #: Path marks: names too. Lost with the process.
        self.previous: set[Key] = set()
        self.current: set[Key] = set()
        self.solo: set[Key] = set()
        #: They hold every difference since the base of this generation.
        self.complete = False
        #: Everything is flushed on both nodes, or here if there is no other; nothing began since.
        self.quiet = False
        #: In sync until it ended in order: nothing is marked, and nothing differs.
        self.was_second = False
        self.flushed_here = self.flushed_there = False
        self.under_way = 0
        self.asked = False

    @property
    def paths(self) -> set[Key]:
        return self.previous | self.current | self.solo

    @property
    def alone(self) -> bool:
        return not self.worker.joined

    # -- I5: the mark first ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin what waits, in order; what needs a mark first waits for one commit of the log."""
        while self.waiting and not self.committing:
            if not self._may_begin():
                # Their marks count no more: a join may empty the log before they begin.
                self.worker.backlog[:0], self.waiting = self.waiting, []
                self.ready.clear()
                return
            missing = self.missing()
            if missing:
                self._commit(missing)
                return
            write = self.waiting.pop(0)
            if not self.waiting:
                self.ready.clear()
            self._paths_window().add(key_of(write.number))
            self.quiet = False
            self.worker.begin(write)

    def missing(self) -> set[Key]:
        """Marks that operations wait for."""
        keys = extents(key_of(write.number) for write in self.waiting)
        return keys - self._log_window() - self.ready

    def _commit(self, missing: set[Key]) -> None:
        self.committing = True
        began = self.windows

        def durable() -> None:
            self.committing = False
            if not self.worker.alive or self.worker.role != "serving":
                return
            rotated = not self.alone and self.windows != began
            (self.disk.previous if rotated else self._log_window()).update(missing)
            self.ready |= missing
            self.worker.kick()

        self.worker.node.later(self.cluster.rng.uniform(*self.cluster.commit_s), durable)

    def _may_begin(self) -> bool:
        return self.worker.may_begin()

    def _log_window(self) -> set[Key]:
        return self.disk.solo if self.alone else self.disk.current

    def _paths_window(self) -> set[Key]:
        return self.solo if self.alone else self.current

    # -- checkpoints ------------------------------------------------------------------------

    def tick(self) -> None:
        """From time to time, while there is a secondary."""
        worker = self.worker
        if not worker.alive or not worker.joined:
            return
        if self.current and not self.under_way and not self.asked and worker.mode is Gate.PRIM:
            self.asked = True
            worker.report(e.CheckpointWanted(worker.epoch))
        worker.node.later(self.cluster.checkpoint_s, self.tick)

    def begun(self, number: int) -> None:
        """`checkpoint_started` is durable: rotate, flush, and ask the secondary to."""
        worker = self.worker
        self.asked = False
        if not worker.joined or worker.stream is None:
            return
        self.under_way = number
        self.flushed_here = self.flushed_there = False
        self.rotate()
        follower = worker.stream.follower
        worker.send(lambda: follower.checkpoint(number))
        self.flush_then(lambda: self._flushed(number, here=True))

    def rotate(self) -> None:
        self.disk.previous |= self.disk.current
        self.previous |= self.current
        flying = self.in_flight()
        self.disk.current, self.current = extents(flying), set(flying)
        self.windows += 1
        self.cluster.checks.i7_in_flight_is_carried(self.worker)

    def in_flight(self) -> set[Key]:
        """I7: what these touch belongs to the new window."""
        return {key_of(w.number) for w in (*self.worker.pending, *self.waiting)}

    def flush_then(self, then: Callable[[], None]) -> None:
        node = self.worker.node
        end = self.disk.flushing()

        def done() -> None:
            end()
            if self.worker.alive:
                then()

        node.later(self.cluster.rng.uniform(*self.cluster.flush_s), done)

    def _flushed(self, number: int, here: bool) -> None:
        if number != self.under_way:
            return
        if here:
            self.flushed_here = True
        else:
            self.flushed_there = True
        if self.flushed_here and self.flushed_there:
            self.worker.report(e.CheckpointReached(self.worker.epoch, number))

    def recorded(self, number: int) -> None:
        """The counter is durable. SECOND: say so. PRIM: the older window goes (I6)."""
        worker = self.worker
        if worker.role == "following" and worker.second and worker.stream is not None:
            source = worker.stream.source
            worker.send(lambda: source.marking._flushed(number, here=False))
        elif worker.role == "serving" and worker.joined and number == self.under_way:
            self.under_way = 0
            self.drop(self.disk.previous - self.disk.current)
            self.disk.previous, self.previous = set(), set()

    def drop(self, keys: set[Key]) -> None:
        assert self.worker.stream is not None
        self.cluster.checks.i6_dropped_is_durable_on_both(
            self.worker.node, self.worker.stream.follower.node, keys
        )

    def acknowledged(self, number: int) -> None:
        """The secondary has it. That is no reason to drop its mark (I6)."""

    # -- chapters ------------------------------------------------------------------------

    def serve(self) -> None:
        """This worker begins to serve: what is known of the differences to the other node?"""
        self.previous, self.current, self.solo = set(), set(), set()
        self.disk.go_solo()
        self.complete = self.was_second and not self.disk.log
        if self.disk.saved is not None:
            self.solo, self.complete = self.disk.saved, True
        self.disk.saved = None
        self.was_second = self.quiet = False

    def joined(self) -> None:
        """The other node adopted: both trees are equal and flushed (I12), nothing is marked."""
        flying = self.in_flight()
        self.disk.clear_log()
        self.disk.current = extents(flying)
        self.previous, self.current, self.solo = set(), set(flying), set()
        self.complete = True
        self.windows += 1
        self.under_way, self.asked = 0, False
        self.worker.node.later(self.cluster.checkpoint_s, self.tick)

    def go_solo(self) -> None:
        self.disk.go_solo()
        self.solo = self.paths
        self.previous, self.current = set(), set()
        self.windows += 1
        self.under_way, self.asked = 0, False

    def ended(self) -> None:
        """Not serving any more. After a clean end with a secondary both nodes have everything on
        their disks (I6); after one without, the path marks are kept for the next time."""
        worker = self.worker
        if self.quiet and worker.joined:
            self.disk.clear_log()
            self.was_second = True
        elif self.quiet and self.alone and not worker.held and self.complete:
            self.disk.saved = self.paths
        else:
            self.was_second = False

    # -- resynchronisation ------------------------------------------------------------------------

    def choose(self, follower: Worker) -> tuple[SyncMode, str]:
        """The least that the records allow, or more if a worker does not know its tree."""
        worker = self.worker
        mode, reason = worker.least, worker.reason
        if mode is SyncMode.ZONES and follower.node.disk.log:
            mode, reason = SyncMode.WALK, "the other node has marks of its own"
        if mode is SyncMode.ZONES and not self.complete:
            mode, reason = SyncMode.WALK, "what changed here is not known by name"
        return mode, reason

    def looked_at(self, follower: Worker, mode: SyncMode) -> Callable[[Key], bool]:
        """I9: the marks of both nodes."""
        marked = self.paths | self.disk.log | self.theirs(follower)
        match mode:
            case SyncMode.EVERYTHING:
                return lambda key: True
            case SyncMode.WALK:
                return lambda key: key[0] == "name" or key in marked
            case SyncMode.ZONES:
                return lambda key: key in marked

    def theirs(self, follower: Worker) -> set[Key]:
        return follower.node.disk.log

    def flush_both(self, follower: Worker) -> None:
        """I12."""
        self.disk.flush()
        follower.node.disk.flush()
