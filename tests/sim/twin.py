"""The twin of the worker process: the same contract (worker/messages.py), no kernel, no bytes.

A write is a number (`disk.py`). Everything the real worker holds back, this one holds back: gate,
deadline, first modification, held writes, window; and the marks before everything (`marking.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from disk import key_of
from marking import Marking

from safepy.core import commands as c
from safepy.core import events as e
from safepy.model import Gate, SyncMode

if TYPE_CHECKING:
    from node import Node

NOTICE_NO_PROGRESS_S = 6.0
#: A longer time between two looks is a sleep of this node.
SLEPT_S = 3.0
REDIAL_S = 0.4
APPLY_S = (0.0, 0.05)


@dataclass
class Write:
    number: int
    stable: bool
    answer: Callable[[bool], None]
    sent_at: float = 0.0
    local_done: bool = False
    remote_done: bool = False


@dataclass
class Stream:
    """One live connection between a source and a follower. `open` as each end believes."""

    source: Worker
    follower: Worker
    epoch: int
    broken: bool = False
    mode: SyncMode = SyncMode.EVERYTHING


@dataclass
class Received:
    """What came over the stream: a write, or the mark of a checkpoint between writes."""

    number: int
    stable: bool = False
    checkpoint: bool = False


@dataclass
class Worker:
    node: Node
    alive: bool = True
    role: str = "idle"
    epoch: int = 0
    #: Serving.
    mode: Gate = Gate.CLOSED
    deadline: float = 0.0
    quiesced_epoch: int = -1
    quiescing: int = 0
    held: bool = False
    allowed: bool = False
    keep_aside: bool = False
    least: SyncMode = SyncMode.EVERYTHING
    reason: str = ""
    joined: bool = False
    joining: bool = False
    join: c.Join | None = None
    syncing: bool = False
    modified_known: bool = False
    modified_asked: bool = False
    pending: list[Write] = field(default_factory=list)
    backlog: list[Write] = field(default_factory=list)
    #: Following.
    follow: c.Follow | None = None
    second: bool = False
    received: list[Received] = field(default_factory=list)
    applying: bool = False
    unfit: bool = False
    stream: Stream | None = None
    #: When the age of the oldest write was looked at last, and since when without a gap.
    looked_at: float = 0.0
    looking_since: float = 0.0

    def __post_init__(self) -> None:
        self.marking = Marking(self)

    # -- small things ----------------------------------------------------------------------------

    def report(self, event: e.Event) -> None:
        """Tell the daemon, after the socket pair's delay."""
        node, worker = self.node, self

        def deliver() -> None:
            if node.worker is worker:
                node.happen(event)

        node.later(0.0002, deliver)

    def done(self, step_id: int, ok: bool = True, detail: str = "") -> None:
        self.report(e.StepDone(step_id, ok, detail))

    def may_answer(self) -> bool:
        if not self.alive or self.node.frozen or self.mode is Gate.CLOSED:
            return False
        return self.node.clock_now() < self.deadline

    def may_begin(self) -> bool:
        return self.may_answer() and not self.held and self.quiesced_epoch != self.epoch

    def can_answer_new(self) -> bool:
        """Could a modification that arrives now be answered? (check 2)"""
        if self.role != "serving" or not self.may_begin():
            return False
        if self.mode is Gate.ALONE:
            return True
        stream = self.stream
        return stream is not None and not stream.broken and stream.follower.usable()

    def usable(self) -> bool:
        return self.alive and not self.node.frozen and self.node.powered

    # -- orders ----------------------------------------------------------------------------------

    def order(self, command: c.Command) -> None:
        epoch = getattr(command, "epoch", 0)
        if epoch < self.epoch and not isinstance(command, c.StopWorker):
            return
        self.epoch = max(self.epoch, epoch) if not isinstance(command, c.Join) else self.epoch
        match command:
            case c.Serve():
                self._serve(command)
            case c.OpenGate():
                self._open(command)
            case c.CloseGate():
                if self.role == "serving":
                    self.mode = Gate.CLOSED
            case c.Quiesce():
                self._quiesce(command.step_id)
            case c.Demote():
                self._demote()
                self.done(command.step_id)
            case c.ReleaseHeld():
                self._release(command)
            case c.AllowFollower():
                self.allowed, self.keep_aside = True, command.keep_aside
                self.least, self.reason = command.mode, command.reason
            case c.Join():
                self._join(command)
            case c.Follow():
                assert self.role != "serving", "Follow while serving"
                self._drop_stream()
                self.role, self.follow, self.second = "following", command, False
                self.received.clear()
                self.unfit = False
                self.done(command.step_id)
                self._dial()
            case c.Adopted():
                self._adopted(command)
            case c.StopFollowing():
                self._stop_following(command.step_id)
            case c.ModifiedRecorded():
                self.modified_known = True
                self.kick()
            case c.CheckpointBegun():
                self.marking.begun(command.number)
            case c.CheckpointRecorded():
                self.marking.recorded(command.number)
            case _:
                raise AssertionError(command)

    def _serve(self, command: c.Serve) -> None:
        assert self.role != "following", "Serve while following"
        self.role, self.allowed = "serving", False
        self.marking.serve()
        self.modified_known = self.modified_asked = False
        self.done(command.step_id)

    def _open(self, command: c.OpenGate) -> None:
        if self.role != "serving":
            return
        if command.mode is Gate.PRIM and not self.joined:
            return
        if command.mode is Gate.ALONE and self.joined:
            return
        self.mode, self.deadline = command.mode, self.node.clock_now() + command.deadline_s
        self.marking.quiet = False
        self.kick()

    def _quiesce(self, step_id: int) -> None:
        if self.role != "serving":
            self.done(step_id)
            return
        self.quiesced_epoch = self.epoch
        self.quiescing = step_id
        self._finish_quiesce(step_id)

    def _finish_quiesce(self, step_id: int) -> None:
        if not self.alive or self.role != "serving" or self.quiescing != step_id:
            return
        if self.pending or self.held or self.marking.waiting:
            self.node.later(0.02, lambda: self._finish_quiesce(step_id))
            return
        self.node.disk.flush()
        if self.joined and self.stream is not None:
            follower = self.stream.follower
            self.send(lambda: follower.flush_then(lambda: self._flushed(step_id)))
            return
        self._flushed(step_id)

    def _flushed(self, step_id: int) -> None:
        if self.quiescing == step_id:
            self.quiescing = 0
            self.marking.quiet = True
            self.done(step_id)

    def flush_then(self, then: Callable[[], None]) -> None:
        """On the secondary: apply and flush everything, answer."""
        if self.received:
            self.node.later(0.02, lambda: self.flush_then(then))
            return
        self.node.disk.flush()
        self.send(then)

    def _demote(self) -> None:
        self.mode = Gate.CLOSED
        if self.role == "serving":
            self.marking.ended()
        self._drop_stream()
        failed = [*self.pending, *self.marking.waiting, *self.backlog]
        self.pending, self.marking.waiting, self.backlog = [], [], []
        self.role, self.held = "idle", False
        self.joined = self.joining = self.syncing = self.allowed = False
        for write in failed:
            write.answer(False)

    def _release(self, command: c.ReleaseHeld) -> None:
        if self.role != "serving":
            return
        self.joined = self.joining = False
        self._drop_stream()
        self.marking.go_solo()
        self.allowed = False
        self.mode, self.deadline = Gate.ALONE, self.node.clock_now() + command.deadline_s
        self.held = False
        self.modified_known = True
        answered, self.pending = self.pending, []
        for write in answered:
            if write.stable:
                self.node.disk.fsync(write.number)
            self._acknowledge(write)
        if self.quiescing:
            self._finish_quiesce(self.quiescing)
        self.kick()

    # -- writes ----------------------------------------------------------------------------------

    def write(self, write: Write) -> None:
        self.backlog.append(write)
        self.kick()

    def kick(self) -> None:
        while self.backlog and self.may_begin():
            if self.mode is Gate.ALONE and not self.modified_known:
                if not self.modified_asked:
                    self.modified_asked = True
                    self.report(e.FirstModification(self.epoch))
                return
            self.marking.waiting.append(self.backlog.pop(0))
        self.marking.start()
        self._answer_pending()

    def begin(self, write: Write) -> None:
        """Its mark is durable (I5): it is applied here and sent."""
        write.sent_at = self.node.clock.now
        self.node.cluster.checks.i5_marked_before_it_begins(self.node, write.number)
        self.node.disk.tree.add(write.number)
        if write.stable:
            self.node.disk.fsync(write.number)
        write.local_done = True
        if not self.joined:
            self._acknowledge(write)
            return
        self.pending.append(write)
        self._send(write)

    def _send(self, write: Write) -> None:
        stream = self.stream
        if stream is None:
            return
        follower = stream.follower
        self.send(lambda: follower.receive(write.number, write.stable))

    def _answer_pending(self) -> None:
        if self.held or not self.may_answer():
            return
        for write in [w for w in self.pending if w.remote_done]:
            self.pending.remove(write)
            self._acknowledge(write)

    def _acknowledge(self, write: Write) -> None:
        self.node.cluster.acknowledged(self.node, write)
        write.answer(True)

    def acknowledged(self, number: int) -> None:
        self.marking.acknowledged(number)
        for write in self.pending:
            if write.number == number:
                write.remote_done = True
        self._answer_pending()

    # -- the secondary's side of a write ----------------------------------------------------------

    def receive(self, number: int, stable: bool) -> None:
        self.received.append(Received(number, stable))
        if not stable:
            self._ack_to_source(number)
        self._apply_soon()

    def checkpoint(self, number: int) -> None:
        """Everything before this is to be made durable; it keeps its place in the order."""
        self.received.append(Received(number, checkpoint=True))
        self._apply_soon()

    def _ack_to_source(self, number: int) -> None:
        if self.stream is not None:
            source = self.stream.source
            self.send(lambda: source.acknowledged(number))

    def _apply_soon(self) -> None:
        if not self.applying:
            self.applying = True
            self.node.later(self.node.cluster.rng.uniform(*APPLY_S), self._apply)

    def _apply(self) -> None:
        self.applying = False
        if not self.alive or not self.received:
            return
        if self.node.disk_full and not self.unfit:
            self.unfit = True
            self.report(e.DiskFault(self.epoch, self.node.full_means, "no space left"))
            self._source_lost("no space left")
        if self.unfit:
            return
        next_one = self.received.pop(0)
        number = next_one.number
        if next_one.checkpoint:
            self.marking.flush_then(lambda: self.report(e.CheckpointReached(self.epoch, number)))
        else:
            self.node.disk.tree.add(number)
            if next_one.stable:
                self.node.disk.fsync(number)
                self._ack_to_source(number)
        if self.received:
            self._apply_soon()

    # -- the stream -------------------------------------------------------------------------------

    def send(self, deliver: Callable[[], None]) -> None:
        """Over the live stream, in order: every hop has the same delay at one time."""
        stream = self.stream
        if stream is None or stream.broken:
            return
        network = self.node.cluster.network
        if network.stream_cut:
            self.node.cluster.break_stream(stream)
            return
        other = stream.follower if stream.source is self else stream.source

        def arrive() -> None:
            if not other.belongs(stream) or network.stream_cut or not other.alive:
                return
            if other.node.frozen:
                other.node.backlog.append(arrive)
                return
            self.node.cluster.checks.i13_frame_of_the_present_connection(
                other.node, not stream.broken
            )
            deliver()

        self.node.clock.later(network.stream_delay_s[1], arrive)

    def belongs(self, stream: Stream) -> bool:
        """I13: what was under way on a connection that was given up is dropped."""
        return not stream.broken

    def _dial(self) -> None:
        follow = self.follow
        if not self.alive or self.role != "following" or follow is None or self.second:
            return
        if self.stream is not None and not self.stream.broken:
            return
        if not self.node.cluster.connect(self, follow):
            self.node.later(REDIAL_S, self._dial)

    def objection(self, epoch: int) -> bool:
        return (
            self.role != "serving"
            or not self.allowed
            or self.joined
            or self.joining
            or epoch != self.epoch
        )

    def take_follower(self, stream: Stream) -> None:
        self._drop_stream()
        self.stream, self.syncing = stream, True
        stream.follower.stream = stream
        mode, reason = self.marking.choose(stream.follower)
        stream.mode = mode
        for end in (self, stream.follower):
            end.report(e.SyncChosen(self.epoch, mode, reason))
        stream.follower.begin_sync(self)
        rng = self.node.cluster.rng
        self.node.later(rng.uniform(*self.node.cluster.sync_s), lambda: self._synchronised(stream))

    def begin_sync(self, source: Worker) -> None:
        """The first byte changes: what is looked at is neither the old nor the new content."""
        assert self.follow is not None and self.stream is not None
        self.node.cluster.checks.first_byte_changes(self.node)
        disk, rng = self.node.disk, self.node.cluster.rng
        if source.keep_aside or self.follow.keep_aside:
            disk.kept |= disk.tree
        looked_at = source.marking.looked_at(self, self.stream.mode)
        # What is equal is not written.
        other = {key_of(n) for n in disk.tree ^ source.node.disk.tree}
        changing = {n for n in sorted(disk.tree) if key_of(n) in other and looked_at(key_of(n))}
        torn = {n for n in sorted(changing) if rng.random() < 0.5}
        disk.tree -= torn
        disk.stable -= torn

    def _synchronised(self, stream: Stream) -> None:
        if self.stream is not stream or stream.broken or not self.syncing or not self.alive:
            return
        if stream.follower.node.frozen or not stream.follower.alive:
            self.node.later(0.5, lambda: self._synchronised(stream))
            return
        self.held = True
        if self.pending:
            self.node.later(0.02, lambda: self._synchronised(stream))
            return
        looked_at = self.marking.looked_at(stream.follower, stream.mode)
        stream.follower.node.disk.copy_from(self.node.disk, looked_at)
        self.marking.flush_both(stream.follower)
        checks = self.node.cluster.checks
        checks.i8_i9_i15_everything_that_differs_was_looked_at(
            self.node, stream.follower.node, stream.mode
        )
        checks.i12_flushed_before_marks_go(self.node, stream.follower.node)
        self.joining = True
        self.report(e.CaughtUp(self.epoch))

    def _join(self, command: c.Join) -> None:
        if self.stream is None or self.stream.broken or not self.joining:
            return
        self.join = command
        follower = self.stream.follower
        event = e.AdoptRequested(
            command.epoch, command.gen, command.base, command.history, command.checkpoint
        )
        self.send(lambda: follower.report(event))

    def _adopted(self, command: c.Adopted) -> None:
        if self.stream is None or self.stream.broken or self.role != "following":
            return
        self.second = True
        self.node.disk.clear_log()
        source = self.stream.source
        self.send(lambda: source.adopt_done(command.epoch))
        self.report(e.Joined(command.epoch))
        self._keep_alive(self.stream)

    def adopt_done(self, epoch: int) -> None:
        if self.join is None or epoch != self.join.epoch or self.stream is None:
            return
        self.epoch = epoch
        self.joining, self.joined, self.join, self.syncing = False, True, None, False
        self.allowed = False
        self.mode = Gate.PRIM if self.mode is not Gate.CLOSED else self.mode
        self.held = False
        self.marking.joined()
        self.report(e.Joined(epoch))
        self._keep_alive(self.stream)
        self._watch(self.stream)
        self.kick()

    def _keep_alive(self, stream: Stream) -> None:
        if not self.alive or self.stream is not stream or stream.broken:
            return
        other = stream.follower if stream.source is self else stream.source
        self.send(lambda: other.report(e.ReplicaHeard()))
        self.node.later(1.0, lambda: self._keep_alive(stream))

    def _watch(self, stream: Stream) -> None:
        if not self.alive or self.stream is not stream or stream.broken:
            return
        now = self.node.clock.now
        if now - self.looked_at > SLEPT_S:
            self.looking_since = now
        self.looked_at = now
        late = [w for w in self.pending if not w.remote_done]
        if late and now - max(late[0].sent_at, self.looking_since) > NOTICE_NO_PROGRESS_S:
            self.node.cluster.break_stream(stream)
            return
        self.node.later(1.0, lambda: self._watch(stream))

    def stream_broken(self, stream: Stream) -> None:
        """This end notices."""
        if self.stream is not stream or not self.alive:
            return
        self.stream = None
        if self.role == "following":
            self._source_lost("connection lost")
        elif self.role == "serving":
            if self.joined or self.joining:
                self.held = True
                self.joined = self.joining = self.syncing = False
                self.join = None
                self.report(e.ReplicaLost(self.epoch, "connection lost"))
            elif self.syncing:
                self.syncing = self.held = False
                self.report(e.ResyncFailed(self.epoch, "connection lost"))
                self.kick()

    def _source_lost(self, reason: str) -> None:
        self.report(e.SourceLost(self.epoch, reason))
        self._drop_stream()
        if not self.second:
            self.node.later(REDIAL_S, self._dial)

    def _drop_stream(self) -> None:
        if self.stream is not None:
            stream, self.stream = self.stream, None
            self.node.cluster.break_stream(stream)

    def _stop_following(self, step_id: int) -> None:
        self._drop_stream()
        if self.unfit and self.received:
            self.received.clear()
            self.role, self.follow, self.second = "idle", None, False
            self.done(step_id, False, "no space left")
            return
        if self.received:
            self.node.later(0.03, lambda: self.alive and self._stop_following(step_id))
            return
        if self.second:
            self.node.disk.flush()
            self.marking.was_second = True
        self.role, self.follow, self.second = "idle", None, False
        self.done(step_id)

    def die(self) -> None:
        """The process is gone; what was applied stays in the page cache."""
        if not self.alive:
            return
        self.alive = False
        writes = [*self.pending, *self.marking.waiting, *self.backlog]
        self._drop_stream()
        for write in writes:
            write.answer(False)
