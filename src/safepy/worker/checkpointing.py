"""Checkpoints of a primary: moments at which both nodes have everything on their disks (4.3).

The daemon counts them in the record, before and after. Between, this node rotates its marks, says
so in the stream in order among the operations, and flushes while the secondary does the same.
Only when the number is recorded on both nodes the marks before it go (I6). An answer that does
not come keeps the marks; nothing else waits for it but operations that find their window full.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from safepy.dataplane.keeper import Keeper
from safepy.host.loop import Timer
from safepy.storage.syscalls import sync_all
from safepy.wire import replication as wire
from safepy.worker import messages
from safepy.worker.common import Context, in_thread

ASK_AGAIN_S = 2.0


class _Stage(enum.Enum):
    AWAY = enum.auto()  # no secondary follows
    IDLE = enum.auto()
    ASKED = enum.auto()  # the daemon makes `checkpoint_started` durable
    FLUSHING = enum.auto()  # here and there
    REACHED = enum.auto()  # the daemon makes `checkpoint` durable


class Checkpoints:
    """`say` sends to the secondary, `fault(reason)` tells of a flush that failed here (I16)."""

    def __init__(
        self,
        context: Context,
        keeper: Keeper,
        say: Callable[[wire.AnyMessage], None],
        fault: Callable[[str], None],
    ) -> None:
        self._context = context
        self._keeper = keeper
        self._say = say
        self._fault = fault
        self._stage = _Stage.AWAY
        self._epoch = self._number = 0
        self._here = self._there = False
        self._timer: Timer | None = None
        self._asking: Timer | None = None
        #: Since when operations have been waiting for room in the window.
        self._full_since_s: float | None = None

    def joined(self, epoch: int) -> None:
        """The secondary follows; both nodes are flushed and no mark is left."""
        self._stage = _Stage.IDLE
        self._epoch = epoch
        self._later()

    def left(self) -> None:
        """The secondary is lost: a checkpoint that was begun is forgotten, its marks stay."""
        self._stage = _Stage.AWAY
        self._full_since_s = None
        for timer in (self._timer, self._asking):
            if timer is not None:
                timer.cancel()
        self._timer = self._asking = None

    def want(self) -> None:
        """The window is old, or nearly full."""
        if self._stage is _Stage.IDLE:
            self._stage = _Stage.ASKED
            self._ask()

    def begun(self, number: int) -> None:
        """`checkpoint_started` is durable (4.3 a)."""
        if self._stage is not _Stage.ASKED:
            return
        if self._asking is not None:
            self._asking.cancel()
        self._stage = _Stage.FLUSHING
        self._number = number
        self._here = self._there = False
        self._keeper.rotate()
        self._say(wire.Checkpoint(number))
        in_thread(self._context.loop, "checkpoint", self._flush, self._flushed)

    def resumed(self) -> None:
        """The stream goes on over another connection: what was said may be lost. Said again it
        comes later in the stream and means more."""
        if self._stage is _Stage.FLUSHING and not self._there:
            self._say(wire.Checkpoint(self._number))

    def done_there(self, number: int) -> None:
        """The secondary has everything before it, and its record says so (4.3 c)."""
        if number == self._number:
            self._there = True
            self._step()

    def recorded(self, number: int) -> None:
        """So does ours: the marks before it go (4.3 d)."""
        if self._stage is not _Stage.REACHED or number != self._number:
            return
        self._stage = _Stage.IDLE
        self._keeper.drop_previous()
        if self._keeper.window_full:
            self.want()

    def overdue(self, now_s: float, limit_s: float) -> bool:
        """Whether writers have been waiting for the end of a checkpoint for so long."""
        if self._stage is _Stage.AWAY or not self._keeper.window_full:
            self._full_since_s = None
            return False
        if self._full_since_s is None:
            self._full_since_s = now_s
        return now_s - self._full_since_s > limit_s

    def _ask(self) -> None:
        """Again and again: the daemon does not answer one that it cannot have yet."""
        if self._stage is _Stage.ASKED:
            self._context.report(messages.CheckpointWanted(self._epoch))
            self._asking = self._context.loop.call_later(ASK_AGAIN_S, self._ask)

    def _flush(self) -> None:
        sync_all(self._context.door_fds)

    def _flushed(self, error: str) -> None:
        if error:
            self._fault(f"flush for a checkpoint failed: {error}")
        else:
            self._here = True
            self._step()

    def _step(self) -> None:
        if self._stage is _Stage.FLUSHING and self._here and self._there:
            self._stage = _Stage.REACHED
            self._context.report(messages.CheckpointReached(self._epoch, self._number))

    def _later(self) -> None:
        self._timer = self._context.loop.call_later(
            self._context.setup.checkpoint_interval_s, self._due
        )

    def _due(self) -> None:
        if self._keeper.changed:
            self.want()
        self._later()
