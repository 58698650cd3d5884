"""The primary's side: carry a modification out here, send it, answer when that is allowed.

Everything happens in the loop's thread, one operation after the other, so the order of arrival
is the order here and on the peer; only fsync leaves for a thread. Local first, then the peer
(design 2): a local error is answered at once and nothing was sent.

What may not begin waits in the backlog, unexecuted and in order: gate closed or expired, held,
window full, or ALONE and the first modification not yet recorded (I4). What was carried out but
may not be answered waits too: for the peer's acknowledgement (I1), then for the gate.
"""

from __future__ import annotations

import errno as errnos
import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from safepy.core.replica.ops import Fsync, Op, Rename, Unlink, Write
from safepy.core.replica.stream import MAX_BYTES, MAX_OPS
from safepy.dataplane.border import Border, Side
from safepy.dataplane.gate import GateKeeper
from safepy.dataplane.keeper import Keeper, Then
from safepy.dataplane.outgoing import Outgoing, Send
from safepy.dataplane.syncing import Syncer
from safepy.host.loop import Loop, Timer
from safepy.model import Gate
from safepy.storage.backing import Tree

#: (errno or 0, result), see `Tree.apply`.
Answer = Callable[[int, Any], None]

#: Errors that say that this copy, not the request, is bad (F43, F46).
_FAULTS = frozenset({errnos.EIO, errnos.EROFS, errnos.EUCLEAN})

_Item = tuple[Answer, Any]


class _Sync:
    """An fsync under way: here, and on the peer if `remote`."""

    __slots__ = ("answer", "gated", "local", "number", "remote")

    def __init__(self, answer: Answer, gated: bool, remote: bool) -> None:
        self.answer = answer
        self.gated = gated
        self.remote = remote
        self.local = True
        self.number = 0


