"""The worker of the node that runs the application: mounts, gate, the application's operations.

Life: mounted with the gate closed → ALONE (answers at once) → PRIM (answers when the secondary has
the operation) → ALONE again. The secondary is the matter of `follower.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from safepy.dataplane.border import Border
from safepy.dataplane.gate import GateKeeper
from safepy.dataplane.primary import Primary
from safepy.dataplane.reading import ColdReader
from safepy.dataplane.resync.scope import HOLD_PREFIX
from safepy.dataplane.resync.tree import names_in
from safepy.errors import LocalFault
from safepy.fuse.operations import Filesystem
from safepy.fuse.session import Session
from safepy.host.loop import Loop
from safepy.model import Gate
from safepy.storage.backing import Tree
from safepy.worker import estimating, messages
from safepy.worker.checkpointing import Checkpoints
from safepy.worker.common import Context, exclusions_of, in_thread, sync_path
from safepy.worker.follower import Follower, Lead
from safepy.worker.knowledge import new_session

#: How often the age of the oldest unanswered operation is looked at.
WATCH_INTERVAL_S = 1.0
#: A longer time between two looks is a sleep of this node: what the peer answered meanwhile has not
#: been read yet (F38).
SLEPT_S = 3.0


class Serving:
    """Role of a worker between `Serve` and `Demote`."""

    def __init__(self, context: Context, epoch: int) -> None:
        self._context = context
        self._loop: Loop = context.loop
        self._setup = context.setup
        self._trees = [
            Tree(os.dup(fd), index, self._setup.acl) for index, fd in enumerate(context.door_fds)
        ]
        self.gate = GateKeeper()
        self._session = new_session()
        self.keeper = context.knowledge.keeper(
            self._trees,
            self._session,
            on_durable=lambda: self.primary.kick(),
            on_wanted=lambda: self._checkpoints.want(),
            on_fault=self._log_fault,
        )
        self._checkpoints = Checkpoints(
            context,
            self.keeper,
            lambda message: self.follower.say(message),
            lambda reason: self._lead.fault(reason),
        )
        self.primary = Primary(
            self._loop,
            self._trees,
            self.gate,
            on_first_modification=self._first_modification,
            on_fault=lambda reason: self._lead.fault(reason),
            keeper=self.keeper,
            border=self._border(),
        )
        #: Everything is flushed here, and nothing was modified since; with the peer's copy equal.
        self._clean = self._equal = False
        self._reader = ColdReader(self._loop)
        self._sessions: list[Session] = []
        self._filesystems: list[Filesystem] = []
        self._lead = Lead(
            context,
            epoch,
            self._trees,
            self.gate,
            self.keeper,
            self.primary,
            self._checkpoints,
        )
        self.follower = Follower(self._lead)
        self._closed = False
        #: When was looked last, and since when without a gap: who slept cannot call the peer late.
        self._looked_s = self._looking_since_s = self._loop.now_s
        self._loop.call_later(WATCH_INTERVAL_S, self._watch)

    @property
    def epoch(self) -> int:
        return self._lead.epoch

    # -- the mount ----------------------------------------

    def mount(self) -> None:
        """Mount every directory over its cover. Raises LocalFault or OSError."""
        for index, path in enumerate(self._setup.paths):
            session = Session(path, self._setup.acl)
            session.mount()
            self._sessions.append(session)
            tree = self._trees[index]
            rescue = partial(self.follower.rescue.read, index)
            prefix = self._session + index.to_bytes(2, "big")
            parts = (session, index, tree, self.primary, self._reader, prefix)
            filesystem = Filesystem(*parts, rescue=rescue)
            self._filesystems.append(filesystem)
            self._loop.add_reader(session.fd, partial(self._requests, session, filesystem))
            self._tell_leftovers(index, path)

    def _tell_leftovers(self, index: int, path: str) -> None:
        """A node that was forced to lead with a mixture (primforce) may have objects there that a
        synchronisation had taken out of their places: perhaps the only copy it has of them."""
        for name in names_in(self._context.door_fds[index]):
            if name.startswith(HOLD_PREFIX):
                self._context.log(
                    "reintegre",
                    "W",
                    f"{path}/{os.fsdecode(name)} holds what an interrupted synchronisation had "
                    "taken out of its place: put back what is missing, then remove it",
                )

    def _requests(self, session: Session, filesystem: Filesystem) -> None:
        if not session.serve(filesystem.handle):
            # Somebody else took the mount away: the cover shows, the application gets EROFS.
            raise LocalFault(f"the mount over {session.mountpoint} is gone")

    def close(self) -> None:
        """Gate closed, what is held fails with EIO, mounts gone (the cover shows)."""
        if self._closed:
            return
        self._closed = True
        self.gate.close()
        self.follower.close()
        self.primary.fail_held()
        for session in self._sessions:
            self._loop.remove_reader(session.fd)
            session.unmount(abort=True)
        self.primary.close()
        self._checkpoints.left()
        self._context.knowledge.end_serving(self.keeper, self._clean, self._equal)
        self._reader.close()
        for tree in self._trees:
            tree.close()

    # -- orders about the gate ----------------------------------------

    def open_gate(self, order: messages.OpenGate) -> None:
        mode = Gate(order.mode)
        if mode is Gate.PRIM and not self.follower.joined:
            return  # a renewal that crossed the loss of the stream: stay held
        if mode is Gate.ALONE and self.follower.joined:
            return
        if mode is Gate.ALONE and order.epoch != self.epoch:
            self.follower.begin_anew()
        self._lead.epoch = order.epoch
        self.gate.open(mode, order.epoch, order.deadline_boottime_s)
        self.primary.kick()

    def close_gate(self) -> None:
        self.gate.close()

    def release(self, order: messages.ReleaseHeld) -> None:
        """Go on ALONE: what was held is answered with success (the record is durable)."""
        self._lead.epoch = order.epoch
        self.follower.leave_behind()
        self.gate.open(Gate.ALONE, order.epoch, order.deadline_boottime_s)
        self._checkpoints.left()
        self.keeper.go_alone()
        self.primary.release()

    def quiesce(self, done: Callable[[bool, str], None]) -> None:
        """Writeback of mapped pages, then no new modification, then both nodes flushed."""

        def written_back(error: str) -> None:
            if error:
                self._context.log("nfsbox", "W", f"writeback before the hand-over: {error}")
            self.primary.drain(drained)

        def drained() -> None:
            self.gate.close_to_new()
            paired = self.follower.joined
            self.primary.flush_everything(lambda errno: flushed(errno, paired))

        def flushed(errno: int, paired: bool) -> None:
            self._clean = errno == 0
            self._equal = self._clean and paired and self.follower.joined
            done(self._clean, _errno_text(errno))

        def work() -> None:
            for path in self._setup.paths:
                sync_path(path)

        in_thread(self._loop, "quiesce", work, written_back)

    def _watch(self) -> None:
        """Programs that are being killed go; so does a secondary that acknowledges nothing."""
        if self._closed:
            return
        for filesystem in self._filesystems:
            filesystem.end_killed()
        limit_s, now_s = self._setup.locktimeout_s, self._loop.now_s
        if now_s - self._looked_s > SLEPT_S:
            self._looking_since_s = now_s
        self._looked_s = now_s
        waited_s = min(self.primary.oldest_unanswered_s(now_s), now_s - self._looking_since_s)
        late = waited_s > limit_s
        if self.follower.joined and (late or self._checkpoints.overdue(now_s, limit_s)):
            self.follower.give_up(f"no acknowledgement for {limit_s:.0f} s (locktimeout)")
        self._loop.call_later(WATCH_INTERVAL_S, self._watch)

    # -- reports ----------------------------------------

    def verify(self, order: messages.Verify) -> None:
        self.follower.verify(order)

    def stop_verify(self) -> None:
        self.follower.stop_verify()

    def estimate(self, order: messages.Estimate) -> None:
        estimating.begin(self._context, self.keeper, order)

    def modified_recorded(self) -> None:
        self.primary.modified_recorded()

    def checkpoint_begun(self, order: messages.CheckpointBegun) -> None:
        self._checkpoints.begun(order.number)

    def checkpoint_recorded(self, order: messages.CheckpointRecorded) -> None:
        self._checkpoints.recorded(order.number)

    def _first_modification(self) -> None:
        self._context.report(messages.FirstModification(self.epoch))

    def _log_fault(self, reason: str) -> None:
        self._lead.fault(reason)
        self.primary.kick()

    def _border(self) -> Border | None:
        exclusions = exclusions_of(self._setup)
        return Border(self._trees, exclusions) if exclusions else None

    def alive(self) -> messages.Alive:
        heard = self._context.heard_since_told(self.follower.live)
        running = self.follower.synchronisation
        progress = running.progress if running is not None else None
        return messages.Alive(
            peer_heard=heard and self.follower.joined,
            held=self.primary.held,
            in_flight=self.primary.in_flight,
            replicated_bytes=self.primary.replicated_bytes,
            progress=self._context.progress_fields(progress),
        )


def _errno_text(errno: int) -> str:
    return "" if errno == 0 else f"flush failed: {os.strerror(errno)}"
