"""What the worker is asked beside its orders: `rfsverify` and `rfsdiff`, and what it answered.

A verification may take hours. Whoever wants its result asks again and again with what it has seen
already; when nobody has asked for a minute, it is ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from safepy.errors import LocalFault, RequestRefused
from safepy.model import SyncMode
from safepy.worker import messages

#: Differences that are kept by name; what is beyond is counted.
DIFFERENCES_MAX = 10_000
#: Nobody reads the result of a verification that nobody asked about for so long.
ABANDONED_S = 60.0
#: The worker says something about a verification more often than this.
SILENCE_LIMIT_S = 60.0
ESTIMATE_LIMIT_S = 300.0

Report = messages.VerifyProgress | messages.VerifyDone | messages.Estimated


@dataclass(slots=True)
class Verification:
    """One run. `found` counts all differences, `differences` holds the first ones."""

    number: int
    epoch: int
    mend: str
    files: int = 0
    bytes: int = 0
    found: int = 0
    mended: int = 0
    differences: list[messages.Difference] = field(default_factory=list)
    over: bool = False
    problem: str = ""


class Inspection:
    """At most one verification at a time. `send` gives the worker an order, if there is one."""

    def __init__(self, send: Callable[[messages.Order], bool]) -> None:
        self._send = send
        self._number = 0
        self._run: Verification | None = None
        self._changed = asyncio.Event()
        self._estimates: dict[int, asyncio.Future[messages.Estimated]] = {}
        self._abandoned: asyncio.TimerHandle | None = None
        self._silent: asyncio.TimerHandle | None = None
        #: Called with each verification that ended.
        self.on_over: Callable[[Verification], None] = lambda run: None

    def verify(self, epoch: int, mend: str) -> Verification:
        """Begin. Raises RequestRefused while one runs, LocalFault without a worker."""
        if self._run is not None and not self._run.over:
            raise RequestRefused("a verification is running already", "wait for its end")
        self._number += 1
        if not self._send(messages.Verify(epoch, self._number, mend)):
            raise LocalFault("the replication process does not run")
        self._run = Verification(self._number, epoch, mend)
        self._watch_abandoned()
        self._watch_silence()
        return self._run

    async def result(self, number: int, seen: int, timeout_s: float) -> Verification:
        """As soon as there are more than `seen` differences or the end has come, at the latest
        after `timeout_s`. Raises RequestRefused if there is no such run."""
        run = self._run
        if run is None or run.number != number:
            raise RequestRefused("this verification is not known", "begin another one")
        self._watch_abandoned()
        try:
            async with asyncio.timeout(timeout_s):
                while not run.over and len(run.differences) <= seen:
                    await self._changed.wait()
        except TimeoutError:
            return run
        return run

    def stop(self, number: int) -> None:
        """The run ends soon, if it still runs."""
        if self._run is not None and self._run.number == number and not self._run.over:
            self._send(messages.StopVerify(self._run.epoch, number))

    async def estimate(
        self, epoch: int, least: SyncMode, reason: str, since: float = 0.0
    ) -> messages.Estimated:
        """What a resynchronisation would do now; `least`, `reason` and `since` are what the two
        records and an operator there say (core.syncmode). Raises LocalFault."""
        self._number += 1
        number = self._number
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[messages.Estimated] = loop.create_future()
        self._estimates[number] = answer
        try:
            if not self._send(messages.Estimate(epoch, number, least.value, reason, since)):
                raise LocalFault("the replication process does not run")
            async with asyncio.timeout(ESTIMATE_LIMIT_S):
                return await answer
        except TimeoutError:
            raise LocalFault("the replication process did not answer in time") from None
        finally:
            self._estimates.pop(number, None)

    def heard(self, report: Report) -> None:
        if isinstance(report, messages.Estimated):
            answer = self._estimates.get(report.number)
            if answer is not None and not answer.done():
                answer.set_result(report)
            return
        run = self._run
        if run is None or run.number != report.number or run.over:
            return
        run.files, run.bytes = report.files, report.bytes
        if isinstance(report, messages.VerifyProgress):
            run.found += len(report.differences)
            run.mended += sum(1 for each in report.differences if each.mended)
            run.differences += report.differences[: DIFFERENCES_MAX - len(run.differences)]
            self._watch_silence()
        else:
            self._end(run, report.problem)
        self._tell()

    def worker_gone(self, reason: str) -> None:
        """Nothing that was asked will be answered."""
        for answer in self._estimates.values():
            if not answer.done():
                answer.set_exception(LocalFault(f"the replication process ended: {reason}"))
        if self._run is not None and not self._run.over:
            self._end(self._run, f"the replication process ended: {reason}")
            self._tell()

    def _end(self, run: Verification, problem: str) -> None:
        run.over, run.problem = True, problem
        for timer in (self._abandoned, self._silent):
            if timer is not None:
                timer.cancel()
        self.on_over(run)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _watch_abandoned(self) -> None:
        if self._abandoned is not None:
            self._abandoned.cancel()
        run = self._run
        if run is not None and not run.over:
            loop = asyncio.get_running_loop()
            self._abandoned = loop.call_later(ABANDONED_S, self.stop, run.number)

    def _watch_silence(self) -> None:
        if self._silent is not None:
            self._silent.cancel()
        loop = asyncio.get_running_loop()
        self._silent = loop.call_later(SILENCE_LIMIT_S, self._fell_silent, self._number)

    def _fell_silent(self, number: int) -> None:
        run = self._run
        if run is not None and run.number == number and not run.over:
            self._send(messages.StopVerify(run.epoch, number))
            self._end(run, f"no word of it for {SILENCE_LIMIT_S:.0f} s")
            self._tell()
