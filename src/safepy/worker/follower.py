"""The primary's end of the stream to its secondary: up to date, joined, interrupted, lost.

A follower is brought up to date (`synchronise.py`) → it joins (PRIM) → the connection breaks:
nothing is answered, and for `sendtimeout` the same secondary may take the stream up again → it is
lost: everything is *held* until the daemon has made it durable that the secondary is behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safepy.core.replica.ops import Fsync, Op
from safepy.dataplane.gate import GateKeeper
from safepy.dataplane.keeper import Keeper
from safepy.dataplane.primary import Primary
from safepy.dataplane.resync.tree import shown, split
from safepy.errors import PeerError
from safepy.host.loop import Timer
from safepy.model import Gate, SyncMode
from safepy.net.blocking import BlockingStream
from safepy.net.peer import SecureStream
from safepy.storage.backing import Tree
from safepy.wire import replication as wire
from safepy.worker import messages
from safepy.worker.checkpointing import Checkpoints
from safepy.worker.common import Context
from safepy.worker.knowledge import PATHS_A_MESSAGE
from safepy.worker.rescue import Rescue
from safepy.worker.synchronise import Synchronisation
from safepy.worker.verify_desk import VerifyDesk
from safepy.worker.verifying import Found


@dataclass(slots=True)
class Lead:
    """What a serving node consists of; `epoch` is the one it serves in."""

    context: Context
    epoch: int
    trees: Sequence[Tree]
    gate: GateKeeper
    keeper: Keeper
    primary: Primary
    checkpoints: Checkpoints

    def fault(self, reason: str) -> None:
        """The local copy cannot be trusted any more."""
        self.context.report(messages.DiskFault(self.epoch, "OUTDATED", reason))


class Follower:
    """The peer, while this node serves: nobody, a target, or the secondary (`joined`)."""

    def __init__(self, lead: Lead) -> None:
        self._lead = lead
        self._context = lead.context
        self._loop = lead.context.loop
        self._live: SecureStream | None = None
        #: Names the live stream, whatever connection carries it (I13).
        self._stream_id = ""
        self._give_up: Timer | None = None
        self._desk = VerifyDesk(lead.context, self.say, self._mend)
        self.rescue = Rescue(self._ask_to_read, self._read_refused, lead.fault)
        self._allowed: messages.AllowFollower | None = None
        self._sync: Synchronisation | None = None
        self._joining = False
        self._join: messages.Join | None = None
        self._closed = False
        #: The secondary has all that is answered; every further operation goes to it.
        self.joined = False

    @property
    def live(self) -> SecureStream | None:
        return self._live

    @property
    def synchronisation(self) -> Synchronisation | None:
        return self._sync

    def begin_anew(self) -> None:
        """The daemon counts on: whoever was let in under the old number begins again."""
        self._joining = False
        self._drop()

    def leave_behind(self) -> None:
        """The secondary is durably behind. The heartbeats may have told of the loss while the
        stream still seems to live: it goes, or its traffic would tell the other node that this
        one is in sync with it."""
        self.joined = self._joining = False
        self._join = None
        # The next follower is allowed anew: how much must be looked at is decided each time.
        self._allowed = None
        self._end_interruption()
        self._end_sync()
        self._close_live()

    def close(self) -> None:
        """This node serves no more."""
        self._closed = True
        self._end_interruption()
        self._desk.interrupted()
        self.rescue.interrupted()
        self._drop()

    def give_up(self, reason: str) -> None:
        """A secondary that does not keep up is lost as well (4.4)."""
        self._close_live()
        self._lost(reason)

    def say(self, message: wire.AnyMessage) -> None:
        if self._live is not None:
            self._live.send(wire.encode(message))

    # -- being let in ----------------------------------------

    def allow(self, order: messages.AllowFollower) -> None:
        self._allowed = order

    def objection(self, epoch: int) -> str:
        """Why the peer's live stream cannot be taken now; "" when it can."""
        if self._closed or self._allowed is None:
            return "not serving a follower yet"
        if self.joined or self._joining:
            return "a hand-over is under way"
        if epoch != self._lead.epoch:
            return f"epoch {epoch} offered, this node serves in {self._lead.epoch}"
        return ""

    def take(self, stream: SecureStream) -> None:
        """Bring the peer up to date over this new stream."""
        self._drop()  # a new connection replaces an old one
        self._attach(stream)
        assert self._allowed is not None, "see objection"
        self._sync = Synchronisation(
            self._context,
            self._lead.primary,
            self._lead.keeper,
            stream,
            self._allowed,
            self,
        )
        self._stream_id = self._sync.stream_id

    def resumption_objection(self, epoch: int, stream_id: str) -> str:
        """Why the peer cannot take its stream up again on a new connection; "" when it can."""
        if self._closed or not self.joined or stream_id != self._stream_id:
            return "that stream is over"
        if epoch != self._lead.epoch:
            return f"epoch {epoch} offered, this node serves in {self._lead.epoch}"
        return ""

    def resume(self, stream: SecureStream) -> None:
        """The secondary is back; its `Resume` says what it has. An old connection goes (F29)."""
        self._close_live()
        self._interrupt("the secondary has connected anew")
        self._attach(stream)

    def _attach(self, stream: SecureStream) -> None:
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
        self._context.report(messages.SyncChosen(self._lead.epoch, mode, reason))

    def caught_up(self) -> None:
        """From `Synchronisation`: trees equal and flushed, writes held."""
        self._joining = True
        self._context.report(messages.CaughtUp(self._lead.epoch))

    def failed(self, reason: str, fatal: bool) -> None:
        """From `Synchronisation`: writers go on ALONE; the follower dials again."""
        self._sync = None
        self._lead.primary.unhold()
        self._close_live()
        self._context.report(messages.ResyncFailed(self._lead.epoch, reason, fatal))

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
        self._lead.epoch = epoch
        self._joining, self.joined, self._join = False, True, None
        self._allowed = None
        self._end_sync()
        self._lead.gate.change_mode(Gate.PRIM, epoch)
        self._lead.keeper.reset()
        self._context.knowledge.joined()
        self._lead.checkpoints.joined(epoch)
        self._lead.primary.connect(self._send_op)
        self._lead.primary.unhold()
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
                self._lead.primary.acknowledged(seq)
            case wire.Completed(seq, errno):
                self._lead.primary.completed(seq, errno)
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
                self._lead.checkpoints.done_there(number)
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
                self.rescue.answered(message)
            case wire.VerifyAsk(mend):
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
            if self.joined:
                self._interrupt(reason)
            else:
                self._lost(reason)

    def _interrupt(self, reason: str) -> None:
        """The connection broke, the secondary may live (F26). Its daemon, if it knows better, says
        so in the heartbeats, and then ours decides; else it has `sendtimeout` to come back."""
        if self._give_up is not None:
            return
        self._desk.interrupted()
        self.rescue.interrupted()
        self._lead.primary.suspend()
        limit_s = self._context.setup.sendtimeout_s
        self._context.log("nfsbox", "E", f"Replication is interrupted, writes wait: {reason}")
        self._give_up = self._loop.call_later(
            limit_s, lambda: self._lost(f"interrupted for {limit_s:.0f} s (sendtimeout): {reason}")
        )

    def _resumed(self, received: int) -> None:
        if self._give_up is None:
            raise PeerError("a stream that was not interrupted is taken up again")
        self._end_interruption()
        self._lead.primary.resume(received, self._send_op, self._sync_again)
        self._lead.checkpoints.resumed()
        self._context.log("nfsbox", "E", "Replication goes on where it was interrupted")

    def _end_interruption(self) -> None:
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None

    def _lost(self, reason: str) -> None:
        """The stream is gone. Held until the daemon decides, unless we were ALONE anyway."""
        self._end_interruption()
        self._desk.interrupted()
        self.rescue.interrupted()
        if self._closed:
            return
        if self.joined or self._joining:
            self._lead.primary.hold()
            self._lead.primary.disconnect()
            self._lead.checkpoints.left()
            self.joined = self._joining = False
            self._join = None
            self._end_sync()
            self._context.report(messages.ReplicaLost(self._lead.epoch, reason))
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

    def _drop(self) -> None:
        """Back to serving ALONE without anybody; used before a join only."""
        if self._sync is not None:
            self._sync.close()
            self._sync = None
            self._lead.primary.unhold()
        self._close_live()

    # -- a disk that refuses to read (F45) ----------------------------------------

    def _ask_to_read(self, request: wire.ReadAt) -> bool:
        if not self.joined or self._give_up is not None:
            return False
        if not self._lead.primary.introduce(request.tree, request.handle):
            return False
        self.say(request)
        return True

    def _read_refused(self, tree: int, handle: int, offset: int, size: int) -> None:
        path = self._lead.trees[tree].path_of(handle) or b"?"
        self._context.log(
            "nfsbox",
            "C",
            f"The disk refuses to read {size} bytes at {offset} of {shown(split(path))} in "
            f"{self._context.setup.paths[tree]}: read from the secondary, replace the disk",
        )

    # -- comparing both copies ----------------------------------------

    def verify(self, order: messages.Verify) -> None:
        if self.joined and self._give_up is None:
            self._desk.asked_here(order)
        else:
            problem = "there is no secondary to compare with"
            self._context.report(messages.VerifyDone(order.epoch, order.number, 0, 0, problem))

    def stop_verify(self) -> None:
        self._desk.stop()

    def _mend(self, differences: Sequence[Found], side: str) -> None:
        """The good copy must be the source. If it is this node's, the secondary is brought up to
        date anew where they differ; else it compares there once it leads (the daemons swap)."""
        if side == "second":
            for at in range(0, len(differences), PATHS_A_MESSAGE):
                part = differences[at : at + PATHS_A_MESSAGE]
                self.say(wire.Owed(tuple((tree, path) for tree, path, _ in part)))
            return
        for tree, path, _ in differences:
            self._lead.keeper.paths.add(tree, "full", path)
        self._close_live()
        self._lost("what differs there is synchronised anew (rfsverify)")
