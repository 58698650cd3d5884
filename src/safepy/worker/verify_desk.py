"""Who asked for `rfsverify`, and who hears of it: the primary's operator or the secondary's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from safepy.dataplane.resync.tree import shown, split
from safepy.wire import replication as wire
from safepy.wire.text import one_line
from safepy.worker import messages
from safepy.worker.common import Context, scope_of
from safepy.worker.verifying import Found, Verification

BUSY = "a verification is running already, asked for on the other node or here"
INTERRUPTED = "the replication stream was interrupted: begin again"
STOPPED = "stopped on request"
PATH_CHARACTERS_MAX = 2_000

Send = Callable[[wire.AnyMessage], None]
#: (what differs, side whose content the other one gets)
Mend = Callable[[Sequence[Found], str], None]


class VerifyDesk:
    """At the primary: at most one comparison at a time."""

    def __init__(self, context: Context, send: Send, mend: Mend) -> None:
        self._context = context
        self._send = send
        self._mend = mend
        self._running: Verification | None = None

    def asked_here(self, order: messages.Verify) -> None:
        """By this node's daemon."""
        report = self._context.report
        if self._running is not None:
            report(messages.VerifyDone(order.epoch, order.number, 0, 0, BUSY))
            return

        def tell(files: int, size: int, found: Sequence[Found], done: bool, problem: str) -> None:
            report(progress(order, files, size, found))
            if done:
                report(messages.VerifyDone(order.epoch, order.number, files, size, problem))

        self._begin(order.mend, tell)

    def asked_there(self, mend: str) -> None:
        """By the secondary's daemon."""
        if self._running is not None:
            self._send(wire.VerifyTold(0, 0, (), True, BUSY))
            return

        def tell(files: int, size: int, found: Sequence[Found], done: bool, problem: str) -> None:
            self._send(wire.VerifyTold(files, size, tuple(found), done, problem))

        self._begin(mend, tell)

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop(STOPPED)

    def answered(self, message: wire.Inspected | wire.MoreNamesAre) -> None:
        if self._running is not None:
            self._running.answered(message)

    def interrupted(self) -> None:
        """What was asked will not be answered."""
        if self._running is not None:
            self._running.stop(INTERRUPTED)

    def _begin(
        self, mend: str, tell: Callable[[int, int, Sequence[Found], bool, str], None]
    ) -> None:
        setup = self._context.setup

        def told(files: int, size: int, found: Sequence[Found], done: bool, problem: str) -> None:
            if done and (running := self._running) is not None:
                self._running = None
                self._log(running.differences, problem)
                tell(files, size, found, done, problem)
                if mend and running.differences and not problem:
                    self._mend(running.differences, mend)
            else:
                tell(files, size, found, done, problem)

        self._running = Verification(
            self._context.loop,
            self._context.door_fds,
            scope_of(setup),
            setup.acl,
            self._send,
            told,
        )

    def _log(self, differences: Sequence[Found], problem: str) -> None:
        log = self._context.log
        if problem:
            log("reintegre", "E", f"Verification not finished: {problem}")
        elif differences:
            log("reintegre", "C", f"Verification: {len(differences)} differences between the nodes")
        else:
            log("reintegre", "E", "Verification: both copies are equal")


def progress(
    order: messages.Verify, files: int, size: int, found: Sequence[Found]
) -> messages.VerifyProgress:
    """A report of how far it is."""
    differences = [
        messages.Difference(
            tree, one_line(shown(split(path)), PATH_CHARACTERS_MAX), kind, bool(order.mend)
        )
        for tree, path, kind in found
    ]
    return messages.VerifyProgress(order.epoch, order.number, files, size, differences)
