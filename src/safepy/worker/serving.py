"""The worker of the node that runs the application: mounts, gate, the secondary's stream.

Life: mounted with the gate closed → ALONE (answers at once) → a follower is brought up to date
(`synchronise.py`) → PRIM (answers when the secondary has the operation) → the connection breaks:
nothing is answered, and for `sendtimeout` the same secondary may take the stream up again → it is
lost: everything is *held* until the daemon has made it durable that the secondary is behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

from safepy.core.replica.ops import Fsync, Op
from safepy.dataplane.border import Border
from safepy.dataplane.gate import GateKeeper
from safepy.dataplane.primary import Primary
from safepy.dataplane.reading import ColdReader
from safepy.dataplane.resync.tree import shown, split
from safepy.errors import LocalFault, PeerError
from safepy.fuse.operations import Filesystem
from safepy.fuse.session import Session
from safepy.host.loop import Loop, Timer
from safepy.model import Gate, SyncMode
from safepy.net.blocking import BlockingStream
from safepy.net.peer import SecureStream
from safepy.storage.backing import Tree
from safepy.wire import replication as wire
from safepy.worker import estimating, messages
from safepy.worker.checkpointing import Checkpoints
from safepy.worker.common import Context, exclusions_of, in_thread, sync_path
from safepy.worker.knowledge import PATHS_A_MESSAGE, new_session
from safepy.worker.rescue import Rescue
from safepy.worker.synchronise import Synchronisation
from safepy.worker.verify_desk import VerifyDesk
from safepy.worker.verifying import Found

#: How often the age of the oldest unanswered operation is looked at.
WATCH_INTERVAL_S = 1.0


class Serving:
    """Role of a worker between `Serve` and `Demote`."""

    def __init__(self, context: Context, epoch: int) -> None:
        self._context = context
        self._loop: Loop = context.loop
        self.epoch = epoch
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
        self._checkpoints = Checkpoints(context, self.keeper, self._say_live, self._local_fault)
        self.primary = Primary(
            self._loop,
            self._trees,
            self.gate,
            on_first_modification=self._first_modification,
            on_fault=self._local_fault,
            keeper=self.keeper,
            border=self._border(),
        )
        #: Everything is flushed here, and nothing was modified since; with the peer's copy equal.
        self._clean = self._equal = False
        self._reader = ColdReader(self._loop)
        self._sessions: list[Session] = []
        self._filesystems: list[Filesystem] = []
        self._live: SecureStream | None = None
        #: Names the live stream, whatever connection carries it (I13).
        self._stream_id = ""
        self._give_up: Timer | None = None
        self._desk = VerifyDesk(context, self._say_live, self._mend)
        self._rescue = Rescue(self._ask_to_read, self._read_refused, self._local_fault)
        self._allowed: messages.AllowFollower | None = None
        self._sync: Synchronisation | None = None
        self._joining = False
        self._joined = False
        self._join: messages.Join | None = None
        self._closed = False
        self._loop.call_later(WATCH_INTERVAL_S, self._watch)

    # -- the mount ----------------------------------------

    def mount(self) -> None:
        """Mount every directory over its cover. Raises LocalFault or OSError."""
        for index, path in enumerate(self._setup.paths):
            session = Session(path, self._setup.acl)
            session.mount()
            self._sessions.append(session)
            tree = self._trees[index]
            rescue = partial(self._rescue.read, index)
            prefix = self._session + index.to_bytes(2, "big")
            parts = (session, index, tree, self.primary, self._reader, prefix)
            filesystem = Filesystem(*parts, rescue=rescue)
            self._filesystems.append(filesystem)
            self._loop.add_reader(session.fd, partial(self._requests, session, filesystem))

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
        self._end_interruption()
        self._desk.interrupted()
        self._rescue.interrupted()
        self._drop_follower()
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
        if mode is Gate.PRIM and not self._joined:
            return  # a renewal that crossed the loss of the stream: stay held
        if mode is Gate.ALONE and self._joined:
            return
        if mode is Gate.ALONE and order.epoch != self.epoch:
            # The daemon counts on: whoever was let in under the old number begins again.
            self._joining = False
            self._drop_follower()
        self.epoch = order.epoch
        self.gate.open(mode, order.epoch, order.deadline_boottime_s)
        self.primary.kick()

    def close_gate(self) -> None:
        self.gate.close()

    def release(self, order: messages.ReleaseHeld) -> None:
        """Go on ALONE: what was held is answered with success (the record is durable).

        The heartbeats may have told of the loss while the stream still seems to live: it goes,
        or its traffic would tell the other node that this one is in sync with it."""
        self.epoch = order.epoch
        self._joined = self._joining = False
        self._join = None
        # The next follower is allowed anew: how much must be looked at is decided each time.
        self._allowed = None
        self._end_interruption()
        self._end_sync()
        self._close_live()
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
            paired = self._joined
            self.primary.flush_everything(lambda errno: flushed(errno, paired))

        def flushed(errno: int, paired: bool) -> None:
            self._clean = errno == 0
            self._equal = self._clean and paired and self._joined
            done(self._clean, _errno_text(errno))

        def work() -> None:
            for path in self._setup.paths:
                sync_path(path)

        in_thread(self._loop, "quiesce", work, written_back)

    # -- the follower ----------------------------------------

    def allow_follower(self, order: messages.AllowFollower) -> None:
        self._allowed = order

    def follower_objection(self, epoch: int) -> str:
        """Why the peer's live stream cannot be taken now; "" when it can."""
        if self._closed or self._allowed is None:
            return "not serving a follower yet"
        if self._joined or self._joining:
            return "a hand-over is under way"
        if epoch != self.epoch:
            return f"epoch {epoch} offered, this node serves in {self.epoch}"
        return ""

    def take_follower(self, stream: SecureStream) -> None:
        """Bring the peer up to date over this new stream."""
        self._drop_follower()  # a new connection replaces an old one
        self._live = stream
        stream.on_messages = self._received
        stream.on_closed = lambda reason: self._live_closed(stream, reason)
        assert self._allowed is not None, "see follower_objection"
        self._sync = Synchronisation(
            self._context, self.primary, self.keeper, stream, self._allowed, self
        )
        self._stream_id = self._sync.stream_id

    def resumption_objection(self, epoch: int, stream_id: str) -> str:
        """Why the peer cannot take its stream up again on a new connection; "" when it can."""
        if self._closed or not self._joined or stream_id != self._stream_id:
            return "that stream is over"
        if epoch != self.epoch:
            return f"epoch {epoch} offered, this node serves in {self.epoch}"
        return ""

    def resume_follower(self, stream: SecureStream) -> None:
        """The secondary is back; its `Resume` says what it has. An old connection goes (F29)."""
        self._close_live()
        self._interrupt("the secondary has connected anew")
        self._live = stream
        stream.on_messages = self._received
        stream.on_closed = lambda reason: self._live_closed(stream, reason)

    def transfer_offered(self, stream: BlockingStream, stream_id: str) -> None:
        if self._sync is not None and self._sync.stream_id == stream_id:
            self._sync.transfer_opened(stream)
        else:
            stream.close()

    def chosen(self, mode: SyncMode, reason: str) -> None:
        """From `Synchronisation`: how much it looks at."""
        self._context.report(messages.SyncChosen(self.epoch, mode, reason))

    def caught_up(self) -> None:
        """From `Synchronisation`: trees equal and flushed, writes held."""
        self._joining = True
        self._context.report(messages.CaughtUp(self.epoch))

    def failed(self, reason: str, fatal: bool) -> None:
        """From `Synchronisation`: writers go on ALONE; the follower dials again."""
        self._sync = None
        self.primary.unhold()
        self._close_live()
        self._context.report(messages.ResyncFailed(self.epoch, reason, fatal))

    def join(self, order: messages.Join) -> None:
        """The daemon's record is durable: the follower may adopt."""
        if self._live is None or not self._joining:
            return  # lost meanwhile; `ReplicaLost` is on its way or was told
        self._join = order
        self._live.send(
            wire.encode(
                wire.Adopt(
                    order.epoch, order.gen, order.base, tuple(order.history), order.checkpoint
                )
            )
        )

    def _adopt_done(self, epoch: int) -> None:
        if self._join is None or self._live is None or epoch != self._join.epoch:
            raise PeerError(f"adoption of epoch {epoch} that was not asked for")
        self.epoch = epoch
        self._joining, self._joined, self._join = False, True, None
        self._allowed = None
        self._end_sync()
        self.gate.change_mode(Gate.PRIM, epoch)
        self.keeper.reset()
        self._context.knowledge.joined()
        self._checkpoints.joined(epoch)
        self.primary.connect(self._send_op)
        self.primary.unhold()
        self._context.report(messages.Joined(epoch))

    def _send_op(self, seq: int, tree: int, op: Op) -> None:
        assert self._live is not None
        self._live.send(wire.encode(wire.Apply(seq, tree, op)))  # type: ignore[arg-type]
        if type(op) is Fsync:
            self._live.flush()  # both disks work at the same time

    def _sync_again(self, seq: int, tree: int, op: Op) -> None:
        assert self._live is not None
        self._live.send(wire.encode(wire.SyncAgain(seq, tree, op)))  # type: ignore[arg-type]

    # -- the live stream ----------------------------------------

    def _received(self, batch: list[bytes]) -> None:
        try:
            for data in batch:
                self._message(wire.decode(data))
        except PeerError as error:
            self._close_live()
            self._lost(str(error))

    def _message(self, message: wire.AnyMessage) -> None:
        match message:
            case wire.Ack(seq):
                self.primary.acknowledged(seq)
            case wire.Completed(seq, errno):
                self.primary.completed(seq, errno)
            case wire.Flushed(number):
                if self._sync is not None:
                    self._sync.flushed(number)
            case wire.AdoptDone(epoch):
                self._adopt_done(epoch)
            case wire.SyncOffer():
                if self._sync is None:
                    raise PeerError("an offer without a resynchronisation")
                self._sync.offered(message)
            case wire.CheckpointDone(number):
                self._checkpoints.done_there(number)
            case wire.SyncFailed(reason, fatal):
                if self._sync is not None:
                    self._sync.abandon(reason, fatal)
            case wire.Resume(received):
                self._resumed(received)
            case wire.Fault(_, text):
                self._close_live()
                self._lost(f"the secondary cannot follow: {text}")
            case wire.Inspected() | wire.MoreNamesAre():
                self._desk.answered(message)
            case wire.ReadDone():
                self._rescue.answered(message)
            case wire.VerifyAsk(_, mend):
                self._desk.asked_there(mend)
            case wire.VerifyStop():
                self._desk.stop()
            case wire.Leave():
                self._close_live()
                self._lost("the secondary stops following")
            case _:
                raise PeerError(f"{type(message).__name__} is not for a primary")

    def _live_closed(self, stream: SecureStream, reason: str) -> None:
        if stream is self._live:
            self._live = None
            if self._joined:
                self._interrupt(reason)
            else:
                self._lost(reason)

    def _interrupt(self, reason: str) -> None:
        """The connection broke, the secondary may live (F26). Its daemon, if it knows better, says
        so in the heartbeats, and then ours decides; else it has `sendtimeout` to come back."""
        if self._give_up is not None:
            return
        self._desk.interrupted()
        self._rescue.interrupted()
        self.primary.suspend()
        limit_s = self._setup.sendtimeout_s
        self._context.log("nfsbox", "E", f"Replication is interrupted, writes wait: {reason}")
        self._give_up = self._loop.call_later(
            limit_s, lambda: self._lost(f"interrupted for {limit_s:.0f} s (sendtimeout): {reason}")
        )

    def _resumed(self, received: int) -> None:
        if self._give_up is None:
            raise PeerError("a stream that was not interrupted is taken up again")
        self._end_interruption()
        self.primary.resume(received, self._send_op, self._sync_again)
        self._checkpoints.resumed()
        self._context.log("nfsbox", "E", "Replication goes on where it was interrupted")

    def _end_interruption(self) -> None:
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None

    def _lost(self, reason: str) -> None:
        """The stream is gone. Held until the daemon decides, unless we were ALONE anyway."""
        self._end_interruption()
        self._desk.interrupted()
        self._rescue.interrupted()
        if self._closed:
            return
        if self._joined or self._joining:
            self.primary.hold()
            self.primary.disconnect()
            self._checkpoints.left()
            self._joined = self._joining = False
            self._join = None
            self._end_sync()
            self._context.report(messages.ReplicaLost(self.epoch, reason))
        elif self._sync is not None:
            self._sync.abandon(reason)

    def _close_live(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.close()

    def _end_sync(self) -> None:
        if self._sync is not None:
            self._sync.close()
            self._sync = None

    def _drop_follower(self) -> None:
        """Back to serving ALONE without anybody; used before a join only."""
        if self._sync is not None:
            self._sync.close()
            self._sync = None
            self.primary.unhold()
        self._close_live()

    def _watch(self) -> None:
        """A secondary that takes bytes but acknowledges nothing is lost as well (4.4)."""
        if self._closed:
            return
        for filesystem in self._filesystems:
            filesystem.end_killed()
        limit_s, now_s = self._setup.locktimeout_s, self._loop.now_s
        late = self.primary.oldest_unanswered_s(now_s) > limit_s
        if self._joined and (late or self._checkpoints.overdue(now_s, limit_s)):
            reason = f"no acknowledgement for {limit_s:.0f} s (locktimeout)"
            self._close_live()
            self._lost(reason)
        self._loop.call_later(WATCH_INTERVAL_S, self._watch)

    # -- a disk that refuses to read (F45) ----------------------------------------

    def _ask_to_read(self, request: wire.ReadAt) -> bool:
        if not self._joined or self._give_up is not None:
            return False
        if not self.primary.introduce(request.tree, request.handle):
            return False
        self._say_live(request)
        return True

    def _read_refused(self, tree: int, handle: int, offset: int, size: int) -> None:
        path = self._trees[tree].path_of(handle) or b"?"
        self._context.log(
            "nfsbox",
            "C",
            f"The disk refuses to read {size} bytes at {offset} of {shown(split(path))} in "
            f"{self._setup.paths[tree]}: read from the secondary, replace the disk",
        )

    # -- comparing both copies ----------------------------------------

    def verify(self, order: messages.Verify) -> None:
        if self._joined and self._give_up is None:
            self._desk.asked_here(order)
        else:
            problem = "there is no secondary to compare with"
            self._context.report(messages.VerifyDone(order.epoch, order.number, 0, 0, problem))

    def estimate(self, order: messages.Estimate) -> None:
        estimating.begin(self._context, self.keeper, order)

    def stop_verify(self) -> None:
        self._desk.stop()

    def _say_live(self, message: wire.AnyMessage) -> None:
        if self._live is not None:
            self._live.send(wire.encode(message))

    def _mend(self, differences: Sequence[Found], side: str) -> None:
        """The good copy must be the source. If it is this node's, the secondary is brought up to
        date anew where they differ; else it compares there once it leads (the daemons swap)."""
        if side == "second":
            for at in range(0, len(differences), PATHS_A_MESSAGE):
                part = differences[at : at + PATHS_A_MESSAGE]
                self._say_live(wire.Owed(tuple((tree, path) for tree, path, _ in part)))
            return
        for tree, path, _ in differences:
            self.keeper.paths.add(tree, "full", path)
        self._close_live()
        self._lost("what differs there is synchronised anew (rfsverify)")

    # -- reports ----------------------------------------

    def modified_recorded(self) -> None:
        self.primary.modified_recorded()

    def checkpoint_begun(self, order: messages.CheckpointBegun) -> None:
        self._checkpoints.begun(order.number)

    def checkpoint_recorded(self, order: messages.CheckpointRecorded) -> None:
        self._checkpoints.recorded(order.number)

    def _first_modification(self) -> None:
        self._context.report(messages.FirstModification(self.epoch))

    def _log_fault(self, reason: str) -> None:
        self._local_fault(reason)
        self.primary.kick()

    def _local_fault(self, reason: str) -> None:
        self._context.report(messages.DiskFault(self.epoch, "OUTDATED", reason))

    def _border(self) -> Border | None:
        exclusions = exclusions_of(self._setup)
        return Border(self._trees, exclusions) if exclusions else None

    def alive(self) -> messages.Alive:
        heard = self._context.heard_since_told(self._live)
        progress = self._sync.progress if self._sync is not None else None
        return messages.Alive(
            peer_heard=heard and self._joined,
            held=self.primary.held,
            in_flight=self.primary.in_flight,
            replicated_bytes=self.primary.replicated_bytes,
            progress=self._context.progress_fields(progress),
        )


def _errno_text(errno: int) -> str:
    return "" if errno == 0 else f"flush failed: {os.strerror(errno)}"
