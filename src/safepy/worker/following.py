"""The worker of the node that receives: dials the source, is brought up to date, then follows.

Until the identity of the source is adopted the tree is INCONSISTENT and the worker dials again
by itself when the stream breaks. After that it is a SECOND: when the connection breaks it takes
the stream up again on another one, for as long as the primary agrees and the daemon has not
decided otherwise (take over, or be brought up to date again).
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from safepy.core.replica.suspects import Suspects, by_name_only
from safepy.dataplane.border import clear_left_out
from safepy.dataplane.resync.aside import Aside
from safepy.dataplane.secondary import Secondary
from safepy.errors import LocalFault, PeerError, SafekitError
from safepy.host.loop import Timer
from safepy.model import Progress
from safepy.net.dialing import Dial, dial
from safepy.net.peer import SecureStream
from safepy.storage.backing import Tree
from safepy.storage.syscalls import sync_all
from safepy.wire import replication as wire
from safepy.wire.secure import Refused
from safepy.worker import messages
from safepy.worker.common import Context, exclusions_of, hello, in_thread
from safepy.worker.questions import Questions
from safepy.worker.telling import ProgressLog
from safepy.worker.transfers import Transfers

REDIAL_S = 0.5
#: Writers on the other node wait for a stream that was interrupted.
RESUME_S = 0.1
#: The wait doubles so often at most when synchronisations fail one after the other (a full disk).
REDIAL_DOUBLINGS = 4
#: The source asks for one flush at a time; one of an attempt that failed may still run.
FLUSHES_MAX = 4
#: The same of checkpoints (S26).
CHECKPOINTS_MAX = 4


class Following:
    """Role of a worker between `Follow` and `StopFollowing`."""

    def __init__(self, context: Context, order: messages.Follow) -> None:
        self._context = context
        self._loop = context.loop
        self._setup = context.setup
        self.epoch = order.epoch
        self._keep_aside = order.keep_aside
        self._restored = order.restored
        self._dated = False
        self._live: SecureStream | None = None
        self._attempt: Dial | None = None
        self._redial: Timer | None = None
        self._trees: list[Tree] = []
        self._secondary: Secondary | None = None
        self._transfers: Transfers | None = None
        self._progress: Progress | None = None
        self._told: ProgressLog | None = None
        #: How much the source looks at, and why, as it last said.
        self._chosen = ("", "")
        self._closed = False
        self._flushes = self._checkpoints = 0
        #: What came is on the disk, and no further word about adopting was heard since.
        self._may_adopt = False
        self._last_refusal = ""
        self._failures = 0
        #: Names the live stream, whatever connection carries it (I13).
        self._stream_id = ""
        self._resumable = True
        #: The newest checkpoint in the record, as far as this role has heard.
        self._checkpoint_number = 0
        self._questions = Questions(context, self._send)
        self._dial()

    # -- the stream ----------------------------------------

    def _dial(self) -> None:
        self._redial = None
        if self._closed:
            return
        address, port = self._setup.dial
        if self._secondary is None:
            introduction = hello(self._setup, self.epoch, "live", "")
        else:
            introduction = hello(self._setup, self.epoch, "resume", self._stream_id)
        try:
            self._attempt = dial(
                self._loop,
                address,
                port,
                bytes.fromhex(self._setup.key),
                introduction,
                on_open=lambda stream, _: self._opened(stream),
                on_failed=self._dial_failed,
                local_address=self._setup.listen[0],
            )
        except OSError as error:
            self._dial_failed(str(error), None)

    def _dial_failed(self, reason: str, refused: Refused | None) -> None:
        self._attempt = None
        if self._closed:
            return
        if self._secondary is not None and refused is not None:
            self._context.log("nfsbox", "E", f"The primary has given the stream up: {reason}")
            return  # the daemon hears from the other one what comes next
        if reason != self._last_refusal:
            self._last_refusal = reason
            self._context.log("reintegre", "I", f"The primary cannot be followed yet: {reason}")
        self._redial = self._loop.call_later(REDIAL_S, self._dial)

    def _opened(self, stream: SecureStream) -> None:
        self._attempt = None
        if self._closed:
            stream.close()
            return
        self._last_refusal = ""
        self._may_adopt = False
        self._live = stream
        stream.on_messages = self._received
        stream.on_closed = lambda reason: self._stream_closed(stream, reason)
        if self._secondary is not None:
            self._send(wire.Resume(self._secondary.received))

    def _stream_closed(self, stream: SecureStream, reason: str) -> None:
        if stream is self._live:
            self._live = None
            self._lost(reason)

    def _lost(self, reason: str) -> None:
        self._end_transfers()
        self._questions.interrupted()
        if self._closed:
            return
        self._context.report(messages.SourceLost(self.epoch, reason))
        if self._secondary is None:
            wait_s = REDIAL_S * 2 ** min(self._failures, REDIAL_DOUBLINGS)
            self._redial = self._loop.call_later(wait_s, self._dial)
        elif self._resumable and not self._secondary.faulted:
            self._redial = self._loop.call_later(RESUME_S, self._dial)

    # -- messages ----------------------------------------

    def _received(self, batch: list[bytes]) -> None:
        secondary = self._secondary
        try:
            for data in batch:
                message = wire.decode(data)
                if secondary is not None and type(message) is wire.Apply:
                    secondary.receive(message.seq, message.tree, message.op)
                else:
                    self._message(message)
                    secondary = self._secondary
        except PeerError as error:
            if self._secondary is not None:
                self._send(wire.Leave())  # the same words would come again
                self._resumable = False
            self._drop(str(error))

    def _message(self, message: wire.AnyMessage) -> None:
        match message:
            case wire.SyncBegin(stream_id, transfers, keep_aside):
                self._dated = message.dated
                self._begin_transfers(stream_id, transfers, keep_aside or self._keep_aside)
            case wire.SyncFlush(number):
                self._flush(number)
            case wire.Checkpoint(number):
                self._checkpoint(number)
            case wire.Inspect() | wire.MoreNames() | wire.ReadAt() | wire.VerifyTold():
                self._questions.heard(message)
            case wire.Owed(paths):
                self._context.knowledge.owe(paths)
            case wire.SyncAgain(seq, tree, op):
                if self._secondary is None:
                    raise PeerError("an fsync is asked for again before any other")
                self._secondary.sync_again(seq, tree, op)
            case wire.SyncProgress():
                self._progress_told(message)
            case wire.SyncFailed(reason, fatal):
                self._failures += 1
                self._context.report(messages.ResyncFailed(self.epoch, reason, fatal))
                self._drop(reason)
            case wire.Adopt(epoch, gen, base, history, checkpoint):
                if epoch <= self.epoch:
                    raise PeerError(f"epoch {epoch} offered for adoption in {self.epoch}")
                if self._secondary is not None or not self._may_adopt:
                    raise PeerError("an adoption is offered out of turn")
                self._may_adopt = False
                self._context.finished = self._progress
                self._end_transfers()
                self._context.report(
                    messages.AdoptRequested(epoch, gen, base, list(history), checkpoint)
                )
            case _:
                raise PeerError(f"{type(message).__name__} is not for a follower here")

    def _send(self, message: wire.AnyMessage) -> None:
        if self._live is not None:
            self._live.send(wire.encode(message))

    def _drop(self, reason: str) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.close()
        self._lost(reason)

    # -- being brought up to date ----------------------------------------

    def _begin_transfers(self, stream_id: str, transfers: int, keep_aside: bool) -> None:
        began = self._transfers is not None or self._told is not None
        if self._secondary is not None or began or not 1 <= transfers <= 64:
            raise PeerError("a resynchronisation begins out of turn")
        self._stream_id = stream_id
        self._told = ProgressLog(self._say, self._loop.now_s)
        live, knowledge = self._live, self._context.knowledge

        def known() -> None:
            if live is None or self._live is not live or self._transfers is not None:
                return  # of a stream that is gone
            try:
                suspects, offers = knowledge.offer()
            except LocalFault as fault:
                self._sync_failed(str(fault), False)
                return
            if self._dated:
                suspects = by_name_only(suspects)
            if self._restored:
                # The operator answers for what was done here while the module was stopped.
                offers = [wire.SyncOffer(True, (), True)]
            for offer in offers:
                self._send(offer)
            self._open_transfers(stream_id, transfers, keep_aside, suspects)

        knowledge.when_known(known)

    def _open_transfers(
        self, stream_id: str, transfers: int, keep_aside: bool, suspects: list[Suspects]
    ) -> None:
        self._context.knowledge.changing()
        aside = Aside(self._setup.keep_dir, "resync", self._setup.paths) if keep_aside else None
        self._transfers = Transfers(
            self._context,
            hello(self._setup, self.epoch, "transfer", stream_id),
            transfers,
            aside,
            self._transfer_failed,
            suspects,
        )
        if self._told is not None:
            self._told.began(self._setup.paths)

    def _progress_told(self, told: wire.SyncProgress) -> None:
        """The source knows how far it is; who looks at this node wants to know too."""
        if self._told is None:
            return
        self._progress = Progress(**msgspec.structs.asdict(told))
        self._told.seen(self._progress, self._loop.now_s)
        if told.mode and self._chosen != (told.mode, told.reason):
            self._chosen = (told.mode, told.reason)
            self._context.report(messages.SyncChosen(self.epoch, *self._chosen))

    def _say(self, level: str, text: str) -> None:
        self._context.log("reintegre", level, text)

    def _transfer_failed(self, error: SafekitError | OSError) -> None:
        """The first of the threads that failed; the stream ends soon, and with it this try."""
        if not isinstance(error, PeerError):
            self._failures += 1
        self._sync_failed(str(error), bool(getattr(error, "fatal", False)))

    def _sync_failed(self, reason: str, fatal: bool) -> None:
        self._send(wire.SyncFailed(reason, fatal))
        self._context.report(messages.ResyncFailed(self.epoch, reason, fatal))

    def _flush(self, number: int) -> None:
        if self._flushes >= FLUSHES_MAX:
            raise PeerError("a flush is asked for again and again")
        self._flushes += 1
        live = self._live

        def then(error: str) -> None:
            self._flushes -= 1
            if error:
                self._failures += 1
                self._context.knowledge.memories.clear()  # not to be trusted (I16)
                self._sync_failed(f"flush of the replicated directories failed: {error}", False)
                self._drop(error)
            elif self._live is live:  # else of a stream that is gone
                self._may_adopt = self._secondary is None
                self._send(wire.Flushed(number))

        in_thread(self._loop, "resync-flush", self._sync_doors, then)

    def _end_transfers(self) -> None:
        self._told = self._progress = None
        if self._transfers is not None:
            self._transfers.close()
            self._transfers = None

    # -- following ----------------------------------------

    def adopted(self, order: messages.Adopted) -> None:
        """The daemon's record is durable: from here every operation comes to us."""
        if self._live is None:
            return  # lost meanwhile; `SourceLost` was reported
        self.epoch = order.epoch
        self._trees = [
            Tree(os.dup(fd), index, self._setup.acl)
            for index, fd in enumerate(self._context.door_fds)
        ]
        self._secondary = Secondary(
            self._loop,
            self._trees,
            self._setup.acknowledge_on,
            ack=self._acknowledge,
            complete=lambda seq, errno: self._send(wire.Completed(seq, errno)),
            fault=self._fault,
            make_room=self._clear_left_out if exclusions_of(self._setup) else None,
        )
        self._questions.secondary = self._secondary
        self._say("E", "Reintegration ended (synchronize)")
        self._send(wire.AdoptDone(order.epoch))
        self._context.knowledge.adopted()
        self._context.report(messages.Joined(order.epoch))

    def _checkpoint(self, number: int) -> None:
        """Everything before this is durable here (4.3 c), then the record says so."""
        if self._secondary is None:
            raise PeerError("a checkpoint before this node is in sync")
        if number == self._checkpoint_number:  # asked again: the answer was lost on its way
            self._send(wire.CheckpointDone(number))
            return
        if self._checkpoints >= CHECKPOINTS_MAX:
            raise PeerError("a checkpoint is asked for again and again")
        self._checkpoints += 1

        def reached() -> None:
            self._checkpoints -= 1
            self._context.report(messages.CheckpointReached(self.epoch, number))

        self._secondary.checkpoint(reached)

    def checkpoint_recorded(self, order: messages.CheckpointRecorded) -> None:
        if self._secondary is not None:
            self._checkpoint_number = order.number
            self._send(wire.CheckpointDone(order.number))

    def _clear_left_out(self, index: int, path: bytes) -> bool:
        exclusion = exclusions_of(self._setup)[index]
        return clear_left_out(self._context.door_fds[index], exclusion, path)

    def _acknowledge(self, seq: int) -> None:
        """At once, not at the turn's end: an application on the other node waits for it."""
        if self._live is not None:
            self._live.send(wire.encode(wire.Ack(seq)))
            self._live.flush()

    def _fault(self, errno: int, text: str) -> None:
        """An operation that worked there fails here: this copy is behind from now on (F42)."""
        self._context.report(messages.DiskFault(self.epoch, "OUTDATED", text))
        self._send(wire.Fault(errno, text))

    # -- comparing both copies ----------------------------------------

    def verify(self, order: messages.Verify) -> None:
        """Have the primary do it, and pass on what it says."""
        self._questions.verify(order, self._live is not None)

    def stop_verify(self) -> None:
        self._questions.stop_verify()

    def stop(self, done: Callable[[bool, str], None]) -> None:
        """Close the stream; what was received is applied and flushed, then `done`."""
        if self._secondary is not None:
            self._send(wire.Leave())
        self._close_stream("this node stops following")

        def flushed(error: str) -> None:
            self._close_trees()
            done(not error, error)

        def applied() -> None:
            in_thread(self._loop, "flush", self._sync_doors, flushed)

        if self._secondary is not None:
            self._secondary.applied_all(applied)
        else:
            applied()

    def close(self) -> None:
        """End at once (the worker exits)."""
        self._close_stream("the worker ends")
        self._close_trees()

    def _sync_doors(self) -> None:
        sync_all(self._context.door_fds)

    def _close_stream(self, reason: str) -> None:
        self._closed = True
        self._end_transfers()
        self._questions.close()
        if self._redial is not None:
            self._redial.cancel()
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        if self._live is not None:
            live, self._live = self._live, None
            live.close()

    def _close_trees(self) -> None:
        if self._secondary is not None:
            self._secondary.close()
            self._secondary = self._questions.secondary = None
        for tree in self._trees:
            tree.close()
        self._trees = []

    def alive(self) -> messages.Alive:
        heard = self._context.heard_since_told(self._live)
        return messages.Alive(
            peer_heard=heard and self._secondary is not None,
            held=0,
            in_flight=0,
            replicated_bytes=0 if self._secondary is None else self._secondary.replicated_bytes,
            progress=self._context.progress_fields(self._progress),
        )