class Primary:
    """Modifications of all directories of one module while this node leads.

    `on_first_modification()` asks for `modified_recorded()`. `on_fault(reason)` is called once:
    the local copy cannot be trusted any more. `keeper` says whether an operation's mark is there,
    and notes what it touches. `brake_s`: while ALONE, at most one modification begins in so many
    seconds (0: no brake).
    """

    def __init__(
        self,
        loop: Loop,
        trees: Sequence[Tree],
        gate: GateKeeper,
        on_first_modification: Callable[[], None],
        on_fault: Callable[[str], None],
        max_ops: int = MAX_OPS,
        max_bytes: int = MAX_BYTES,
        keeper: Keeper | None = None,
        border: Border | None = None,
    ) -> None:
        self._loop = loop
        self._keeper = keeper
        self._trees = trees
        self._gate = gate
        self._on_first_modification = on_first_modification
        self._on_fault = on_fault
        self._peer: Outgoing[_Item | _Sync] = Outgoing(loop, trees, max_ops, max_bytes)
        self._border = self._peer.border = border
        self._backlog: deque[tuple[int, Op, Answer]] = deque()
        self._ready: list[_Item] = []  # the peer has it, or needs not: the gate decides
        self._released: list[_Item] = []  # the peer was left behind: the record decides too
        self._syncs: set[_Sync] = set()
        self._syncer = Syncer(loop, "primary-sync")
        self._held = False
        self._failed = False
        self._recorded = self._record_asked = False
        self._sync_failed = self._faulted = False
        self._drained: list[Callable[[], None]] = []
        self._brake_timer: Timer | None = None
        self.brake_s = 0.0

    # -- what the mount asks ----------------------------------------------------------------

    def modify(self, tree_index: int, op: Op, answer: Answer) -> int:
        """Carry `op` out; `answer(errno, result)` is called once, now or later.

        Says how many operations wait unexecuted, this one the last of them; 0: it has begun.
        """
        if self._backlog or self.brake_s or not self._may_begin(tree_index, op):
            self._postpone(tree_index, op, answer)
            return len(self._backlog)
        self._begin(tree_index, op, answer)
        return 0

    def withdraw(self, answer: Answer) -> bool:
        """Take the operation with this answer back, which is EINTR then: whoever asked for it is
        being killed. False, and nothing changes, if it was begun."""
        for index, waiting in enumerate(self._backlog):
            if waiting[2] is answer:
                del self._backlog[index]
                answer(errnos.EINTR, None)
                return True
        return False

    # -- what the worker tells -----------------------------------------------------------------

    def kick(self) -> None:
        """The gate was opened or renewed: go on with what waited for it."""
        self._give_ready()
        self._run_backlog()

    def modified_recorded(self) -> None:
        """It is durably recorded that this node changes something ALONE (I4)."""
        self._recorded = True
        self._ready += self._released
        self._released.clear()
        self.kick()

    def connect(self, send: Send) -> None:
        """A peer whose trees equal ours follows from here on, on a new stream. Nothing may be in
        flight; a hold goes on until `unhold`."""
        self._peer.connect(send)

    def disconnect(self) -> None:
        """The stream is gone: everything is held until `release` or `fail_held`."""
        self._peer.disconnect()
        self._held = True

    def suspend(self) -> None:
        """The connection broke and may come back (F26): nothing begins and nothing is answered
        until `resume`, or one of the ends of a stream."""
        self._peer.suspend()

    def resume(self, received: int, send: Send, again: Send) -> None:
        """The same peer is back on another connection and has everything up to `received`.
        Raises PeerError, and nothing changes, for a number that was never sent."""
        ended = self._peer.window.acknowledge(received)
        self._ready += [item for item in ended if not isinstance(item, _Sync)]
        self._peer.resume(send, again)
        self.kick()

    def hold(self) -> None:
        """No modification begins until `unhold`, `release` or `fail_held`."""
        self._held = True

    def unhold(self) -> None:
        """Go on as things are: ALONE without a stream, else through it."""
        self._held = False
        self.kick()

    def release(self) -> None:
        """Go on ALONE, the peer being durably behind: what was in flight is answered with
        success once the first modification of this generation is recorded."""
        self._peer.disconnect()
        self._held = False
        self._recorded = self._record_asked = False
        for item in self._peer.window.take_all():
            if isinstance(item, _Sync):
                item.remote = False
                self._finish_sync(item)
            else:
                self._released.append(item)
        if self._released:
            self._ask_record()
        self.kick()

    def fail_held(self) -> None:
        """This node gives the lead up: whatever is not answered ends with EIO, never with
        success; also what comes later."""
        self._failed = self._held = True
        self._peer.disconnect()
        self._drained = []
        ended = [answer for answer, _ in self._ready + self._released]
        ended += [i[0] for i in self._peer.window.take_all() if not isinstance(i, _Sync)]
        ended += [sync.answer for sync in self._syncs]
        ended += [answer for _, _, answer in self._backlog]
        for emptied in (self._ready, self._released, self._syncs, self._backlog):
            emptied.clear()
        for answer in ended:
            answer(errnos.EIO, None)

    def drain(self, drained: Callable[[], None]) -> None:
        """Hold, and call `drained` when nothing is in flight or unanswered any more (only the
        backlog is left). Forgotten by `fail_held`."""
        self._held = True
        self._drained.append(drained)
        self._check_drained()

    def flush_everything(self, flushed: Callable[[int], None]) -> None:
        """Make every tree durable on both nodes; `flushed(errno)`, whatever the gate says."""
        left = len(self._trees)
        worst = 0

        def one_flushed(number: int, _: Any) -> None:
            nonlocal left, worst
            left -= 1
            worst = worst or number
            if left == 0:
                flushed(worst)

        for index in range(len(self._trees)):
            self._sync(index, Fsync(0, False), one_flushed, gated=False)

    def acknowledged(self, seq: int) -> None:
        """The peer has everything up to `seq`. Raises PeerError."""
        if not self._peer.connected:
            return  # of a stream that was given up
        for item in self._peer.window.acknowledge(seq):
            assert not isinstance(item, _Sync)
            self._ready.append(item)
        self.kick()

    def completed(self, seq: int, number: int) -> None:
        """The peer's fsync ended. Raises PeerError. One that failed there is never answered
        through this stream: the peer declares itself behind (F44)."""
        if not self._peer.connected or number:
            return
        sync = self._peer.window.complete(seq)
        assert isinstance(sync, _Sync)
        sync.remote = False
        self._finish_sync(sync)
        self.kick()

    def close(self) -> None:
        """The worker ends or demotes; fsyncs under way end by themselves."""
        self._peer.close()
        self._syncer.close()

    def introduce(self, tree_index: int, handle: int) -> bool:
        """Make sure that the peer knows this handle; False if it cannot be reached there."""
        before = self._peer.introductions(tree_index, Fsync(handle, True))
        if before:
            self._peer.transmit_all(tree_index, before)
        return before is not None

    # -- figures --------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Modifications that wait for the gate, the record, room in the window or a decision."""
        return len(self._backlog) + len(self._ready) + len(self._released)

    @property
    def replicated_bytes(self) -> int:
        return self._peer.replicated_bytes

    @property
    def in_flight(self) -> int:
        return len(self._peer.window)

    def oldest_unanswered_s(self, now_s: float) -> float:
        """For how long the peer has owed an answer (0: it owes none)."""
        sent_s = self._peer.window.oldest_sent_s()
        return 0.0 if sent_s is None else now_s - sent_s

    # -- beginning ------------------------------------------------------------------------------

    def _may_begin(self, index: int, op: Op) -> bool:
        if self._held or not self._gate.may_begin():
            return False
        if self._peer.connected:
            if self._peer.window.full or self._peer.suspended:
                return False
        elif self._gate.mode is not Gate.ALONE:
            return False
        elif not self._recorded and type(op) is not Fsync:
            self._ask_record()
            if not self._recorded:
                return False
        return self._keeper is None or type(op) is Fsync or self._keeper.may_begin(index, op)

    def _ask_record(self) -> None:
        if not self._recorded and not self._record_asked:
            self._record_asked = True
            self._on_first_modification()

    def _postpone(self, index: int, op: Op, answer: Answer) -> None:
        if self._failed or self._refusing():
            answer(errnos.EIO, None)
            return
        self._backlog.append((index, op, answer))
        if self._keeper is not None:
            self._keeper.foresee(index, op)  # its mark goes with those of the others
        if self.brake_s:
            self._run_backlog()

    def _refusing(self) -> bool:
        """Without a log, a node that is ALONE has nobody to hand over to: an error is all that
        is left for the application (F43, F47). In PRIM it waits for the hand-over."""
        keeper = self._keeper
        return keeper is not None and keeper.failed and not self._peer.connected

    def _run_backlog(self) -> None:
        """In order, as far as may be. Braked: one, and the next after a while."""
        backlog = self._backlog
        while backlog and not self._held and self._refusing():
            backlog.popleft()[2](errnos.EIO, None)
        while backlog and self._brake_timer is None and self._may_begin(*backlog[0][:2]):
            self._begin(*backlog.popleft())
            if self.brake_s and not self._peer.connected:
                self._brake_timer = self._loop.call_later(self.brake_s, self._brake_over)
        if self._drained:
            self._check_drained()

    def _brake_over(self) -> None:
        self._brake_timer = None
        self._run_backlog()

    def _begin(self, index: int, op: Op, answer: Answer) -> None:
        if type(op) is Fsync:
            self._sync(index, op, answer)
            return
        side = Side.INSIDE
        if self._border is not None and type(op) is not Write:
            try:
                side = self._border.side(index, op)
            except OSError as error:
                answer(self._local_error(error), None)
                return
        then = None
        if self._keeper is not None and type(op) is not Write:
            try:
                for missing in self._keeper.idents_missing(index, op):
                    self._keeper.note(index, missing)
                    self._carry_out(index, missing, None, None)
                then = self._keeper.note(index, op)
            except OSError as error:
                answer(self._local_error(error), None)
                return
        if side is Side.INSIDE or not self._peer.connected:
            self._carry_out(index, op, answer, then)
        else:
            self._carry_out_at_border(index, op, answer, then, side)

    def _carry_out_at_border(
        self, index: int, op: Op, answer: Answer, then: Then | None, side: Side
    ) -> None:
        """Names that are left out are in it: the peer is told something else, or little."""
        tree, peer, border = self._trees[index], self._peer, self._border
        assert border is not None
        before: list[Op] = []
        replaces, handle = False, 0
        try:
            if isinstance(op, Rename):
                handle, _ = tree.lookup(op.parent, op.name)
                replaces = border.replaces(index, op)
            if isinstance(op, Rename) and side is not Side.OUTSIDE:
                leaving = side is Side.LEAVES
                parent, name = (op.parent, op.name) if leaving else (op.new_parent, op.new_name)
                before += peer.introductions(index, Unlink(parent, name)) or []
            result = tree.apply(op)
        except OSError as error:
            answer(self._local_error(error), None)
            return
        if then is not None:
            then()
        if side is not Side.OUTSIDE:
            peer.unknow(index, handle)
        told = border.instead(index, op, side, replaces, handle)
        if not told:
            self._answer(answer, 0, result)
            return
        peer.transmit_all(index, before)
        for each in told:
            peer.transmit_all(index, peer.introductions(index, each) or [])
            peer.transmit(index, each, (answer, result) if each is told[-1] else None)

    def _carry_out(self, index: int, op: Op, answer: Answer | None, then: Then | None) -> None:
        """Without an `answer`, an error is raised."""
        tree, peer = self._trees[index], self._peer
        paired = peer.connected
        before: list[Op] | None = []
        try:
            if paired:
                before = peer.introductions(index, op)
                result, done = tree.apply_local(op)
            else:
                result, done = tree.apply(op), op
        except OSError as error:
            number = self._local_error(error)
            if answer is None:
                raise
            answer(number, None)
            if paired and before is not None and error.errno != errnos.ESTALE:
                self._repair_peer(index, op, before)
            return
        if then is not None:
            then()
        if not paired or before is None:  # or nobody can reach it there: it lives and dies here
            if answer is not None:
                self._answer(answer, 0, result)
            return
        peer.transmit_all(index, before)
        peer.transmit(index, done, None if answer is None else (answer, result))

    def _repair_peer(self, index: int, op: Op, before: list[Op]) -> None:
        """Make the peer equal what an operation that failed left behind here (4.1, F41)."""
        try:
            repairs = self._trees[index].repair(op)
        except OSError as error:
            self._report_fault(f"a failed operation cannot be evened out: {error}")
            return
        if repairs:
            self._peer.transmit_all(index, before + repairs)

    # -- fsync ----------------------------------------------------------------------------------

    def _sync(self, index: int, op: Fsync, answer: Answer, gated: bool = True) -> None:
        if self._sync_failed:  # the kernel tells an error once; a retry would lie (I16)
            answer(errnos.EIO, None)
            return
        tree = self._trees[index]
        try:
            before = self._peer.introductions(index, op) if self._peer.connected else None
            fd = tree.sync_descriptor(op)
        except OSError as error:
            answer(self._local_error(error), None)
            return
        sync = _Sync(answer, gated, remote=before is not None)
        self._syncs.add(sync)
        if before is not None:
            self._peer.transmit_all(index, before)
            self._peer.transmit(index, op, sync, completing=True)
        self._syncer.start(op, fd, partial(self._synced, sync))

    def _synced(self, sync: _Sync, number: int) -> None:
        sync.local = False
        sync.number = number
        if number:
            self._sync_failed = True
            self._report_fault(f"fsync failed: {os.strerror(number)}")
        self._finish_sync(sync)
        self.kick()

    def _finish_sync(self, sync: _Sync) -> None:
        if sync not in self._syncs or sync.local or (sync.remote and not sync.number):
            return
        self._syncs.remove(sync)
        if sync.number or not sync.gated:
            sync.answer(sync.number, None)
        else:
            self._ready.append((sync.answer, None))

    # -- answering ------------------------------------------------------------------------------

    def _answer(self, answer: Answer, number: int, result: Any) -> None:
        if number or self._gate.may_answer():
            answer(number, result)
        else:  # the deadline passed while it was carried out
            self._ready.append((answer, result))

    def _give_ready(self) -> None:
        if self._ready and self._gate.may_answer():
            ready, self._ready = self._ready, []
            for answer, result in ready:
                answer(0, result)

    def _check_drained(self) -> None:
        busy = self._ready or self._released or self._syncs or len(self._peer.window)
        waiting, self._drained = ([], self._drained) if busy else (self._drained, [])
        for drained in waiting:
            drained()

    def _local_error(self, error: OSError) -> int:
        number = error.errno or errnos.EIO
        if number in _FAULTS:
            self._report_fault(f"error of the local file system: {os.strerror(number)}")
        return number

    def _report_fault(self, reason: str) -> None:
        if not self._faulted:
            self._faulted = True
            self._on_fault(reason)
