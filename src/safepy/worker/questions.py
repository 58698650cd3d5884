"""What a primary asks its secondary beside the operations: digests, names, reads; and an operator's
wish to compare both copies, which the primary carries out."""

from __future__ import annotations

import errno
from collections.abc import Callable

from safepy.dataplane.reading import ColdReader
from safepy.dataplane.secondary import Secondary
from safepy.errors import PeerError
from safepy.storage.backing import READ_BYTES
from safepy.wire import replication as wire
from safepy.worker import messages
from safepy.worker.common import Context
from safepy.worker.inspected import answer
from safepy.worker.verify_desk import BUSY, INTERRUPTED, progress

#: Questions that are answered beside the loop at the same time (S26).
QUESTIONS_MAX = 256

Send = Callable[[wire.AnyMessage], None]


class Questions:
    """At the secondary. `secondary` is set while this node is in sync: before, nobody may ask."""

    def __init__(self, context: Context, send: Send) -> None:
        self._context = context
        self._send = send
        self._reader = ColdReader(context.loop)
        self._open = 0
        self._verify: messages.Verify | None = None
        self.secondary: Secondary | None = None

    def heard(self, message: wire.Inspect | wire.MoreNames | wire.ReadAt | wire.VerifyTold) -> None:
        """From the primary. Raises PeerError."""
        match message:
            case wire.VerifyTold():
                self._verify_told(message)
            case _ if self.secondary is None:
                raise PeerError("a question before this node is in sync")
            case wire.ReadAt():
                self._read_at(self.secondary, message)
            case wire.Inspect() | wire.MoreNames():
                roots, acl = self._context.door_fds, self._context.setup.acl
                answer(self._context.loop, self.secondary, roots, acl, self._answering(), message)

    def verify(self, order: messages.Verify, connected: bool) -> None:
        """By this node's daemon: have the primary do it, and pass on what it says."""
        problem = ""
        if self.secondary is None or not connected:
            problem = "this node is not in sync with a primary"
        elif self._verify is not None:
            problem = BUSY
        if problem:
            self._context.report(messages.VerifyDone(order.epoch, order.number, 0, 0, problem))
        else:
            self._verify = order
            self._send(wire.VerifyAsk(order.mend))

    def stop_verify(self) -> None:
        if self._verify is not None:
            self._send(wire.VerifyStop())

    def interrupted(self) -> None:
        """The stream is gone."""
        self._end_verify(INTERRUPTED)

    def close(self) -> None:
        self._reader.close()

    def _answering(self) -> Send:
        """Counts a question until it is answered by what is given. Raises PeerError."""
        if self._open >= QUESTIONS_MAX:
            raise PeerError("too much is asked at once")
        self._open += 1

        def send(message: wire.AnyMessage) -> None:
            self._open -= 1
            self._send(message)

        return send

    def _read_at(self, secondary: Secondary, asked: wire.ReadAt) -> None:
        """The primary's disk refuses a read (F45)."""
        if not 0 < asked.size <= READ_BYTES or asked.offset < 0:
            raise PeerError("a read that cannot be meant")
        send = self._answering()
        try:
            fd = secondary.descriptor(asked.tree, asked.handle)
        except OSError as error:
            send(wire.ReadDone(asked.number, error.errno or errno.EIO, b""))
            return

        def done(number: int, data: bytes) -> None:
            send(wire.ReadDone(asked.number, number, data))

        self._reader.read(fd, asked.offset, asked.size, done)

    def _verify_told(self, told: wire.VerifyTold) -> None:
        order = self._verify
        if order is None:
            return  # it was given up here
        self._context.report(progress(order, told.files, told.compared_bytes, told.differences))
        if told.done:
            self._end_verify(told.problem, told.files, told.compared_bytes)

    def _end_verify(self, problem: str, files: int = 0, size: int = 0) -> None:
        if self._verify is not None:
            order, self._verify = self._verify, None
            done = messages.VerifyDone(order.epoch, order.number, files, size, problem)
            self._context.report(done)
